"""Features to labels: fewer dimensions, clusters, and a label for every pixel.

Labels count from 0 in the order of their area in the image, largest first. A pixel takes the
label of the nearest centre, so that a boundary is right to within the stride of the descriptor.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np

from scopegym.artifacts import Array, Features, Labels
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.space import Choice, Integer
from scopegym.strips import strips

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture


#: Clusters are fitted to at most this many places, drawn once; neighbours repeat each other.
MOST_FITTED = 10_000

#: Pairwise distances grow with the square of the number of places.
MOST_PAIRED = 2_000

#: Starts of k-means; the best is kept.
STARTS = 4

#: Squared half distance of two clusters over their mean variance along the line between them. A
#: uniform distribution cut in half reaches 3, and no other of one hump more; a sinusoid, which is
#: the beat of the lattice with the grid of centres, reaches 4.3. Two patterns exceed both.
SEPARATE = 4.3

#: Of the nearest places to those of a cluster, this share must belong to it: less is the lattice
#: itself, sampled at different places in its cell, and not a region. A block of 7 x 7 places.
COHERENT, NEAREST = 0.7, 48

#: Fits k clusters to values [M, D]; gives a function from values [N, D] to cluster numbers [N].
Fit = Callable[[Array, int], Callable[[Array], Array]]

#: How good values [M, D] with cluster numbers [M] of k clusters are; higher is better.
Quality = Callable[[Array, Array, int], float]


@operator
def standardize(features: Features) -> Features:
    """Give each feature mean 0 and standard deviation 1; a constant feature becomes 0."""
    values = _values(features)
    scaled = np.empty_like(values)
    for columns in _parts(values, axis=1):
        part = values[:, columns]
        deviation = part - part.mean(axis=0, dtype=np.float64)
        spread = deviation.std(axis=0)
        # Rounding makes a constant column vary in its last digits.
        constant = spread <= _rounding(values) * np.abs(part).max(axis=0)
        scaled[:, columns] = np.where(constant, 0.0, deviation / np.where(constant, 1.0, spread))
    return Features(scaled, features.centres_yx, features.shape, features.names)


@operator
def pca(features: Features, *, components: Annotated[int, Integer(1, 10)] = 5) -> Features:
    """Project onto the directions of largest variance (principal components).

    Signs are fixed: the largest coefficient of a component is positive. Values ``[N, components]``,
    or fewer where there are fewer features, keep the units of the features. Source: Wang, Freysoldt
    and Liebscher, Semi-automated segmentation of atomic-resolution microscopy images with
    unsupervised machine learning, section II.B.
    """
    if components < 1:
        raise ScopegymError(f"pca needs at least one component, not {components}.")
    values = _values(features)
    mean, scatter = scattered(values)
    _, axes = np.linalg.eigh(scatter)
    axes = axes[:, ::-1][:, :components]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    names = tuple(f"component {i + 1}" for i in range(axes.shape[1]))
    return Features(projected(values, mean, axes), features.centres_yx, features.shape, names)


@operator
def kmeans(
    features: Features,
    *,
    clusters: Annotated[int, Integer(1, 8)] = 2,
    choose: Annotated[str, Choice(("fixed", "silhouette"))] = "fixed",
) -> Labels:
    """Cluster by K-means; each cluster is one pattern.

    ``silhouette`` takes the number from 1 to ``clusters`` with the best silhouette among those
    whose clusters are apart and coherent, 1 if there is none: one pattern is one region. Raises
    ScopegymError for more clusters than centres. Source: Wang, Freysoldt and Liebscher (see
    ``pca``), section II.C.
    """

    def fit(values: Array, count: int) -> Callable[[Array], Array]:
        from sklearn.cluster import KMeans

        model = KMeans(count, n_init=STARTS, random_state=0).fit(values)
        return model.predict

    def silhouette(values: Array, labels: Array, _count: int) -> float:
        from sklearn.metrics import silhouette_score

        return float(silhouette_score(values, labels))

    if choose == "fixed":
        return _clustered(features, clusters, fit)
    return _chosen(features, clusters, fit, silhouette)


@operator
def gmm(
    features: Features,
    *,
    clusters: Annotated[int, Integer(1, 8)] = 2,
    covariance: Annotated[str, Choice(("diag", "full", "tied", "spherical"))] = "full",
    choose: Annotated[str, Choice(("fixed", "bic"))] = "fixed",
) -> Labels:
    """Cluster by a mixture of Gaussians with this kind of covariance.

    ``bic`` takes the number from 1 to ``clusters`` with the lowest Bayesian information criterion
    among those whose clusters are apart and coherent, 1 if there is none. Raises ScopegymError
    for more clusters than centres.
    """
    criteria: dict[int, float] = {}

    def fit(values: Array, count: int) -> Callable[[Array], Array]:
        model = mixture(values, count, covariance)
        criteria[count] = float(model.bic(values))
        return model.predict

    def evidence(_values: Array, _labels: Array, count: int) -> float:
        return -criteria[count]

    if choose == "fixed":
        return _clustered(features, clusters, fit)
    return _chosen(features, clusters, fit, evidence)


def mixture(values: Array, count: int, covariance: str) -> GaussianMixture:
    """A mixture of ``count`` Gaussians fitted to values ``[M, D]``, always the same."""
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(count, covariance_type=covariance, random_state=0).fit(values)


@operator
def agglomerative(
    features: Features,
    *,
    clusters: Annotated[int, Integer(1, 8)] = 2,
    linkage: Annotated[str, Choice(("ward", "average", "complete"))] = "ward",
) -> Labels:
    """Join the most similar clusters until ``clusters`` are left.

    The tree is grown on 2,000 places at most; the others join the cluster with the nearest mean.
    Raises ScopegymError for more clusters than centres.
    """

    def fit(values: Array, count: int) -> Callable[[Array], Array]:
        from scipy.cluster.hierarchy import fcluster
        from scipy.cluster.hierarchy import linkage as tree
        from scipy.spatial.distance import cdist

        joined = fcluster(tree(values, linkage), count, "maxclust")
        means = np.stack([values[joined == i].mean(axis=0) for i in np.unique(joined)])
        return lambda others: cdist(others, means).argmin(axis=1)

    return _clustered(features, clusters, fit, MOST_PAIRED)


def nearest_centre(features: Features) -> Array:
    """The row of the nearest centre for every pixel of the field ``[H, W]``."""
    rows, columns = (np.unique(axis) for axis in features.centres_yx.T)
    mesh = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    if np.array_equal(mesh, features.centres_yx):  # a grid in reading order: each axis by itself
        row, column = (
            np.searchsorted((axis[1:] + axis[:-1]) / 2, np.arange(n))
            for axis, n in zip((rows, columns), features.shape, strict=True)
        )
        row *= len(columns)
        return row.astype(np.int32)[:, None] + column.astype(np.int32)[None, :]
    from scipy.spatial import cKDTree

    tree = cKDTree(features.centres_yx)
    nearest = np.empty(features.shape, np.int32)
    for strip in strips(features.shape):
        block = nearest[strip.rows]
        pixels = np.indices(block.shape).reshape(2, -1).T + np.array((strip.rows.start, 0))
        block[:] = tree.query(pixels)[1].reshape(block.shape)
    return nearest


def upsample(features: Features, clusters: Array) -> Labels:
    """The clusters ``[N]`` of the centres on all pixels, numbered by area, largest first."""
    found, numbers = np.unique(clusters, return_inverse=True)
    drawn = looked_up(numbers.astype(np.int32), nearest_centre(features))
    area = counts(drawn, len(found))
    # Of equal areas the one that comes first in the image.
    first = [int(np.argmax(drawn == number)) for number in range(len(found))]
    rank = np.empty(len(found), dtype=np.int32)
    rank[np.lexsort((np.array(first), -area))] = np.arange(len(found))
    return Labels(looked_up(rank, drawn))


def counts(numbers: Array, least: int = 0) -> Array:
    """How often each number from 0 on occurs in an image ``[H, W]``, at least ``least`` figures."""
    least = max(least, int(numbers.max(initial=-1)) + 1)
    total = np.zeros(least, np.int64)
    # Counting and looking up convert to long integers: a strip at a time.
    for strip in strips(numbers.shape):
        total += np.bincount(numbers[strip.rows].ravel(), minlength=least)
    return total


def looked_up(table: Array, numbers: Array) -> Array:
    """``table[numbers]`` for an image ``[H, W]``."""
    found = np.empty(numbers.shape, table.dtype)
    for strip in strips(numbers.shape):
        found[strip.rows] = table[numbers[strip.rows]]
    return found


#: Numbers that are converted to double precision at a time.
PART = 2**22


def _parts(values: Array, axis: int = 0) -> Iterator[slice]:
    """The rows (or columns) of values ``[N, D]``: all at once in double precision, as of images up
    to 512 x 512 px; else in parts that take 32 MB in it."""
    along, across = values.shape[axis], values.shape[1 - axis]
    step = along if values.dtype == np.float64 else max(1, PART // max(across, 1))
    return (slice(start, start + step) for start in range(0, along, step))


def _rounding(values: Array) -> float:
    """What varies by less than this share of the largest value is constant."""
    return 1e-12 if values.dtype == np.float64 else 1e-6


def scattered(values: Array) -> tuple[Array, Array]:
    """The mean ``[D]`` of values ``[N, D]``, and the sum of the products of their deviations from
    it ``[D, D]``."""
    mean = values.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for rows in _parts(values):
        deviation = values[rows] - mean
        scatter += deviation.T @ deviation
    return mean, scatter


def projected(values: Array, mean: Array, axes: Array) -> Array:
    """Deviations of values ``[N, D]`` from a mean along axes ``[D, K]``, float64 ``[N, K]``."""
    found = np.empty((len(values), axes.shape[1]))
    for rows in _parts(values):
        found[rows] = (values[rows] - mean) @ axes
    return found


def _values(features: Features) -> Array:
    if features.empty:
        raise ScopegymError("There are no features: no centre has values.")
    return features.values


def scaled(features: Features) -> Array:
    """Values about their mean in units of their overall spread: nothing depends on their unit."""
    values = _values(features)
    deviation = values - values.mean(axis=0, dtype=np.float64).astype(values.dtype)
    squares = sum(float(np.sum(deviation[rows] ** 2)) for rows in _parts(values))
    spread = math.sqrt(squares / values.size)
    # Where only the last digits differ, nothing does.
    if spread <= _rounding(values) * max(float(values.max()), -float(values.min())):
        return np.zeros_like(deviation)
    deviation /= spread
    return deviation


def _sample(count: int, most: int) -> Array:
    """At most this many rows of ``count``, always the same, in order."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def sampled(values: Array, most: int) -> Array:
    """At most this many of the rows, always the same."""
    return values[_sample(len(values), most)]


def _allowed(features: Features, values: Array, clusters: int) -> int:
    """How many clusters there can be. Raises ScopegymError for more than centres or none."""
    if not 1 <= clusters <= len(features):
        raise ScopegymError(
            f"{clusters} clusters of {len(features)} centres are impossible; ask for 1 to "
            f"{len(features)}, or take a smaller stride."
        )
    # Places that are all alike cannot be told apart, whatever was asked for.
    return min(clusters, len(np.unique(values[:MOST_FITTED], axis=0))) if clusters > 1 else 1


def _clustered(features: Features, clusters: int, fit: Fit, most: int = MOST_FITTED) -> Labels:
    values = scaled(features)
    fitted = sampled(values, most)
    count = _allowed(features, fitted, clusters)
    predicted = _predict(fit, fitted, count, values)
    return upsample(features, predicted)


def _chosen(features: Features, most: int, fit: Fit, quality: Quality) -> Labels:
    """Clusters in the number of the best quality among those that are really there."""
    values = scaled(features)
    fitted = sampled(values, MOST_FITTED)
    some = _sample(len(values), MOST_PAIRED)
    near = _neighbours(features, some)
    best, answer = -math.inf, np.zeros(len(values), dtype=np.int64)
    for count in range(2, _allowed(features, fitted, most) + 1):
        labels = _predict(fit, fitted, count, values)
        whole = len(np.unique(labels[some])) == count
        if whole and separate(values, labels) and coherent(labels, some, near):
            score = quality(values[some], labels[some], count)
            if score > best:
                best, answer = score, labels
    return upsample(features, answer)


def _predict(fit: Fit, fitted: Array, count: int, values: Array) -> Array:
    from sklearn.exceptions import ConvergenceWarning

    if count == 1:
        return np.zeros(len(values), dtype=np.int64)
    try:
        with warnings.catch_warnings():
            # Fewer clusters than asked for, or a fit still moving, are answers like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.asarray(fit(fitted, count)(values), dtype=np.int64)
    except ValueError as error:  # a covariance that cannot be inverted
        raise ScopegymError(f"{count} clusters cannot be fitted: {error}.") from None


def separate(values: Array, labels: Array) -> bool:
    """True when every two clusters lie further apart than one cluster cut in two would."""
    members = [values[labels == label] for label in np.unique(labels)]
    for i, one in enumerate(members):
        for other in members[:i]:
            line = one.mean(axis=0) - other.mean(axis=0)
            variance = (np.var(one @ line) + np.var(other @ line)) / 2
            if (line @ line) ** 2 / 4 <= SEPARATE * variance:
                return False
    return len(members) > 1


def _neighbours(features: Features, rows: Array) -> Array:
    """Rows of the nearest other centres ``[M, 48]`` to those in ``rows`` ``[M]``."""
    from scipy.spatial import cKDTree

    count = min(NEAREST + 1, len(features))
    found = cKDTree(features.centres_yx).query(features.centres_yx[rows], k=count)[1]
    return found.reshape(len(rows), -1)[:, 1:]


def coherent(labels: Array, rows: Array, near: Array) -> bool:
    """True when the places in ``rows`` of every cluster mostly lie among their like."""
    mine = labels[rows]
    agree = (labels[near] == mine[:, None]).mean(axis=1)
    return all(agree[mine == label].mean() >= COHERENT for label in np.unique(mine))
