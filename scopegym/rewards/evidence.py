"""Claim: the positions lie on the image's own columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Points, Source, readonly
from scopegym.correlation import periodicity
from scopegym.operators.filters import smooth
from scopegym.operators.peaks import peaks
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term
from scopegym.rewards.explanation import sampled

#: Widths of the difference of Gaussians, in spacings: a column's own width, and one that reaches
#: its surroundings without its neighbours.
NARROW, WIDE = 0.15, 0.45
#: Random places that a position is compared with; the rank is then known to half a per cent.
PLACES = 20_000
#: Below this even the best places of an image are no columns; keeps the quotient finite.
LEAST_ATTAINABLE = 0.1


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def image_evidence(source: Source, points: Points, prior: Prior) -> float:
    """How much more column-like the positions are than random places of the image.

    Both are judged by a difference of Gaussians of the original image. With P the probability
    that a position has the higher response, the term is 2 P - 1 relative to the same figure for
    the expected number of the most column-like places of this image: 1 is as good as the image
    allows, 0 is chance. Without this term the right lattice shifted by half a cell is as good as
    the truth. If a lattice is expected but the image shows none, there are no columns: the term
    falls to 0 as the repeating part of the response falls to that of noise.
    """
    inner = points.yx[points.inner(prior.scale_px / 2)]
    if not len(inner):
        return float("nan")
    likeness = cache.current().get(
        ("evidence", source.key, prior.scale_px, prior.count),
        lambda: _Likeness.of(source, prior),
    )
    above = likeness.above_chance(sampled(likeness.response, inner)) / likeness.attainable
    return above * (1.0 if prior.lattice_px is None else likeness.periodic)


@dataclass(frozen=True)
class _Likeness:
    """How column-like every place is, the sorted values at random places, the best figure that the
    expected number of positions could have, and how far the response is that of a lattice."""

    response: Array
    places: Array
    attainable: float
    periodic: float

    @classmethod
    def of(cls, source: Source, prior: Prior) -> _Likeness:
        response = smooth(source.pixels, NARROW * prior.scale_px)
        response -= smooth(source.pixels, WIDE * prior.scale_px)
        response = readonly(response)
        margin = int(min(prior.scale_px / 2, (min(source.shape) - 1) // 2))
        inner = response[margin : source.shape[0] - margin, margin : source.shape[1] - margin]
        # A stride prime to the width visits all rows and columns alike, without random numbers.
        stride = max(1, inner.size // PLACES)
        while math.gcd(stride, inner.shape[1]) > 1:
            stride += 1
        chosen = np.unravel_index(np.arange(0, inner.size, stride), inner.shape)
        places = readonly(np.sort(inner[chosen]))
        found = cls(response, places, 1.0, periodicity(inner, prior.scale_px))
        if prior.count is None:
            return found
        count = max(1, round(prior.count * inner.size / response.size))
        _, best = peaks(inner, prior.scale_px / 2, -np.inf)
        return replace(found, attainable=max(found.above_chance(best[:count]), LEAST_ATTAINABLE))

    def above_chance(self, values: Array) -> float:
        """2 P - 1 for responses ``[N]``."""
        rank = np.searchsorted(self.places, values) / len(self.places)
        return float(2 * rank.mean() - 1) if len(values) else 0.0

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.response.nbytes + self.places.nbytes
