"""Claim: the positions sit on the image's own columns."""

from __future__ import annotations

import math

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Points, Source, readonly
from scopegym.operators.filters import smooth
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: Widths of the difference of Gaussians, in spacings: a column's own width, and one that reaches
#: its surroundings without its neighbours.
NARROW, WIDE = 0.15, 0.45
#: Random places that a position is compared with; the rank is then known to half a per cent.
PLACES = 20_000


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def image_evidence(source: Source, points: Points, prior: Prior) -> float:
    """How much more often than by chance a position is more column-like than a random place.

    Both are judged by a difference of Gaussians of the untouched image. With P the probability
    that a position has the higher response: 2 P - 1, so 1 is always and 0 is no evidence. Without
    this term the right lattice shifted by half a cell is as good as the truth.
    """
    inner = points.yx[points.inner(prior.scale_px / 2)]
    if not len(inner):
        return float("nan")
    response, places = cache.current().get(
        ("evidence", source.key, prior.scale_px, prior.contrast),
        lambda: _column_likeness(source, prior),
    )
    rank = np.searchsorted(places, _bilinear(response, inner)) / len(places)
    return float(2 * rank.mean() - 1)


def _column_likeness(source: Source, prior: Prior) -> tuple[Array, ...]:
    """The response everywhere, and its sorted values at evenly strewn inner places."""
    narrow, wide = (smooth(source.pixels, k * prior.scale_px) for k in (NARROW, WIDE))
    response = narrow - wide if prior.contrast == "bright" else wide - narrow
    margin = int(min(prior.scale_px / 2, (min(source.shape) - 1) // 2))
    inner = response[margin : source.shape[0] - margin, margin : source.shape[1] - margin].ravel()
    # A stride prime to the width visits all rows and columns alike, and needs no random numbers.
    stride = max(1, inner.size // PLACES)
    while math.gcd(stride, source.shape[1] - 2 * margin) > 1:
        stride += 1
    return readonly(response), readonly(np.sort(inner[::stride]))


def _bilinear(field: Array, yx: Array) -> Array:
    from scipy.ndimage import map_coordinates

    values: Array = map_coordinates(field, yx.T, order=1, mode="nearest")
    return values
