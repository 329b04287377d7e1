"""Claim: the number of columns is the one that the crystal's density gives."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Array, Points
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def count_error(points: Points, prior: Prior) -> float:
    """|N - N_expected| / N_expected in the inner region (|QC| of paper 000, equation 1).

    Columns closer than half a spacing to the border do not count; from there their weight rises
    linearly to 1 over the longest lattice period. A hard edge counts a perfect lattice up to a
    row too many or too few; a ramp of one period counts it right wherever the lattice lies.
    """
    if prior.count is None:
        return float("nan")
    found, area = 1.0, 1.0
    weights = np.ones(len(points))
    for axis, length in enumerate(points.shape):
        margin, ramp = _edge(length, prior)
        weights *= _ramp(points.yx[:, axis], length, margin, ramp)
        area *= length - 2 * margin - ramp
    found = float(weights.sum())
    expected = prior.count * area / (points.shape[0] * points.shape[1])
    return abs(found - expected) / expected if expected > 0 else float("nan")


def _edge(length: int, prior: Prior) -> tuple[float, float]:
    """Margin and ramp [px] along an axis of this length; a short axis gets a shorter ramp."""
    margin = prior.scale_px / 2
    if prior.lattice_px is None:
        period = 2 * prior.scale_px
    else:
        period = max(np.hypot(*vector) for vector in prior.lattice_px)
    return margin, max(min(period, (length - 2 * margin) / 2), 1e-9)


def _ramp(position: Array, length: int, margin: float, ramp: float) -> Array:
    # The field of pixels 0..length-1 reaches from -0.5 to length - 0.5.
    inside = np.minimum(position + 0.5, length - 0.5 - position) - margin
    weights: Array = np.clip(inside / ramp, 0, 1)
    return weights
