"""Claim: a region is larger than a few cells."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Labels
from scopegym.operators.clustering import connected_regions
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: A pattern shows from about three by three spacings on; what is smaller is called a fragment.
FRAGMENT = 3.0


@reward_term(direction="minimize", bounds=(0.0, 1.0))
def region_count(labels: Labels, prior: Prior) -> float:
    """Share of the connected regions that are fragments, smaller than three spacings squared.

    The number of regions itself is no fault: twins have many.
    """
    areas = np.bincount(connected_regions(labels.map).ravel())
    areas = areas[areas > 0]
    return float(np.mean(areas < (FRAGMENT * prior.scale_px) ** 2)) if len(areas) > 1 else 0.0
