"""Operators: a function with a signature that declares its inputs and parameters.

Artifacts come first; parameters are keyword-only and have a space. The signature determines
validity, the action space, the search space, the documentation and the recipe format.

An operator that reads ``Points`` also runs on ``Frames[Points]``, frame by frame. One that reads
``Frames[Points]`` takes all frames at once. A keyword annotated with a ``Resource`` receives the
object loaded from a file of weights. It is not a parameter, but its hash is part of the result's
key.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from scopegym import cache, limits
from scopegym.artifacts import Artifact, Frames, Image, Points, Source, State, digest, is_kind
from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.operators import isolation
from scopegym.operators.lifting import lifted
from scopegym.prior import Prior
from scopegym.registry import Registry
from scopegym.resources import Resource
from scopegym.space import Choice, Integer, Real, Scale, Space


@dataclass(frozen=True)
class Parameter:
    """One keyword of an operator: its space and its default (a multiple, for a ``Scale``)."""

    name: str
    space: Space
    default: Any

    def grid(self, count: int) -> tuple[Any, ...]:
        """At most ``count`` values over the space; the default replaces the value nearest to it.
        For a choice, all options."""
        values = self.space.bins(count)
        at = self.space.to_unit(self.default)
        nearest = min(values, key=lambda value: abs(self.space.to_unit(value) - at))
        return tuple(self.default if value == nearest else value for value in values)


@dataclass(frozen=True)
class Operator:
    """A pure typed function on artifacts, with declared parameters."""

    name: str
    function: Callable[..., Any]
    #: Kinds of artifact read, in order; a Prior can be among them.
    inputs: tuple[type[Any], ...]
    output: type[Artifact]
    parameters: Mapping[str, Parameter]
    version: int = 1
    #: Tasks that get this operator as an action, beside those that list it themselves.
    tasks: tuple[str, ...] = ()
    #: Keyword arguments loaded from files, such as weights.
    resources: Mapping[str, Resource] = field(default_factory=lambda: FrozenDict({}))
    #: Whether it runs in a separate process, where limits also stop compiled code.
    isolated: bool = False
    __doc__: str = field(default="", repr=False)

    def __call__(self, *artifacts: Any, prior: Prior | None = None, **parameters: Any) -> Any:
        """Apply to plain arrays or artifacts, with lengths in pixels.

        An omitted length takes its default multiple of ``prior.scale_px``; without a prior it is
        required.
        """
        unknown = parameters.keys() - self.parameters.keys()
        if unknown:
            raise ScopegymError(
                f"{self.name} has no parameter {', '.join(sorted(unknown))}; "
                f"it has {', '.join(self.parameters) or 'none'}."
            )
        values = {}
        for parameter in self.parameters.values():
            if parameter.name in parameters:
                values[parameter.name] = parameters[parameter.name]
            elif not isinstance(parameter.space, Scale):
                values[parameter.name] = parameter.default
            elif prior is not None:
                values[parameter.name] = parameter.default * prior.scale_px
            else:
                raise ScopegymError(
                    f"{self.name} called directly needs {parameter.name} [px], or a prior."
                )
        kinds = [kind.__name__ for kind in self.inputs if kind is not Prior]
        if len(artifacts) != len(kinds):
            raise ScopegymError(f"{self.name} takes {' and '.join(kinds)}, not {len(artifacts)}.")
        if Prior in self.inputs and prior is None:
            raise ScopegymError(f"{self.name} called directly needs a prior.")
        given = iter(artifacts)
        arguments = [
            prior if kind is Prior else as_artifact(next(given), kind) for kind in self.inputs
        ]
        return self.function(*arguments, **values, **self._loaded())

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by name, because the name of the function refers to the operator.
        return _named, (self.name,)

    def check(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Recipe parameters, completed with defaults; all must lie in their spaces.

        Otherwise raises ScopegymError with the operator, the parameter and the rule.
        """
        unknown = parameters.keys() - self.parameters.keys()
        if unknown:
            raise ScopegymError(
                f"Operator {self.name} has no parameter {', '.join(sorted(map(str, unknown)))}; "
                f"it has {', '.join(self.parameters) or 'none'}."
            )
        checked = {}
        for name, parameter in self.parameters.items():
            try:
                checked[name] = parameter.space.check(parameters.get(name, parameter.default))
            except ScopegymError as error:
                raise ScopegymError(f"{self.name}.{name} {error}.") from None
        return checked

    def in_pixels(self, parameters: Mapping[str, Any], prior: Prior) -> dict[str, Any]:
        """Recipe parameters as arguments of the function: multiples become lengths [px]."""
        return {
            name: value * prior.scale_px
            if isinstance(self.parameters[name].space, Scale)
            else value
            for name, value in parameters.items()
        }

    def runs_on(self, state: State) -> bool:
        """True when the state holds every artifact that the operator reads, or frames of it."""
        return not self._missing(state)

    @property
    def reads_frames(self) -> bool:
        """Whether the operator takes all frames of a stack at once."""
        return any(issubclass(kind, Frames) for kind in self.inputs)

    def _missing(self, state: State) -> list[str]:
        kinds = [kind for kind in self.inputs if kind is not Prior]
        return [kind.__name__ for kind in kinds if self._find(state, kind) is None]

    def _find(self, state: State, kind: type[Artifact]) -> Artifact | None:
        """The artifact of this kind, or its frames if the operator can be lifted."""
        found = state.get(kind)
        if found is None and not self.reads_frames:
            return state.get(Frames[kind])  # type: ignore[valid-type]
        return found

    def _read(self, state: State, prior: Prior) -> tuple[Any, ...]:
        return tuple(prior if kind is Prior else self._find(state, kind) for kind in self.inputs)

    def derivation(self, state: State, pixels: Mapping[str, Any], prior: Prior) -> str:
        """The key of the result, from its inputs, the operator and the parameters."""
        return self.derived_key((read.key for read in self._read(state, prior)), pixels)

    def derived_key(self, parents: Iterable[str], pixels: Mapping[str, Any]) -> str:
        """The key of the result of this operator for artifacts with these keys."""
        canonical = repr(sorted(pixels.items()))
        weights = [f"{name}={sha256}" for name, sha256 in sorted(self.weights.items())]
        return digest(*parents, f"{self.name}@{self.version}", canonical, *weights)

    @property
    def weights(self) -> dict[str, str]:
        """Hashes of the files of the resources. Raises ScopegymError when one is missing."""
        return {name: resource.sha256 for name, resource in self.resources.items()}

    def _loaded(self) -> dict[str, Any]:
        return {name: resource.load() for name, resource in self.resources.items()}

    def prepare(self, isolated: bool = False) -> None:
        """Start processes and load resources; this does not count as the operator's time.

        Raises ScopegymError when that fails.
        """
        if self.isolated or isolated:
            isolation.prepare(self)
        else:
            self._loaded()

    def carried_out(self, inputs: Sequence[Any], pixels: Mapping[str, Any]) -> Any:
        """The result of the function for these inputs, in a separate process if the operator or
        the current limits require it."""
        in_force = limits.current()
        if self.isolated or (in_force is not None and in_force.isolated):
            return isolation.carried_out(self, inputs, pixels)
        return self.function(*inputs, **pixels, **self._loaded())

    def apply(self, state: State, parameters: Mapping[str, Any], prior: Prior) -> State:
        """The state after this step, from the current cache if known.

        If the state holds frames of an input, the new state holds frames of the output.
        """
        missing = self._missing(state)
        if missing:
            raise ScopegymError(f"{self.name} needs {' and '.join(missing)}, which no step made.")
        pixels = self.in_pixels(self.check(parameters), prior)
        inputs = self._read(state, prior)
        derivation = self.derived_key((read.key for read in inputs), pixels)

        def compute() -> Artifact:
            if not self.reads_frames and any(isinstance(read, Frames) for read in inputs):
                return lifted(self, inputs, pixels, derivation)
            result: Artifact = self.carried_out(inputs, pixels)
            return result.derived(derivation)

        return state.with_artifact(cache.current().get(derivation, compute))


#: All operators by name.
registry: Registry[Operator] = Registry("operator")


def _named(name: str) -> Operator:
    return registry[name]


@overload
def operator(function: Callable[..., Any], /) -> Operator: ...
@overload
def operator(
    *, version: int = ..., tasks: tuple[str, ...] = ..., isolated: bool | None = ...
) -> Callable[[Callable[..., Any]], Operator]: ...
def operator(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: int = 1,
    tasks: tuple[str, ...] = (),
    isolated: bool | None = None,
) -> Operator | Callable[[Callable[..., Any]], Operator]:
    """Register a function as an operator; raise its ``version`` whenever its results change.

    ``isolated`` operators run in a separate process, where limits also stop compiled code. By
    default these are the operators with weights. Raises ScopegymError when the signature is
    incomplete.
    """

    def register(function: Callable[..., Any]) -> Operator:
        return registry.add(declare(function, version=version, tasks=tasks, isolated=isolated))

    return register if function is None else register(function)


def declare(
    function: Callable[..., Any],
    *,
    version: int = 1,
    tasks: tuple[str, ...] = (),
    isolated: bool | None = None,
) -> Operator:
    """Read an operator off a function's signature."""
    name = function.__name__
    hints = typing.get_type_hints(function, include_extras=True)
    inputs, parameters, resources = [], {}, {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        found = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Resource)]
        if found and parameter.kind is parameter.KEYWORD_ONLY:
            resources[parameter.name] = found[0].beside(function)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            parameters[parameter.name] = _parameter(name, parameter, hint)
        else:
            inputs.append(_readable(name, parameter.name, hint))
    output = hints.get("return")
    if not is_kind(output) or output is Frames[Source]:
        raise ScopegymError(f"Operator {name} must return a kind of artifact, such as Points.")
    return Operator(
        name=name,
        function=function,
        inputs=tuple(inputs),
        output=output,  # type: ignore[arg-type]
        parameters=FrozenDict(parameters),
        version=version,
        tasks=tasks,
        resources=FrozenDict(resources),
        isolated=bool(resources) if isolated is None else isolated,
        __doc__=inspect.getdoc(function) or "",
    )


def _parameter(name: str, parameter: inspect.Parameter, hint: Any) -> Parameter:
    spaces = [
        m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Real | Integer | Choice)
    ]
    if len(spaces) != 1 or parameter.default is parameter.empty:
        raise ScopegymError(
            f"{name}.{parameter.name} needs a space and a default, such as "
            "Annotated[float, Scale(0.1, 0.5)] = 0.2."
        )
    try:
        default = spaces[0].check(parameter.default)
    except ScopegymError as error:
        raise ScopegymError(f"The default of {name}.{parameter.name} {error}.") from None
    return Parameter(parameter.name, spaces[0], default)


def _readable(name: str, argument: str, hint: Any) -> Any:
    if hint is Source or hint is Prior or is_kind(hint):
        return hint
    raise ScopegymError(
        f"Argument '{argument}' of {name} must be an artifact or a Prior, or stand behind '*'."
    )


def as_artifact(value: Any, kind: type[Any]) -> Any:
    """Wrap a plain array as an artifact of this kind; artifacts are returned unchanged."""
    if isinstance(value, kind):
        return value
    if issubclass(kind, Image):
        return kind(np.array(value, dtype=np.float32))
    if kind is Points:
        rows = np.array(value, dtype=np.float64)
        if rows.size and (rows.ndim != 2 or rows.shape[1] < 2):
            raise ScopegymError(f"Points are rows that start with y and x, not {rows.shape}.")
        yx = rows[:, :2] if rows.size else np.empty((0, 2))
        # Plain positions have no field: take the smallest one that contains them.
        low_y, low_x = np.ceil(yx.max(axis=0, initial=0)).astype(int) + 1
        return Points(yx, (low_y, low_x))
    raise ScopegymError(f"Give a {kind.__name__} here, not a {type(value).__name__}.")
