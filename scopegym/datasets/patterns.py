"""Crystal patterns of two dimensions: motifs on lattices, and those of the plane groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from scopegym.artifacts import Array, readonly
from scopegym.errors import ScopegymError, unknown

#: Number of random motifs; the one with the largest distance between columns is chosen.
MOTIFS_TRIED = 60

#: Operations of the seventeen plane groups on fractions (x, y) of the cell: International Tables
#: for Crystallography, volume A, general positions. ``-`` negates, ``'`` adds one half, ``s`` is
#: x - y; a group ends with its centring, if any.
_POSITIONS: Mapping[str, str] = MappingProxyType(
    {
        "p1": "x,y",
        "p2": "x,y -x,-y",
        "pm": "x,y -x,y",
        "pg": "x,y -x,y'",
        "cm": "x,y -x,y c",
        "p2mm": "x,y -x,-y -x,y x,-y",
        "p2mg": "x,y -x,-y -x',y x',-y",
        "p2gg": "x,y -x,-y -x',y' x',-y'",
        "c2mm": "x,y -x,-y -x,y x,-y c",
        "p4": "x,y -x,-y -y,x y,-x",
        "p4mm": "x,y -x,-y -y,x y,-x -x,y x,-y y,x -y,-x",
        "p4gm": "x,y -x,-y -y,x y,-x -x',y' x',-y' y',x' -y',-x'",
        "p3": "x,y -y,s -s,-x",
        "p3m1": "x,y -y,s -s,-x -y,-x -s,y x,s",
        "p31m": "x,y -y,s -s,-x y,x s,-y -x,-s",
        "p6": "x,y -y,s -s,-x -x,-y y,-s s,x",
        "p6mm": "x,y -y,s -s,-x -x,-y y,-s s,x -y,-x -s,y x,s y,x s,-y -x,-s",
    }
)

PLANE_GROUPS = tuple(_POSITIONS)

_TERMS: Mapping[str, tuple[int, int]] = MappingProxyType({"x": (1, 0), "y": (0, 1), "s": (1, -1)})


def plane_group(name: str) -> tuple[Array, Array]:
    """Matrices ``[K, 2, 2]`` and translations ``[K, 2]`` on fractions of the cell's vectors.

    Raises ScopegymError for a name that is none of ``PLANE_GROUPS``.
    """
    if name not in _POSITIONS:
        raise unknown("plane group", name, _POSITIONS)
    *positions, last = _POSITIONS[name].split()
    centred = last == "c"
    terms = [p.split(",") for p in (positions if centred else [*positions, last])]
    matrices = np.array([[_row(term) for term in pair] for pair in terms])
    translations = np.array([["'" in term for term in pair] for pair in terms]) * 0.5
    if centred:
        matrices = np.concatenate([matrices, matrices])
        translations = np.concatenate([translations, translations + 0.5]) % 1.0
    return matrices, translations


def _row(term: str) -> tuple[int, int]:
    sign = -1 if term.startswith("-") else 1
    a, b = _TERMS[term.strip("-'")]
    return sign * a, sign * b


@dataclass(frozen=True, eq=False)
class Pattern:
    """A motif on a lattice: ``lattice_px`` two vectors (y, x) ``[2, 2]`` [px], ``columns``
    ``[N, 2]`` fractions of them, ``weights`` ``[N]`` heights, ``spacing_px`` the characteristic
    distance of its columns and ``origin_yx`` [px] where a corner of a cell lies."""

    lattice_px: Array
    columns: Array
    weights: Array
    spacing_px: float
    name: str = ""
    origin_yx: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lattice_px", readonly(self.lattice_px, np.float64))
        object.__setattr__(self, "columns", readonly(np.reshape(self.columns, (-1, 2)), np.float64))
        object.__setattr__(self, "weights", readonly(np.reshape(self.weights, -1), np.float64))
        area = abs(float(np.linalg.det(self.lattice_px))) if self.lattice_px.shape == (2, 2) else 0
        if not (area > 0 and math.isfinite(area)):
            raise ScopegymError(f"The lattice of pattern '{self.name}' spans no area.")
        if not len(self.columns) == len(self.weights) > 0:
            raise ScopegymError(
                f"Pattern '{self.name}' has {len(self.columns)} columns and {len(self.weights)} "
                "weights; it needs as many of both, and at least one."
            )
        if not (math.isfinite(self.spacing_px) and self.spacing_px > 0):
            raise ScopegymError(f"The spacing of pattern '{self.name}' must be positive.")

    def rotated(self, degrees: float, origin_yx: tuple[float, float] | None = None) -> Pattern:
        """The pattern, turned counter-clockwise on the screen, with the same or another origin."""
        angle = math.radians(degrees)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        origin = self.origin_yx if origin_yx is None else origin_yx
        lattice = self.lattice_px @ turn.T
        name = f"{self.name} at {degrees:g}°"
        return Pattern(lattice, self.columns, self.weights, self.spacing_px, name, origin)

    def positions(self, low: ArrayLike, high: ArrayLike) -> tuple[Array, Array]:
        """Columns (y, x) ``[M, 2]`` [px] between two corners, and their weights ``[M]``."""
        low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
        corners = np.array([(y, x) for y in (low[0], high[0]) for x in (low[1], high[1])])
        reach = (corners - self.origin_yx) @ np.linalg.inv(self.lattice_px)
        first, last = np.floor(reach.min(axis=0)) - 1, np.ceil(reach.max(axis=0)) + 1
        ranges = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 1, 2)
        yx = (cells + self.columns).reshape(-1, 2) @ self.lattice_px + self.origin_yx
        weights = np.tile(self.weights, len(cells))
        inside = ((yx >= low) & (yx < high)).all(axis=1)
        return yx[inside], weights[inside]


def lattice(
    a_px: float, b_px: float | None = None, gamma_deg: float = 90.0, name: str = "lattice"
) -> Pattern:
    """One column on an oblique lattice: b_px to the right, a_px at gamma from it, upwards.

    The spacing is the shorter vector's length.
    """
    b = a_px if b_px is None else b_px
    gamma = math.radians(gamma_deg)
    vectors = [(-a_px * math.sin(gamma), a_px * math.cos(gamma)), (0.0, b)]
    return Pattern(np.array(vectors), np.zeros((1, 2)), np.ones(1), min(a_px, b), name)


def plane_group_pattern(
    group: str, period_px: float = 24.0, *, columns: int = 3, seed: int = 0
) -> Pattern:
    """A random motif of columns of different heights, repeated by a plane group.

    Of some random motifs the one whose columns stand furthest apart: columns that run together
    on a mirror or an axis look as if they had more symmetry than they have.

    The cell has the metric of its group (oblique, rectangular, square or hexagonal) and about the
    area period_px^2, so that groups differ by their symmetry and not by their density of cells.
    The spacing is a third of the period. Raises ScopegymError for an unknown group.
    """
    matrices, translations = plane_group(group)
    rng = np.random.default_rng(seed)
    cell = _cell(group)
    cell = cell * (period_px / math.sqrt(abs(float(np.linalg.det(cell)))))
    tried = [
        (np.einsum("kij,nj->nki", matrices, points) + translations).reshape(-1, 2) % 1.0
        for points in rng.uniform(0, 1, (MOTIFS_TRIED, columns, 2))
    ]
    motif = max(tried, key=lambda motif: _closest(motif, cell))
    weights = np.repeat(np.linspace(1.0, 0.4, columns), len(matrices))
    return Pattern(cell, motif, weights, period_px / 3, group)


def _closest(motif: Array, cell: Array) -> float:
    """The smallest distance of two columns of a motif ``[N, 2]`` repeated by a cell ``[2, 2]``."""
    apart = motif[:, None] - motif
    near = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    distance = np.linalg.norm((apart[:, :, None] + near) @ cell, axis=-1)
    return float(distance[distance > 0].min(initial=np.inf))


def _cell(group: str) -> Array:
    """Vectors (y, x) of the axes x and y of a cell with the metric that its group requires."""
    if group in ("p1", "p2"):
        ratio, gamma = 1.25, math.radians(103)
    elif group.startswith(("p3", "p6")):
        ratio, gamma = 1.0, math.radians(120)
    else:
        ratio, gamma = (1.0 if group.startswith("p4") else 1.3), math.pi / 2
    return np.array([(0.0, 1.0), (-ratio * math.sin(gamma), ratio * math.cos(gamma))])
