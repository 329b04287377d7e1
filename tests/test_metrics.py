"""Matching against brute force, and what counts as found, missed and false."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from scopegym.answers import described
from scopegym.artifacts import Labels, Points
from scopegym.metrics import mask_overlap, match_points

SHAPE = (20, 20)

few = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(0, 19).map(float)
)
#: On a grid many distances are equal and several pairings are as good.
gridded = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 6))
sets = st.one_of(few, gridded)


def points(yx: object) -> Points:
    return Points(np.reshape(yx, (-1, 2)), SHAPE)


def best_by_brute_force(found: np.ndarray, true: np.ndarray, radius: float) -> tuple[int, float]:
    """Most pairs, and the least sum of distances with that many."""
    if len(found) > len(true):
        found, true = true, found
    best = (0, 0.0)
    distance = cdist(found, true)
    for order in permutations(range(len(true)), len(found)):
        lengths = [distance[i, j] for i, j in enumerate(order) if distance[i, j] <= radius]
        best = max(best, (len(lengths), -sum(lengths)))
    return best[0], -best[1]


@settings(deadline=None, max_examples=300)
@given(sets, sets, st.floats(0.1, 12))
def test_pairs_are_as_many_as_possible_then_as_close_as_possible(
    found: np.ndarray, true: np.ndarray, radius: float
) -> None:
    count, total = best_by_brute_force(found, true, radius)
    matching = match_points(points(found), points(true), radius)
    assert len(matching.found) == len(matching.true) == count
    if count:
        assert matching.mean_error_px == pytest.approx(total / count, abs=1e-9)
    else:
        assert math.isnan(matching.mean_error_px)
    assert matching.recall == count / len(true)
    assert matching.precision == count / len(found)
    assert matching.f1 == pytest.approx(2 * count / (len(found) + len(true)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 60), st.floats(0, 6))
def test_pairs_are_one_to_one_and_within_the_radius(
    seed: int, found_count: int, true_count: int, radius: float
) -> None:
    rng = np.random.default_rng(seed)
    found, true = (points(rng.uniform(-0.5, 19.5, (n, 2))) for n in (found_count, true_count))
    matching = match_points(found, true, radius, margin_px=2.0)
    for rows, of in ((matching.found, found), (matching.true, true)):
        assert len(set(rows.tolist())) == len(rows)
        assert all(0 <= row < len(of) for row in rows)
    gaps = np.linalg.norm(found.yx[matching.found] - true.yx[matching.true], axis=1)
    assert (gaps <= radius).all()
    assert true.inner(2.0)[matching.true].all()
    for value in (matching.precision, matching.recall, matching.f1):
        assert 0 <= value <= 1


@settings(deadline=None, max_examples=60)
@given(sets, sets, st.floats(0.1, 12))
def test_found_and_true_may_trade_places(one: np.ndarray, two: np.ndarray, radius: float) -> None:
    a = match_points(points(one), points(two), radius)
    b = match_points(points(two), points(one), radius)
    assert (a.precision, a.recall) == (b.recall, b.precision)
    assert a.f1 == b.f1


def test_every_point_matches_itself() -> None:
    rng = np.random.default_rng(0)
    some = points(rng.uniform(0, 19, (50, 2)))
    shuffled = rng.permutation(50)
    matching = match_points(some[shuffled], some, 1.0)
    assert (matching.precision, matching.recall, matching.f1) == (1.0, 1.0, 1.0)
    assert matching.mean_error_px == 0
    np.testing.assert_array_equal(shuffled[matching.found], matching.true)


def test_two_found_near_one_true_are_one_hit_and_one_false() -> None:
    matching = match_points(points([[5, 5], [5, 6]]), points([[5, 5.4]]), 2.0)
    assert (matching.precision, matching.recall) == (0.5, 1.0)
    assert matching.found.tolist() == [0]
    assert matching.mean_error_px == pytest.approx(0.4)


def test_greedy_pairing_would_lose_a_pair() -> None:
    """The closest pair of all would leave the others too far apart."""
    matching = match_points(points([[5, 5], [5, 7]]), points([[5, 6.8], [5, 9]]), 2.0)
    assert len(matching.found) == 2


@pytest.mark.parametrize(
    ("found", "true"), [([], [[5, 5]]), ([[5, 5]], []), ([], []), ([[0, 0]], [[19, 19]])]
)
def test_nothing_in_common_is_zero_without_an_error_length(found: list, true: list) -> None:
    matching = match_points(points(found), points(true), 2.0)
    assert (matching.precision, matching.recall, matching.f1) == (0, 0, 0)
    assert math.isnan(matching.mean_error_px)
    assert len(matching.found) == len(matching.true) == 0


def test_the_radius_itself_is_near_enough() -> None:
    assert match_points(points([[5, 5]]), points([[5, 7]]), 2.0).f1 == 1.0
    assert match_points(points([[5, 5]]), points([[5, 7.001]]), 2.0).f1 == 0.0


def test_the_margin_leaves_out_true_points_at_the_border() -> None:
    true = points([[1, 10], [10, 10]])
    found = points([[10, 10]])
    assert match_points(found, true, 2.0).recall == 0.5
    assert match_points(found, true, 2.0, margin_px=3.0).recall == 1.0


def test_found_points_at_the_border_are_neither_false_nor_lost() -> None:
    """One beyond the margin may pair with a true one inside; alone it does not count."""
    true = points([[3.0, 10.0], [10.0, 10.0]])
    found = points([[2.0, 10.0], [10.0, 10.0], [0.0, 4.0]])
    matching = match_points(found, true, 1.5, margin_px=3.0)
    assert (matching.precision, matching.recall, matching.f1) == (1.0, 1.0, 1.0)
    inside = points([[2.0, 10.0], [10.0, 10.0], [12.0, 4.0]])
    assert match_points(inside, true, 1.5, margin_px=3.0).precision == pytest.approx(2 / 3)


def test_wrong_begins_at_the_same_share_in_every_measure():
    def wrong_below(truth):
        return described(truth).wrong_below(truth)

    found = Labels(np.array([[1, 1, 0, 0]]), background=0)
    truth = Labels(np.array([[1, 0, 1, 0]]), background=0)  # F1 of the pixels is a half
    assert mask_overlap(found, truth) == pytest.approx(wrong_below(truth))
    assert wrong_below(Points(np.zeros((1, 2)), (4, 4))) == 0.5
    assert wrong_below(Labels(np.array([[0, 0, 0, 1]]))) == pytest.approx((1 + 0.75) / 2)
