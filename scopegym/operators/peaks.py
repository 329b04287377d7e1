"""Detectors that read one scale: local maxima, and matching with a column's expected shape."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Image, Points
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.space import Real, Scale
from scopegym.strips import in_strips

#: More maxima than this in an image of up to 2048 x 2048 px are noise, and would only cost time; in
#: larger ones as many per area.
MAX_PEAKS = 200_000
AREA = 2048 * 2048


def peaks(response: Array, distance: float, threshold: float) -> tuple[Array, Array]:
    """Positions ``[N, 2]`` and values ``[N]`` of maxima above threshold at least ``distance`` [px]
    apart along y or x, strongest first.

    Equals ``skimage.feature.peak_local_max`` without its border, whose time grows with the square
    of the number of maxima.
    """
    import cv2

    apart = max(1, round(distance))
    top = response == cv2.dilate(response, np.ones((2 * apart + 1, 2 * apart + 1), np.uint8))
    if top.all() and top.size > 1:  # nothing stands out of a flat image
        top[:] = False
    top &= response > threshold
    yx = np.argwhere(top)
    yx = yx[np.argsort(-response[top], kind="stable")]
    if apart > 1 and len(yx) > 1:
        yx = yx[_apart(yx, apart)]
    yx = yx[: by_area(MAX_PEAKS, response.size)]
    return yx, response[tuple(yx.T)]


def _apart(yx: Array, distance: int) -> Array:
    """Which maxima ``[N]``, strongest first, are ``distance`` from all stronger ones that are kept.

    Two can be closer only if they are equal, which few are.
    """
    from scipy.spatial import cKDTree

    kept = np.ones(len(yx), bool)
    tied = np.flatnonzero(cKDTree(yx).query(yx, k=2, p=np.inf)[0][:, 1] < distance)
    tree = cKDTree(yx[tied])
    for row in tied:
        if kept[row]:
            near = tied[tree.query_ball_point(yx[row], distance - 1, p=np.inf)]
            kept[near[near > row]] = False
    return kept


def by_area(most: int, size: int) -> int:
    """A limit for images of up to 2048 x 2048 px, grown with the area ``size`` [px] of others."""
    return math.ceil(most * max(1.0, size / AREA))


@operator
def local_maxima(
    image: Image,
    *,
    distance: Annotated[float, Scale(0.1, 0.8, log=True)] = 0.4,
    threshold: Annotated[float, Real(0.0, 1.0)] = 0.2,
) -> Points:
    """Find pixels brighter than ``threshold`` and than all others within ``distance`` [px].

    ``strength`` is the intensity.
    """
    yx, value = peaks(image.pixels, distance, threshold)
    return Points(yx, image.shape, strength=value)


@operator
def template_match(
    image: Image,
    *,
    sigma: Annotated[float, Scale(0.08, 0.4, log=True)] = 0.2,
    threshold: Annotated[float, Real(0.05, 0.95)] = 0.4,
    distance: Annotated[float, Scale(0.1, 0.8, log=True)] = 0.4,
) -> Points:
    """Find where the image looks like a Gaussian column of width ``sigma`` [px].

    ``strength`` is the normalised cross-correlation (-1..1) with a disk of radius 2 sigma, so
    that weak and strong columns count alike; it must exceed ``threshold``.
    """
    correlation = correlate_column(image.pixels, sigma)
    yx, value = peaks(correlation, distance, threshold)
    return Points(yx, image.shape, np.full(len(yx), sigma), value)


def correlate_column(pixels: Array, sigma: float) -> Array:
    """Pearson correlation ``[H, W]`` of each place with a Gaussian column, 0 on flat regions."""
    import cv2

    if not sigma > 0:
        raise ScopegymError(f"A column needs a positive sigma, not {sigma:g} px.")
    radius = max(1, round(2 * sigma))
    grid = np.arange(-radius, radius + 1)
    square = grid[:, None] ** 2 + grid[None, :] ** 2
    # Half a pixel more makes the smallest disk a full 3 x 3 cross instead of a point.
    disk = (square <= (radius + 0.5) ** 2).astype(np.float64)
    disk /= disk.sum()
    column = np.exp(-square / (2 * sigma**2)) * (disk > 0)
    column = (column - column.sum() * disk) * (disk > 0)
    column /= np.sqrt(np.sum(column**2))
    mean = pixels.mean(dtype=np.float64)
    least = 1e-9 * max(float(pixels.var(dtype=np.float64)), np.finfo(float).tiny)

    def over_disk(values: Array, weights: Array) -> Array:
        return cv2.filter2D(values, cv2.CV_64F, weights, borderType=cv2.BORDER_REFLECT)

    def correlation(part: Array) -> Array:
        # Deviations from the mean keep the variance from being a difference of large numbers.
        deviation = part.astype(np.float64) - mean
        variance = over_disk(deviation**2, disk) - over_disk(deviation, disk) ** 2
        spread = np.sqrt(np.maximum(variance, 0) * np.count_nonzero(disk))
        flat = variance <= least
        matched = over_disk(deviation, column) / np.where(flat, 1, spread)
        return np.where(flat, 0, np.clip(matched, -1, 1))

    return in_strips(correlation, pixels, radius, np.float32)
