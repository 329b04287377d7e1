"""Claim: the regions differ in pattern, and each region has one pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scopegym import cache
from scopegym.artifacts import Array, Labels, Source, readonly
from scopegym.errors import ScopegymError
from scopegym.operators.clustering import projected, scattered
from scopegym.operators.symmetry import even_shifts, grid, translation_scores
from scopegym.prior import Prior
from scopegym.rewards.base import reward_term

#: Half the side of the patches, reach of the shifts and distance of the centres, in spacings:
#: patches of about nine columns, shifts to the second neighbours.
PATCH, REACH, STRIDE = 1.25, 1.6, 0.5
#: Shifts per patch: a number that no workflow's descriptor uses, so that the features are others.
SHIFTS = 36
#: Directions of largest variance that are kept, as in Wang et al. (see ``separability``); the rest
#: is mostly noise.
COMPONENTS = 5
#: Places at most; in larger images, from about 4,000 spacings squared on, they are further apart.
MOST_PLACES = 2**22
#: Below this share of the total variance, over the square root of the number of independent
#: patches, a covariance is chance: of 194 splits of noise images by random workflows of the task
#: seven came higher (up to 0.55), all into five labels or more, which ``pattern_consistency``
#: finds out; at 0.35 the first of them would pay.
CHANCE = 0.4
#: Nor does it count below this share of the scores' own strength (the squared length of their mean
#: over the field): a clean lattice beats with the pixels and the grid of centres, which explained
#: up to 0.007 of it in one pattern of one column per cell (up to 0.08 where the cell is larger than
#: a patch). Two patterns have 0.17 and more where they are simulated; two stackings of MoSe2, which
#: differ in the heights of columns only, 0.023.
BEAT = 0.01


@dataclass(frozen=True)
class HeldOut:
    """Features ``[N, 5]`` that no step of a workflow has seen, at centres ``yx`` ``[N, 2]`` [px]
    on a grid of ``shape`` (rows, columns). ``apart`` is the number of places from which on two
    patches share no pixel, ``strength`` the squared length of the mean of the scores."""

    yx: Array
    values: Array
    shape: tuple[int, int]
    apart: int
    strength: float
    #: How many of the places ``STRIDE`` apart each stands for.
    each: float = 1.0

    @property
    def nbytes(self) -> int:
        """Memory held [bytes]."""
        return self.yx.nbytes + self.values.nbytes

    @property
    def chance(self) -> float:
        """The covariance up to which one pattern has something in common with itself."""
        patches = len(self.yx) * self.each * (STRIDE / (2 * PATCH)) ** 2
        noise = CHANCE * float(self.values.var(axis=0).sum()) / math.sqrt(patches)
        return max(noise, BEAT * self.strength)

    def labels(self, labels: Labels) -> Array:
        """The label at each centre ``[N]``, counted from 0."""
        return np.unique(labels.map[tuple(self.yx.T)], return_inverse=True)[1]

    def covariance(self, other: Array) -> float:
        """Of the features with others ``[N, 5]``, one patch up or down and one to the side.

        Diagonally, because patches beside each other share scan lines, and shifts reach from one
        into the other. 0 where the field is too small for two patches.
        """
        here, there = (v.reshape(*self.shape, -1) for v in (self.values, other))
        k = self.apart
        if min(self.shape) <= k:
            return 0.0
        steps = ((slice(k, None), slice(None, -k)), (slice(None, -k), slice(k, None)))
        return float(
            np.mean([np.vdot(here[a, b], there[c, d]) for a, c in steps for b, d in steps])
            / ((self.shape[0] - k) * (self.shape[1] - k))
        )


def held_out(source: Source, prior: Prior) -> HeldOut:
    """Translation scores of the original image, reduced to five components; kept in the cache.

    Raises ScopegymError when the image is too small for one patch.
    """
    return cache.current().get(
        ("held out", source.key, prior.scale_px), lambda: _held_out(source, prior.scale_px)
    )


def _held_out(source: Source, spacing: float) -> HeldOut:
    half, reach, stride = (max(1, round(k * spacing)) for k in (PATCH, REACH, STRIDE))
    step = max(stride, math.ceil(math.sqrt(source.pixels.size / MOST_PLACES)))
    centres = grid("the reward", source.shape, half + reach, step)
    scores = translation_scores(source.pixels, centres, even_shifts(reach, SHIFTS), half)
    mean, scatter = scattered(scores)
    _, axes = np.linalg.eigh(scatter)
    values = projected(scores, mean, axes[:, -COMPONENTS:])
    apart = -(-(2 * half + 1) // step)
    yx, values = readonly(centres.yx, np.intp), readonly(values)
    each = (step / stride) ** 2
    return HeldOut(yx, values, centres.shape, apart, float(mean @ mean), each)


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def separability(source: Source, labels: Labels, prior: Prior) -> float:
    """Share of right labels, estimated from how much of the shared pattern the labels explain.

    Features that the workflow has not seen are compared over one patch's distance. Noise is
    independent at that distance, so the covariance of two places is due to the pattern. The labels
    explain the part of it that the mean under the neighbour's label shares. For two equal patterns
    with a share e of wrong labels this part is (1 - 2e)^2, so (1 + root) / 2 is the share of right
    labels. An undivided image explains nothing and gets 0.5; splitting one pattern by its noise
    does not increase the term. After Fisher's separability (Wang, Freysoldt and Liebscher,
    Semi-automated segmentation of atomic-resolution microscopy images with unsupervised machine
    learning, equation 4), which compares the same means with the variance, noise included.
    """
    try:
        features = held_out(source, prior)
    except ScopegymError:
        return float("nan")
    label = features.labels(labels)
    explained = features.covariance(means(features.values, label)[label])
    chance = features.chance
    if explained <= chance:
        return 0.5
    common = max(features.covariance(features.values), chance)
    share = min(math.sqrt(explained**2 - chance**2) / common, 1.0)
    return (1 + math.sqrt(share)) / 2


def means(values: Array, label: Array) -> Array:
    """Mean ``[K, D]`` of the values ``[N, D]`` of each label ``[N]`` in 0 .. K - 1."""
    sums = np.stack([np.bincount(label, column) for column in values.T], axis=1)
    return sums / np.bincount(label)[:, None]
