"""Claims: no column has its neighbours too close, and none has them too far."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Array, Points
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: A sum of distances to the four nearest neighbours below this multiple of the smallest expected
#: one marks a column as false. The paper leaves its bound DS open; 0.8 lets positions scatter by
#: a tenth of a spacing and still catches a single extra point at half a spacing.
TOO_CLOSE = 0.8
#: Above this multiple of the largest expected sum a neighbour is missing: one of four neighbours
#: lost to the next shell (1.4 to 2 times as far) raises the sum by 10 to 25 %, two by 20 to 50 %.
TOO_FAR = 1.35


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def spacing_error(points: Points, prior: Prior) -> float:
    """Share of inner columns whose four nearest neighbours are too close.

    Too close: the sum of the distances is below 0.8 of the smallest expected sum. Source: ER in
    Barakati et al. 2024, Physics-based reward driven image analysis in microscopy, equation 2.
    """
    low, _ = expected_sums(prior)
    sums = _inner_sums(points, prior.scale_px / 2)
    return _share(sums < TOO_CLOSE * low)


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def spacing_excess(points: Points, prior: Prior) -> float:
    """Share of inner columns whose four nearest neighbours are too far.

    Too far: the sum of the distances is above 1.35 of the largest expected sum. Inner means here
    that all four neighbours lie within the image too. In a small field of view the middle two
    spacings always count.
    """
    _, high = expected_sums(prior)
    # The widest hole of a honeycomb is two spacings across: a smaller region may hold no column.
    widest = min(points.shape) / 2 - prior.scale_px
    sums = _inner_sums(points, max(prior.scale_px, min(TOO_FAR * high / 4, widest)))
    return _share(sums > TOO_FAR * high)


def expected_sums(prior: Prior) -> tuple[float, float]:
    """Smallest and largest sum of distances to the four nearest neighbours [px]."""
    sums = prior.neighbour_sums_px or (4 * prior.scale_px,)
    return min(sums), max(sums)


def _inner_sums(points: Points, margin: float) -> Array:
    """Sums for the points that are at least ``margin`` from the border; infinite where the whole
    field holds fewer than five points."""
    from scipy.spatial import KDTree

    inner = points.yx[points.inner(margin)]
    if not len(inner):
        return np.empty(0)
    distances, _ = KDTree(points.yx).query(inner, k=5)
    sums: Array = distances[:, 1:].sum(axis=1)
    return sums


def _share(wrong: Array) -> float:
    return float(wrong.mean()) if len(wrong) else float("nan")
