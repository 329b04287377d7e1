"""The images that come with the package are the ones the references were made with."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from scopegym.artifacts import Points
from scopegym.datasets.bundled import BUNDLED, bundled
from scopegym.errors import ScopegymError
from scopegym.sample.crystal import Crystal

SHA256 = {
    "ybco_100": "288729759b62d6a893ab2a701e41f416e257e36be44825f4a96680f1282d864d",
    "ybco_100_poisson": "5148b92c1bf5d77bba30460d135f35633f4d2f7af00e95b6825567a6823a4e9b",
}


@pytest.mark.parametrize("name", BUNDLED)
def test_file_and_shape_are_the_recorded_ones(name: str):
    content = (files("scopegym.datasets") / "ybco_100" / BUNDLED[name][0]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256[name]
    image = bundled(name)
    assert image.shape == (352, 312) and image.name == name
    assert image.metadata["description"]


@pytest.mark.parametrize("name", BUNDLED)
def test_pixel_size_is_that_of_the_simulated_cells(name: str):
    # 3 cells of 1.16802 nm on 352 rows, 8 of 0.38872 nm on 312 columns.
    rows, columns = 3 * 1.16802 / 352, 8 * 0.38872 / 312
    assert bundled(name).pixel_size_nm == pytest.approx((rows + columns) / 2, rel=1e-4)


@pytest.mark.parametrize("name", BUNDLED)
def test_truth_has_the_columns_of_24_cells_and_their_species(name: str):
    image = bundled(name)
    species = image.metadata["species"]
    assert isinstance(image.truth, Points) and len(image.truth) == len(species) == 144
    assert {s: species.count(s) for s in set(species)} == {"Ba": 48, "Y": 24, "Cu": 72}
    assert image.truth.shape == image.shape
    assert ((image.truth.yx >= 0) & (image.truth.yx < image.shape)).all()


def wrapped(data: np.ndarray, centre: np.ndarray, half: int) -> np.ndarray:
    """The window around a pixel; the image is periodic."""
    rows, columns = (np.arange(c - half, c + half + 1) for c in np.rint(centre).astype(int))
    return data[np.ix_(rows % data.shape[0], columns % data.shape[1])]


def test_truth_lies_on_the_maxima_of_the_clean_image():
    image = bundled("ybco_100")
    for (y, x), species in zip(image.truth.yx, image.metadata["species"], strict=True):
        window = wrapped(image.data, np.array([y, x]), 8)
        offset = np.array(np.unravel_index(window.argmax(), window.shape)) - 8
        # The tails of heavy neighbours pull the maximum of a Cu column aside.
        assert np.abs(offset).max() <= (1 if species != "Cu" else 3), (species, y, x)


def test_brightness_follows_the_atomic_number():
    image = bundled("ybco_100")
    species = np.array(image.metadata["species"])
    peaks = np.array([wrapped(image.data, yx, 2).max() for yx in image.truth.yx])
    means = {s: peaks[species == s].mean() for s in ("Ba", "Y", "Cu")}
    assert means["Ba"] > means["Y"] > means["Cu"]


def test_noisy_image_is_the_clean_one_at_its_dose():
    clean, noisy = bundled("ybco_100"), bundled("ybco_100_poisson")
    assert noisy.shape == clean.shape
    correlation = np.corrcoef(clean.data.ravel(), noisy.data.ravel())[0, 1]
    assert 0.3 < correlation < 0.95
    assert np.array_equal(clean.truth.yx, noisy.truth.yx)


def test_crystal_and_image_agree_on_the_density():
    image = bundled("ybco_100")
    prior = (
        Crystal.named("YBa2Cu3O7")
        .project((1, 0, 0))
        .prior(image.shape, pixel_size_nm=image.pixel_size_nm)
    )
    assert prior.count == pytest.approx(144, rel=0.002)


def test_unknown_name_suggests_the_near_one():
    with pytest.raises(ScopegymError, match="did you mean ybco_100"):
        bundled("ybco_10")
