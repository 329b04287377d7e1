"""Simulated micrographs of several crystal patterns side by side, with the exact label map.

Boundaries follow the label map in the recorded image: drift moves the lattices, not the truth. By
default every pixel shows the pattern of its own region: columns at a boundary are cut, and the
truth is exact to the pixel. With whole columns the image is more realistic, and a boundary is exact
to half a spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scopegym.artifacts import Array, Labels
from scopegym.datasets.patterns import Pattern, lattice
from scopegym.datasets.simulate import REACH, draw_columns
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph

#: Least distance of two columns of different regions, as a share of their spacing.
CLOSEST = 0.6

#: Width (standard deviation) of a column in multiples of the spacing: 0.045 nm of 0.25 nm.
COLUMN_WIDTH = 0.18


def halves(shape: tuple[int, int], angle_deg: float = 90.0, offset_px: float = 0.0) -> Array:
    """A map ``[H, W]`` of 0 and 1 on the two sides of a line through the middle of the field.

    The line runs at ``angle_deg`` from the x axis, counter-clockwise on the screen, and is moved
    by ``offset_px`` towards the side of 1 (to the right of a line that runs upwards).
    """
    return (_beside(shape, angle_deg) > offset_px).astype(np.int32)


def grains(shape: tuple[int, int], count: int, seed: int = 0) -> Array:
    """A map ``[H, W]`` of the Voronoi cells of ``count`` random points."""
    from scipy.spatial import cKDTree

    if count < 1:
        raise ScopegymError(f"A field has at least one grain, not {count}.")
    points = np.random.default_rng(seed).uniform(0, 1, (count, 2)) * np.array(shape)
    nearest = cKDTree(points).query(np.indices(shape).reshape(2, -1).T)[1]
    return nearest.reshape(shape).astype(np.int32)


def disk(shape: tuple[int, int], radius_px: float) -> Array:
    """A map ``[H, W]`` of a precipitate (1) in the middle of its matrix (0)."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return (np.hypot(y[:, None], x[None, :]) < radius_px).astype(np.int32)


def _beside(shape: tuple[int, int], angle_deg: float) -> Array:
    """Distance [px] of the pixels from a line through the middle, positive to its right."""
    angle = math.radians(angle_deg)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return y[:, None] * math.cos(angle) + x[None, :] * math.sin(angle)


def simulate_patterns(
    regions: ArrayLike,
    patterns: Sequence[Pattern],
    *,
    truth: ArrayLike | None = None,
    seed: int = 0,
    column_width: float = COLUMN_WIDTH,
    whole_columns: bool = False,
    noise: float = 0.0,
    drift: tuple[float, float] = (0.0, 0.0),
    jitter_px: float = 0.0,
    name: str = "simulated patterns",
) -> Micrograph:
    """Draw the pattern of each region as Gaussian columns and disturb it as a microscope would.

    ``regions`` ``[H, W]`` holds the numbers of patterns and is the truth, as Labels, unless another
    ``truth`` is given (one pattern may have several regions in it). Columns have a standard
    deviation of ``column_width`` spacings; at a boundary they are cut, or, as ``whole_columns``,
    left out where two are too near. ``drift`` is the sample's movement (y, x) [px] while the frame
    is scanned from top to bottom, ``jitter_px`` the standard deviation of each scan line's
    horizontal displacement. The clean image is scaled to 0..1; ``noise`` is the standard deviation
    of white Gaussian noise in units of the clean image's own standard deviation.

    ``metadata`` has ``spacing_px``, the mean of the patterns' spacings, and ``period_px``, the
    mean of the square roots of their cells. Same seed, same image. Raises ScopegymError for a map
    that is empty or names patterns that are not there, and for disturbances that make no sense.
    """
    pattern_map = _region_map(regions, len(patterns))
    labels = Labels(pattern_map if truth is None else np.asarray(truth))
    _check(column_width, noise, drift, jitter_px)
    rng = np.random.default_rng(seed)
    spacings = np.array([pattern.spacing_px for pattern in patterns])
    margin = REACH * column_width * float(spacings.max()) + 4 * jitter_px
    columns = [_columns(pattern_map == i, p, margin, drift) for i, p in enumerate(patterns)]
    if whole_columns:
        columns = _whole(pattern_map, columns, spacings, rng)
    shape: tuple[int, int] = (pattern_map.shape[0], pattern_map.shape[1])
    lines = rng.normal(0, jitter_px, shape[0]) if jitter_px > 0 else np.zeros(shape[0])
    image = np.zeros(shape)
    for i, (yx, weights) in enumerate(columns):
        drawn = draw_columns(shape, yx, weights, column_width * float(spacings[i]), lines)
        image += drawn if whole_columns else drawn * (pattern_map == i)
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-12)
    image += rng.normal(0, 1, shape) * (noise * image.std())
    areas = [abs(float(np.linalg.det(pattern.lattice_px))) for pattern in patterns]
    metadata: dict[str, Any] = {
        "spacing_px": float(spacings.mean()),
        "period_px": float(np.sqrt(areas).mean()),
        "patterns": tuple(pattern.name for pattern in patterns),
        "noise": noise,
    }
    return Micrograph(image, None, f"{name} #{seed}", metadata, labels)


def _columns(
    region: Array, pattern: Pattern, margin: float, drift: tuple[float, float]
) -> tuple[Array, Array]:
    """Visible columns (y, x) ``[N, 2]`` [px] of a region ``[H, W]``, and their weights."""
    from scipy.ndimage import distance_transform_edt

    if not region.any():
        return np.empty((0, 2)), np.empty(0)
    shape = np.array(region.shape)
    reach = margin + np.abs(drift).max()
    yx, weights = pattern.positions(np.full(2, -0.5 - reach), shape - 0.5 + reach)
    yx = yx + (yx[:, :1] / shape[0]) * np.array(drift)
    near = distance_transform_edt(~region) <= margin
    shown = near[_pixels(yx, region)]
    return yx[shown], weights[shown]


def _pixels(yx: Array, field: Array) -> tuple[Array, Array]:
    """The index of the pixels nearest to positions (y, x) ``[N, 2]`` [px]."""
    y, x = np.clip(np.rint(yx).astype(int), 0, np.array(field.shape) - 1).T
    return y, x


def _whole(
    pattern_map: Array,
    columns: Sequence[tuple[Array, Array]],
    spacings: Array,
    rng: np.random.Generator,
) -> list[tuple[Array, Array]]:
    """The columns whose centres lie in their own region, without pairs that are too near."""
    from scipy.spatial import cKDTree

    kept: list[tuple[Array, Array]] = []
    for i, (yx, weights) in enumerate(columns):
        mine = pattern_map[_pixels(yx, pattern_map)] == i
        yx, weights = yx[mine], weights[mine]
        for j, (others, other_weights) in enumerate(kept):
            if len(yx) == 0 or len(others) == 0:
                continue
            distance, partner = cKDTree(others).query(yx)
            close = np.flatnonzero(distance < CLOSEST * min(spacings[i], spacings[j]))
            # Neither side is favoured: the boundary would move towards the other.
            first = rng.random(len(close)) < 0.5
            stays = np.ones(len(others), dtype=bool)
            stays[partner[close[first]]] = False
            kept[j] = others[stays], other_weights[stays]
            yx, weights = (np.delete(v, close[~first], axis=0) for v in (yx, weights))
        kept.append((yx, weights))
    return kept


def two_phases(
    shape: tuple[int, int] = (256, 256),
    spacing_px: float = 8.0,
    *,
    angle_deg: float = 0.0,
    **disturbances: Any,
) -> Micrograph:
    """An oblique phase below a rectangular one.

    The cells have the lattices and the density of a mu and a Laves phase, but are not these
    crystals. After Wang, Freysoldt and Liebscher, Semi-automated segmentation of atomic-resolution
    microscopy images with unsupervised machine learning, figure 4.
    """
    oblique = np.array([(0.0, 1.0), (-2.2 * math.sin(1.75), 2.2 * math.cos(1.75))])
    rectangular = np.array([(0.0, 1.7), (-2.5, 0.0)])
    mu_motif = np.array([(0.0, 0.0), (0.45, 0.38), (0.1, 0.7)])
    laves_motif = np.array([(0.0, 0.0), (0.5, 0.3), (0.0, 0.6), (0.5, 0.75)])
    mu = Pattern(oblique * spacing_px, mu_motif, np.array([1.0, 0.7, 0.5]), spacing_px, "mu")
    heights = np.array([1.0, 0.6, 0.7, 0.5])
    laves = Pattern(rectangular * spacing_px, laves_motif, heights, spacing_px, "Laves")
    regions = halves(shape, angle_deg)
    return simulate_patterns(regions, (laves, mu), name="two phases", **disturbances)


def two_grains(
    shape: tuple[int, int] = (256, 256),
    spacing_px: float = 8.0,
    *,
    misorientation_deg: float = 25.0,
    orientation_deg: float = 7.0,
    boundary_deg: float = 90.0,
    offset_px: float = 0.0,
    **disturbances: Any,
) -> Micrograph:
    """A square lattice in two orientations on either side of a straight boundary.

    A tilt boundary is one whose line halves the misorientation: ``tilt_boundary``.
    """
    square = lattice(spacing_px, name="grain")
    turned = square.rotated(orientation_deg + misorientation_deg, (0.3 * spacing_px, 0.0))
    patterns = (square.rotated(orientation_deg), turned)
    regions = halves(shape, boundary_deg, offset_px)
    return simulate_patterns(regions, patterns, name="two grains", **disturbances)


def tilt_boundary(
    shape: tuple[int, int] = (256, 256),
    spacing_px: float = 8.0,
    *,
    misorientation_deg: float = 25.0,
    **disturbances: Any,
) -> Micrograph:
    """Two grains with a vertical boundary, turned by half the misorientation in opposite
    directions."""
    return two_grains(
        shape,
        spacing_px,
        misorientation_deg=misorientation_deg,
        orientation_deg=-misorientation_deg / 2,
        **disturbances,
    )


def twin(
    shape: tuple[int, int] = (256, 256),
    spacing_px: float = 10.0,
    *,
    lamella_px: float = 90.0,
    fault: bool = True,
    **disturbances: Any,
) -> Micrograph:
    """A face-centred cubic crystal along [110] with a twin lamella and an intrinsic stacking fault.

    Close-packed rows run horizontally, stacked ABC in the matrix (0), CBA in the twin (1); at the
    fault (2) one step of the stacking is left out, which makes two layers hexagonal. The lamella
    lies in the lower half, the fault in the middle of the upper one.
    """
    # Rows of columns sqrt(6)/4 a apart lie a/sqrt(3) apart and step by a third along the row.
    height = spacing_px * (1 / math.sqrt(3)) / (math.sqrt(6) / 4)
    count = math.ceil(shape[0] / height) + 8
    level = (np.arange(count) - 4) * height
    first, last = np.searchsorted(level, (shape[0] / 2, shape[0] / 2 + lamella_px))
    steps = np.ones(count, dtype=int)
    steps[first:last] = -1
    rows = np.arange(shape[0])
    kind = ((rows >= level[first]) & (rows < level[min(last, count - 1)])).astype(np.int32)
    if fault:
        at = int(np.searchsorted(level, shape[0] / 4))
        steps[at] = 2  # from A to C without B between
        kind[(rows >= level[at] - height / 2) & (rows < level[at + 1] + height / 2)] = 2
    phase = np.concatenate([[0], np.cumsum(steps)[:-1]]) % 3
    stack = Pattern(
        np.array([(0.0, spacing_px), (count * height, 0.0)]),
        np.stack([phase / 3, np.arange(count) / count], axis=1),
        np.ones(count),
        spacing_px,
        "face-centred cubic [110]",
        (float(level[0]), 0.0),
    )
    truth = np.repeat(kind[:, None], shape[1], axis=1)
    one = np.zeros(shape, dtype=np.int32)
    return simulate_patterns(one, [stack], truth=truth, name="twin", **disturbances)


def _region_map(regions: ArrayLike, patterns: int) -> Array:
    truth = np.asarray(regions)
    if truth.ndim != 2 or truth.size == 0 or truth.dtype.kind not in "iub":
        raise ScopegymError("regions must be a map [H, W] of whole numbers, with a pixel at least.")
    if patterns < 1 or truth.min() < 0 or truth.max() >= patterns:
        raise ScopegymError(
            f"regions names patterns {int(truth.min())}..{int(truth.max())}; there are {patterns}."
        )
    return truth.astype(np.int32)


def _check(column_width: float, noise: float, drift: tuple[float, float], jitter_px: float) -> None:
    for label, value in {"noise": noise, "jitter_px": jitter_px}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ScopegymError(f"{label} must not be negative, and is {value:g}.")
    if not (math.isfinite(column_width) and column_width > 0):
        raise ScopegymError(f"column_width must be positive, not {column_width:g}.")
    if not np.isfinite(drift).all():
        raise ScopegymError(f"drift must be finite, not {drift}.")
