"""Label maps to label maps: smoothing, and small regions to their neighbours."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Labels
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.operators.clustering import counts
from scopegym.space import Scale
from scopegym.strips import in_strips


@operator
def majority_smooth(
    labels: Labels, *, radius: Annotated[float, Scale(0.1, 2.0, log=True)] = 0.5
) -> Labels:
    """Give each pixel the most frequent label within ``radius`` [px]; in a tie it keeps its own."""
    import cv2

    if not (math.isfinite(radius) and radius > 0):
        raise ScopegymError(f"majority_smooth needs a positive radius, not {radius:g} px.")
    if labels.empty:
        return labels
    # A window that reaches beyond the image counts all of it, whatever its size.
    half = min(max(1, round(radius)), max(labels.map.shape))

    def majority(part: Array) -> Array:
        best, winner = np.full(part.shape, -1.0), part.copy()
        for label in np.unique(part):
            mine = part == label
            counts = cv2.boxFilter(
                mine.astype(np.float64),
                cv2.CV_64F,
                (2 * half + 1, 2 * half + 1),
                normalize=False,
                borderType=cv2.BORDER_CONSTANT,
            )
            counts = np.rint(counts) + 0.5 * mine
            winner[counts > best] = label
            best = np.maximum(best, counts)
        return winner

    return Labels(in_strips(majority, labels.map, half, np.int32), labels.background)


@operator
def drop_small(
    labels: Labels, *, size: Annotated[float, Scale(0.25, 6.0, log=True)] = 1.5
) -> Labels:
    """Merge connected regions smaller than a square of side ``size`` [px] into the nearest others.

    The largest region stays whatever its size.
    """
    from scipy.ndimage import distance_transform_edt

    if not (math.isfinite(size) and size > 0):
        raise ScopegymError(f"drop_small needs a positive size, not {size:g} px.")
    if labels.empty:
        return labels
    regions = connected_regions(labels.map)
    area = counts(regions)
    kept = (area >= size**2) | (area == area.max())
    small = ~kept[regions]
    if not small.any():
        return labels
    nearest = distance_transform_edt(small, return_distances=False, return_indices=True)
    return Labels(labels.map[tuple(nearest)], labels.background)


def connected_regions(labels: Array) -> Array:
    """Number the connected regions of equal label from 0, four neighbours to a pixel ``[H, W]``."""
    from scipy.ndimage import label

    regions = np.empty(labels.shape, np.int32)
    count = 0
    for value in np.unique(labels):
        found, number = label(labels == value)
        mine = found > 0
        found += count - 1
        np.copyto(regions, found, where=mine)
        count += number
    return regions
