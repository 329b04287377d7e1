"""Points to regions: classes of columns, outliers, and the regions that they fill."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Annotated

import numpy as np

from scopegym.artifacts import Array, Features, Labels, Points
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.operators.clustering import MOST_FITTED, counts, looked_up, mixture, sampled, scaled
from scopegym.space import Choice, Integer, Real, Scale
from scopegym.strips import strips

#: Covariances of more features than this take seconds to minutes, and no image has the points to
#: estimate them from.
MOST_FEATURES = 64
#: The class of points that belong to none, as in scikit-learn.
OUTLIER = -1


@operator
def gmm_points(
    points: Points,
    features: Features,
    *,
    classes: Annotated[int, Integer(1, 8)] = 4,
    covariance: Annotated[str, Choice(("diag", "full", "tied", "spherical"))] = "full",
) -> Points:
    """Give each point its class and log-likelihood under a mixture of Gaussians of the features.

    Classes count from 0 in the order of their mean strength, brightest first; the likelihood is
    that of the whole mixture. A point takes the features of the nearest centre. A point without a
    centre within half of the centres' own spacing is left out. There are at most as many classes as
    different features. Raises ScopegymError where fewer than two points are left, and for more than
    64 features. Source: Barakati et al. 2024, Physics-based reward driven image analysis in
    microscopy (GMM on patches centred on atoms).
    """
    if classes < 1:
        raise ScopegymError(f"gmm_points needs at least 1 class, not {classes}.")
    if features.values.shape[1] > MOST_FEATURES:
        raise ScopegymError(
            f"gmm_points takes at most {MOST_FEATURES} features, not {features.values.shape[1]}; "
            "reduce them by pca first."
        )
    kept, rows = _described(points, features)
    if len(kept) < 2:
        raise ScopegymError(
            f"gmm_points needs at least 2 points with features, not {len(kept)}; describe them "
            "first, with a smaller window."
        )
    values = scaled(features)[rows]
    fitted = sampled(values, MOST_FITTED)
    count = min(classes, len(np.unique(fitted, axis=0)))
    try:
        with warnings.catch_warnings():
            # A fit still moving is an answer like any other; the reward judges it.
            warnings.simplefilter("ignore")
            model = mixture(fitted, count, covariance)
    except ValueError as error:  # a covariance that cannot be inverted
        raise ScopegymError(f"{count} classes cannot be fitted: {error}.") from None
    found = points[kept]
    classes_of = by_strength(model.predict(values), found.strength)
    return replace(found, classes=classes_of, log_likelihood=model.score_samples(values))


def _described(points: Points, features: Features) -> tuple[Array, Array]:
    """Rows of the points that have features, and the rows of these."""
    from scipy.spatial import KDTree

    if features.empty or not len(points):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    tree = KDTree(features.centres_yx)
    own = tree.query(features.centres_yx, k=2)[0][:, 1]
    distance, rows = tree.query(points.yx)
    kept = np.flatnonzero(distance <= np.median(own) / 2)
    return kept, rows[kept]


def by_strength(clusters: Array, strength: Array) -> Array:
    """Clusters ``[N]`` numbered anew from 0 by mean strength, highest first, then by size."""
    numbers, inverse, size = np.unique(clusters, return_inverse=True, return_counts=True)
    # Where a detector gave no strengths, the classes follow their sizes.
    total = np.bincount(inverse, np.nan_to_num(strength), minlength=len(numbers))
    rank = np.empty(len(numbers), np.int32)
    rank[np.lexsort((-size, -total / size))] = np.arange(len(numbers))
    return rank[inverse]


@operator
def select_class(points: Points, *, rank: Annotated[int, Integer(0, 7)] = 0) -> Points:
    """Keep the points of one class (one sublattice), counted from the brightest.

    A rank beyond the last class takes the last. Outliers are of no class.
    """
    found = np.unique(points.classes[points.classes != OUTLIER])
    if rank < 0:
        raise ScopegymError(f"select_class counts from 0, the brightest class, not {rank}.")
    return points[points.classes == found[min(rank, len(found) - 1)]] if len(found) else points[:0]


@operator
def likelihood_outliers(
    points: Points,
    *,
    threshold: Annotated[float, Real(1.0, 20.0, log=True)] = 4.0,
    neighbours: Annotated[int, Integer(0, 12)] = 6,
) -> Points:
    """Mark points whose likelihood is too low as outliers: their class becomes -1.

    A point is judged by the median log-likelihood of itself and this many nearest others: disorder
    fills regions, and a median keeps their edges. It is too low if it lies more than ``threshold``
    standard deviations below the median of all points. The upper quartile gives the standard
    deviation, because outliers lie below; so up to half of the points may be outliers. Raises
    ScopegymError for points without likelihood. Source: Barakati et al. 2024, Physics-based reward
    driven image analysis in microscopy (threshold of the GMM).
    """
    if not len(points):
        return points
    if not np.isfinite(points.log_likelihood).all():
        raise ScopegymError(
            "likelihood_outliers needs points with likelihoods: put gmm_points before it."
        )
    if not (math.isfinite(threshold) and threshold > 0 and neighbours >= 0):
        raise ScopegymError(
            f"likelihood_outliers needs a positive threshold and no negative number of neighbours, "
            f"not {threshold:g} and {neighbours}."
        )
    likelihood = _smoothed(points, neighbours)
    median, upper = np.percentile(likelihood, (50, 75))
    low = likelihood < median - threshold * (upper - median) / NORMAL_QUARTILE
    return replace(points, classes=np.where(low, OUTLIER, points.classes))


#: Upper quartile of the standard normal distribution.
NORMAL_QUARTILE = 0.6745


def _smoothed(points: Points, neighbours: int) -> Array:
    """The median log-likelihood ``[N]`` of each point and its nearest others."""
    from scipy.spatial import KDTree

    count = min(neighbours + 1, len(points))
    rows = KDTree(points.yx).query(points.yx, k=count)[1].reshape(len(points), count)
    return np.asarray(np.median(points.log_likelihood[rows], axis=1))


@operator
def region_mask(points: Points, *, dilation: Annotated[float, Scale(0.0, 1.0)] = 0.25) -> Labels:
    """Draw the regions that outliers fill, numbered from 1 by area, largest first; 0 elsewhere.

    A pixel belongs to the nearest point; the pixels of all outliers are widened by ``dilation``
    [px], and those that touch are one region. Points of class -1 are outliers; without any there
    is no region. Source: Barakati et al. 2024, Physics-based reward driven image analysis in
    microscopy (masks slightly dilated, connected regions labelled).
    """
    if not (math.isfinite(dilation) and dilation >= 0):
        raise ScopegymError(f"region_mask needs a dilation from 0 px on, not {dilation:g}.")
    outlier = points.classes == OUTLIER
    if not outlier.any():
        return Labels(np.zeros(points.shape, np.int32), background=0)
    mask = np.ones(points.shape, bool) if outlier.all() else _territory(points, outlier)
    squared = _squared_distance(mask)
    for strip in strips(mask.shape):
        mask[strip.rows] = np.sqrt(squared[strip.rows]) <= dilation
    del squared
    return regions(mask)


def _territory(points: Points, chosen: Array) -> Array:
    """Pixels ``[H, W]`` nearer to one of the chosen points than to any other, all taken to the
    nearest pixel."""
    to_chosen, to_others = (
        _squared_distance(_marked(points.yx[rows], points.shape)) for rows in (chosen, ~chosen)
    )
    nearer: Array = to_chosen < to_others
    return nearer


def _marked(yx: Array, shape: tuple[int, int]) -> Array:
    mask = np.zeros(shape, bool)
    mask[tuple(np.clip(np.rint(yx).astype(int), 0, np.array(shape) - 1).T)] = True
    return mask


def _squared_distance(mask: Array) -> Array:
    """Squared distance of every pixel to the nearest one of the mask ``[H, W]`` [px^2]."""
    import cv2

    outside = (~mask).astype(np.uint8)
    found = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    squared = np.empty(mask.shape, np.int32)
    for strip in strips(mask.shape):
        # They are whole; its threads leave the last digit to chance.
        squared[strip.rows] = np.rint(found[strip.rows].astype(np.float64) ** 2)
    return squared


def regions(mask: Array) -> Labels:
    """The connected parts of a mask ``[H, W]``, from 1 by area, on a background of 0."""
    from scipy.ndimage import label

    found, count = label(mask)
    area = counts(found, count + 1)[1:]
    rank = np.zeros(count + 1, np.int32)
    rank[1 + np.argsort(-area, kind="stable")] = np.arange(1, count + 1)
    return Labels(looked_up(rank, found), background=0)
