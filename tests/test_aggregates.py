"""Statistics over runs against arithmetic done by hand, other definitions and their own laws."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, trim_mean

from scopegym.aggregates import (
    hypervolume,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from scopegym.errors import ScopegymError

#: Few levels, so that ties and duplicates are common; and any number.
levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
numbers = st.one_of(levels, st.floats(-10, 10))
runs = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=numbers)
goodnesses = st.one_of(levels, st.floats(0, 1))
fronts = st.integers(1, 5).flatmap(
    lambda d: arrays(np.float64, st.tuples(st.integers(1, 6), st.just(d)), elements=goodnesses)
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Runs of two agents on the same images, seeds as they come."""
    images = st.just(draw(st.integers(1, 4)))
    shape = st.tuples(st.integers(1, 5), images)
    return tuple(draw(arrays(np.float64, shape, elements=numbers)) for _ in range(2))


# Interquartile mean


def test_interquartile_mean_by_hand():
    # Eight values: two go at either end, (3 + 4 + 5 + 6) / 4 = 4.5 stay.
    assert interquartile_mean([[8, 1, 6, 3], [2, 7, 4, 5]]) == 4.5
    # Five: a quarter is one, (2 + 3 + 100) / 3 = 35 stay.
    assert interquartile_mean([1, 2, 3, 100, 1000]) == 35
    # Three: a quarter is none, (0 + 1 + 5) / 3 = 2.
    assert interquartile_mean([0, 1, 5]) == 2
    assert interquartile_mean(7.0) == 7


@settings(deadline=None)
@given(arrays(np.float64, st.integers(1, 40), elements=numbers))
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(values: np.ndarray):
    assert interquartile_mean(values) == trim_mean(values, 0.25)


@settings(deadline=None)
@given(runs)
def test_interquartile_mean_lies_among_the_values_and_leaves_them_alone(values: np.ndarray):
    before = values.copy()
    mean = interquartile_mean(values)
    assert values.min() - 1e-12 <= mean <= values.max() + 1e-12
    assert np.array_equal(values, before)


@settings(deadline=None)
@given(runs, st.floats(0, 5))
def test_interquartile_mean_rises_with_its_values(values: np.ndarray, by: float):
    higher = values.copy()
    higher.flat[0] += by
    assert interquartile_mean(higher) >= interquartile_mean(values) - 1e-12
    assert interquartile_mean(values + by) == pytest.approx(interquartile_mean(values) + by)


# Bootstrap


def test_bootstrap_of_two_seeds_by_hand():
    # Two seeds, 0 and 1, of one image: the mean of a draw is 0, 1/2 or 1 with 1/4, 1/2 and 1/4.
    interval = stratified_bootstrap([[0.0], [1.0]], statistic=np.mean, rng=rng(), level=0.6)
    # From 20 % to 80 %: both in the outer quarters.
    assert interval == (0.5, 0.0, 1.0)
    interval = stratified_bootstrap([[0.0], [1.0]], statistic=np.mean, rng=rng(), level=0.4)
    # From 30 % to 70 %: both in the half between.
    assert interval == (0.5, 0.5, 0.5)


def test_seeds_of_an_image_stay_with_it():
    # Column j holds j in every seed: whichever seeds are drawn, nothing changes.
    values = np.tile(np.arange(5.0), (3, 1))
    assert stratified_bootstrap(values, statistic=np.mean, rng=rng()) == (2.0, 2.0, 2.0)


def test_images_are_drawn_independently_of_one_another():
    # Seeds 0 and 1 of each of 100 images. Rows drawn jointly would spread the mean as one coin,
    # standard deviation 1/2 over sqrt(2); images drawn by themselves, a tenth of it.
    values = np.array([[0.0] * 100, [1.0] * 100])
    interval = stratified_bootstrap(values, statistic=np.mean, rng=rng())
    expected = 1.96 * 0.5 / np.sqrt(200)
    assert interval.high - interval.value == pytest.approx(expected, rel=0.1)
    assert interval.value - interval.low == pytest.approx(expected, rel=0.1)


def test_over_images_the_spread_of_images_counts():
    # Agents without chance: seeds say nothing, images do, with the standard error of their mean.
    one = np.random.default_rng(1).normal(0, 1, 200)
    values = np.tile(one, (3, 1))
    assert np.ptp(stratified_bootstrap(values, statistic=np.mean, rng=rng())) == 0
    interval = stratified_bootstrap(values, statistic=np.mean, rng=rng(), over="images")
    error = one.std() / np.sqrt(200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_over_images_agents_meet_on_the_same_images():
    # One agent is better by 1/4 on every image: their difference is certain though images vary.
    values = np.tile(np.random.default_rng(1).integers(0, 100, 20) / 4, (3, 1))

    def gain(one, other):
        return interquartile_mean(one) - interquartile_mean(other)

    interval = stratified_bootstrap(
        values + 0.25, values[:2], statistic=gain, rng=rng(), over="images"
    )
    assert np.allclose(interval, 0.25, atol=1e-12)


def test_arrays_are_drawn_independently():
    # Were the same seeds drawn of both, their difference would always be 0.
    values = np.array([[0.0], [1.0]])
    interval = stratified_bootstrap(
        values, values, statistic=lambda a, b: a.mean() - b.mean(), rng=rng()
    )
    assert interval.value == 0 and interval.low < 0 < interval.high


@settings(max_examples=50, deadline=None)
@given(runs, st.sampled_from(["seeds", "images"]))
def test_interval_of_the_mean_holds_it(values: np.ndarray, over):
    interval = stratified_bootstrap(values, statistic=np.mean, rng=rng(), draws=400, over=over)
    assert interval.low - 1e-12 <= interval.value <= interval.high + 1e-12
    assert values.min() - 1e-12 <= interval.low <= interval.high <= values.max() + 1e-12


@settings(max_examples=30, deadline=None)
@given(runs, st.sampled_from(["seeds", "images"]))
def test_a_higher_level_gives_a_wider_interval(values: np.ndarray, over):
    one, two, same = (
        stratified_bootstrap(
            values, statistic=interquartile_mean, rng=rng(), draws=100, level=level, over=over
        )
        for level in (0.5, 0.9, 0.5)
    )
    assert two.low <= one.low <= one.high <= two.high
    assert one == same


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Percentile intervals are a little short for few seeds; 20 images together make up for it.
    draw, covered = np.random.default_rng(3), 0
    for _ in range(150):
        low, high = stratified_bootstrap(
            draw.normal(0.5, 1, (10, 20)), statistic=np.mean, rng=draw, draws=300
        )[1:]
        covered += low <= 0.5 <= high
    assert 0.87 <= covered / 150 <= 1.0


def test_two_thousand_draws_take_well_below_a_second():
    values = np.random.default_rng(0).random((10, 20))
    start = time.process_time()
    stratified_bootstrap(values, statistic=interquartile_mean, rng=rng())
    assert time.process_time() - start < 1


# Probability of improvement


def test_probability_of_improvement_by_hand():
    one = [[1.0, 0.0], [3.0, 0.0]]
    other = [[2.0, 0.0], [3.0, 1.0]]
    # First image: 1 < 2, 1 < 3, 3 > 2, 3 = 3, so (0 + 0 + 1 + 1/2) / 4 = 3/8.
    # Second image: 0 = 0 and 0 < 1, twice, so (1/2 + 0) * 2 / 4 = 1/4. Mean 5/16.
    assert probability_of_improvement(one, other) == 5 / 16
    # Other numbers of seeds: 2 > 1, 2 = 2, 2 < 3, so (1 + 1/2 + 0) / 3.
    assert probability_of_improvement([[2.0]], [[1.0], [2.0], [3.0]]) == 0.5


@settings(deadline=None)
@given(pairs())
def test_probabilities_of_both_directions_make_one(pair: tuple[np.ndarray, np.ndarray]):
    there, back = probability_of_improvement(*pair), probability_of_improvement(*pair[::-1])
    assert 0 <= there <= 1
    assert there + back == pytest.approx(1)


@settings(deadline=None)
@given(pairs())
def test_probability_of_improvement_is_the_mann_whitney_statistic(pair):
    one, other = pair
    by_image = [
        mannwhitneyu(one[:, i], other[:, i], method="asymptotic").statistic
        / (len(one) * len(other))
        for i in range(one.shape[1])
        # Without any spread SciPy divides by zero in the p-value.
        if np.ptp(np.concatenate([one[:, i], other[:, i]])) > 0
    ]
    missing = one.shape[1] - len(by_image)
    expected = (sum(by_image) + 0.5 * missing) / one.shape[1]
    assert probability_of_improvement(one, other) == pytest.approx(expected)


@settings(deadline=None)
@given(pairs(), st.floats(0, 5))
def test_probability_of_improvement_rises_with_the_runs(pair, by: float):
    one, other = pair
    assert probability_of_improvement(one + by, other) >= probability_of_improvement(one, other)
    shifted = probability_of_improvement(one + 100, other)
    assert shifted == 1


# Performance profile


def test_performance_profile_by_hand():
    # Of 0.1, 0.5, 0.5 and 0.9 all lie above 0, three above 0.1, one above 0.5, none above 0.9.
    profile = performance_profile([[0.1, 0.5], [0.5, 0.9]], [0, 0.1, 0.5, 0.9])
    assert profile.tolist() == [1, 0.75, 0.25, 0]


@settings(deadline=None)
@given(runs, arrays(np.float64, st.integers(1, 6), elements=numbers))
def test_performance_profile_is_the_share_above(values: np.ndarray, thresholds: np.ndarray):
    profile = performance_profile(values, thresholds)
    assert profile == pytest.approx([np.mean(values > threshold) for threshold in thresholds])
    falling = performance_profile(values, np.sort(thresholds))
    assert (np.diff(falling) <= 0).all()


# Hypervolume


def by_inclusion_and_exclusion(points: np.ndarray) -> float:
    """Volumes of what any one point beats, less of what any two beat together, and so on."""
    return sum(
        (-1) ** (size + 1) * float(np.prod(np.min(subset, axis=0)))
        for size in range(1, len(points) + 1)
        for subset in itertools.combinations(points, size)
    )


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([[0.3], [0.7]], 0.7),
        ([[0.5, 0.4]], 0.5 * 0.4),
        # Two rectangles less what they share.
        ([[0.8, 0.3], [0.2, 0.9]], 0.8 * 0.3 + 0.2 * 0.9 - 0.2 * 0.3),
        # Three boxes of 1 x 1 x 1/2 in three directions: 3/2 - 3 * 1/4 + 1/8 = 7/8.
        ([[1, 1, 0.5], [1, 0.5, 1], [0.5, 1, 1]], 7 / 8),
        # The second lies below the first, the third on the reference.
        ([[0.5, 0.5, 0.5], [0.4, 0.5, 0.1], [1, 1, 0]], 0.125),
        ([[0, 0.7]], 0),
        ([[1, 1, 1, 1, 1]], 1),
    ],
)
def test_hypervolume_by_hand(points: list[list[float]], volume: float):
    assert hypervolume(points) == pytest.approx(volume)


def test_hypervolume_above_another_reference():
    points = [[0.8, 0.3], [0.2, 0.9]]
    # Above 0.2 each: (0.6, 0.1) and (0, 0.7), of which the second adds nothing.
    assert hypervolume(points, 0.2) == pytest.approx(0.06)
    # Above (0.1, 0.2): (0.7, 0.1) and (0.1, 0.7), so 0.07 + 0.07 - 0.01.
    assert hypervolume(points, [0.1, 0.2]) == pytest.approx(0.13)
    assert hypervolume(points, -1) == pytest.approx(1.8 * 1.3 + 1.2 * 1.9 - 1.2 * 1.3)


@settings(deadline=None)
@given(fronts)
def test_hypervolume_by_inclusion_and_exclusion(points: np.ndarray):
    assert hypervolume(points) == pytest.approx(by_inclusion_and_exclusion(points), abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3, 4, 5, 6])
def test_hypervolume_by_chance(dimensions: int):
    draw = np.random.default_rng(dimensions)
    # On a sphere, so that all of them count.
    points = np.abs(draw.normal(size=(40, dimensions)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    darts = draw.random((40_000, dimensions))
    share = np.mean((darts[:, None] <= points).all(axis=2).any(axis=1))
    # Four standard errors.
    assert hypervolume(points) == pytest.approx(share, abs=4 * 0.5 / np.sqrt(40_000))


@settings(deadline=None)
@given(fronts, st.randoms(use_true_random=False))
def test_order_duplicates_and_beaten_points_do_not_matter(points: np.ndarray, random):
    volume = hypervolume(points)
    assert 0 <= volume <= 1 + 1e-12
    shuffled = random.sample(list(points), len(points))
    assert hypervolume(shuffled) == volume
    assert hypervolume([*points, *shuffled]) == volume
    assert hypervolume([*points, points[0] / 2]) == pytest.approx(volume, abs=1e-12)
    assert hypervolume(points[:, ::-1]) == pytest.approx(volume, abs=1e-12)


@settings(deadline=None)
@given(fronts, st.integers(0, 5), st.floats(0, 1))
def test_hypervolume_rises_with_points_and_their_coordinates(points, at: int, by: float):
    volume = hypervolume(points)
    assert hypervolume([*points, np.full(points.shape[1], by)]) >= volume - 1e-12
    raised = points.copy()
    raised[at % len(points)] += by
    assert hypervolume(raised) >= volume - 1e-12
    assert volume >= points.prod(axis=1).max() - 1e-12


def test_sixty_points_in_five_dimensions_take_well_below_a_second():
    points = np.abs(np.random.default_rng(0).normal(size=(60, 5)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    start = time.process_time()
    hypervolume(points)
    assert time.process_time() - start < 1


# Bad input


NAN = float("nan")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: interquartile_mean([]),
        lambda: interquartile_mean([1, NAN]),
        lambda: interquartile_mean([1, float("inf")]),
        lambda: interquartile_mean(["one", "two"]),
        lambda: interquartile_mean([[1, 2], [3]]),
        lambda: boot(np.empty((0, 3))),
        lambda: boot(np.empty((3, 0))),
        lambda: boot([[1, NAN]]),
        lambda: boot([1, 2]),
        lambda: boot(),
        lambda: boot([[1, 2]], [[1]]),
        lambda: boot([[1]], draws=0),
        lambda: boot([[1]], level=1.0),
        lambda: boot([[1]], over="agents"),
        lambda: probability_of_improvement(np.empty((0, 1)), [[1]]),
        lambda: probability_of_improvement([[1]], [[NAN]]),
        lambda: probability_of_improvement([[1, 2]], [[1]]),
        lambda: performance_profile([], [0.5]),
        lambda: performance_profile([NAN], [0.5]),
        lambda: performance_profile([1], [NAN]),
        lambda: hypervolume([]),
        lambda: hypervolume(np.empty((0, 3))),
        lambda: hypervolume([[0.5, NAN]]),
        lambda: hypervolume([0.5, 0.5]),
        lambda: hypervolume([[0.5, 0.5]], NAN),
        lambda: hypervolume([[0.5, 0.5]], [0, 0, 0]),
    ],
)
def test_missing_and_misshapen_values_are_refused_in_one_sentence(wrong):
    with pytest.raises(ScopegymError) as caught:
        wrong()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def boot(*values, **options):
    return stratified_bootstrap(*values, statistic=np.mean, rng=rng(), **options)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)
