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

#: Samples from a patch's middle to its edge at most: the widest window, two spacings, is then
#: sampled six times a spacing, and a column's profile (0.18 spacings wide) is still resolved.
MOST_SAMPLES = 12


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
    samples = min(MOST_SAMPLES, max(1, round(window)))
    step = window / samples
    pixels = smooth(image.pixels, step / 2) if step > 1 else image.pixels
    offsets = np.linspace(-window, window, 2 * samples + 1)
    values = _bilinear(pixels, yx[:, :1] + offsets, yx[:, 1:] + offsets)
    return Features(values.reshape(len(yx), -1), yx, image.shape)


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
