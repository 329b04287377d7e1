"""Claim: each region has a pattern of its own."""

from __future__ import annotations

import numpy as np

from scopegym.artifacts import Array, Labels, Source
from scopegym.errors import ScopegymError
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term
from scopegym.rewards.separability import held_out

#: What an undivided image is credited: as much as labels that predict half of what they could.
UNDIVIDED = 0.5


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def pattern_consistency(source: Source, labels: Labels, prior: Prior) -> float:
    """How much more often than by chance a place resembles its own region's mean pattern most.

    Means are taken over one half of a chequerboard of blocks and tried on the other, so that no
    place contributes to the mean it is held against. Labels weigh alike whatever their area, so
    chance is one in their number. An undivided image gets 0.5.
    """
    try:
        features = held_out(source, prior)
    except ScopegymError:
        return float("nan")
    label = features.labels(labels)
    if len(np.unique(label)) < 2:
        return UNDIVIDED
    here = _chequerboard(features.shape)
    if here.all():
        return float("nan")  # a single block: nothing is left to try the means on
    hits = np.zeros(len(label), bool)
    for train in (here, ~here):
        kinds = np.unique(label[train])
        means = np.array([features.values[train & (label == k)].mean(axis=0) for k in kinds])
        away = np.sum((features.values[~train, None] - means) ** 2, axis=-1)
        hits[~train] = kinds[away.argmin(axis=1)] == label[~train]
    # Regions weigh alike: a sliver that nothing resembles counts as much as its surroundings.
    recall = np.mean([hits[label == k].mean() for k in np.unique(label)])
    chance = 1 / len(np.unique(label))
    return float((recall - chance) / (1 - chance))


def _chequerboard(shape: tuple[int, int], side: int = 4) -> Array:
    """Blocks of ``side`` places, alternately True and False ``[N]``."""
    rows, columns = np.indices(shape) // side
    return ((rows + columns) % 2 == 0).ravel()
