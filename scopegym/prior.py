"""What physics says to expect of an image, in the image's own pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from scopegym.artifacts import digest
from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.plain import SHARE, Items, Number, Positive, Record, Table, Text, checked

Vector = tuple[float, float]

_LENGTH = Positive(1e6)
_PART = Number(-1e7, 1e7)
#: What a written prior holds: lengths in pixels of an image of at most a million to a side.
ENTRIES = Record(
    {"scale_px": _LENGTH},
    {
        "count": Number(0, 1e12),
        "neighbour_sums_px": Items(_LENGTH, 0, 10_000),
        "lattice_px": Items(Items(_PART, 2, 2), 2, 2),
        "contrast": Text(),
        "sources": Table(Text(), 50),
        "disordered": Items(SHARE, 2, 2),
    },
    open=False,
)


@dataclass(frozen=True)
class Prior:
    """Expectations for one field of view.

    ``scale_px`` is the characteristic length: nearest-neighbour spacing of a lattice, diameter of
    a particle. ``count`` is the number of columns or objects in the whole field.
    ``neighbour_sums_px`` holds, for each kind of column, the sum of the distances to its four
    nearest neighbours. ``lattice_px`` are the two in-plane lattice vectors (y, x).
    ``contrast`` says whether columns are brighter or darker than what lies between them.
    ``sources`` names where each figure came from: ``crystal``, ``given`` or ``estimated``.
    ``disordered`` is the range in which the disordered share of the field must lie.
    """

    scale_px: float
    count: float | None = None
    neighbour_sums_px: tuple[float, ...] = ()
    lattice_px: tuple[Vector, Vector] | None = None
    contrast: Literal["bright", "dark"] = "bright"
    sources: Mapping[str, str] = field(default_factory=dict)
    disordered: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale_px) and self.scale_px > 0):
            raise ScopegymError(f"Prior.scale_px must be a positive length, not {self.scale_px}.")
        if self.count is not None and not (math.isfinite(self.count) and self.count >= 0):
            raise ScopegymError(f"Prior.count must not be negative; it is {self.count}.")
        if not all(math.isfinite(total) and total > 0 for total in self.neighbour_sums_px):
            raise ScopegymError(
                f"Prior.neighbour_sums_px must be positive lengths, not {self.neighbour_sums_px}."
            )
        vectors = self.lattice_px or ()
        if not all(math.isfinite(part) for vector in vectors for part in vector):
            raise ScopegymError(f"Prior.lattice_px must be finite vectors, not {vectors}.")
        if self.contrast not in ("bright", "dark"):
            raise ScopegymError(f"Prior.contrast is 'bright' or 'dark', not '{self.contrast}'.")
        if self.disordered is not None:
            low, high = self.disordered
            if not 0 <= low <= high <= 1:
                raise ScopegymError(
                    f"Prior.disordered is a range of shares in 0..1, not {low:g} to {high:g}."
                )
        object.__setattr__(self, "sources", FrozenDict(self.sources))

    @cached_property
    def key(self) -> str:
        """Identity for caches."""
        return digest(repr(self.to_dict()))

    def cropped(self, shape: Sequence[float], of: Sequence[float]) -> Prior:
        """The prior for a part of ``shape`` (H, W) of a field of shape ``of``."""
        share = shape[0] * shape[1] / (of[0] * of[1])
        return replace(self, count=None if self.count is None else self.count * share)

    def stretched(self, zoom: float) -> Prior:
        """The prior for pixels that are smaller by this factor: lengths grow, and fewer columns
        lie in as many pixels."""
        lattice = self.lattice_px
        return replace(
            self,
            scale_px=self.scale_px * zoom,
            count=None if self.count is None else self.count / zoom**2,
            neighbour_sums_px=tuple(length * zoom for length in self.neighbour_sums_px),
            lattice_px=None if lattice is None else tuple((y * zoom, x * zoom) for y, x in lattice),  # type: ignore[arg-type]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        lattice = self.lattice_px
        return {
            "scale_px": self.scale_px,
            "count": self.count,
            "neighbour_sums_px": list(self.neighbour_sums_px),
            "lattice_px": None if lattice is None else [list(vector) for vector in lattice],
            "contrast": self.contrast,
            # Recipes of other tasks need not know of it.
            **({} if self.disordered is None else {"disordered": list(self.disordered)}),
            "sources": dict(self.sources),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Prior:
        """The inverse of ``to_dict``. Raises ScopegymError on unknown or malformed entries."""
        try:
            values = dict(checked(ENTRIES, plain, "The prior"))
            values["neighbour_sums_px"] = tuple(map(float, values.get("neighbour_sums_px", ())))
            if values.get("lattice_px") is not None:
                first, second = values["lattice_px"]
                values["lattice_px"] = (
                    (float(first[0]), float(first[1])),
                    (float(second[0]), float(second[1])),
                )
            if values.get("disordered") is not None:
                low, high = values["disordered"]
                values["disordered"] = (float(low), float(high))
            return cls(**values)
        except ScopegymError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            raise ScopegymError(f"The prior is malformed: {error}.") from None
