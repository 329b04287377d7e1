"""A workflow: steps in order. Its file format is the recipe, which never runs code."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from scopegym.artifacts import State, digest
from scopegym.cache import Cache, using
from scopegym.errors import ScopegymError, shown
from scopegym.frozen import FrozenDict
from scopegym.limits import Limits, limited
from scopegym.micrograph import Micrograph
from scopegym.operators.base import Operator
from scopegym.operators.base import registry as operators
from scopegym.plain import (
    SHARE,
    Items,
    Number,
    Record,
    Table,
    Text,
    Whole,
    checked,
    read_bytes,
    without_repeats,
)
from scopegym.prior import Prior
from scopegym.units import PIXEL_SIZES_NM
from scopegym.version import __version__

#: Version of the recipe's layout.
RECIPE = 1

#: Largest nesting depth of a recipe. PyYAML takes minutes for thousands of levels, and a few lines
#: of nested aliases would expand to more entries than memory holds.
DEEPEST = 20
#: Largest recipe [bytes]; one with 4,000 windows takes 2.5 MB.
LARGEST = 4 * 2**20
#: Most entries of one list or mapping, and of the recipe: 4,000 windows have 300,000.
LONGEST, MOST_ENTRIES = 10_000, 500_000
#: Most characters of a number; PyYAML takes minutes for a long one in base 60.
DIGITS = 40
#: Most steps of one workflow.
MOST_STEPS = 100
#: Rules for the optional entries about image and score.
RECORDED = Record(
    {},
    {
        "task": Text(),
        "image": Record(
            {},
            {
                "name": Text(1000),
                "sha256": Text(),
                "shape": Items(Whole(1, 10**6), 2, 3),
                "pixel_size_nm": Number(*PIXEL_SIZES_NM),
            },
        ),
        "score": Record({}, {"value": SHARE, "terms": Table(Number(-1e9, 1e9), 100)}),
    },
)

#: Packages whose version can change the result of a recipe.
LIBRARIES = ("numpy", "scipy", "scikit-image", "opencv-python-headless")


@dataclass(frozen=True)
class Step:
    """One operator with its parameters; lengths are multiples of ``prior.scale_px``.

    Raises ScopegymError for an unknown operator and for a parameter outside its space.
    """

    op: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked = operators[self.op].check(self.params)
        object.__setattr__(self, "params", FrozenDict(checked))

    @property
    def operator(self) -> Operator:
        """The operator itself."""
        return operators[self.op]

    def __str__(self) -> str:
        values = ", ".join(f"{k}={_plain(v)}" for k, v in self.params.items())
        return f"{self.op}({values})"


@dataclass(frozen=True)
class Workflow:
    """Steps in order. Each reads the latest artifacts of the kinds it needs and replaces one."""

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return " → ".join(map(str, self.steps)) or "(nothing)"

    @cached_property
    def key(self) -> str:
        """Identity of the workflow, independent of any image."""
        return digest(*(f"{s.op}@{s.operator.version}{sorted(s.params.items())}" for s in self))

    def run(
        self,
        micrograph: Micrograph,
        prior: Prior,
        *,
        cache: Cache | None = None,
        limits: Limits | None = None,
    ) -> State:
        """Run the steps on the picture of ``starting``, and return the final state.

        Known results come from ``cache`` (default: the current cache). Raises LimitExceededError or
        MemoryExceededError, with the operator's name, when a step exceeds the ``limits`` (default:
        none).
        """
        with using(cache):
            state = starting(micrograph, prior)
            for step in self:
                if limits is not None:
                    step.operator.prepare(limits.isolated)
                with nullcontext() if limits is None else limited(limits, step.op):
                    state = step.operator.apply(state, step.params, prior)
        return state

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values: operator, version and parameters with their units."""
        return [
            {
                "operator": step.op,
                "version": step.operator.version,
                **({"weights": step.operator.weights} if step.operator.resources else {}),
                "parameters": {
                    name: _with_unit(value, step.operator.parameters[name].space.unit)
                    for name, value in step.params.items()
                },
            }
            for step in self
        ]

    @classmethod
    def from_dict(cls, plain: Any) -> Workflow:
        """The inverse of ``to_dict``. Raises ScopegymError for unknown entries."""
        if not isinstance(plain, list):
            raise ScopegymError("A workflow is a list of steps.")
        if len(plain) > MOST_STEPS:
            raise ScopegymError(
                f"A workflow has at most {MOST_STEPS} steps; this one has {len(plain)}."
            )
        return cls(tuple(_read_step(number, entry) for number, entry in enumerate(plain, 1)))

    def to_yaml(
        self,
        path: str | Path | None = None,
        *,
        prior: Prior | None = None,
        **recorded: Any,
    ) -> str:
        """The recipe as YAML text, written to ``path`` if one is given.

        ``recorded`` are further plain entries, such as task, image and score.
        """
        import yaml

        recipe: dict[str, Any] = {"recipe": RECIPE, **recorded, "workflow": self.to_dict()}
        if prior is not None:
            recipe["prior"] = prior.to_dict()
        recipe["made_with"] = versions()
        # Entries that share an object are written out twice: recipes have no aliases.
        plain = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
        text: str = yaml.dump(recipe, Dumper=plain, sort_keys=False, allow_unicode=True, width=100)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_yaml(cls, source: str | Path) -> Workflow:
        """Read the workflow of a recipe, from a path or from YAML text."""
        return Recipe.read(source).workflow


def starting(micrograph: Micrograph, prior: Prior) -> State:
    """The state before the first step: the normalised picture, or the frames of a stack.

    Where the prior has dark columns, it is inverted: operators, rewards and policies see bright
    columns only.
    """
    stack = len(micrograph.shape) == 3
    normalized = micrograph.normalized_frames if stack else micrograph.normalized
    source: Any = normalized(prior.contrast)
    return State.start(source)


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe: the workflow, its prior, and the other recorded entries."""

    workflow: Workflow
    prior: Prior | None
    recorded: Mapping[str, Any]

    @classmethod
    def read(cls, source: str | Path) -> Recipe:
        """Read a recipe from a path or from YAML text, running no code from it.

        Raises ScopegymError when it is missing, malformed, of another layout, names unknown
        operators or holds parameters out of range.
        """
        plain = _read_yaml(source)
        if plain.get("recipe") != RECIPE:
            raise ScopegymError(
                f"The recipe has layout {shown(plain.get('recipe'))}; this version reads {RECIPE}."
            )
        checked(RECORDED, plain, "The recipe")
        prior = Prior.from_dict(plain["prior"]) if plain.get("prior") else None
        recorded = {k: v for k, v in plain.items() if k not in ("recipe", "workflow", "prior")}
        return cls(Workflow.from_dict(plain.get("workflow")), prior, FrozenDict(recorded))


def _read_yaml(source: str | Path) -> dict[str, Any]:
    import yaml

    text = source
    if isinstance(source, Path) or "\n" not in source:
        try:
            text = read_bytes(source, LARGEST, "The recipe").decode("utf-8")
        except UnicodeDecodeError:
            raise ScopegymError(f"The recipe '{source}' cannot be read: not a text file.") from None
    try:
        if len(str(text)) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} characters")
        loader = _loader()
        _check_size(yaml.parse(text, loader))
        plain = yaml.load(text, loader)
    except Exception as error:  # PyYAML raises many types of error on wrongly tagged scalars
        reason = str(getattr(error, "problem", None) or error or type(error).__name__)
        reason = reason.splitlines()[0].rstrip(".")
        raise ScopegymError(f"The recipe is not plain YAML: {reason}.") from None
    if not isinstance(plain, dict):
        raise ScopegymError("The recipe is not a mapping with a 'workflow' entry.")
    return plain


def _check_size(events: Iterable[Any]) -> None:
    """Raise ValueError for aliases, too many entries and too deep nesting."""
    import yaml

    inside = [0]
    for total, event in enumerate(events):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases (*name) are not allowed, write the values out")
        if isinstance(event, yaml.CollectionEndEvent):
            inside.pop()
            continue
        inside[-1] += 1
        if isinstance(event, yaml.CollectionStartEvent):
            inside.append(0)
        if len(inside) > DEEPEST + 1:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        if inside[-1] > 2 * LONGEST or total > MOST_ENTRIES:
            raise ValueError(
                f"it has more than {LONGEST:,} entries in a list or {MOST_ENTRIES:,} altogether"
            )


@cache
def _loader() -> Any:
    """PyYAML's safe loader, restricted to the types of JSON.

    Dates are text. Tags, repeated names and long numbers are refused.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            without_repeats([(name, None) for name in names])
            return super().construct_mapping(node, deep)

        def construct_number(self, node: Any) -> Any:
            if len(node.value) > DIGITS:
                raise ValueError(f"a number has more than {DIGITS} characters")
            whole = node.tag.endswith(":int")
            return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    plain = ("null", "bool", "int", "float", "str", "seq", "map")
    kept = {f"tag:yaml.org,2002:{name}" for name in plain} | {None}
    known = {tag: make for tag, make in Loader.yaml_constructors.items() if tag in kept}
    numbers = dict.fromkeys(
        ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"), Loader.construct_number
    )
    Loader.yaml_constructors = {**known, **numbers}
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in kept]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    return Loader


def _read_step(number: int, entry: Any) -> Step:
    if not isinstance(entry, dict) or not isinstance(entry.get("operator"), str):
        raise ScopegymError(f"Step {number} of the recipe names no operator.")
    name, parameters = entry["operator"], entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ScopegymError(f"The parameters of step {number} ({name}) are not a mapping.")
    operator = operators[name]
    version = entry.get("version", operator.version)
    if version != operator.version:
        raise ScopegymError(
            f"Step {number} was made with {name} version {shown(version)}; this is version "
            f"{operator.version}, which may give another result."
        )
    _check_weights(number, operator, entry.get("weights", {}))
    for key, value in parameters.items():
        if key in operator.parameters:
            expected = operator.parameters[key].space.unit
            if isinstance(value, dict) and value.get("unit", "") != expected:
                raise ScopegymError(
                    f"{name}.{key} is in {shown(value.get('unit'))}, expected "
                    f"'{expected or 'no unit'}'."
                )
    values = {k: v.get("value") if isinstance(v, dict) else v for k, v in parameters.items()}
    return Step(name, values)


def _check_weights(number: int, operator: Operator, recorded: Any) -> None:
    """Refuse to replay with weights other than those recorded."""
    if not recorded:
        return
    if not isinstance(recorded, dict) or recorded.keys() - operator.resources.keys():
        raise ScopegymError(
            f"Step {number} names weights {shown(recorded)} that {operator.name} does not have."
        )
    for name, sha256 in recorded.items():
        resource = operator.resources[name]
        if sha256 != resource.sha256:
            raise ScopegymError(
                f"Step {number} ({operator.name}) was made with weights of SHA-256 "
                f"{str(sha256)[:12]}..., but '{resource.path}' has {resource.sha256[:12]}...; "
                "put the recorded file in its place."
            )


def _with_unit(value: Any, unit: str) -> Any:
    return {"value": value, "unit": unit} if unit else value


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of the libraries that can change a result."""
    found = {"scopegym": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
