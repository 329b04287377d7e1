"""Image and points to features: the image around every column, and its neighbours."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Features, Image, Points
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.operators.filters import smooth
from scopegym.prior import Prior
from scopegym.space import Integer, Scale
from scopegym.strips import precision

#: Samples from a patch's middle to its edge at most: the widest window, two spacings, is then
#: sampled six times a spacing, and a column's profile (0.18 spacings wide) is still resolved.
MOST_SAMPLES = 12
#: Values of all patches together at most: 0.5 GB. Only more than 214,000 patches, which no image of
#: up to 2048 x 2048 px has, get fewer samples for it.
MOST_VALUES = 2**27
#: Patches that are cut out at a time.
BATCH = 2048


@operator
def patches(
    image: Image, points: Points, *, window: Annotated[float, Scale(0.2, 2.0, log=True)] = 0.5
) -> Features:
    """Describe each point by the image around it: a square of half-side ``window`` [px].

    Values ``[N, (2 s + 1)^2]`` are intensities, row by row, centred to a fraction of a pixel.
    Samples are one pixel apart. Where that would be more than 12 from the middle to the edge, they
    are further apart and averaged over that distance. Points whose square extends beyond the image
    have none. Raises ScopegymError where all do. Source: Barakati et al. 2024, Physics-based reward
    driven image analysis in microscopy (patches centred on atoms).
    """
    if not (math.isfinite(window) and window > 0):
        raise ScopegymError(f"patches needs a positive window, not {window:g} px.")
    yx = points.yx[_within(points.yx, image.shape, window)]
    if not len(yx):
        raise ScopegymError(
            f"None of {len(points)} points lies {window:.3g} px from the image's edges; make the "
            "window smaller, or find points first."
        )
    room = (math.isqrt(MOST_VALUES // len(yx)) - 1) // 2
    samples = max(1, min(MOST_SAMPLES, round(window), room))
    step = window / samples
    pixels = smooth(image.pixels, step / 2) if step > 1 else image.pixels
    offsets = np.linspace(-window, window, 2 * samples + 1)
    values = np.empty((len(yx), len(offsets) ** 2), precision(pixels.size))
    for start in range(0, len(yx), BATCH):
        y, x = yx[start : start + BATCH, :1], yx[start : start + BATCH, 1:]
        batch = _bilinear(pixels, y + offsets, x + offsets)
        values[start : start + BATCH] = batch.reshape(len(batch), -1)
    return Features(values, yx, image.shape)


@operator
def neighbour_geometry(
    points: Points, prior: Prior, *, neighbours: Annotated[int, Integer(3, 12)] = 6
) -> Features:
    """Describe each point by the distances to its nearest neighbours and the angles between them.

    Values ``[N, 2 K]``: K distances in spacings, then the K angles between neighbours next to each
    other in direction [rad], both ascending; so shifts, rotations and magnification change nothing.
    Points nearer to the border than to the last of these neighbours have none: another neighbour
    may lie outside. Raises ScopegymError where that holds for all.
    """
    from scipy.spatial import KDTree

    if neighbours < 1:
        raise ScopegymError(f"neighbour_geometry needs at least 1 neighbour, not {neighbours}.")
    if len(points) > neighbours:
        distances, rows = KDTree(points.yx).query(points.yx, k=neighbours + 1)
        whole = _within(points.yx, points.shape, distances[:, -1])
    if len(points) <= neighbours or not whole.any():
        raise ScopegymError(
            f"None of {len(points)} points has its {neighbours} nearest neighbours well within the "
            "image; ask for fewer neighbours, or find points first."
        )
    away = points.yx[rows[whole, 1:]] - points.yx[whole, None]
    direction = np.sort(np.arctan2(away[..., 0], away[..., 1]), axis=1)
    between = np.diff(direction, axis=1, append=direction[:, :1] + 2 * np.pi)
    values = np.hstack([distances[whole, 1:] / prior.scale_px, np.sort(between, axis=1)])
    names = (
        *(f"distance {i + 1}" for i in range(neighbours)),
        *(f"angle {i + 1}" for i in range(neighbours)),
    )
    return Features(values, points.yx[whole], points.shape, names)


def _within(yx: Array, shape: tuple[int, int], reach: Array | float) -> Array:
    """Which points ``[N]`` are at least ``reach`` from the outermost pixels' centres."""
    depth = np.minimum(yx, np.array(shape) - 1 - yx).min(axis=1)
    return np.asarray(depth >= reach)


def _bilinear(pixels: Array, rows: Array, columns: Array) -> Array:
    """Values ``[N, A, B]`` at rows ``[N, A]`` and columns ``[N, B]`` [px] inside the image."""
    top, left = (
        np.clip(np.floor(at).astype(np.intp), 0, max(n - 2, 0))
        for at, n in zip((rows, columns), pixels.shape, strict=True)
    )
    down, right = (rows - top)[:, :, None], (columns - left)[:, None, :]
    y, x = top[:, :, None], left[:, None, :]
    below, beside = np.minimum(y + 1, pixels.shape[0] - 1), np.minimum(x + 1, pixels.shape[1] - 1)
    upper = pixels[y, x] * (1 - right) + pixels[y, beside] * right
    lower = pixels[below, x] * (1 - right) + pixels[below, beside] * right
    values: Array = upper * (1 - down) + lower * down
    return values
