"""Filters against other programs and against images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.restoration import ellipsoid_kernel, rolling_ball

from scopegym import operators
from scopegym.artifacts import Image
from scopegym.errors import ScopegymError
from scopegym.operators import filters

pixels = arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    elements=st.floats(-1, 2, width=32),
)


def apply(name: str, image: np.ndarray, **parameters: object) -> np.ndarray:
    return operators[name](image, **parameters).pixels.astype(float)


def columns(noise: float = 0.0, shape: tuple[int, int] = (96, 110)) -> np.ndarray:
    """A lattice of bright columns, 12 px apart and 2.4 px wide, between 0 and 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    bells = [np.exp(-((((n + 6) % 12) - 6.0) ** 2) / (2 * 2.4**2)) for n in (y, x)]
    rng = np.random.default_rng(3)
    return bells[0] * bells[1] + rng.normal(0, noise, shape)


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


@settings(deadline=None, max_examples=80)
@given(pixels, st.floats(0.1, 20))
def test_gaussian_is_scipys(image: np.ndarray, sigma: float) -> None:
    expected = ndi.gaussian_filter(image.astype(float), sigma)
    np.testing.assert_allclose(apply("gaussian", image, sigma=sigma), expected, atol=2e-6)


def test_gaussian_keeps_the_mean_and_shrinks_noise_by_the_kernels_norm() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 300))
    for sigma in (1.0, 2.0, 4.0):
        smooth = apply("gaussian", noise, sigma=sigma)
        assert smooth.mean() == pytest.approx(noise.mean(), abs=1e-6)
        # White noise keeps 1 / (2 sqrt(pi) sigma) of its standard deviation.
        assert smooth.std() == pytest.approx(1 / (2 * np.sqrt(np.pi) * sigma), rel=0.1)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_gaussian_refuses_a_width_that_is_none(sigma: float) -> None:
    with pytest.raises(ScopegymError, match="needs a positive sigma"):
        operators["gaussian"](columns(), sigma=sigma)


@pytest.mark.parametrize(
    ("size", "side"), [(0.4, 3), (3.0, 3), (3.9, 3), (4.1, 5), (5.0, 5), (7.0, 7), (12.0, 13)]
)
def test_median_is_scipys_over_the_nearest_odd_square(size: float, side: int) -> None:
    image = columns(noise=0.2)
    expected = ndi.median_filter(image.astype(np.float32), side)
    np.testing.assert_array_equal(apply("median", image, size=size), expected)


def test_median_removes_a_hot_pixel_entirely() -> None:
    image = columns()
    hot = image.copy()
    hot[40, 50] = 1000.0
    difference = apply("median", hot, size=3.0) - apply("median", image, size=3.0)
    assert np.abs(difference).max() < 0.2


def landscape(shape: tuple[int, int]) -> np.ndarray:
    """One wave across the field: a period of some 20 spacings."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    return 0.5 + 0.5 * np.cos(np.pi * y) * np.sin(np.pi * x)


@pytest.mark.parametrize("method", ["gaussian", "rolling_ball"])
@pytest.mark.parametrize("radius", [12.0, 18.0, 30.0])
def test_background_subtraction_removes_a_smooth_background(method: str, radius: float) -> None:
    shape = (240, 252)
    image, background = columns(shape=shape), landscape(shape)
    flat, raised = (
        apply("background_subtract", i, method=method, radius=radius)
        for i in (image, image + background)
    )
    inner = slice(30, -30)
    left = (raised - flat)[inner, inner]
    there = background[inner, inner]
    # A Gaussian of 30 px leaves 1 - exp(-(2 pi 30 / 480)^2 / 2) = 7 % of a wave of 480 px each way.
    assert np.ptp(left) < 0.2 * np.ptp(there)
    assert np.corrcoef(flat[inner, inner].ravel(), image[inner, inner].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("method", ["gaussian", "rolling_ball"])
def test_background_subtraction_keeps_the_mean_and_ignores_an_offset(method: str) -> None:
    image = columns(noise=0.1)
    one, two = (
        apply("background_subtract", i, method=method, radius=18.0) for i in (image, image + 0.75)
    )
    assert one.mean() == pytest.approx(image.mean(), abs=1e-5)
    np.testing.assert_allclose(two - one, 0.75, atol=1e-5)


@pytest.mark.parametrize("radius", [1.0, 4.0, 7.9])
def test_rolling_ball_is_that_of_scikit_image_at_small_radii(radius: float) -> None:
    image = columns(noise=0.1, shape=(40, 50)).astype(np.float32)
    side = 2 * max(1, round(radius)) + 1
    expected = rolling_ball(image, kernel=ellipsoid_kernel((side, side), 1.0))
    np.testing.assert_allclose(filters.rolling_ball(image, radius), expected, atol=1e-6)


def test_rolling_ball_on_tiles_stays_near_that_on_pixels() -> None:
    image = (columns(shape=(72, 84)) + landscape((72, 84))).astype(np.float32)
    exact = rolling_ball(image, kernel=ellipsoid_kernel((49, 49), 1.0))
    assert np.abs(filters.rolling_ball(image, 24.0) - exact).max() < 0.1


@settings(deadline=None, max_examples=40)
@given(pixels, st.floats(1, 8), st.floats(1.5, 40))
def test_clahe_stays_between_0_and_1(image: np.ndarray, clip_limit: float, tile: float) -> None:
    result = apply("clahe", image, clip_limit=clip_limit, tile=tile)
    assert result.shape == image.shape
    assert 0 <= result.min() <= result.max() <= 1


def test_clahe_raises_faint_contrast() -> None:
    image = 0.5 + 0.02 * columns(noise=0.02)
    assert apply("clahe", image, clip_limit=8.0, tile=40.0).std() > 3 * image.std()


def test_bandpass_keeps_what_lies_between_and_the_mean() -> None:
    x = np.arange(512)
    waves = {period: np.sin(2 * np.pi * x / period) for period in (4, 32, 256)}
    small, large = 2.0, 16.0
    for period, wave in waves.items():
        image = np.tile(0.3 + wave, (64, 1))
        band = apply("bandpass", image, small=small, large=large)
        assert band.mean() == pytest.approx(image.mean(), abs=1e-3)
        # The transfer of a Gaussian of standard deviation s at the frequency 1 / period.
        transfer = [np.exp(-2 * (np.pi * s / period) ** 2) for s in (small, large)]
        inner = slice(100, -100)
        amplitude = np.sqrt(2) * (band - band.mean())[32, inner].std()
        full = np.sqrt(2) * wave[inner].std()
        assert amplitude == pytest.approx((transfer[0] - transfer[1]) * full, abs=0.02)


def test_bandpass_needs_an_order() -> None:
    with pytest.raises(ScopegymError, match="small < large, not 3 and 3 px"):
        operators["bandpass"](columns(), small=3.0, large=3.0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("denoise_tv", {"weight": 0.1}), ("denoise_nlm", {"strength": 0.8})],
)
@pytest.mark.parametrize("noise", [0.1, 0.2])
def test_denoising_comes_nearer_to_the_truth(
    name: str, parameters: dict[str, float], noise: float
) -> None:
    clean, noisy = columns(), columns(noise=noise)
    denoised = apply(name, noisy, **parameters)
    assert rms(denoised - clean) < 0.7 * rms(noisy - clean)


def test_denoising_leaves_an_image_without_noise_nearly_alone() -> None:
    clean = columns()
    assert rms(apply("denoise_nlm", clean, strength=0.8) - clean) < 0.02
    assert rms(apply("denoise_tv", clean, weight=0.01) - clean) < 0.02


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_noise_level_is_the_standard_deviation_of_white_noise(sigma: float) -> None:
    noisy = columns(shape=(300, 310)) + np.random.default_rng(0).normal(0, sigma, (300, 310))
    measured = filters.noise_level(noisy.astype(np.float32))
    # Columns of 2.4 px add 0.016 in the finest diagonal differences.
    assert measured == pytest.approx(np.hypot(sigma, 0.016), rel=0.03)


@settings(deadline=None, max_examples=40)
@given(pixels)
def test_invert_twice_is_the_identity(image: np.ndarray) -> None:
    invert = operators["invert"]
    once = invert(image)
    np.testing.assert_allclose(invert(once).pixels, image, atol=2e-7)
    np.testing.assert_array_equal(invert(invert(once)).pixels, once.pixels)
    assert isinstance(once, Image)
