"""Claims: regions meet in few, straight boundaries."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Array, Labels
from scopegym.operators.clustering import majority_smooth
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: Worst length, in sides of the image: a dozen grains have seven or eight. The bound is far off for
#: another reason too: it sets how much a shorter chord is worth, and a boundary must not move away
#: from where the patterns change because it is shorter there.
LONGEST = 8.0


@reward_term(direction="minimize", bounds=(0.0, LONGEST))
def boundary_length(labels: Labels, prior: Prior) -> float:
    """Length of all boundaries in units of the mean side of the image.

    One straight boundary across is about 1; a speckle of labels has tens.
    """
    del prior
    height, width = labels.map.shape
    return _length(labels.map) / ((height + width) / 2)


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def boundary_straightness(labels: Labels, prior: Prior) -> float:
    """Share of the boundaries' length that remains after smoothing over one spacing.

    A grain boundary is straight on the scale of a cell; faster changes are noise. An undivided
    image gets 1.
    """
    length = _length(labels.map)
    if length == 0:
        return 1.0
    return _length(majority_smooth(labels, radius=prior.scale_px).map) / length


def _length(labels: Array) -> float:
    """Length of the boundaries [px]: edges between pixels, corrected for their staircase.

    A line at an angle is up to sqrt(2) longer as a staircase; pi / 4 is the mean over angles.
    """
    across = np.count_nonzero(labels[1:] != labels[:-1])
    down = np.count_nonzero(labels[:, 1:] != labels[:, :-1])
    return float(across + down) * np.pi / 4
