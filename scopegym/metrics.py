"""Results held against the truth. Reported beside a score, never inside one."""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

import numpy as np

from scopegym.artifacts import Array, Labels, Points
from scopegym.prior import Prior


class Matching(NamedTuple):
    """One-to-one pairs of found and true points, and what follows from them."""

    #: Rows of found and true points that belong together ``[M]``.
    found: Array
    true: Array
    precision: float
    recall: float
    f1: float
    #: Mean distance of the pairs [px], NaN without pairs.
    mean_error_px: float


def match_points(found: Points, truth: Points, radius_px: float, margin_px: float = 0) -> Matching:
    """Pair found and true points one to one within ``radius_px``, as many as possible, then as
    close as possible.

    With ``margin_px``, only true points at least that far from the border count; found points
    beyond it may pair with them but count as false only when they lie inside.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    true_inside = np.flatnonzero(truth.inner(margin_px))
    if not len(found) or not len(true_inside):
        none = np.empty(0, np.intp)
        return Matching(none, none, 0.0, 0.0, 0.0, float("nan"))
    true_yx = truth.yx[true_inside]
    # Points without any true neighbour cannot pair; leaving them out keeps the assignment small.
    candidates = np.flatnonzero(KDTree(true_yx).query(found.yx)[0] <= radius_px)
    distance = cdist(found.yx[candidates], true_yx)
    # A forbidden pair costs more than all allowed ones together.
    allowed = distance <= radius_px
    forbidden = radius_px * (min(distance.shape) + 1) + 1
    rows, columns = linear_sum_assignment(np.where(allowed, distance, forbidden))
    paired = allowed[rows, columns]
    rows, columns = rows[paired], columns[paired]
    hits = len(rows)
    counted = set(np.flatnonzero(found.inner(margin_px))) | set(candidates[rows])
    precision = hits / len(counted) if counted else 0.0
    recall = hits / len(true_yx)
    f1 = 2 * hits / (len(counted) + len(true_yx))
    error = float(distance[rows, columns].mean()) if hits else float("nan")
    return Matching(candidates[rows], true_inside[columns], precision, recall, f1, error)


def label_accuracy(found: Labels, truth: Labels) -> float:
    """Share of the pixels that are right under the best one-to-one naming of the labels."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    together = contingency_matrix(truth.map.ravel(), found.map.ravel())
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(together[rows, columns].sum() / found.map.size)


def mask_overlap(found: Labels, truth: Labels) -> float:
    """Intersection over union of what is not background; 1 where both are empty."""
    one, other = (labels.map != (labels.background or 0) for labels in (found, truth))
    either = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / either) if either else 1.0


@singledispatch
def agreement(truth: object, found: object, prior: Prior) -> float:
    """How well an answer agrees with the truth, in 0..1: F1 for points within a quarter of the
    spacing, half a spacing away from the border; the share of right pixels for labels, or
    intersection over union where they have a background. NaN without a truth that says so."""
    del truth, found, prior
    return float("nan")


@agreement.register
def _(truth: Points, found: object, prior: Prior) -> float:
    if not isinstance(found, Points):
        return 0.0
    return match_points(found, truth, prior.scale_px / 4, prior.scale_px / 2).f1


@agreement.register
def _(truth: Labels, found: object, prior: Prior) -> float:
    del prior
    if not isinstance(found, Labels):
        return 0.0
    judge = label_accuracy if truth.background is None else mask_overlap
    return judge(found, truth)


def half_right(truth: object) -> float:
    """The agreement at which an answer is as right as wrong: an F1 of a half for points; what that
    is as intersection over union, a third, for labels on a background; and for labels everywhere
    half-way from the share of the largest one, which needs no knowledge, to 1."""
    if not isinstance(truth, Labels):
        return 0.5
    if truth.background is not None:
        return 1 / 3
    largest = np.unique(truth.map, return_counts=True)[1].max() / truth.map.size
    return float(1 + largest) / 2


@singledispatch
def measure(truth: object) -> str:
    """What ``agreement`` with this kind of truth is called."""
    del truth
    return "agreement"


@measure.register
def _(truth: Points) -> str:
    del truth
    return "F1"


@measure.register
def _(truth: Labels) -> str:
    return "accuracy" if truth.background is None else "IoU"
