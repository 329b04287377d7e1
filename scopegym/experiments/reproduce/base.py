"""A reproduction: what a paper claims, whether it comes out here, and the figures either way."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.registry import Registry
from scopegym.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Claim:
    """One finding of a paper: ``figures`` are what was measured, ``rule`` what they have to fulfil
    to count as ``reproduced``, ``picture`` the name of a PNG beside them."""

    name: str
    claim: str
    rule: str
    reproduced: bool
    figures: Mapping[str, Any]
    picture: str
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", FrozenDict(self.figures))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``reproduce.json``."""
        return {**vars(self), "reproduced": bool(self.reproduced), "figures": dict(self.figures)}


#: Writes pictures into a folder, with a seed for all chance, and says what was found.
Function = Callable[[Path, int], Sequence[Claim]]


@dataclass(frozen=True)
class Reproduction:
    """The demonstrations of one paper."""

    name: str
    function: Function
    __doc__: str = field(default="", repr=False)


#: All reproductions by name.
registry: Registry[Reproduction] = Registry("reproduction")


def reproduction(function: Function) -> Function:
    """Register a function of a folder and a seed under its own name."""
    registry.add(Reproduction(function.__name__, function, inspect.getdoc(function) or ""))
    return function


def reproduce(name: str, out: str | Path, seed: int = 0) -> dict[str, Any]:
    """Carry out a reproduction and write its pictures and ``reproduce.json``; gives its content.

    All files appear together or not at all. Raises ScopegymError for an unknown name and for a
    folder that cannot be written to.
    """
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import to_json

    chosen = registry[name]
    output = Output(Path(out), "reproduce")
    output.claim(["reproduce.json"])
    start = time.perf_counter()
    with output.writing() as scratch:
        claims = chosen.function(scratch, seed)
        missing = [claim.picture for claim in claims if not (scratch / claim.picture).is_file()]
        if missing:
            raise ScopegymError(f"Reproduction {name} did not draw {', '.join(missing)}.")
        plain = {
            "reproduction": name,
            "seed": seed,
            "scopegym": __version__,
            "reproduced": all(claim.reproduced for claim in claims),
            "claims": [claim.to_dict() for claim in claims],
            "seconds": time.perf_counter() - start,
        }
        (scratch / "reproduce.json").write_text(to_json(plain), encoding="utf-8")
    return plain


def summary(plain: Mapping[str, Any]) -> list[str]:
    """The content of ``reproduce.json`` in lines for a terminal."""
    lines = []
    for claim in plain["claims"]:
        verdict = "reproduced" if claim["reproduced"] else "NOT reproduced"
        lines += [f"{claim['name']}: {verdict}. {claim['claim']}", f"  rule: {claim['rule']}"]
        lines += [f"  {key}: {_short(value)}" for key, value in claim["figures"].items()]
        lines += [f"  {claim['note']}"] if claim["note"] else []
    return [*lines, f"{plain['seconds']:.0f} s."]


def _short(value: Any) -> str:
    """A figure as text; a table's place is the file."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        nested = any(isinstance(inner, Sequence | Mapping) for inner in value)
        return f"[{len(value)} rows]" if nested else ", ".join(map(_short, value))
    return str(value)


def write(figure: Figure, path: Path) -> None:
    """Write a figure as PNG: the same bytes every time, without the name of the software."""
    figure.savefig(path, format="png", metadata={"Software": None})
