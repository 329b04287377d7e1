"""Claim: the regions differ in pattern, and each is alike within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Labels, Source, readonly
from scopegym.errors import ScopegymError
from scopegym.operators.symmetry import even_shifts, grid, translation_scores
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: Half the side of the patches, reach of the shifts and distance of the centres, in spacings:
#: patches of about nine columns, shifts to the second neighbours.
PATCH, REACH, STRIDE = 1.25, 1.6, 0.5
#: Shifts per patch: a number that no workflow's descriptor uses, so that the features are others.
SHIFTS = 36
#: Directions of largest variance that are kept, as in paper 003; the rest is mostly noise.
COMPONENTS = 5
#: What an undivided image is credited: a limit for large fields, and a part that falls with the
#: number of independent patches, because splitting one pattern by its noise explains more of the
#: variance where there are few. Times the credit of ``pattern_consistency`` it lies above what
#: splits of one pattern earned (0.19 at 16 x 16 spacings, 0.02 at 32 x 32, noise 0 to 3) and below
#: what two patterns earned at 32 x 32 in noise of three times their own contrast (0.08).
UNDIVIDED, UNDIVIDED_PER_PATCH = 0.08, 5.5


@dataclass(frozen=True)
class HeldOut:
    """Features ``[N, 5]`` that no step of a workflow has seen, at centres ``yx`` ``[N, 2]`` [px]
    on a grid of ``shape`` (rows, columns)."""

    yx: Array
    values: Array
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.yx.nbytes + self.values.nbytes

    @property
    def undivided(self) -> float:
        """The share of the variance that an undivided image is credited."""
        patches = len(self.yx) * (STRIDE / (2 * PATCH)) ** 2
        return min(UNDIVIDED + UNDIVIDED_PER_PATCH / patches, 0.5)

    def labels(self, labels: Labels) -> Array:
        """The label at each centre ``[N]``."""
        return labels.map[tuple(self.yx.T)]


def held_out(source: Source, prior: Prior) -> HeldOut:
    """Translation scores of the untouched image, reduced to five components; kept in the cache.

    Raises ScopegymError when the image is too small for one patch.
    """
    return cache.current().get(
        ("held out", source.key, prior.scale_px), lambda: _held_out(source, prior.scale_px)
    )


def _held_out(source: Source, spacing: float) -> HeldOut:
    half, reach, stride = (max(1, round(k * spacing)) for k in (PATCH, REACH, STRIDE))
    centres = grid("the reward", source.shape, half + reach, stride)
    scores = translation_scores(source.pixels, centres, even_shifts(reach, SHIFTS), half)
    deviation = scores - scores.mean(axis=0)
    _, axes = np.linalg.eigh(deviation.T @ deviation)
    values = deviation @ axes[:, -COMPONENTS:]
    return HeldOut(readonly(centres.yx, np.intp), readonly(values), centres.shape)


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def separability(source: Source, labels: Labels, prior: Prior) -> float:
    """Share of the variance of held-out features that the labels explain: S / (1 + S).

    S is Fisher's ratio of the variance between the labels to that within (paper 003, equation 4),
    summed over five features that the workflow has not seen, so that a cluster cannot praise
    itself. An undivided image is credited so much that splitting one pattern by its noise does
    not pay.
    """
    try:
        features = held_out(source, prior)
    except ScopegymError:
        return float("nan")
    label = features.labels(labels)
    if len(np.unique(label)) < 2:
        return features.undivided
    total = float(np.sum(features.values**2))
    between = sum(
        np.count_nonzero(label == k) * float(np.sum(features.values[label == k].mean(axis=0) ** 2))
        for k in np.unique(label)
    )
    return between / total if total > 0 else 0.0
