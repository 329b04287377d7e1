"""Which crystal an image shows: the right one comes first, also without a pixel size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scopegym
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.sample import Sample
from scopegym.sample.crystal import CRYSTALS, Crystal
from scopegym.sample.identify import identify
from scopegym.sample.lattice import measure_lattice, measure_scale

SHOWN = (("YBa2Cu3O7", (1, 0, 0), 9.0), ("MoS2", (0, 0, 1), 11.0), ("Si", (1, 1, 0), 8.0))


def image(name: str, zone: tuple[int, int, int], spacing: float, **more: float) -> Micrograph:
    projection = Crystal.named(name).project(zone)
    size = projection.spacing_nm / spacing
    return simulate_crystal(projection, (256, 256), size, seed=2, noise=0.15, **more)


@pytest.mark.parametrize(("name", "zone", "spacing"), SHOWN)
def test_the_crystal_of_the_image_comes_first(name, zone, spacing):
    micrograph = image(name, zone, spacing, rotation_deg=21)
    first, *others = identify(micrograph, CRYSTALS.values())
    assert first.fits
    assert first.projection.crystal == name
    assert first.pixel_size_nm == pytest.approx(micrograph.pixel_size_nm, rel=0.01)
    assert all(other.fits <= first.fits for other in others)


@pytest.mark.parametrize(("name", "zone", "spacing"), SHOWN)
def test_a_crystal_gives_the_pixel_size_of_an_image_without_one(name, zone, spacing):
    micrograph = image(name, zone, spacing)
    unknown = replace(micrograph, pixel_size_nm=None)
    found = Sample(crystal=name, zone=zone).expect(unknown)
    known = Sample(crystal=name, zone=zone).expect(micrograph)
    assert "The pixel size is not known; the lattice of" in found.warnings[0]
    assert found.prior.scale_px == pytest.approx(known.prior.scale_px, rel=0.01)
    assert found.prior.count == pytest.approx(known.prior.count, rel=0.02)


def test_every_scale_is_tried_where_the_stated_one_is_wrong():
    micrograph = image("YBa2Cu3O7", (1, 0, 0), 9.0)
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    wrong = 1.8 * micrograph.pixel_size_nm
    assert not measure_lattice(micrograph.data, projection, wrong).explains
    fit, size = measure_scale(micrograph.data, projection, wrong)
    assert fit.explains
    assert size == pytest.approx(micrograph.pixel_size_nm, rel=0.005)
    assert np.mean(fit.ratios) == pytest.approx(1.8, rel=0.005)


def test_noise_fits_no_crystal():
    noise = np.random.default_rng(3).normal(size=(200, 200)).astype(np.float32)
    for size in (None, 0.02):
        micrograph = Micrograph(noise, pixel_size_nm=size)
        assert not any(each.fits for each in identify(micrograph, [Crystal.named("SrTiO3")]))
    with pytest.raises(ScopegymError, match="is unknown; give one"):
        Sample(crystal="SrTiO3").expect(Micrograph(noise))


def test_equivalent_zone_axes_are_tried_once():
    found = identify(bundled("ybco_100"), [Crystal.named("Cu")])
    assert {each.projection.zone for each in found} == {(1, 0, 0), (1, 1, 0), (1, 1, 1)}


def test_there_must_be_a_crystal():
    with pytest.raises(ScopegymError, match="no crystal"):
        identify(bundled("ybco_100"), [])


@pytest.mark.parametrize(
    ("file", "size_nm", "name", "zone"),
    [
        ("scilink_ybco_haadf/YBCO_tem.tif", None, "YBa2Cu3O7", (1, 0, 0)),
        ("hyperspy_demos_abf/stem_abf_data.hspy", None, "SrTiO3", (1, 1, 0)),
        ("scilink_mos2_haadf/MoS2_stem_Exp-000-2.npy", 0.017578, "MoS2", (0, 0, 1)),
    ],
)
def test_published_images_show_their_crystal(shared_data, file, size_nm, name, zone):
    micrograph = scopegym.load(shared_data / "atom_finding" / file)
    if size_nm is not None:
        micrograph = replace(micrograph, pixel_size_nm=size_nm)
    first = identify(micrograph, CRYSTALS.values())[0]
    assert (first.projection.crystal, first.projection.zone) == (name, zone)
