"""The blob detectors with PyTorch against the same with NumPy, and the device in force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym import device, operators
from scopegym.artifacts import Image, Points
from scopegym.cache import Cache, using
from scopegym.errors import ScopegymError
from scopegym.operators import blobs, filters, on_device

#: Largest difference of responses allowed, in units of the image's largest value.
TOLERANCE = 1e-4
DETECTORS: dict[str, dict[str, Any]] = {
    "laplacian_of_gaussian": {"num_sigma": 5},
    "difference_of_gaussian": {"sigma_ratio": 1.3},
}

every_detector = pytest.mark.parametrize("detector", DETECTORS)


@pytest.fixture(scope="module", params=["torch", pytest.param("cuda", marks=pytest.mark.gpu)])
def name(request: pytest.FixtureRequest) -> str:
    """A device that computes with PyTorch."""
    try:
        return device.check(request.param)
    except ScopegymError as error:
        pytest.skip(str(error))


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Images of all shapes from one pixel on, with and without ties, float32 ``[H, W]``."""
    shape = draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y, x = np.indices(shape)
    kinds = {
        "noise": rng.normal(size=shape),
        "checks": (x // 5 + y // 5) % 2,
        "integers": rng.integers(0, 3, shape),
        "point on nothing": (y == shape[0] // 2) & (x == shape[1] // 2),
        "faint on a large offset": 1e4 + 0.01 * rng.normal(size=shape),
        "constant": np.full(shape, 0.7),
    }
    return np.asarray(kinds[draw(st.sampled_from(sorted(kinds)))], dtype=np.float32)


def found(name: str, detector: str, image: Any, **parameters: Any) -> Points:
    """What a detector finds on a device with an empty cache."""
    with device.using(name), using(Cache()):
        points = operators[detector](image, **{**DETECTORS[detector], **parameters})
    assert isinstance(points, Points)
    return points


def rows(points: Points) -> np.ndarray:
    """y, x, sigma and strength ``[N, 4]`` by position: of near-equals either may come first."""
    table = np.column_stack([points.yx, points.sigma_px, points.strength])
    return table[np.lexsort(table[:, 2::-1].T)]


@settings(deadline=None, max_examples=80)
@given(image=images(), sigma=st.floats(0.3, 40))
def test_filters_are_those_of_the_cpu(name: str, image: np.ndarray, sigma: float) -> None:
    """Kernels of 40 px reach 160 px, beyond several mirror images of a small picture."""
    pixels = on_device.tensor(image, name)
    smooth, curve = (blobs._kernel(sigma, order) for order in (0, 2))
    largest = float(np.abs(image).max())
    for ours, cpus in (
        (on_device.gaussian(pixels, smooth), filters.smooth(image, sigma)),
        (on_device.gaussian_laplace(pixels, smooth, curve), blobs.gaussian_laplace(image, sigma)),
    ):
        # 100 times closer than promised: what is left is the order of sums, and OpenCV's rounding.
        np.testing.assert_allclose(ours.cpu().numpy(), cpus, rtol=0, atol=1e-6 * largest)


@settings(deadline=None, max_examples=80)
@given(
    image=images(),
    count=st.integers(1, 5),
    floor=st.sampled_from([0.0, -0.1]),
    most=st.sampled_from([7, 100_000]),
)
def test_maxima_of_the_same_planes_are_the_same(
    name: str, image: np.ndarray, count: int, floor: float, most: int
) -> None:
    """Ties included: which of them are maxima, and which are kept when there are too many."""
    sigmas = np.linspace(1, 3, count)
    planes = {sigma: blobs.gaussian_laplace(image, sigma) for sigma in sigmas}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "MAX_CANDIDATES", most - 1)
        cpus = blobs.local_maxima_in_scale(planes.__getitem__, sigmas, floor)
    stack = [on_device.tensor(plane, name) for plane in planes.values()]
    ours = blobs._ranked(on_device.local_maxima_in_scale(stack, floor, most), sigmas)
    np.testing.assert_array_equal(ours.yx, cpus.yx)
    np.testing.assert_array_equal(ours.sigma, cpus.sigma)
    np.testing.assert_array_equal(ours.response, cpus.response)


@every_detector
@pytest.mark.parametrize("shape", [(150, 170), (9, 200), (1, 1)])
def test_detectors_find_the_same_blobs(name: str, detector: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    parameters = {"min_sigma": 1.0, "max_sigma": 4.0, "threshold": 0.02, "overlap": 0.5}
    ours = rows(found(name, detector, image, **parameters))
    cpus = rows(found("cpu", detector, image, **parameters))
    assert len(cpus) > 50 or image.size == 1
    np.testing.assert_array_equal(ours[:, :3], cpus[:, :3])
    np.testing.assert_allclose(ours[:, 3], cpus[:, 3], rtol=0, atol=TOLERANCE)


@every_detector
def test_a_flat_image_has_no_blobs(name: str, detector: str) -> None:
    parameters = {"min_sigma": 1.0, "max_sigma": 3.0, "threshold": 0.005, "overlap": 0.5}
    assert len(found(name, detector, np.full((30, 40), 0.7), **parameters)) == 0


def test_another_threshold_computes_nothing(name: str) -> None:
    image = Image(np.random.default_rng(0).random((60, 60)))
    scales = {"min_sigma": 1.0, "max_sigma": 3.0, "num_sigma": 5, "overlap": 0.5}
    detector = operators["laplacian_of_gaussian"]
    with device.using(name), using(Cache()) as cache:
        detector(image, **scales, threshold=0.1)
        misses = cache.misses
        detector(image, **scales, threshold=0.05)
        # What was found on one device is known on the other.
        with device.using("cpu"):
            detector(image, **scales, threshold=0.2)
        assert cache.misses == misses


def test_the_context_manager_restores_the_device() -> None:
    assert device.current() == "cpu"
    with device.using("torch") as chosen:
        assert chosen == device.current() == "torch"
        with device.using(None):
            assert device.current() == "torch"
        with pytest.raises(ZeroDivisionError), device.using("cpu"):
            assert device.current() == "cpu"
            1 // 0  # noqa: B018
        assert device.current() == "torch"
    assert device.current() == "cpu"


@pytest.mark.parametrize("wrong", ["gpu", "", "CUDA", "cuda:", "cuda:-1", "cuda:٣", "cpu:0", "mps"])
def test_unknown_devices_are_refused(wrong: str) -> None:
    with pytest.raises(ScopegymError, match=f"must be cpu, cuda or cuda:N, not '{wrong}'"):
        device.check(wrong)
    with pytest.raises(ScopegymError), device.using(wrong):
        pytest.fail("it was taken")


@pytest.mark.parametrize(("wrong", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(
    wrong: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ScopegymError, match=f"'{wrong}' needs a GPU .* it finds {count} here"):
        device.check(wrong)
    if count:
        assert device.check("cuda") == "cuda"
        assert device.check("cuda:1") == "cuda:1"
