"""Which columns of a crystal are visible: decided from the image, or as the user says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scopegym
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.sample.imaging import IMAGING

#: Crystals with light columns.
LIGHT = [("SrTiO3", (0, 0, 1)), ("SrTiO3", (1, 1, 0)), ("BaTiO3", (1, 0, 0))]


def image(name, zone, imaging: str, noise: float = 0.1, dark: bool = False) -> Micrograph:
    kind = IMAGING[imaging]
    projection = Crystal.named(name).project(zone, exponent=kind.exponent, visible=kind.visible)
    usual = Crystal.named(name).project(zone)
    size = usual.spacing_nm / 14
    seen = simulate_crystal(
        projection, (224, 224), size, seed=1, noise=noise, column_sigma_nm=0.12 * usual.spacing_nm
    )
    return replace(seen, data=1 - seen.data) if dark else seen


def expected(name, zone, micrograph: Micrograph, **how) -> int:
    """How many columns per cell are expected."""
    found = Sample(crystal=name, zone=zone, calibration="report", **how).expect(micrograph)
    cell = abs(np.linalg.det(np.array(found.prior.lattice_px)))
    return round(found.prior.count * cell / np.prod(micrograph.shape))


@pytest.mark.parametrize(("name", "zone"), LIGHT)
@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_light_columns_are_expected_where_the_image_shows_them(name, zone, noise):
    heavy = len(Crystal.named(name).project(zone).columns)
    whole = len(Crystal.named(name).project(zone, exponent=1 / 3).columns)
    assert whole > heavy
    for imaging, dark, columns in (
        ("haadf", False, heavy),
        ("haadf", True, heavy),  # an inverted image
        ("abf", True, whole),
    ):
        micrograph = image(name, zone, imaging, noise, dark)
        assert expected(name, zone, micrograph) == columns, (imaging, dark)
        assert expected(name, zone, micrograph, imaging="haadf") == heavy
        assert expected(name, zone, micrograph, imaging="abf") == whole


def test_the_user_is_told_what_is_expected_and_why():
    told = Sample(crystal="SrTiO3", zone=(1, 1, 0)).expect(image(*LIGHT[1], "abf", dark=True))
    assert told.prior.contrast == "dark"
    assert "Light columns (1 per cell) are expected too" in told.warnings[-1]
    usual = Sample(crystal="SrTiO3", zone=(1, 1, 0)).expect(image(*LIGHT[1], "haadf"))
    assert len(usual.warnings) == 1


def test_an_unknown_kind_of_imaging_is_refused():
    with pytest.raises(ScopegymError, match=r"kind of imaging must be auto or haadf .* 'tem'"):
        Sample(crystal="Si", imaging="tem")


def test_oxygen_of_a_published_bright_field_image_is_found(shared_data):
    """SrTiO3 [110] in annular bright field, of which nothing else is said."""
    path = shared_data / "atom_finding" / "hyperspy_demos_abf" / "stem_abf_data.hspy"
    with pytest.raises(ScopegymError, match=r"0\.00932627 without a unit; if these are nm"):
        scopegym.solve(path, crystal="Cu", zone=(1, 1, 0), agent="expert", budget=4)
    result = scopegym.solve(path, crystal="SrTiO3", zone=(1, 1, 0), agent="expert", budget=4)
    assert result.problem.micrograph.pixel_size_nm == pytest.approx(0.00932627, rel=0.005)
    assert result.problem.prior.contrast == "dark"
    assert len(result.points) == pytest.approx(result.problem.prior.count, rel=0.02)
    assert result.chosen.score.value > 0.95
    assert result.verdict.belief == "ok"


def test_without_a_lattice_no_light_columns_are_expected():
    noise = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    micrograph = Micrograph(noise, pixel_size_nm=0.2761 / 8)
    found = Sample(crystal="SrTiO3", zone=(0, 0, 1), contrast="dark").expect(micrograph)
    bright = Sample(crystal="SrTiO3", zone=(0, 0, 1), contrast="bright").expect(micrograph)
    assert found.prior.count == bright.prior.count and len(found.warnings) == 1
