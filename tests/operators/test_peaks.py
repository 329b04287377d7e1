"""Detectors of one scale: which pixels they take, and what the correlation means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym import operators
from scopegym.artifacts import Points
from scopegym.errors import ScopegymError
from scopegym.metrics import match_points
from scopegym.operators.peaks import correlate_column

local_maxima = operators["local_maxima"]
template_match = operators["template_match"]


def lattice(spacing: int = 12, sigma: float = 2.4, noise: float = 0.0) -> tuple[np.ndarray, Points]:
    """Columns between 0 and 1 and where they are."""
    shape = (8 * spacing, 9 * spacing)
    y, x = np.mgrid[: shape[0], : shape[1]]
    half = spacing // 2
    bells = [np.exp(-((n % spacing - half) ** 2) / (2 * sigma**2)) for n in (y, x)]
    rng = np.random.default_rng(2)
    truth = np.stack(
        np.meshgrid(*(np.arange(half, n, spacing) for n in shape), indexing="ij"), -1
    ).reshape(-1, 2)
    return bells[0] * bells[1] + rng.normal(0, noise, shape), Points(truth, shape)


def test_local_maxima_are_exactly_the_columns() -> None:
    image, truth = lattice()
    found = local_maxima(image, distance=5.0, threshold=0.5)
    assert sorted(map(tuple, found.yx)) == sorted(map(tuple, truth.yx))
    np.testing.assert_allclose(found.strength, 1.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0, 1))
def test_local_maxima_exceed_threshold_and_neighbours(
    seed: int, distance: int, threshold: float
) -> None:
    image = np.random.default_rng(seed).random((40, 33)).astype(np.float32)
    found = local_maxima(image, distance=float(distance), threshold=threshold)
    assert (found.strength > threshold).all()
    assert (np.diff(found.strength) <= 0).all(), "strongest first"
    for (y, x), value in zip(found.yx.astype(int), found.strength, strict=True):
        around = image[
            max(0, y - distance) : y + distance + 1, max(0, x - distance) : x + distance + 1
        ]
        assert value == image[y, x] == around.max()


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_template_match_finds_every_column_and_nothing_else(noise: float) -> None:
    image, truth = lattice(noise=noise)
    found = template_match(image, sigma=2.4, threshold=0.4, distance=5.0)
    matching = match_points(found, truth, radius_px=3.0)
    assert (matching.precision, matching.recall) == (1.0, 1.0)
    assert (found.sigma_px == 2.4).all()


def test_template_match_does_not_care_how_bright_a_column_is() -> None:
    image, truth = lattice()
    fading = image * np.linspace(1.0, 0.02, image.shape[1])
    found = template_match(fading, sigma=2.4, threshold=0.6, distance=5.0)
    assert match_points(found, truth, radius_px=2.0).f1 == 1.0


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 3.7])
def test_correlation_is_pearsons(sigma: float) -> None:
    image = np.random.default_rng(0).random((50, 60)).astype(np.float32)
    correlation = correlate_column(image, sigma)
    assert correlation.dtype == np.float32
    assert np.abs(correlation).max() <= 1
    radius = max(1, round(2 * sigma))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = y**2 + x**2 <= (radius + 0.5) ** 2
    bell = np.exp(-(y**2 + x**2) / (2 * sigma**2))[disk]
    mirrored = np.pad(image.astype(float), radius, mode="symmetric")
    places = np.random.default_rng(1).integers(0, image.shape, (60, 2)).tolist()
    for row, column in [*places, [0, 0], [49, 59], [0, 30]]:
        window = mirrored[row : row + 2 * radius + 1, column : column + 2 * radius + 1][disk]
        expected = np.corrcoef(window, bell)[0, 1]
        assert correlation[row, column] == pytest.approx(expected, abs=1e-6)


def test_correlation_with_the_column_itself_is_one() -> None:
    y, x = np.mgrid[:41, :41] - 20
    image = 7 - 3 * np.exp(-(y**2 + x**2) / (2 * 2.0**2))
    assert correlate_column(-image.astype(np.float32), 2.0)[20, 20] == pytest.approx(1, abs=1e-6)
    assert correlate_column(image.astype(np.float32), 2.0)[20, 20] == pytest.approx(-1, abs=1e-6)


def test_correlation_is_zero_on_flat_regions() -> None:
    image = np.zeros((60, 60), np.float32)
    image[:, 30:] = np.random.default_rng(0).random((60, 30))
    correlation = correlate_column(image, 2.0)
    assert (correlation[:, :25] == 0).all()
    assert (correlation[:, 35:] != 0).any()
    assert (correlate_column(np.full((20, 20), 0.1, np.float32), 2.0) == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-100, 100))
def test_correlation_ignores_gain_and_offset(seed: int, gain: float, offset: float) -> None:
    image = np.random.default_rng(seed).random((30, 34))
    one, two = (correlate_column(i.astype(np.float32), 1.5) for i in (image, gain * image + offset))
    # Single precision holds the image itself to 6e-8 of its largest value.
    rounding = 6e-8 * (gain + abs(offset)) / gain
    np.testing.assert_allclose(one, two, atol=1e-5 + 20 * rounding)


def test_column_without_a_width_is_refused() -> None:
    with pytest.raises(ScopegymError, match="positive sigma"):
        template_match(np.eye(20), sigma=0.0, threshold=0.5, distance=3.0)
