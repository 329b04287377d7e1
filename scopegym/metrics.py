"""Results held against the truth. Reported beside a score, never inside one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scopegym.artifacts import Array, Labels, Points


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


def match_boxes(found: Array, truth: Array, least: float) -> Array:
    """Pairs of rows ``[M, 2]`` of found and true boxes (y0, x0, y1, x1) that overlap by at least
    this intersection over union, one to one, the largest overlap first."""
    overlap = box_overlaps(found, truth)
    rows, columns = np.nonzero(overlap >= max(least, 1e-9))
    order = np.argsort(-overlap[rows, columns], kind="stable")
    free = np.ones(len(found), bool), np.ones(len(truth), bool)
    pairs = []
    for row, column in zip(rows[order], columns[order], strict=True):
        if free[0][row] and free[1][column]:
            free[0][row] = free[1][column] = False
            pairs.append((row, column))
    return np.array(pairs, np.intp).reshape(-1, 2)


def box_overlaps(one: Array, other: Array) -> Array:
    """Intersection over union of every box of ``one`` and every box of ``other`` ``[N, M]``."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (one, other)]
    either = areas[0][:, None] + areas[1][None, :] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def identity_f1(found: Array, truth: Array, radius_px: float) -> float:
    """IDF1 of rows of identity, frame, y, x: each true identity is given one found identity at
    most, so that as many places as possible lie within ``radius_px`` in the same frame; 1 where
    both are empty (Ristani et al., Performance Measures and a Data Set for Multi-Target,
    Multi-Camera Tracking, 2016, equation 12)."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import KDTree

    if not len(found) or not len(truth):
        return float(len(found) == len(truth))
    # Frames are farther apart than any radius, so that places of two of them are never near.
    step = 4 * radius_px + 1
    places = [np.column_stack([rows[:, 1] * step, rows[:, 2:]]) for rows in (found, truth)]
    trees = [KDTree(place) for place in places]
    near = trees[0].sparse_distance_matrix(trees[1], radius_px, output_type="ndarray")
    names = [np.unique(rows[:, 0], return_inverse=True) for rows in (found, truth)]
    # A true place counts once for an identity, however many places of it are near.
    hits = np.unique(np.column_stack([names[0][1][near["i"]], near["j"]]), axis=0)
    together = np.zeros([len(name) for name, _ in names])
    np.add.at(together, (hits[:, 0], names[1][1][hits[:, 1]]), 1)
    pairs = linear_sum_assignment(together, maximize=True)
    return float(2 * together[pairs].sum() / (len(found) + len(truth)))
