"""Patches, geometry, classes, outliers and regions: by hand, and under shift, scale and turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym import operators
from scopegym.artifacts import Features, Points
from scopegym.errors import ScopegymError
from scopegym.prior import Prior


def square(count: int, spacing: float, origin: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    at = np.arange(count) * spacing
    return np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2) + origin


# --- patches --------------------------------------------------------------------------------------


def test_a_patch_is_the_image_around_a_point():
    pixels = np.arange(121, dtype=float).reshape(11, 11)
    found = operators.patches(pixels, [[5.0, 4.0]], window=2.0)
    np.testing.assert_allclose(found.values[0], pixels[3:8, 2:7].ravel())
    half = operators.patches(pixels, [[5.5, 4.25]], window=2.0)
    # A plane is interpolated exactly: 11 per row and 1 per column.
    np.testing.assert_allclose(half.values[0], pixels[3:8, 2:7].ravel() + 5.5 + 0.25)


def test_a_patch_beyond_the_edge_is_left_out():
    pixels = np.random.default_rng(0).random((11, 13))
    found = operators.patches(pixels, [[5.0, 5.0], [1.9, 5.0], [5.0, 10.0], [5.0, 10.1]], window=2)
    np.testing.assert_array_equal(found.centres_yx, [[5.0, 5.0], [5.0, 10.0]])
    with pytest.raises(ScopegymError, match=r"None of 1 points lies 2 px"):
        operators.patches(pixels, [[0.0, 0.0]], window=2)
    with pytest.raises(ScopegymError, match="positive window"):
        operators.patches(pixels, [[5.0, 5.0]], window=-1)


@settings(max_examples=30, deadline=None)
@given(dy=st.floats(-4, 4), dx=st.floats(-4, 4), window=st.floats(1, 20))
def test_patches_move_with_image_and_point(dy: float, dx: float, window: float):
    y, x = np.mgrid[:80, :80].astype(float)
    bell = [np.exp(-((y - 40 - v) ** 2 + (x - 40 - u) ** 2) / 50) for v, u in ((0, 0), (dy, dx))]
    one = operators.patches(bell[0], [[40.0, 40.0]], window=window)
    two = operators.patches(bell[1], [[40.0 + dy, 40.0 + dx]], window=window)
    np.testing.assert_allclose(one.values, two.values, atol=0.02)


# --- geometry -------------------------------------------------------------------------------------


def test_geometry_of_a_square_lattice_by_hand():
    yx = square(5, 10.0, (5.0, 5.0))
    found = operators.neighbour_geometry(Points(yx, (50, 50)), prior=Prior(10.0), neighbours=4)
    middle = np.flatnonzero((found.centres_yx == 25.0).all(axis=1))[0]
    np.testing.assert_allclose(found.values[middle], [1, 1, 1, 1, *[np.pi / 2] * 4])
    # A corner has its four nearest 20 px away and is 5 px from the border.
    assert not (found.centres_yx == 5.0).all(axis=1).any()


def test_a_displaced_column_shows_in_distances_and_angles():
    yx = square(5, 10.0, (5.0, 5.0))
    yx[12] += (0.0, 3.0)
    found = operators.neighbour_geometry(Points(yx, (50, 50)), prior=Prior(10.0), neighbours=3)
    row = found.values[np.flatnonzero(found.centres_yx[:, 1] == 28.0)[0]]
    near = np.arctan2(1, 0.3)
    distances, angles = [0.7, *[np.hypot(1, 0.3)] * 2], [*[np.pi - near] * 2, 2 * near]
    np.testing.assert_allclose(row, [*distances, *angles])


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(0, 2 * np.pi),
    scale=st.floats(0.3, 5),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    seed=st.integers(0, 1000),
)
def test_geometry_does_not_change_under_shift_scale_and_turn(angle, scale, shift, seed):
    rng = np.random.default_rng(seed)
    yx = square(6, 10.0) + rng.normal(0, 1.5, (36, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = scale * (yx @ turn.T) + shift
    large = (10_000, 10_000)
    one = operators.neighbour_geometry(Points(yx + 5000, large), prior=Prior(10.0))
    two = operators.neighbour_geometry(Points(moved + 5000, large), prior=Prior(10.0 * scale))
    np.testing.assert_allclose(one.values, two.values, atol=1e-6)


def test_geometry_needs_enough_points():
    with pytest.raises(ScopegymError, match=r"None of 4 points has its 6 nearest"):
        operators.neighbour_geometry(Points(square(2, 10.0), (50, 50)), prior=Prior(10.0))


# --- classes --------------------------------------------------------------------------------------


def two_kinds(seed: int = 0) -> tuple[Points, Features]:
    rng = np.random.default_rng(seed)
    yx = square(10, 8.0, (4.0, 4.0))
    bright = np.arange(100) % 3 == 0
    values = rng.normal(0, 0.1, (100, 3)) + bright[:, None]
    points = Points(yx, (80, 80), strength=np.where(bright, 2.0, 1.0))
    return points, Features(values, yx, (80, 80))


@pytest.mark.parametrize("covariance", ["diag", "full", "tied", "spherical"])
def test_classes_count_from_the_brightest(covariance: str):
    points, features = two_kinds()
    found = operators.gmm_points(points, features, classes=2, covariance=covariance)
    np.testing.assert_array_equal(found.classes, np.where(points.strength > 1, 0, 1))
    assert np.isfinite(found.log_likelihood).all()
    brightest, last = operators.select_class(found), operators.select_class(found, rank=7)
    assert (brightest.strength == 2).all() and len(brightest) == 34
    assert (last.strength == 1).all() and len(last) == 66


def test_what_is_unlike_its_kind_is_unlikely():
    points, features = two_kinds()
    values = features.values.copy()
    values[50] += (2.0, -2.0, 2.0)
    found = operators.gmm_points(
        points, Features(values, points.yx, (80, 80)), classes=2, covariance="tied"
    )
    assert found.log_likelihood.argmin() == 50
    flagged = operators.likelihood_outliers(found, threshold=20.0, neighbours=0)
    np.testing.assert_array_equal(np.flatnonzero(flagged.classes == -1), [50])
    # One odd column among six others is no region.
    alone = operators.likelihood_outliers(found, threshold=8.0, neighbours=6)
    assert not (alone.classes == -1).any()


def test_points_without_features_are_left_out():
    points, features = two_kinds()
    some = Features(features.values[:40], features.centres_yx[:40], features.shape)
    np.testing.assert_array_equal(operators.gmm_points(points, some).yx, points.yx[:40])
    with pytest.raises(ScopegymError, match="at least 2 points with features, not 0"):
        operators.gmm_points(Points([[70.0, 5.0]], (80, 80)), some)
    with pytest.raises(ScopegymError, match="at most 64 features, not 65"):
        operators.gmm_points(points, replace(features, values=np.zeros((100, 65))))


def test_points_without_likelihood_are_refused():
    with pytest.raises(ScopegymError, match="put gmm_points before it"):
        operators.likelihood_outliers(Points(square(3, 5.0), (20, 20)))


# --- regions --------------------------------------------------------------------------------------


def test_a_region_is_what_lies_nearest_to_outliers():
    yx = square(10, 8.0, (4.0, 4.0))
    inside = (yx < 24).all(axis=1) | (yx > 72).all(axis=1)
    points = Points(yx, (80, 80), classes=np.where(inside, -1, 0))
    found = operators.region_mask(points, dilation=0.0)
    expected = np.zeros((80, 80), int)
    expected[:24, :24], expected[73:, 73:] = 1, 2
    assert found.background == 0
    np.testing.assert_array_equal(found.map, expected)
    wider = operators.region_mask(points, dilation=2.0)
    assert (wider.map[:26, :20] == 1).all() and wider.map[26:60, :20].max() == 0


def test_no_outliers_no_region_and_nothing_else_is_all_of_it():
    points = Points(square(3, 5.0), (20, 20))
    assert not operators.region_mask(points, dilation=1.0).map.any()
    every = replace(points, classes=np.full(9, -1))
    assert (operators.region_mask(every, dilation=1.0).map == 1).all()
    with pytest.raises(ScopegymError, match="dilation from 0"):
        operators.region_mask(points, dilation=-1.0)


def test_smoothing_keeps_the_background():
    yx = square(10, 8.0, (3.5, 3.5))
    points = Points(yx, (80, 80), classes=np.where((yx < 24).all(axis=1), -1, 0))
    found = operators.region_mask(points, dilation=0.0)
    assert operators.majority_smooth(found, radius=4.0).background == 0
    assert not operators.drop_small(found, size=30.0).map.any()
