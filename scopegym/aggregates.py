"""Few numbers for many runs: of agents over seeds and images, with their uncertainty.

After Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scopegym.artifacts import Array
from scopegym.errors import ScopegymError

Over = Literal["seeds", "images"]


class Interval(NamedTuple):
    """A statistic of what was measured, and the interval that resampling gives it."""

    value: float
    low: float
    high: float


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half of all values, whatever their axes.

    A quarter of the values, rounded down, is left out at either end. Raises ScopegymError when
    values are missing.
    """
    # As scipy.stats.trim_mean(values, 0.25), whose checks take 20 times as long: a bootstrap calls
    # this thousands of times.
    flat = _finite(values).ravel()
    cut = flat.size // 4
    middle = np.partition(flat, (cut, flat.size - cut - 1))[cut : flat.size - cut]
    return float(middle.mean())


def stratified_bootstrap(
    *arrays: ArrayLike,
    statistic: Callable[..., float],
    rng: np.random.Generator,
    draws: int = 2000,
    level: float = 0.95,
    over: Over = "seeds",
) -> Interval:
    """A statistic of runs ``[seeds, images]`` with its percentile interval.

    Seeds are drawn with replacement for every image by itself, and in each of several arrays by
    itself: ``statistic`` takes as many arrays as are given. That is the uncertainty on just these
    images, and zero where agents are without chance. ``over="images"`` draws the images too, the
    same ones for all arrays, so that agents stay compared on the same images. Raises ScopegymError
    when values are missing or the arrays do not share their images.
    """
    if over not in typing.get_args(Over):
        raise ScopegymError(f"Resample over {' or '.join(typing.get_args(Over))}, not '{over}'.")
    if draws < 1 or not 0 < level < 1:
        raise ScopegymError(
            f"A bootstrap needs draws of 1 or more and a level between 0 and 1, not {draws} and "
            f"{level:g}."
        )
    runs = _runs(*arrays)
    sample = [statistic(*_resampled(runs, rng, over)) for _ in range(draws)]
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*runs)), float(low), float(high))


def probability_of_improvement(one: ArrayLike, other: ArrayLike) -> float:
    """How likely a run of one agent beats a run of the other on the same image, ties one half.

    Of runs ``[seeds, images]``, over all pairs of seeds and then over images: the Mann-Whitney
    statistic (Agarwal et al. 2021, section 4.3). Raises ScopegymError when values are missing or
    the arrays do not share their images.
    """
    first, second = _runs(one, other)
    wins, ties = first[:, None] > second, first[:, None] == second
    return float(np.mean(wins + 0.5 * ties))


def performance_profile(values: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of all values that lie above each threshold ``[T]``.

    Raises ScopegymError when values are missing.
    """
    ordered = np.sort(_finite(values), axis=None)
    above: Array = 1 - np.searchsorted(ordered, _finite(thresholds), side="right") / ordered.size
    return above


def hypervolume(points: ArrayLike, reference: ArrayLike = 0.0) -> float:
    """Volume of everything that some point ``[N, D]`` beats in all coordinates, above a reference.

    Coordinates are goodnesses, more is better; points not above ``reference``, a number or ``[D]``,
    add nothing. By slicing (While et al. 2006, A Faster Algorithm for Calculating Hypervolume).
    Raises ScopegymError when coordinates are missing.
    """
    goodness, least = _finite(points, ("points", "objectives")), _finite(reference)
    if least.shape not in ((), goodness.shape[1:]):
        raise ScopegymError(
            f"The reference of a hypervolume is one number or {goodness.shape[1]}, one for each "
            f"objective, not {least.size}."
        )
    above = goodness - least
    # In one order whatever the points came in, and so with the same rounding.
    above = np.unique(above[(above > 0).all(axis=1)], axis=0)
    beaten = (above[:, None] <= above).all(axis=2).sum(axis=1) > 1
    return _volume(above[~beaten]) if len(above) else 0.0


def _volume(points: Array) -> float:
    """The volume between the origin and points ``[N, D]``: slices across the first coordinate,
    each with the points that reach so far."""
    points = points[np.argsort(-points[:, 0])]
    thickness = -np.diff(points[:, 0], append=0.0)
    dimensions = points.shape[1]
    if dimensions == 1:
        return float(points[0, 0])
    if dimensions == 2:
        return float(thickness @ np.maximum.accumulate(points[:, 1]))
    if dimensions == 3:
        return float(thickness @ _areas(points[:, 1:]))
    return sum(d * _volume(points[: i + 1, 1:]) for i, d in enumerate(thickness) if d > 0)


def _areas(points: Array) -> Array:
    """The areas of the first one, two, ... N of points ``[N, 2]``, all at once: slicing alone is a
    hundred times slower for 60 points in five dimensions."""
    order = np.argsort(-points[:, 0])
    width = -np.diff(points[order, 0], append=0.0)
    inside = order <= np.arange(len(points))[:, None]
    areas: Array = np.maximum.accumulate(inside * points[order, 1], axis=1) @ width
    return areas


def _resampled(runs: list[Array], rng: np.random.Generator, over: Over) -> list[Array]:
    images = runs[0].shape[1]
    columns = rng.integers(images, size=images) if over == "images" else np.arange(images)
    return [array[rng.integers(len(array), size=array.shape), columns] for array in runs]


def _runs(*arrays: ArrayLike) -> list[Array]:
    """Arrays ``[seeds, images]`` of the same images; seeds may differ in number."""
    if not arrays:
        raise ScopegymError("A bootstrap needs at least one array of seeds by images.")
    runs = [_finite(array, ("seeds", "images")) for array in arrays]
    images = {array.shape[1] for array in runs}
    if len(images) > 1:
        raise ScopegymError(
            f"Runs that are compared need the same images in their columns, not {sorted(images)}."
        )
    return runs


def _finite(values: ArrayLike, axes: tuple[str, ...] | None = None) -> Array:
    """The values as floats, one axis for each name if there are ``axes``."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ScopegymError("Values to aggregate must be numbers in a full array.") from None
    if axes is not None and array.ndim != len(axes):
        raise ScopegymError(
            f"Values to aggregate need the axes {' and '.join(axes)}, not the shape {array.shape}."
        )
    if not array.size or not np.isfinite(array).all():
        missing = np.count_nonzero(~np.isfinite(array))
        raise ScopegymError(
            f"Values to aggregate must be there and finite, but {missing} of {array.size} are not."
        )
    return array
