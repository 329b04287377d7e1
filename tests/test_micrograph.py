"""A micrograph keeps its pixels as they are and refuses what is none."""

from __future__ import annotations

import hashlib
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scopegym.errors import ScopegymError
from scopegym.micrograph import NORMALIZED_PERCENTILES, Micrograph

RAMP = np.arange(600, dtype=np.float32).reshape(20, 30)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pixels_that_are_no_numbers_are_counted_and_refused(bad: float):
    data = RAMP.copy()
    data[3, 4] = data[5, 6] = bad
    with pytest.raises(ScopegymError, match="'film' holds 2 pixels that are NaN or infinite"):
        Micrograph(data, name="film")


@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (5, 0), (1, 2, 3, 4)])
def test_only_images_and_stacks_are_micrographs(shape: tuple[int, ...]):
    with pytest.raises(ScopegymError, match=r"image \[H, W\] or a stack \[T, H, W\]"):
        Micrograph(np.ones(shape))


@pytest.mark.parametrize("size", [0, -0.1, math.nan, math.inf])
def test_pixel_size_must_be_positive(size: float):
    with pytest.raises(ScopegymError, match="pixel size of 'film' must be positive"):
        Micrograph(RAMP, size, "film")


def test_unknown_pixel_size_stays_unknown():
    assert Micrograph(RAMP).pixel_size_nm is None


def test_pixels_are_kept_copied_and_read_only():
    data = RAMP.astype(np.uint16)
    micrograph = Micrograph(data)
    data[:] = 0
    assert micrograph.data.dtype == np.float32 and np.array_equal(micrograph.data, RAMP)
    with pytest.raises(ValueError, match="read-only"):
        micrograph.data[0, 0] = 1
    with pytest.raises(TypeError):
        micrograph.metadata["dose"] = 3  # type: ignore[index]


def test_normalisation_maps_the_percentiles_exactly_and_does_not_clip():
    data = np.arange(10_001, dtype=np.float64).reshape(73, 137)  # percentile p is value 100 p
    pixels = Micrograph(data).normalized().pixels
    expected = (data - 10) / (9990 - 10)
    assert np.array_equal(pixels, expected.astype(np.float32))
    assert pixels.min() < 0 and pixels.max() > 1


@pytest.mark.parametrize("seed", range(30))
def test_normalisation_rounds_as_percentiles_in_float64_do(seed: int):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 200, 2))
    data = rng.normal(rng.uniform(-1e5, 1e5), 10.0 ** rng.integers(-20, 20), shape)
    data = (np.round(data) if seed % 3 == 0 else data).astype(np.float32)
    wide = data.astype(np.float64)
    low, high = np.percentile(wide, NORMALIZED_PERCENTILES)
    if not high > low:
        return
    expected = ((wide - low) / (high - low)).astype(np.float32)
    assert Micrograph(data).normalized().pixels.tobytes() == expected.tobytes()


def test_normalisation_takes_two_more_images_of_memory():
    micrograph = Micrograph(np.random.default_rng(0).normal(size=(1000, 1000)))
    tracemalloc.start()
    micrograph.normalized()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * micrograph.data.nbytes


def test_an_array_that_nobody_can_change_is_not_copied():
    data = RAMP.copy()
    view = data[:]
    view.flags.writeable = False  # but its base is not
    assert not np.shares_memory(Micrograph(view).data, data)
    data.flags.writeable = False
    stack = Micrograph(data.reshape(2, 10, 30))
    assert np.shares_memory(stack.data, data)
    assert np.shares_memory(stack.frame(1).data, data)


def test_hot_pixels_hardly_move_the_normalisation():
    rng = np.random.default_rng(0)
    data = rng.uniform(0, 1, (100, 100))
    hot = data.copy()
    hot[3, 3], hot[50, 7] = 1e6, -1e6
    difference = Micrograph(hot).normalized().pixels - Micrograph(data).normalized().pixels
    assert np.abs(np.delete(difference.ravel(), [303, 5007])).max() < 1e-3


@settings(max_examples=40)
@given(
    arrays(np.float32, (12, 9), elements=st.floats(-1000, 1000, width=32), unique=True),
    st.floats(0.01, 100),
    st.floats(-1000, 1000),
)
def test_normalisation_forgets_gain_and_offset(data, gain, offset):
    other = data.astype(np.float64) * gain + offset
    spread = np.ptp(data)
    if spread * gain < 1e-2 * max(np.abs(other).max(), 1):
        return  # float32 itself would lose the contrast
    a, b = (Micrograph(d).normalized().pixels for d in (data, other))
    assert np.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 7.0, -1e30])
def test_constant_image_is_refused_by_name(level: float):
    with pytest.raises(ScopegymError, match="'film' is constant"):
        Micrograph(np.full((9, 9), level), name="film").normalized()


def test_stack_where_an_image_is_needed_is_refused():
    stack = Micrograph(np.stack([RAMP, RAMP + 1]), 0.02, "film")
    with pytest.raises(ScopegymError, match="'film' is a stack of 2 frames"):
        stack.normalized()
    frame = stack.frame(1)
    assert np.array_equal(frame.data, RAMP + 1) and frame.pixel_size_nm == 0.02
    assert frame.name == "film[1]"


def test_frame_that_does_not_exist_is_refused():
    with pytest.raises(ScopegymError, match="film"):
        Micrograph(np.stack([RAMP, RAMP]), name="film").frame(2)


def test_identity_is_the_content():
    same, other = Micrograph(RAMP, 0.1, "a"), Micrograph(RAMP, 0.2, "b")
    assert same.key == other.key and same.normalized().key == other.normalized().key
    assert same.key != Micrograph(RAMP + 1).key
    assert same.key != Micrograph(RAMP.reshape(30, 20)).key
    assert same.sha256 == hashlib.sha256(RAMP.tobytes()).hexdigest()
    assert Micrograph(RAMP, metadata={"file_sha256": "f00"}).sha256 == "f00"
