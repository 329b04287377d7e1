"""Large images in strips: the same results as computed whole."""

from __future__ import annotations

import numpy as np
import pytest

from scopegym import correlation, strips
from scopegym.artifacts import Features, Labels, Points
from scopegym.cache import Cache, using
from scopegym.operators import blobs, clustering, columns
from scopegym.operators.base import registry as operators
from scopegym.operators.clustering import nearest_centre
from scopegym.operators.label_maps import connected_regions
from scopegym.operators.peaks import correlate_column
from scopegym.operators.regions import OUTLIER, region_mask
from scopegym.operators.symmetry import centres, translation
from scopegym.rewards.disorder import departures

SPACING = 7.3


@pytest.fixture
def pixels() -> np.ndarray:
    """A noisy lattice, disturbed in the middle, float32 ``[190, 141]``."""
    rng = np.random.default_rng(0)
    y, x = (axis * (2 * np.pi / SPACING) for axis in np.ogrid[:190, :141])
    image = np.cos(y) + np.cos(x) + rng.normal(0, 0.2, (190, 141))
    image[80:110, 50:90] = rng.normal(0, 1, (30, 40))
    return image.astype(np.float32)


@pytest.fixture
def in_strips(monkeypatch):
    """Makes every image large."""

    def begin() -> None:
        for module in (strips, centres, translation):
            monkeypatch.setattr(module, "WHOLE", 20 * 141)
        monkeypatch.setattr(blobs, "LARGEST_KEPT", 0)
        monkeypatch.setattr(blobs, "STRIP", 20 * 141)
        monkeypatch.setattr(correlation, "TILE", 64)
        monkeypatch.setattr(columns, "BATCH", 7)
        monkeypatch.setattr(clustering, "PART", 1000)

    return begin


def test_every_row_is_in_one_strip(in_strips):
    in_strips()
    found = list(strips.strips((190, 141), 4))
    assert len(found) > 5
    rows = np.concatenate([np.arange(190)[strip.rows] for strip in found])
    assert (rows == np.arange(190)).all()
    for strip in found:
        around = np.arange(190)[strip.around]
        assert (around[strip.inner] == np.arange(190)[strip.rows]).all()
        assert around[0] == max(0, strip.rows.start - 4)


@pytest.mark.parametrize("name", ["laplacian_of_gaussian", "difference_of_gaussian"])
@pytest.mark.parametrize("threshold", [0.05, 0.0])
def test_blobs(pixels, in_strips, name, threshold):
    given = {"min_sigma": 1.2, "max_sigma": 2.5, "threshold": threshold}
    whole = operators[name](pixels, **given)
    in_strips()
    with using(Cache()):
        found = operators[name](pixels, **given)
    assert len(found) > 300
    assert np.array_equal(whole.yx, found.yx)
    assert np.allclose(whole.strength, found.strength, atol=1e-6)
    # Where everything equals its surroundings nothing is a maximum.
    assert len(operators[name](np.zeros((190, 141)), **{**given, "threshold": -1.0})) == 0


@pytest.mark.parametrize(
    "name",
    [
        "translation_symmetry",
        "rotation_symmetry",
        "reflection_symmetry",
        "power_spectrum",
        "local_fourier",
    ],
)
def test_descriptors(pixels, in_strips, name):
    lengths = {"patch": 8.0, "stride": 3.0}
    lengths |= {"finest": 4.0} if name in ("power_spectrum", "local_fourier") else {"window": 9.0}
    whole = operators[name](pixels, **lengths)
    in_strips()
    found = operators[name](pixels, **lengths)
    assert whole.values.dtype == np.float64
    assert found.values.dtype == np.float32 or name in ("rotation_symmetry", "reflection_symmetry")
    assert np.array_equal(whole.centres_yx, found.centres_yx)
    assert np.allclose(whole.values, found.values, atol=1e-6)
    for step in ("pca", "standardize"):
        one, other = (operators[step](features).values for features in (whole, found))
        assert np.allclose(one, other, atol=1e-4)
    one, other = (operators["kmeans"](operators["pca"](f)).map for f in (whole, found))
    assert np.mean(one != other) < 1e-3


def test_patches(pixels, in_strips):
    points = Points(np.random.default_rng(1).uniform(0, 140, (300, 2)), pixels.shape)
    whole = operators["patches"](pixels, points, window=9.0).values
    in_strips()
    assert np.allclose(operators["patches"](pixels, points, window=9.0).values, whole, atol=1e-6)


def test_departures(pixels, in_strips):
    whole = departures(pixels, SPACING)
    in_strips()
    assert np.allclose(np.log(departures(pixels, SPACING)), np.log(whole), atol=1e-3)


def test_matching_with_a_column(pixels, in_strips):
    whole = correlate_column(pixels, 2.0)
    in_strips()
    assert np.allclose(correlate_column(pixels, 2.0), whole, atol=1e-6)


def test_labels(in_strips):
    rng = np.random.default_rng(2)
    labels = Labels(rng.integers(0, 4, (190, 141)))
    points = Points(rng.uniform(0, 140, (200, 2)), (190, 141), classes=rng.integers(-1, 2, 200))
    assert (points.classes == OUTLIER).any()
    scattered = Features(rng.normal(size=(50, 3)), rng.uniform(0, 140, (50, 2)), (190, 141))

    def drawn() -> list[np.ndarray]:
        return [
            operators["majority_smooth"](labels, radius=3.0).map,
            region_mask(points, dilation=2.0).map,
            nearest_centre(scattered),
            operators["kmeans"](scattered, clusters=3).map,
        ]

    whole = drawn()
    in_strips()
    for one, other in zip(whole, drawn(), strict=True):
        assert np.array_equal(one, other)


def test_connected_regions_are_numbered_label_by_label():
    regions = connected_regions(np.array([[0, 1, 0], [1, 1, 0], [2, 2, 0]]))
    assert regions.tolist() == [[0, 2, 1], [2, 2, 1], [3, 3, 1]]


@pytest.mark.parametrize("reach", [(0, 0), (3, 5), (60, 40), (94, 70)])
def test_autocorrelation_is_that_of_the_padded_field(pixels, in_strips, reach):
    in_strips()
    deviation = pixels - pixels.mean(dtype=np.float64)
    padded = [2 * n for n in pixels.shape]
    sums, shared = (
        np.fft.fftshift(np.fft.irfft2(np.abs(np.fft.rfft2(what, padded)) ** 2, padded))
        for what in (deviation, np.ones_like(deviation))
    )
    expected = sums / np.maximum(shared, pixels.size / 4)
    (y, x), (b, a) = pixels.shape, reach
    found = correlation.autocorrelation(pixels, reach)
    assert found.shape == (2 * b + 1, 2 * a + 1)
    # In single precision, as of all images that are not computed whole.
    close = 1e-6 * pixels.var()
    assert np.allclose(found, expected[y - b : y + b + 1, x - a : x + a + 1], rtol=0, atol=close)


def test_the_stride_grows_only_beyond_what_can_be_held():
    assert centres.bounded((512, 512), 1, 1512) == 1
    assert centres.bounded((1024, 1024), 2, 81) == 2
    for side in (700, 1024, 4096, 8192):
        for values in (9, 81, 225, 1500):
            step = centres.bounded((side, side), 1, values)
            count = (side / step) ** 2
            assert count * values <= max(2**25, 4 * side**2, 512**2 * values)
            assert count >= min(side**2, 512**2) / 4
