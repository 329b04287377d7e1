"""Refining, merging and dropping: accuracy against exact positions, and rules by example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scopegym import operators
from scopegym.artifacts import Points
from scopegym.datasets.simulate import draw_columns, simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.metrics import match_points
from scopegym.operators import positions
from scopegym.sample.crystal import Crystal

refine = operators["refine_positions"]
merge_close = operators["merge_close"]
drop_weak = operators["drop_weak"]
drop_edge = operators["drop_edge"]

METHODS = ["gaussian", "centre_of_mass"]
SIGMA = 2.5


def isolated(count: int = 20, sigma: float = SIGMA) -> tuple[np.ndarray, np.ndarray]:
    """Columns of height 1 at random places within their pixels, 30 px apart, on a level of 0.1."""
    rng = np.random.default_rng(0)
    places = np.arange(20, 20 + 30 * count, 30.0)
    yx = np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)
    yx = yx + rng.uniform(-0.5, 0.5, yx.shape)
    shape = (30 * count + 10, 30 * count + 10)
    image = draw_columns(shape, yx, np.ones(len(yx)), sigma, np.zeros(shape[0]))
    return image + 0.1, yx


def near(yx: np.ndarray, image: np.ndarray, off: float = 1.0) -> Points:
    rng = np.random.default_rng(1)
    return Points(yx + rng.uniform(-off, off, yx.shape), image.shape, strength=np.ones(len(yx)))


def errors(image: np.ndarray, start: Points, yx: np.ndarray, radius: float) -> np.ndarray:
    return refine(image, start, method="gaussian", radius=radius).yx - yx


# --- refine_positions: accuracy -------------------------------------------------------------------


@pytest.mark.parametrize("pixel_size_nm", [0.01, 0.02, 0.03])
@pytest.mark.parametrize(("method", "limit_px"), [("gaussian", 0.001), ("centre_of_mass", 0.01)])
def test_clean_columns_are_found_to_a_hundredth_of_a_pixel(
    pixel_size_nm: float, method: str, limit_px: float
) -> None:
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    micrograph = simulate_crystal(projection, (200, 200), pixel_size_nm, seed=1)
    spacing = projection.spacing_nm / pixel_size_nm
    truth = micrograph.truth
    inside = truth[truth.inner(spacing)]
    start = near(inside.yx, micrograph.data, off=0.5)
    refined = refine(micrograph.normalized(), start, method=method, radius=0.3 * spacing)
    matching = match_points(refined, inside, radius_px=1.0)
    assert matching.f1 == 1.0
    assert matching.mean_error_px < limit_px


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("radius", [5.0, 6.0, 8.0])
def test_noisy_columns_are_found_as_well_as_counting_allows(noise: float, radius: float) -> None:
    """Within 10 % of the Cramer-Rao bound of the pixels in the window."""
    clean, yx = isolated()
    image = clean + np.random.default_rng(2).normal(0, noise, clean.shape)
    error = errors(image, near(yx, image), yx, radius)
    y, x = np.mgrid[-9:10, -9:10]
    slope = y / SIGMA**2 * np.exp(-(y**2 + x**2) / (2 * SIGMA**2))
    bound = noise / np.sqrt(np.sum(slope[np.hypot(y, x) <= radius] ** 2))
    # All pixels together would give noise sqrt(2 / pi), whatever the width of the column.
    assert bound > 0.99 * noise * np.sqrt(2 / np.pi)
    assert 0.9 * bound < np.sqrt(np.mean(error**2)) < 1.1 * bound
    # The mean over 400 columns: no bias.
    assert np.abs(error.mean(axis=0)).max() < 4 * bound / np.sqrt(len(yx))


def test_fitted_width_is_the_columns() -> None:
    for sigma in (1.5, 2.5, 4.0):
        image, yx = isolated(count=5, sigma=sigma)
        refined = refine(image, near(yx, image), radius=2.5 * sigma)
        np.testing.assert_allclose(refined.sigma_px, sigma, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_gain_and_offset_change_nothing(method: str, gain: float, offset: float) -> None:
    image, yx = isolated(count=4)
    start = near(yx, image)
    one, two = (
        refine(i, start, method=method, radius=6.0).yx for i in (image, gain * image + offset)
    )
    # What single precision leaves of the column, of 6e-8 of the offset.
    rounding = 6e-8 * (gain + abs(offset)) / gain
    np.testing.assert_allclose(one, two, atol=2e-3 + 20 * rounding)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_image_turns_the_positions(method: str, turns: int) -> None:
    image, yx = isolated(count=4)
    start = near(yx, image)
    size = image.shape[0]

    def turned(yx: np.ndarray) -> np.ndarray:
        for _ in range(turns):
            yx = np.stack([size - 1 - yx[:, 1], yx[:, 0]], axis=1)
        return yx

    one = turned(refine(image, start, method=method, radius=6.0).yx)
    two = refine(
        np.rot90(image, turns), Points(turned(start.yx), image.shape), method=method, radius=6.0
    ).yx
    np.testing.assert_allclose(one, two, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_shifting_the_image_shifts_the_positions(dy: int, dx: int) -> None:
    image, yx = isolated(count=4)
    start = near(yx, image)
    shift = np.array([dy, dx])
    moved = Points(start.yx + shift, image.shape)
    one = refine(image, start, radius=6.0).yx + shift
    two = refine(np.roll(image, (dy, dx), (0, 1)), moved, radius=6.0).yx
    np.testing.assert_allclose(one, two, atol=1e-9)


# --- refine_positions: rules ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_batches_give_what_all_together_give(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, yx = isolated(count=8)
    image = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    start = near(yx, image)
    whole = refine(image, start, method=method, radius=6.0)
    monkeypatch.setattr(positions, "BATCH", 7)
    parts = refine(image, start, method=method, radius=6.0)
    assert len(parts) == len(whole) == 64
    np.testing.assert_allclose(parts.yx, whole.yx, atol=1e-9)
    np.testing.assert_allclose(parts.sigma_px, whole.sigma_px, atol=1e-9)


def test_more_points_than_a_batch_holds_each_keep_their_own_row() -> None:
    image, yx = isolated(count=4)
    many = np.tile(yx, (positions.BATCH // len(yx) + 3, 1))
    start = Points(many + 0.3, image.shape, strength=np.arange(len(many)))
    refined = refine(image, start, radius=6.0)
    assert len(refined) > positions.BATCH
    np.testing.assert_allclose(refined.yx, many, atol=1e-3)
    np.testing.assert_array_equal(refined.strength, start.strength)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_moves_farther_than_the_radius(method: str) -> None:
    image = np.random.default_rng(0).random((80, 90))
    rng = np.random.default_rng(1)
    start = Points(rng.uniform(-0.5, 79.4, (300, 2)), image.shape, strength=np.arange(300))
    for radius in (0.5, 2.0, 5.0):
        refined = refine(image, start, method=method, radius=radius)
        before = start.yx[refined.strength.astype(int)]
        moved = np.linalg.norm(refined.yx - before, axis=1)
        assert moved.max() <= max(radius, 1.5)
        assert moved.max() > 0
        assert refined.inner(0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_image_moves_nothing(method: str) -> None:
    start = Points([[10.0, 10.3], [0.0, 0.0], [19.5, 4.0]], (20, 30), sigma_px=[1.0, 2.0, 3.0])
    refined = refine(np.full((20, 30), 0.4), start, method=method, radius=3.0)
    np.testing.assert_array_equal(refined.yx, start.yx)
    np.testing.assert_array_equal(refined.sigma_px, start.sigma_px)


def test_a_hole_moves_nothing() -> None:
    image, yx = isolated(count=3)
    start = near(yx, image)
    np.testing.assert_array_equal(refine(1 - image, start, radius=4.0).yx, start.yx)


def test_columns_at_the_border_are_found_and_those_beyond_it_dropped() -> None:
    truth = np.array([[0.3, 20.0], [-1.2, 50.0], [59.2, 80.0], [60.6, 110.0]])
    image = draw_columns((60, 130), truth, np.ones(4), SIGMA, np.zeros(60))
    start = Points([[1.0, 20.4], [0.0, 50.3], [58.5, 80.0], [59.0, 110.0]], image.shape)
    refined = refine(image, start, radius=5.0)
    np.testing.assert_allclose(refined.yx, truth[[0, 2]], atol=0.01)


def test_positions_outside_the_image_are_dropped() -> None:
    image, yx = isolated(count=3)
    start = Points([*yx, [-20.0, 5.0], [1e6, 1e6]], (2_000_000, 2_000_000))
    refined = refine(image, start, radius=6.0)
    np.testing.assert_allclose(refined.yx, yx, atol=1e-3)
    assert refined.shape == image.shape


def test_plain_rows_need_no_field() -> None:
    image, yx = isolated(count=3)
    for method in METHODS:
        rows, points = (
            refine(image, p, method=method, radius=6.0)
            for p in (yx + 0.4, Points(yx + 0.4, image.shape))
        )
        np.testing.assert_array_equal(rows.yx, points.yx)
    assert len(refine(image, [], radius=6.0)) == 0


def test_plain_rows_must_be_positions() -> None:
    with pytest.raises(ScopegymError, match=r"rows that start with y and x, not \(3,\)"):
        refine(np.eye(20), [1.0, 2.0, 3.0], radius=6.0)


@pytest.mark.parametrize("radius", [0.0, -2.0, float("nan")])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    with pytest.raises(ScopegymError, match="needs a positive radius"):
        refine(np.eye(20), [[3.0, 3.0]], radius=radius)


# --- merge_close ----------------------------------------------------------------------------------

scattered = arrays(np.float64, st.tuples(st.integers(0, 40), st.just(2)), elements=st.floats(0, 30))


def test_clusters_become_their_means_and_keep_the_strongest_row() -> None:
    points = Points(
        [[5.0, 5.0], [5.0, 6.0], [20.0, 20.0], [6.0, 5.0]],
        (30, 30),
        sigma_px=[1.0, 2.0, 3.0, 4.0],
        strength=[0.2, 0.9, 0.4, 0.3],
    )
    merged = merge_close(points, distance=2.0)
    np.testing.assert_allclose(merged.yx, [[16 / 3, 16 / 3], [20.0, 20.0]])
    assert merged.sigma_px.tolist() == [2.0, 3.0]
    assert merged.strength.tolist() == [0.9, 0.4]


def test_a_chain_does_not_collapse_into_one() -> None:
    """Only what is close to the leader itself joins it."""
    yx = [[10.0, 2.0 * i] for i in range(5)]
    merged = merge_close(Points(yx, (30, 30), strength=[1, 0.9, 0.8, 0.7, 0.6]), distance=2.5)
    np.testing.assert_allclose(merged.yx, [[10, 1], [10, 5], [10, 8]])
    strongest_in_the_middle = Points(yx, (30, 30), strength=[0.1, 0.2, 1.0, 0.2, 0.1])
    merged = merge_close(strongest_in_the_middle, distance=2.5)
    np.testing.assert_allclose(merged.yx, [[10, 4], [10, 0], [10, 8]])


@settings(deadline=None, max_examples=80)
@given(scattered, st.floats(0.1, 5))
def test_merging_keeps_what_is_apart_and_the_centre_of_mass(
    yx: np.ndarray, distance: float
) -> None:
    points = Points(yx, (40, 40), strength=np.linspace(1, 0.5, len(yx)))
    merged = merge_close(points, distance=distance)
    assert len(merged) <= len(points)
    assert (len(merged) == 0) == (len(points) == 0)
    gaps = np.linalg.norm(yx[:, None] - yx[None], axis=2) + 1e9 * np.eye(len(yx))
    if len(yx) and gaps.min() > distance:
        np.testing.assert_array_equal(merged.yx, points.yx)
    assert set(merged.strength) <= set(points.strength)
    if len(yx):
        assert merged.strength.max() == points.strength.max()
        # A mean of points lies among them.
        assert (merged.yx >= yx.min(axis=0) - 1e-9).all()
        assert (merged.yx <= yx.max(axis=0) + 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_merging_well_separated_clusters_twice_is_merging_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.stack(np.meshgrid(*[np.arange(5, 60, 10.0)] * 2), -1).reshape(-1, 2)
    yx = np.repeat(centres, 3, axis=0) + rng.uniform(-0.7, 0.7, (3 * len(centres), 2))
    points = Points(yx, (60, 60), strength=rng.random(len(yx)))
    once = merge_close(points, distance=2.0)
    assert match_points(once, Points(centres, (60, 60)), radius_px=1.0).f1 == 1.0
    np.testing.assert_array_equal(merge_close(once, distance=2.0).yx, once.yx)


def test_points_without_a_strength_merge_in_their_order() -> None:
    points = Points([[5.0, 5.0], [5.0, 6.0], [5.0, 7.0]], (10, 10))
    np.testing.assert_allclose(merge_close(points, distance=1.5).yx, [[5, 5.5], [5, 7]])


# --- drop_weak and drop_edge ----------------------------------------------------------------------


def test_weak_is_below_a_fraction_of_the_median() -> None:
    points = Points(np.arange(10).reshape(5, 2), (10, 10), strength=[1.0, 0.4, 2.0, 0.6, 0.5])
    assert drop_weak(points, fraction=0.5).strength.tolist() == [1.0, 0.4, 2.0, 0.6, 0.5]
    assert drop_weak(points, fraction=0.8).strength.tolist() == [1.0, 2.0, 0.6, 0.5]
    assert drop_weak(points, fraction=0.9).strength.tolist() == [1.0, 2.0, 0.6]


def test_points_without_a_strength_are_not_weak() -> None:
    points = Points(np.arange(10).reshape(5, 2), (10, 10))
    assert len(drop_weak(points, fraction=0.9)) == 5


def test_edge_is_within_the_margin_of_the_field() -> None:
    """Pixels have an extent: a field of 10 px reaches from -0.5 to 9.5."""
    points = Points([[2.4, 5.0], [2.5, 5.0], [6.5, 5.0], [6.6, 5.0], [5.0, 2.4]], (10, 30))
    np.testing.assert_array_equal(drop_edge(points, margin=3.0).yx, [[2.5, 5.0], [6.5, 5.0]])


@settings(deadline=None, max_examples=50)
@given(scattered, st.floats(0, 20))
def test_dropping_at_the_edge_twice_is_dropping_once(yx: np.ndarray, margin: float) -> None:
    once = drop_edge(Points(yx, (31, 31)), margin=margin)
    np.testing.assert_array_equal(drop_edge(once, margin=margin).yx, once.yx)
