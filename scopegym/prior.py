"""Physical expectations for one image, in units of its pixels."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, TypeVar

from scopegym.artifacts import digest
from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.plain import SHARE, Items, Number, Positive, Record, Rule, Table, Text, checked
from scopegym.registry import Registry

#: Whether columns are brighter or darker than the gaps between them.
Polarity = Literal["bright", "dark"]

Vector = tuple[float, float]

_LENGTH = Positive(1e6)
_COMPONENT = Number(-1e7, 1e7)
#: Entries of a prior in a file beside its parts. Lengths are in pixels, at most a million.
REQUIRED: Mapping[str, Rule] = {"scale_px": _LENGTH}
OPTIONAL: Mapping[str, Rule] = {
    "count": Number(0, 1e12),
    "neighbour_sums_px": Items(_LENGTH, 0, 10_000),
    "contrast": Text(),
    "sources": Table(Text(), 50),
}


class Part(ABC):
    """One claim about the sample. A subclass is a frozen dataclass, registered with ``prior_part``.

    ``name`` is its entry in recipes, and ``rule`` checks that entry. A part without lengths and
    counts needs neither ``stretched`` nor ``cropped``.
    """

    name: ClassVar[str]
    rule: ClassVar[Rule]

    def stretched(self, zoom: float) -> Self:
        """The claim after the pixel size is divided by this factor."""
        del zoom
        return self

    def cropped(self, shape: Sequence[float], of: Sequence[float]) -> Self:
        """The claim for a crop of ``shape`` (H, W) of a field of shape ``of``."""
        del shape, of
        return self

    @abstractmethod
    def to_plain(self) -> Any:
        """Plain values, for JSON and YAML."""

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: Any) -> Self:
        """The inverse of ``to_plain``, for values that follow the rule."""

    def described(self) -> tuple[str, str]:
        """Name and value, for the report."""
        return self.name, str(self.to_plain())


P = TypeVar("P", bound=Part)

#: All kinds of parts by name, also those of plug-ins.
parts: Registry[type[Part]] = Registry("part of a prior")


def prior_part(kind: type[P]) -> type[P]:
    """Register a kind of part. Raises ScopegymError when its name is taken."""
    if kind.name in {*REQUIRED, *OPTIONAL}:
        raise ScopegymError(f"Every prior has an entry '{kind.name}'; give the part another name.")
    parts.add(kind)
    return kind


@prior_part
@dataclass(frozen=True)
class Lattice(Part):
    """The sample is a lattice: ``vectors_px`` are its two in-plane vectors (y, x)."""

    vectors_px: tuple[Vector, Vector]

    name = "lattice_px"
    rule = Items(Items(_COMPONENT, 2, 2), 2, 2)

    def __post_init__(self) -> None:
        if not all(math.isfinite(part) for vector in self.vectors_px for part in vector):
            raise ScopegymError(f"Prior.lattice_px must be finite vectors, not {self.vectors_px}.")

    def stretched(self, zoom: float) -> Lattice:
        (ay, ax), (by, bx) = self.vectors_px
        return Lattice(((ay * zoom, ax * zoom), (by * zoom, bx * zoom)))

    def to_plain(self) -> list[list[float]]:
        return [list(vector) for vector in self.vectors_px]

    @classmethod
    def from_plain(cls, plain: Any) -> Lattice:
        (ay, ax), (by, bx) = plain
        return cls(((float(ay), float(ax)), (float(by), float(bx))))

    def described(self) -> tuple[str, str]:
        vectors = ", ".join(f"({y:.2f},\u00a0{x:.2f})" for y, x in self.vectors_px)
        return "Lattice vectors (y, x) [px]", vectors


@prior_part
@dataclass(frozen=True)
class Disorder(Part):
    """A share of the field between ``low`` and ``high`` has no lattice order."""

    low: float
    high: float

    name = "disordered"
    rule = Items(SHARE, 2, 2)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ScopegymError(
                f"Prior.disordered is a range of shares in 0..1, not {self.low:g} to {self.high:g}."
            )

    def to_plain(self) -> list[float]:
        return [self.low, self.high]

    @classmethod
    def from_plain(cls, plain: Any) -> Disorder:
        low, high = plain
        return cls(float(low), float(high))

    def described(self) -> tuple[str, str]:
        return "Disordered share of the field", f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Prior:
    """Expectations for one field of view: figures for every task, and one part per claim.

    ``scale_px`` is the characteristic length: nearest-neighbour spacing of a lattice, diameter of
    a particle. ``count`` is the number of columns or objects in the whole field.
    ``neighbour_sums_px`` holds, for each kind of column, the sum of the distances to its four
    nearest neighbours. ``parts`` holds at most one of each kind, such as ``Lattice``.
    ``contrast`` says whether columns are brighter or darker than the background between them.
    ``sources`` names the origin of each figure: ``crystal``, ``given`` or ``estimated``.
    """

    scale_px: float
    count: float | None = None
    neighbour_sums_px: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()
    contrast: Polarity = "bright"
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale_px) and self.scale_px > 0):
            raise ScopegymError(f"Prior.scale_px must be a positive length, not {self.scale_px}.")
        if self.count is not None and not (math.isfinite(self.count) and self.count >= 0):
            raise ScopegymError(f"Prior.count must not be negative; it is {self.count}.")
        if not all(math.isfinite(total) and total > 0 for total in self.neighbour_sums_px):
            raise ScopegymError(
                f"Prior.neighbour_sums_px must be positive lengths, not {self.neighbour_sums_px}."
            )
        if self.contrast not in ("bright", "dark"):
            raise ScopegymError(f"Prior.contrast is 'bright' or 'dark', not '{self.contrast}'.")
        object.__setattr__(self, "parts", _sorted(self.parts))
        object.__setattr__(self, "sources", FrozenDict(self.sources))

    def part(self, kind: type[P]) -> P | None:
        """The part of this kind, None if the prior has no such claim."""
        # By name: a plug-in that is loaded again defines its kinds anew.
        found: Any = next((part for part in self.parts if part.name == kind.name), None)
        return found

    @property
    def lattice_px(self) -> tuple[Vector, Vector] | None:
        """The two in-plane lattice vectors (y, x) [px], None without a lattice."""
        lattice = self.part(Lattice)
        return None if lattice is None else lattice.vectors_px

    def with_part(self, part: Part) -> Prior:
        """A copy of this prior in which the part replaces the one of its kind."""
        others = (other for other in self.parts if other.name != part.name)
        return replace(self, parts=(*others, part))

    @cached_property
    def key(self) -> str:
        """Identity for caches, whatever the order of the sources."""
        return digest(json.dumps(self.to_dict(), sort_keys=True, default=str))

    def cropped(self, shape: Sequence[float], of: Sequence[float]) -> Prior:
        """The prior for a crop of ``shape`` (H, W) of a field of shape ``of``."""
        share = shape[0] * shape[1] / (of[0] * of[1])
        return replace(
            self,
            count=None if self.count is None else self.count * share,
            parts=tuple(part.cropped(shape, of) for part in self.parts),
        )

    def stretched(self, zoom: float) -> Prior:
        """The prior after the pixel size is divided by this factor.

        Lengths in pixels grow by the factor; the count in the same number of pixels falls.
        """
        return replace(
            self,
            scale_px=self.scale_px * zoom,
            count=None if self.count is None else self.count / zoom**2,
            neighbour_sums_px=tuple(length * zoom for length in self.neighbour_sums_px),
            parts=tuple(part.stretched(zoom) for part in self.parts),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML: each part under its name."""
        claims = {part.name: part.to_plain() for part in self.parts}
        return {
            "scale_px": self.scale_px,
            "count": self.count,
            "neighbour_sums_px": list(self.neighbour_sums_px),
            # What reads results finds this entry without a lattice too.
            **{Lattice.name: None, **claims},
            "contrast": self.contrast,
            "sources": dict(self.sources),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Prior:
        """The inverse of ``to_dict``. Raises ScopegymError on unknown or malformed entries."""
        rules = {**OPTIONAL, **{kind.name: kind.rule for kind in parts.values()}}
        try:
            values = dict(checked(Record(REQUIRED, rules, open=False), plain, "The prior"))
            claimed = {name: values.pop(name) for name in parts if name in values}
            values["neighbour_sums_px"] = tuple(map(float, values.get("neighbour_sums_px", ())))
            values["parts"] = tuple(
                parts[name].from_plain(entry)
                for name, entry in claimed.items()
                if entry is not None
            )
            return cls(**values)
        except ScopegymError:
            raise
        except (TypeError, ValueError, LookupError) as error:
            raise ScopegymError(f"The prior is malformed: {error}.") from None


def _sorted(given: Sequence[Part]) -> tuple[Part, ...]:
    """The parts by name. Raises ScopegymError for two of a kind and for other objects."""
    if not isinstance(given, tuple | list):
        raise ScopegymError(f"Prior.parts must be a tuple of parts, not {given!r}.")
    odd = next((entry for entry in given if not isinstance(entry, Part)), None)
    if odd is not None:
        raise ScopegymError(f"Prior.parts must hold parts such as Lattice, not {odd!r}.")
    names = [part.name for part in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ScopegymError(f"Prior.parts holds at most one part of a kind, not two '{twice}'.")
    return tuple(sorted(given, key=lambda part: part.name))
