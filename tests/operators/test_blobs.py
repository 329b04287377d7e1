"""The blob detectors against the programs they stand in for, and what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import blob_dog, blob_log
from skimage.feature.blob import _prune_blobs

from scopegym import operators
from scopegym.artifacts import Image
from scopegym.cache import Cache, using
from scopegym.errors import ScopegymError
from scopegym.operators import blobs, pruning

laplacian_of_gaussian = operators["laplacian_of_gaussian"]
difference_of_gaussian = operators["difference_of_gaussian"]


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Images whose responses tie, vanish or cancel in different ways, float32 ``[H, W]``."""
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    y, x = np.mgrid[:height, :width].astype(float)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    half = draw(st.sampled_from([0.0, 0.5]))
    period = draw(st.integers(2, 9))
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "noise": lambda: rng.normal(size=(height, width)),
        "lattice": lambda: (
            np.exp(-((((y - half + period / 2) % period) - period / 2) ** 2) / 2)
            * np.exp(-((((x - half + period / 2) % period) - period / 2) ** 2) / 2)
        ),
        "square": lambda: (
            (abs(y - height // 2 - half) < period) & (abs(x - width // 2 - half) < period)
        ),
        "disk": lambda: np.hypot(y - height // 2 - half, x - width // 2 - half) < period,
        "stripes": lambda: x // period % 2,
        "checks": lambda: (x // period + y // period) % 2,
        "integers": lambda: rng.integers(0, period, (height, width)),
        "faint on a large offset": lambda: 1e4 + 0.01 * rng.normal(size=(height, width)),
        "point on nothing": lambda: (y == height // 2) & (x == width // 2),
        "constant": lambda: np.full((height, width), 0.1 * period),
    }
    return np.asarray(kinds[draw(st.sampled_from(sorted(kinds)))](), dtype=np.float32)


@st.composite
def log_parameters(draw: st.DrawFn) -> dict[str, Any]:
    sigma = st.one_of(st.floats(0.5, 8), st.integers(1, 8).map(float))
    low, high = sorted(draw(st.tuples(sigma, sigma)))
    return {
        "min_sigma": low,
        "max_sigma": high,
        "num_sigma": draw(st.integers(1, 10)),
        "threshold": draw(st.one_of(st.sampled_from([0.0, 1e-6, 1e-3, 0.02]), st.floats(0, 0.5))),
        "overlap": draw(st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1))),
    }


def found(detector: Any, image: np.ndarray, **parameters: Any) -> np.ndarray:
    with using(Cache()):
        return np.asarray(detector(image, **parameters))


@settings(deadline=None, max_examples=400)
@given(images(), log_parameters())
def test_log_gives_the_rows_of_blob_log(image: np.ndarray, parameters: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # Everything is a blob where rounding exceeds the threshold; more than can be pruned are
        # not compared.
        warnings.simplefilter("error", pruning.TooManyCandidates)
        try:
            ours = found(laplacian_of_gaussian, image, **parameters)
        except pruning.TooManyCandidates:
            return
    np.testing.assert_array_equal(ours, blob_log(image, **parameters))


@pytest.mark.parametrize("seed", range(4))
def test_log_gives_the_rows_of_blob_log_on_crowds_of_blobs(seed: int) -> None:
    """Many that overlap: chains in which the order of pruning decides."""
    image = np.random.default_rng(seed).normal(size=(90, 110)).astype(np.float32)
    for overlap in (0.0, 0.1, 0.5):
        wide = {"min_sigma": 1.0, "max_sigma": 5.0, "num_sigma": 6, "threshold": 0.0}
        ours = found(laplacian_of_gaussian, image, **wide, overlap=overlap)
        np.testing.assert_array_equal(ours, blob_log(image, **wide, overlap=overlap))


@pytest.mark.parametrize("overlap", [0.0, 0.1])
def test_pruning_follows_scikit_images_order_of_pairs(overlap: float) -> None:
    """The order in which pairs come out of the tree decides in 1 of 50 such chains."""
    sigma = np.full(24, 4.8, np.float32)
    for seed in range(100):
        yx = np.random.default_rng(seed).integers(0, 40, (24, 2))
        theirs = _prune_blobs(np.column_stack([yx, sigma]).astype(np.float32), overlap)
        kept = pruning.prune(yx.astype(np.int32), sigma, overlap)
        np.testing.assert_array_equal(yx[kept], theirs[:, :2])


def test_log_reports_the_response_as_strength() -> None:
    y, x = np.mgrid[:41, :41] - 20.0
    sigma = 3.0
    column = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    points = laplacian_of_gaussian(
        column, min_sigma=2, max_sigma=4, num_sigma=5, threshold=0.1, overlap=0.5
    )
    # At the centre, -s^2 LoG = 2 A s^2 sigma^2 / (s^2 + sigma^2)^2, largest (A / 2) at s = sigma.
    assert points.yx.tolist() == [[20.0, 20.0]]
    assert points.sigma_px.tolist() == [3.0]
    assert points.strength[0] == pytest.approx(0.5, abs=2e-3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.floats(0.3, 8))
def test_gaussian_laplace_has_the_bits_of_scipy(
    seed: int, height: int, width: int, sigma: float
) -> None:
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    ours, scipys = blobs.gaussian_laplace(image, sigma), ndi.gaussian_laplace(image, sigma)
    different = ours != scipys
    # The order of the sum's terms decides one rounding in some ten million.
    assert different.sum() <= 1
    np.testing.assert_allclose(ours, scipys, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(images(), st.floats(0.3, 8))
def test_gaussian_laplace_is_scipys_to_rounding(image: np.ndarray, sigma: float) -> None:
    largest = float(np.abs(image).max())
    np.testing.assert_allclose(
        blobs.gaussian_laplace(image, sigma),
        ndi.gaussian_laplace(image, sigma),
        rtol=0,
        atol=2 * np.finfo(np.float32).eps * largest,
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigmas", [(1.0, 4.0, 1.6), (2.0, 6.0, 1.3), (1.0, 1.0, 1.6)])
def test_dog_gives_the_blobs_of_blob_dog(seed: int, sigmas: tuple[float, float, float]) -> None:
    """OpenCV rounds the planes differently in the last digit; without ties nothing else differs."""
    image = np.random.default_rng(seed).normal(size=(64, 80)).astype(np.float32)
    low, high, ratio = sigmas
    parameters = {"min_sigma": low, "max_sigma": high, "sigma_ratio": ratio}
    for overlap in (0.3, 1.0):
        ours = found(difference_of_gaussian, image, **parameters, threshold=0.05, overlap=overlap)
        theirs = blob_dog(image, **parameters, threshold=0.05, overlap=overlap)
        assert len(theirs) > 50
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_dog_plane_is_that_of_scipy_to_rounding() -> None:
    image = np.random.default_rng(0).random((50, 70)).astype(np.float32)
    points = difference_of_gaussian(
        image, min_sigma=2.0, max_sigma=2.0, sigma_ratio=1.6, threshold=0.01, overlap=1.0
    )
    plane = (ndi.gaussian_filter(image, 2.0) - ndi.gaussian_filter(image, 3.2)) / 0.6
    y, x = points.yx.astype(int).T
    np.testing.assert_allclose(points.strength, plane[y, x], atol=2e-6)


def test_flat_image_has_no_blobs() -> None:
    """Above 0.005: the kernel, cut off at 4 sigma, gives 0.002 of a constant."""
    for detector in (laplacian_of_gaussian, difference_of_gaussian):
        points = detector(
            np.full((30, 40), 0.7), min_sigma=1, max_sigma=3, threshold=0.005, overlap=0.5
        )
        assert len(points) == 0


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"min_sigma": 0.0}, "0 < min_sigma <= max_sigma"),
        ({"min_sigma": 5.0}, "0 < min_sigma <= max_sigma"),
        ({"max_sigma": float("nan")}, "0 < min_sigma <= max_sigma"),
        ({"num_sigma": 0}, "num_sigma must be at least 1"),
        ({"overlap": 1.5}, "overlap must lie in 0..1"),
    ],
)
def test_impossible_scales_are_refused(wrong: dict[str, Any], rule: str) -> None:
    image = np.random.default_rng(0).random((30, 30))
    given_ = {"min_sigma": 1.0, "max_sigma": 3.0, "num_sigma": 3, "threshold": 0.0, "overlap": 0.5}
    with pytest.raises(ScopegymError, match=rule):
        laplacian_of_gaussian(image, **{**given_, **wrong})


# --- the cache ------------------------------------------------------------------------------------


def test_another_threshold_or_overlap_computes_no_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = count_planes(monkeypatch)
    image = Image(np.random.default_rng(0).random((60, 60)))
    scales = {"min_sigma": 1.0, "max_sigma": 3.0, "num_sigma": 5}
    with using(Cache()) as cache:
        laplacian_of_gaussian(image, **scales, threshold=0.1, overlap=0.5)
        assert len(computed) == 5
        misses = cache.misses
        for threshold, overlap in ((0.05, 0.5), (0.2, 0.0), (0.0, 1.0)):
            laplacian_of_gaussian(image, **scales, threshold=threshold, overlap=overlap)
        assert (len(computed), cache.misses) == (5, misses)


def test_another_range_computes_only_the_planes_it_does_not_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed = count_planes(monkeypatch)
    image = Image(np.random.default_rng(0).random((60, 60)))
    rest = {"threshold": 0.1, "overlap": 0.5}
    with using(Cache()):
        laplacian_of_gaussian(image, min_sigma=1.0, max_sigma=3.0, num_sigma=5, **rest)
        assert computed == [1.0, 1.5, 2.0, 2.5, 3.0]
        laplacian_of_gaussian(image, min_sigma=2.0, max_sigma=4.0, num_sigma=3, **rest)
        assert computed == [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]


def test_another_image_shares_no_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = count_planes(monkeypatch)
    scales = {"min_sigma": 1.0, "max_sigma": 1.0, "num_sigma": 1, "threshold": 0.1, "overlap": 0.5}
    with using(Cache()):
        for seed in (0, 1, 0):
            image = Image(np.random.default_rng(seed).random((40, 40)))
            laplacian_of_gaussian(image, **scales)
    assert len(computed) == 2


def test_cached_planes_stay_within_the_cache() -> None:
    image = Image(np.random.default_rng(0).random((100, 100)))
    parameters = {"min_sigma": 1.0, "max_sigma": 4.0, "num_sigma": 10, "threshold": 0.1}
    with using(Cache()):
        free = laplacian_of_gaussian(image, **parameters, overlap=0.5)
    # Room for two planes of 40 kB: every one is computed, and thrown out again.
    with using(Cache(100_000)) as cache:
        tight = laplacian_of_gaussian(image, **parameters, overlap=0.5)
        assert cache.nbytes <= 100_000
    np.testing.assert_array_equal(free, tight)


def count_planes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    computed: list[float] = []
    original = blobs.gaussian_laplace

    def counting(pixels: np.ndarray, sigma: float) -> np.ndarray:
        computed.append(float(sigma))
        return original(pixels, sigma)

    monkeypatch.setattr(blobs, "gaussian_laplace", counting)
    return computed


# --- hostile amounts ------------------------------------------------------------------------------

MEMORY = """
import json
import resource, sys, warnings
import cv2, numpy as np, scipy.ndimage, scipy.spatial
from scopegym import operators
from scopegym.artifacts import Image

rng = np.random.default_rng(0)
pixels = rng.random((1024, 1024), np.float32)
if sys.argv[1] == "spots":
    pixels = (pixels > 0.999).astype(np.float32)
image = Image(pixels)
operators["laplacian_of_gaussian"](
    image.pixels[:32, :32], min_sigma=1, max_sigma=2, threshold=0, overlap=0
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for parameters in json.loads(sys.argv[2]):
    operators["laplacian_of_gaussian"](image, **parameters, threshold=0.0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize("picture", ["noise", "spots"])
def test_memory_is_bounded_whatever_is_asked(picture: str) -> None:
    """Noise at threshold 0 has a candidate every eighth pixel; ten equal scales have it ten times;
    and flat regions equal their surroundings everywhere."""
    parameters = [
        {"min_sigma": 0.5, "max_sigma": 0.5, "num_sigma": 10, "overlap": 0.0},
        {"min_sigma": 0.5, "max_sigma": 4.0, "num_sigma": 10, "overlap": 0.0},
    ]
    command = [sys.executable, "-W", "always", "-c", MEMORY, picture, json.dumps(parameters)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 0.4e9
    assert ("TooManyCandidates" in run.stderr) == (picture == "noise")


def test_too_many_candidates_keep_the_strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((100, 100)).astype(np.float32)
    scales = {"min_sigma": 1.0, "max_sigma": 3.0, "num_sigma": 3, "overlap": 1.0}
    all_of_them = laplacian_of_gaussian(image, **scales, threshold=0.0)
    assert len(all_of_them) > 200
    monkeypatch.setattr(blobs, "MAX_CANDIDATES", 50)
    with using(Cache()):
        with pytest.warns(pruning.TooManyCandidates, match="the 50 strongest are kept"):
            few = laplacian_of_gaussian(image, **scales, threshold=0.0)
        np.testing.assert_array_equal(few, all_of_them[:50])
        # A threshold that lets no more than these through gives all of them, without a warning.
        high = float(all_of_them.strength[40])
        fewer = laplacian_of_gaussian(image, **scales, threshold=high)
    np.testing.assert_array_equal(fewer, all_of_them[: len(fewer)])
    assert len(fewer) == np.count_nonzero(all_of_them.strength > high)


def test_too_many_pairs_are_shortened_from_the_weak_end(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).normal(size=(90, 90)).astype(np.float32)
    scales = {"min_sigma": 1.0, "max_sigma": 8.0, "num_sigma": 6, "threshold": 0.0}
    # Pairs count up to a distance of 2 sqrt(2) sigma of the largest blob.
    before = found(laplacian_of_gaussian, image, **scales, overlap=1.0)
    for module in (blobs, pruning):
        monkeypatch.setattr(module, "MAX_PAIRS", 200)
    with pytest.warns(pruning.TooManyCandidates):
        after = found(laplacian_of_gaussian, image, **scales, overlap=1.0)
    assert 0 < len(after) < len(before)
    np.testing.assert_array_equal(after, before[: len(after)])
