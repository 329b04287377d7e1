"""Of two blobs that overlap too much, the smaller one goes."""

from __future__ import annotations

import math
import warnings

import numpy as np

from scopegym.artifacts import Array
from scopegym.errors import ScopegymError

#: Pairs of near candidates that are compared in images up to 2048 x 2048 px; in larger ones the
#: limit grows with the area.
MAX_PAIRS = 1_000_000

#: Pairs whose disks are compared at a time.
PAIRS = 1_000_000


class TooManyCandidates(UserWarning):
    """A threshold let more candidates pass than can be pruned; the weakest were left out."""


def prune(yx: Array, sigma: Array, overlap: float, most: int | None = None) -> Array:
    """Rows that remain when of each two blobs that overlap too much the smaller one goes.

    Blobs come strongest first. The outcome can depend on the order in which pairs are looked at,
    if a blob that removes one is itself removed by another; only then is scikit-image's own order
    (that of a Python set) followed, and that of strength for more pairs than ``MAX_PAIRS``. More
    than ``most`` pairs (default: ``MAX_PAIRS``) shorten the list from its weak end, with a warning.
    """
    most = MAX_PAIRS if most is None else most
    # It visits pairs in another order than KDTree does, and scikit-image uses this one.
    from scipy.spatial import cKDTree

    if not 0 <= overlap <= 1:
        raise ScopegymError(f"overlap must lie in 0..1, not {overlap:g}.")
    count = len(yx)
    if count < 2:
        return np.arange(count)
    reach = 2 * sigma.max() * math.sqrt(2)
    tree = cKDTree(yx)
    while (pairs := (tree.count_neighbors(tree, reach) - count) // 2) > most:
        shorter = int(count * max(0.1, math.sqrt(0.9 * most / pairs)))
        warn_too_many(count, shorter)
        count = shorter
        tree = cKDTree(yx[:count])
    found = tree.query_pairs(reach, output_type="ndarray")
    victims, killers = _kills(found, yx, sigma, overlap)
    alive = np.ones(count, bool)
    if np.intersect1d(victims, killers).size:
        if len(found) > MAX_PAIRS:
            order = np.lexsort((np.maximum(victims, killers), np.minimum(victims, killers)))
            victims, killers = victims[order], killers[order]
        else:
            in_order = np.array(list(tree.query_pairs(reach)))
            victims, killers = _kills(in_order, yx, sigma, overlap)
        for victim, killer in zip(victims, killers, strict=True):
            if alive[victim] and alive[killer]:
                alive[victim] = False
    else:
        alive[victims] = False
    return np.flatnonzero(alive)


def _kills(pairs: Array, yx: Array, sigma: Array, overlap: float) -> tuple[Array, Array]:
    """Of the pairs that overlap too much: who goes, and because of whom."""
    pairs = pairs.reshape(-1, 2)
    too_much = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), PAIRS):
        first, second = pairs[start : start + PAIRS].T
        shared = disk_overlap(yx[first], yx[second], sigma[first], sigma[second])
        # One disk inside the other overlaps by exactly 1, however close to 1 the limit is.
        too_much[start : start + PAIRS] = (shared > overlap) | ((shared == 1) & (overlap < 1))
    pairs = pairs[too_much]
    first_is_larger = sigma[pairs[:, 0]] > sigma[pairs[:, 1]]
    victims = np.where(first_is_larger, pairs[:, 1], pairs[:, 0])
    killers = np.where(first_is_larger, pairs[:, 0], pairs[:, 1])
    return victims, killers


def disk_overlap(
    yx1: Array,
    yx2: Array,
    sigma1: Array,
    sigma2: Array,
) -> Array:
    """Shared area of disks of radius sqrt(2) sigma, as a fraction of the smaller disk ``[N]``."""
    # The larger disk has radius 1. Single precision throughout, as scikit-image computes it.
    one = np.float32(1)
    larger = np.maximum(sigma1, sigma2)
    r1 = np.where(sigma1 > sigma2, one, sigma1 / larger)
    r2 = np.where(sigma1 > sigma2, sigma2 / larger, one)
    unit = (larger * math.sqrt(2))[:, None]
    apart = np.asarray(yx2, np.float32) / unit - np.asarray(yx1, np.float32) / unit
    d = np.sqrt(np.sum(apart**2, axis=1))
    shared = np.zeros(len(d), np.float32)
    shared[d <= np.abs(r1 - r2)] = 1
    partly = (d > np.abs(r1 - r2)) & (d <= r1 + r2)
    d, r1, r2 = d[partly], r1[partly], r2[partly]
    angle1 = _arccos((d**2 + r1**2 - r2**2) / (2 * d * r1))
    angle2 = _arccos((d**2 + r2**2 - r1**2) / (2 * d * r2))
    kite = np.abs((-d + r2 + r1) * (d - r2 + r1) * (d + r2 - r1) * (d + r2 + r1))
    lens = r1**2 * angle1 + r2**2 * angle2 - (0.5 * np.sqrt(kite, dtype=np.float64)).astype("f4")
    shared[partly] = lens / (np.float32(math.pi) * np.minimum(r1, r2) ** 2)
    return shared


def _arccos(ratio: Array) -> Array:
    clipped = np.clip(ratio, -1, 1)
    return np.arccos(clipped, dtype=np.float64).astype(np.float32)


def warn_too_many(count: int | str, kept: int) -> None:
    message = f"{count} candidates are too many to prune; the {kept} strongest are kept."
    warnings.warn(TooManyCandidates(message + " Raise the threshold."), stacklevel=5)
