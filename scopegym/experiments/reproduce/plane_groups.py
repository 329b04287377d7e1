"""Which plane groups can be told apart without labels, descriptor by descriptor.

Two groups meet in one image only if their lattices may have the same metric: groups that differ
in their lattice are told apart by that. Motifs are random, as many columns in each cell as the
others, so that neither density nor lattice gives a group away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from types import MappingProxyType
from typing import Any

import numpy as np

from scopegym.artifacts import Array, Features, Labels
from scopegym.datasets.patterns import Pattern, plane_group, plane_group_pattern
from scopegym.datasets.simulate_patterns import halves, simulate_patterns
from scopegym.micrograph import Micrograph
from scopegym.operators import registry as operators

#: Plane groups by their Patterson symmetry (Wang, Freysoldt and Liebscher, table I; title in
#: ``reproduce.symmetry``).
PATTERSON: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("p1", "p2"), "p2"),
        **dict.fromkeys(("pm", "pg", "p2mm", "p2mg", "p2gg"), "p2mm"),
        **dict.fromkeys(("cm", "c2mm"), "c2mm"),
        "p4": "p4",
        **dict.fromkeys(("p4mm", "p4gm"), "p4mm"),
        **dict.fromkeys(("p3", "p6"), "p6"),
        **dict.fromkeys(("p3m1", "p31m", "p6mm"), "p6mm"),
    }
)
#: Lattice metrics that groups need, as the cells of the simulator have them.
METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "oblique": ("p1", "p2"),
        "rectangular": ("pm", "pg", "p2mm", "p2mg", "p2gg", "cm", "c2mm"),
        "square": ("p4", "p4mm", "p4gm"),
        "hexagonal": ("p3", "p6", "p3m1", "p31m", "p6mm"),
    }
)
DESCRIPTORS = (
    "translation_symmetry",
    "rotation_symmetry",
    "reflection_symmetry",
    "power_spectrum",
    "local_fourier",
)
#: Columns per cell, or the nearest number that a group can have.
COLUMNS = 12
#: Side of a cell of this area [px]; a third of it is the spacing, and twelve columns of a cell
#: then lie about as far apart.
PERIOD_PX = 36.0
NOISE = 0.5
#: Standard deviation of a column in spacings: blurred as much as columns this dense allow.
COLUMN_WIDTH = 0.25
#: Half patch and half window in spacings. Pooling over half a period either way meets every place
#: of a cell.
PATCH, WINDOW = 2.0, 1.75
#: Distance of the centres [px]. Axes and mirrors are points and lines, found only by a centre
#: nearer to them than a column is wide; what is periodic needs no such care.
STRIDE_PX = 6
FINE_STRIDE_PX: Mapping[str, int] = MappingProxyType(
    {"rotation_symmetry": 2, "reflection_symmetry": 2}
)
#: From this share of right pixels on, two groups count as told apart.
TOLD_APART = 0.9
#: Pooled score from which on a pattern counts as having an operation.
SYMMETRIC = 0.9


@dataclass(frozen=True)
class Table:
    """Right pixels [share] of two-region images for pairs of groups, one descriptor: ``accuracy``
    ``[G, G]``, NaN where the lattices differ; the diagonal has two motifs of one group."""

    descriptor: str
    groups: tuple[str, ...]
    accuracy: Array

    def pairs(self, alike: bool) -> Array:
        """Accuracies of the pairs of different groups that are alike to this descriptor by their
        symmetry, or are not; lattices have one metric."""
        rows, columns = np.triu_indices(len(self.groups), 1)
        kinds = [seen(self.descriptor, group) for group in self.groups]
        wanted = [(kinds[i] == kinds[j]) == alike for i, j in zip(rows, columns, strict=True)]
        values = self.accuracy[rows, columns][wanted]
        return values[np.isfinite(values)]

    def to_dict(self) -> dict[str, object]:
        """Plain values; None where there is no pair."""
        rows = [[round(v, 4) if math.isfinite(v) else None for v in row] for row in self.accuracy]
        return {"groups": list(self.groups), "accuracy": rows}


def order(groups: Sequence[str]) -> tuple[str, ...]:
    """Groups with those of one metric and one Patterson symmetry side by side."""
    return tuple(group for metric in METRICS.values() for group in metric if group in groups)


def tables(groups: Sequence[str], size: int, motifs: int, seed: int) -> list[Table]:
    """One table per descriptor: the median over ``motifs`` pairs of motifs."""
    groups = order(groups)
    accuracy = np.full((len(DESCRIPTORS), len(groups), len(groups)), np.nan)
    for i, j in combinations_with_replacement(range(len(groups)), 2):
        if metric(groups[i]) == metric(groups[j]):
            images = [side_by_side(groups[i], groups[j], size, seed + 2 * k) for k in range(motifs)]
            for d, name in enumerate(DESCRIPTORS):
                value = float(np.median([segmented(image, name) for image in images]))
                accuracy[d, i, j] = accuracy[d, j, i] = value
    return [Table(name, groups, values) for name, values in zip(DESCRIPTORS, accuracy, strict=True)]


def seen(descriptor: str, group: str) -> object:
    """What a descriptor can know of a group by its symmetry alone."""
    turns, mirror = operations(group)
    return {"rotation_symmetry": turns, "reflection_symmetry": mirror}.get(
        descriptor, PATTERSON[group]
    )


def metric(group: str) -> str:
    """The metric of a group's lattice."""
    return next(name for name, members in METRICS.items() if group in members)


def motif(group: str, seed: int) -> Pattern:
    """A pattern of a group with about as many columns in its cell as all others."""
    count = max(1, round(COLUMNS / len(plane_group(group)[0])))
    return plane_group_pattern(group, PERIOD_PX, columns=count, seed=seed)


def side_by_side(one: str, other: str, size: int, seed: int) -> Micrograph:
    """An image ``[size, size]`` of two groups' patterns on the two sides of a vertical
    boundary."""
    patterns = motif(one, seed), motif(other, seed + 1)
    return simulate_patterns(
        halves((size, size)), patterns, column_width=COLUMN_WIDTH, noise=NOISE, seed=seed
    )


def segmented(image: Micrograph, descriptor: str) -> float:
    """Share of right pixels by descriptor, five PCA components and two K-means clusters."""
    from scopegym.metrics import label_accuracy

    reduced = operators["pca"](described(image, descriptor), components=5)
    assert isinstance(image.truth, Labels)
    return label_accuracy(operators["kmeans"](reduced, clusters=2), image.truth)


def described(image: Micrograph, descriptor: str, stride: int = 0) -> Features:
    """Scores of an image with the patch, window and stride [px] of this comparison."""
    spacing = PERIOD_PX / 3
    lengths = {
        "patch": PATCH * spacing,
        "window": WINDOW * spacing,
        "stride": stride or FINE_STRIDE_PX.get(descriptor, STRIDE_PX),
        "finest": 0.5 * spacing,
    }
    takes = operators[descriptor].parameters
    pixels: dict[str, Any] = {name: value for name, value in lengths.items() if name in takes}
    return operators[descriptor](image.data, **pixels)


@dataclass(frozen=True)
class Signature:
    """Pooled scores of a group's patterns by operation, turns in degrees and ``mirror`` for the
    best line of the fan; ``has`` are the operations that the group has."""

    group: str
    scores: Mapping[int | str, float]
    has: tuple[int | str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        scores = {str(name): round(score, 4) for name, score in self.scores.items()}
        return {"group": self.group, "scores": scores, "has": list(map(str, self.has))}


def signature(group: str, motifs: int, seed: int) -> Signature:
    """Score the symmetry operations of a group without noise, in every pixel.

    The score is the lowest of some motifs: one alone may look more symmetric by chance.
    """
    from scopegym.operators.symmetry import ROTATIONS

    # Room for the window and the patch; what is pooled is all that is looked at.
    size = 2 * math.ceil((PATCH + WINDOW) * PERIOD_PX / 3) + 5
    rows = []
    for k in range(motifs):
        image = pure(group, size, seed + k)
        turns = np.median(described(image, "rotation_symmetry", 1).values, axis=0)
        mirrors = np.median(described(image, "reflection_symmetry", 1).values, axis=0)
        rows.append([*turns.tolist(), float(mirrors.max())])
    lowest = np.min(rows, axis=0).tolist()
    turns_had, mirror_had = operations(group)
    has = (*turns_had, *(("mirror",) if mirror_had else ()))
    return Signature(group, dict(zip((*ROTATIONS, "mirror"), lowest, strict=True)), has)


def pure(group: str, size: int, seed: int) -> Micrograph:
    """One group's pattern without noise ``[size, size]``."""
    whole = np.zeros((size, size), int)
    return simulate_patterns(whole, [motif(group, seed)], column_width=COLUMN_WIDTH, seed=seed)


def operations(group: str) -> tuple[tuple[int, ...], bool]:
    """The turns [degrees] of a group among those scored, and whether it has mirror lines.

    A reflection whose square is no whole translation is a glide: a patch has no use for it.
    """
    matrices, translations = plane_group(group)
    proper = np.rint(np.linalg.det(matrices)) == 1
    traces = set(np.rint(np.trace(matrices[proper], axis1=1, axis2=2)).astype(int).tolist())
    orders = {1: (60, 120, 180), 0: (90, 180), -1: (120,), -2: (180,)}
    turns = sorted({angle for trace in traces for angle in orders.get(trace, ())})
    improper = zip(matrices[~proper], translations[~proper], strict=True)
    return tuple(turns), any(np.allclose(m @ t + t, 0) for m, t in improper)


#: Reach of the shifts whose scores make a map [px], and the agreement of a map with its turned or
#: mirrored self from which on it has that symmetry: interpolation costs a few thousandths.
MAP_REACH, AGREES = 20, 0.99
#: The score of a centring from which on it counts: the shift is rounded to whole pixels.
CENTRED = 0.95


def patterson(group: str, motifs: int, seed: int) -> str:
    """The symmetry that the maps of translation scores of a group's patterns are measured to have.

    It is what all motifs share: one alone may have more by chance.
    """
    maps = [translation_map(group, seed + k) for k in range(motifs)]

    def has(operation: Array) -> bool:
        return min(agreement(*one, operation) for one in maps) >= AGREES

    order = next((n for n in (6, 4, 2) if has(_turn(360 / n))), 1)
    mirror = any(has(_mirror(angle)) for angle in (0, 30, 45, 90))
    centre = all(centred(group, seed + k) for k in range(motifs))
    return f"{'c' if centre else 'p'}{order}{'mm' if mirror else ''}"


def translation_map(group: str, seed: int) -> tuple[Array, Array]:
    """Shifts (y, x) ``[N, 2]`` [px] in a disk and the mean score of each ``[N]``."""
    from scopegym.operators.symmetry import grid, translation_scores

    r = MAP_REACH
    half = round(PERIOD_PX / 2)
    size = 2 * (half + r) + round(2 * PERIOD_PX)
    axis = np.arange(-r, r + 1)
    shifts = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    shifts = shifts[np.hypot(*shifts.T) <= r]
    centres = grid("the map", (size, size), half + r, STRIDE_PX)
    pixels = pure(group, size, seed).data
    found = translation_scores(pixels, centres, [(int(m), int(n)) for m, n in shifts], half)
    return shifts, found.mean(axis=0)


def agreement(shifts: Array, scores: Array, operation: Array) -> float:
    """Correlation of a map with itself after an operation ``[2, 2]`` on (y, x)."""
    from scipy.ndimage import map_coordinates

    r = MAP_REACH
    square = np.zeros((2 * r + 1, 2 * r + 1))
    square[tuple((shifts + r).T)] = scores
    inner = np.hypot(*shifts.T) <= r - 2  # the cubic interpolation looks two pixels further
    moved = map_coordinates(square, (shifts[inner] @ operation.T + r).T, order=3)
    return float(np.corrcoef(scores[inner], moved)[0, 1])


def _turn(degrees: float) -> Array:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _mirror(degrees: float) -> Array:
    c, s = math.cos(math.radians(2 * degrees)), math.sin(math.radians(2 * degrees))
    return np.array([[-c, s], [s, c]])


def centred(group: str, seed: int) -> bool:
    """Whether half the sum of a rectangular cell's vectors is a period by the translation score."""
    from scopegym.operators.symmetry import grid, translation_scores

    if metric(group) != "rectangular":
        return False
    m, n = np.rint(motif(group, seed).lattice_px.sum(axis=0) / 2).astype(int).tolist()
    half, reach = round(PERIOD_PX / 2), max(abs(m), abs(n))
    size = 2 * (half + reach) + round(2 * PERIOD_PX)
    centres = grid("the map", (size, size), half + reach, STRIDE_PX)
    score = translation_scores(pure(group, size, seed).data, centres, [(m, n)], half)
    return float(score.mean()) >= CENTRED
