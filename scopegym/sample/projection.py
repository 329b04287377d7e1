"""The columns of a crystal along a zone axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.artifacts import readonly
from scopegym.errors import ScopegymError
from scopegym.prior import Lattice, Polarity, Prior, Vector
from scopegym.sample.zone import Zone, direction_name

#: Number of neighbours in the density rule of the reward.
NEIGHBOURS = 4
#: Largest number of positions in a field; more means a wrong pixel size.
MOST_POSITIONS = 5_000_000


class Positions(NamedTuple):
    """Columns in a field: ``yx`` ``[N, 2]`` [px], and ``kind`` ``[N]``, their row in
    ``Projection.columns``."""

    yx: NDArray[np.float64]
    kind: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Projection:
    """A crystal along a zone axis: the visible columns in the projected unit cell.

    ``lattice_nm`` are the two shortest lattice vectors (y, x) [nm]. The view is along [uvw], y runs
    down and x to the right. The first vector has the larger share of c (then of b) and points
    straight down; the second points to the right. So along [100] c is vertical and b horizontal.
    ``axes`` names the crystal direction of each vector.

    ``columns`` ``[N, 2]`` are fractions of the two vectors in [0, 1). ``weights`` ``[N]`` are the
    brightness per length of beam path, relative to the strongest. ``labels`` are the species in
    order of their share.
    """

    lattice_nm: tuple[Vector, Vector]
    columns: NDArray[np.float64]
    weights: NDArray[np.float64]
    labels: tuple[str, ...]
    axes: tuple[str, str] = ("first", "second")
    crystal: str = ""
    zone: Zone = (0, 0, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", readonly(np.reshape(self.columns, (-1, 2)), float))
        object.__setattr__(self, "weights", readonly(self.weights, float))
        if not len(self.columns) == len(self.weights) == len(self.labels) > 0:
            raise ScopegymError(
                f"A projection has as many columns as weights and labels and at least one, not "
                f"{len(self.columns)}, {len(self.weights)} and {len(self.labels)}."
            )

    @property
    def name(self) -> str:
        """Crystal and zone axis: ``YBa2Cu3O7 [100]``."""
        return f"{self.crystal} {direction_name(self.zone)}".strip()

    @cached_property
    def cell_area_nm2(self) -> float:
        """Area of the projected cell [nm^2]."""
        return _area(np.array(self.lattice_nm))

    @property
    def columns_per_nm2(self) -> float:
        """Visible columns per area [nm^-2]."""
        return len(self.columns) / self.cell_area_nm2

    @cached_property
    def neighbour_sums_nm(self) -> tuple[float, ...]:
        """Sum of the distances to the four nearest visible columns [nm], one per column."""
        return _neighbour_sums(self._distances(np.array(self.lattice_nm)))

    @cached_property
    def spacing_nm(self) -> float:
        """Characteristic spacing [nm]: the median over the columns of the distance to the nearest
        visible neighbour."""
        return _spacing(self._distances(np.array(self.lattice_nm)))

    def _distances(self, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances ``[N, 4]`` to the nearest visible columns, in the unit of ``lattice``."""
        from scipy.spatial import cKDTree

        # four cells per side: in a narrow cell all four neighbours can lie along one line
        cells = np.array(list(product(range(-4, 5), repeat=2)), dtype=float)
        images = (cells[:, None] + self.columns[None]).reshape(-1, 2) @ lattice
        found, _ = cKDTree(images).query(self.columns @ lattice, k=NEIGHBOURS + 1)
        return np.asarray(found)[:, 1:]

    def lattice_px(self, pixel_size_nm: float, rotation_deg: float = 0.0) -> tuple[Vector, Vector]:
        """The lattice vectors (y, x) [px] at a pixel size; a positive rotation is
        counter-clockwise on the screen. Raises ScopegymError unless the pixel size is positive.
        """
        if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
            raise ScopegymError(f"The pixel size must be positive, not {pixel_size_nm} nm.")
        return vectors(np.array(self.lattice_nm) / pixel_size_nm @ _turn(rotation_deg).T)

    def _lattice_in_px(
        self,
        pixel_size_nm: float | None,
        lattice_px: ArrayLike | None,
        rotation_deg: float = 0.0,
    ) -> NDArray[np.float64]:
        if (pixel_size_nm is None) == (lattice_px is None):
            raise ScopegymError("Give either pixel_size_nm or lattice_px, not both or neither.")
        if pixel_size_nm is not None:
            return np.array(self.lattice_px(pixel_size_nm, rotation_deg))
        lattice = np.asarray(lattice_px, dtype=float)
        if lattice.shape != (2, 2) or not np.isfinite(lattice).all() or _area(lattice) <= 0:
            raise ScopegymError("lattice_px must be two vectors (y, x) [px] that span an area.")
        return lattice @ _turn(rotation_deg).T

    def positions(
        self,
        shape: tuple[int, int],
        lattice_px: ArrayLike | None = None,
        pixel_size_nm: float | None = None,
        origin_yx: tuple[float, float] = (0.0, 0.0),
        rotation_deg: float = 0.0,
        margin_px: float = 0.0,
    ) -> Positions:
        """Every column in a field of ``shape`` (H, W), widened by ``margin_px`` on each side.

        ``origin_yx`` [px] is the position of a corner of the cell. The lattice comes from the pixel
        size or from measured vectors ``[2, 2]`` [px], and is turned by ``rotation_deg``
        (counter-clockwise on the screen). Raises ScopegymError when the field would hold more
        than five million columns.
        """
        lattice = self._lattice_in_px(pixel_size_nm, lattice_px, rotation_deg)
        # pixel (0, 0) reaches from -0.5 to 0.5, so the field is exactly H x W in area
        low = np.array([-0.5, -0.5]) - margin_px
        high = np.array(shape, dtype=float) - 0.5 + margin_px
        if np.prod(high - low) * len(self.columns) / _area(lattice) > MOST_POSITIONS:
            raise ScopegymError(
                f"A field of {shape[0]} x {shape[1]} px holds more than {MOST_POSITIONS:,} columns "
                f"of {self.name}; check the pixel size."
            )
        corners = np.array(list(product(*zip(low, high, strict=True)))) - np.array(origin_yx)
        reach = corners @ np.linalg.inv(lattice)
        ranges = [
            np.arange(math.floor(a) - 1, math.ceil(b) + 1)
            for a, b in zip(reach.min(axis=0), reach.max(axis=0), strict=True)
        ]
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
        yx = (cells[:, None] + self.columns[None]).reshape(-1, 2) @ lattice + np.array(origin_yx)
        kind = np.tile(np.arange(len(self.columns)), len(cells))
        inside = ((yx >= low) & (yx < high)).all(axis=1)
        return Positions(yx[inside], kind[inside])

    def prior(
        self,
        shape: tuple[int, int],
        *,
        pixel_size_nm: float | None = None,
        lattice_px: ArrayLike | None = None,
        contrast: Polarity = "bright",
    ) -> Prior:
        """The prior of a field of ``shape`` (H, W), from the pixel size [nm] or from measured
        lattice vectors ``[2, 2]`` [px]."""
        lattice = self._lattice_in_px(pixel_size_nm, lattice_px)
        distances = self._distances(lattice)
        return Prior(
            scale_px=_spacing(distances),
            count=len(self.columns) / _area(lattice) * shape[0] * shape[1],
            neighbour_sums_px=_neighbour_sums(distances),
            parts=(Lattice(vectors(lattice)),),
            contrast=contrast,
            sources=dict.fromkeys(
                ("scale_px", "count", "neighbour_sums_px", "lattice_px"), "crystal"
            ),
        )


def _area(lattice: NDArray[np.float64]) -> float:
    return abs(float(np.linalg.det(lattice)))


def vectors(lattice: NDArray[np.float64]) -> tuple[Vector, Vector]:
    (ay, ax), (by, bx) = lattice.tolist()
    return (ay, ax), (by, bx)


def _turn(rotation_deg: float) -> NDArray[np.float64]:
    """Rotation of (y, x), counter-clockwise on a screen whose y axis points down."""
    angle = math.radians(rotation_deg)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _neighbour_sums(distances: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(distances.sum(axis=1).tolist())


def _spacing(distances: NDArray[np.float64]) -> float:
    return float(np.median(distances[:, 0]))
