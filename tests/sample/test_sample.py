"""A sample is a value: stated in one way, checked at once, the same for every image."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import FrozenInstanceError, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scopegym
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.prior import Lattice
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal

PIXEL_NM = 0.025
STO = Sample(crystal="SrTiO3", zone="0,0,1")
SAMPLES = {
    "crystal": STO,
    "figures": Sample(density_per_nm2=13.1, spacing="0.276 nm", pixel_size="25 pm"),
    "spacing": Sample(spacing="11 px", contrast="dark"),
    "estimate": Sample(estimate=True),
}


@cache
def micrograph(pixel_nm: float | None = PIXEL_NM) -> Micrograph:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    seen = simulate_crystal(projection, (128, 128), PIXEL_NM, noise=0.05, seed=2)
    return Micrograph(seen.data, pixel_nm, "image.tif")


# A value ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", SAMPLES)
def test_a_sample_travels_and_is_found_again(way: str):
    sample = SAMPLES[way]
    back = pickle.loads(pickle.dumps(sample))
    assert back == sample and hash(back) == hash(sample) and {sample: 1}[back] == 1
    assert back.to_dict() == sample.to_dict() == json.loads(json.dumps(sample.to_dict()))
    with pytest.raises(FrozenInstanceError):
        sample.estimate = True  # type: ignore[misc]
    others = [other for name, other in SAMPLES.items() if name != way]
    assert all(other != sample and other.to_dict() != sample.to_dict() for other in others)


def test_the_frames_of_a_stack_share_one_expectation():
    figures = Sample(density_per_nm2=13.1, spacing="11 px")
    image = micrograph()
    stack = replace(image, data=np.stack([image.data] * 200))
    assert figures.expect(stack).prior == figures.expect(image).prior
    with pytest.raises(ScopegymError, match=r"more than the image's larger side of 128 px"):
        Sample(spacing="150 px").expect(stack, counted=False)
    with pytest.raises(ScopegymError, match=r"200 frames; choose a frame \(--frame N\)\.$"):
        scopegym.solve(stack, sample=figures)


def test_a_density_is_finite():
    with pytest.raises(ScopegymError, match="must be finite"):
        Sample(density_per_nm2=float("inf"), spacing="11 px")


def test_the_same_sample_in_other_words_is_equal():
    said = Sample(crystal=Crystal.named("SrTiO3"), zone=(0, 0, 2))
    assert said == Sample(crystal="sto", zone=[0, 0, 1]) == STO
    assert said.to_dict()["zone"] == "0,0,1"
    figures = SAMPLES["figures"]
    assert replace(figures, density_per_nm2=13) == replace(figures, density_per_nm2=np.float32(13))
    json.dumps(replace(figures, density_per_nm2=np.float32(13)).to_dict())
    assert said != replace(said, zone=(1, 1, 0)) and said != replace(said, pixel_size="25 pm")


def test_a_crystal_is_known_by_what_it_is_made_of():
    one = Crystal("X", (0.4, 0.4, 0.4), np.array([14]), np.zeros((1, 3)))
    two = Crystal("X", (0.4, 0.4, 0.5), np.array([14]), np.zeros((1, 3)))
    same = Crystal("X", (0.4, 0.4, 0.4), np.array([14]), np.zeros((1, 3)))
    assert one == same and hash(one) == hash(same) and one != two
    assert Sample(crystal=one).to_dict()["crystal"] != Sample(crystal=two).to_dict()["crystal"]


def test_a_cif_file_is_read_once(tmp_path: Path):
    from ase.build import bulk
    from ase.io import write

    path = tmp_path / "copper.cif"
    write(path, bulk("Cu", cubic=True))
    sample = Sample(crystal=path, zone=(0, 0, 1))
    shutil.rmtree(tmp_path)
    assert sample.to_dict()["crystal"].startswith("copper ")
    size = "40 pm"
    assert replace(sample, pixel_size=size, calibration="trust").expect(micrograph()).prior.count


# One way ------------------------------------------------------------------------------------------

NOT_ONE_WAY: dict[str, dict[str, Any]] = {
    "nothing": {},
    "crystal and estimate": {"crystal": "Cu", "estimate": True},
    "crystal and spacing": {"crystal": "Cu", "spacing": "8 px"},
    "spacing and estimate": {"spacing": "8 px", "estimate": True},
    "all": {"crystal": "Cu", "density_per_nm2": 13, "spacing": "8 px", "estimate": True},
}


@pytest.mark.parametrize("what", NOT_ONE_WAY)
def test_a_sample_is_stated_in_exactly_one_way(what: str):
    with pytest.raises(ScopegymError, match="in exactly one way: a crystal, a spacing"):
        Sample(**NOT_ONE_WAY[what])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown crystal": ({"crystal": "YBaCuO"}, "YBa2Cu3O7"),
    "a number for a crystal": ({"crystal": 29}, "built-in name, .* not 29"),
    "missing CIF": ({"crystal": "none.cif"}, "no CIF file 'none.cif'"),
    "zone of words": ({"crystal": "Cu", "zone": "up"}, "zone axis 'up'"),
    "zone of nothing": ({"crystal": "Cu", "zone": None}, "zone axis 'None'"),
    "density alone": ({"density_per_nm2": 13}, "give the spacing too"),
    "no density": ({"density_per_nm2": 0, "spacing": "8 px"}, "must be positive, not 0"),
    "density of NaN": ({"density_per_nm2": np.nan, "spacing": "8 px"}, "positive, not nan"),
    "density of text": (
        {"density_per_nm2": "13", "spacing": "8 px"},
        "per nm.2, not '13'",
    ),
    "spacing without unit": ({"spacing": "8"}, "no unit"),
    "spacing of a number": ({"spacing": 8}, "no unit"),
    "negative spacing": ({"spacing": "-8 px"}, "positive"),
    "pixel size in furlongs": ({"estimate": True, "pixel_size": "3 furlong"}, "furlong"),
    "pixel of a mile": ({"estimate": True, "pixel_size": "1 m"}, "as microscopes have"),
    "grey": ({"estimate": True, "contrast": "grey"}, "auto or bright or dark, not 'grey'"),
    "belief": ({"estimate": True, "calibration": "believe"}, "check or trust or report"),
    "a list of contrasts": ({"estimate": True, "contrast": ["dark"]}, "bright or dark"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_meant_is_refused_at_once(what: str):
    options, match = BAD[what]
    with pytest.raises(ScopegymError, match=match) as caught:
        Sample(**options)
    assert str(caught.value).count("\n") == 0


# What it says to expect ---------------------------------------------------------------------------


def test_a_crystal_gives_a_prior_a_calibration_and_a_message():
    found = STO.expect(micrograph())
    assert found.calibration is not None and found.calibration.status == "agrees"
    assert found.warnings == (found.calibration.message,)
    assert found.prior.part(Lattice) is not None and found.prior.sources["count"] == "crystal"


def test_the_stated_pixel_size_holds_for_every_image():
    stated = replace(STO, pixel_size="25 pm")
    expected = STO.expect(micrograph()).prior
    for recorded in (None, PIXEL_NM, 0.07):
        assert stated.expect(micrograph(recorded)).prior == expected
    assert stated.calibrated(micrograph(None)).pixel_size_nm == PIXEL_NM
    assert stated.calibrated(micrograph()) is micrograph()
    assert STO.calibrated(micrograph(0.07)).pixel_size_nm == 0.07
    assert STO.calibrated(micrograph(None)).pixel_size_nm == pytest.approx(PIXEL_NM, rel=0.01)
    with pytest.raises(ScopegymError, match=r"pixel size of 'image\.tif' is unknown"):
        replace(STO, crystal="MoS2").expect(micrograph(None))


def test_a_contradicted_pixel_size_is_an_error_a_message_or_nothing():
    wrong = replace(STO, pixel_size="31 pm")
    with pytest.raises(ScopegymError, match="with --calibration trust"):
        wrong.expect(micrograph())
    told, trusted = (
        replace(wrong, calibration=policy).expect(micrograph()) for policy in ("report", "trust")
    )
    for found in (told, trusted):
        assert found.calibration is not None and found.calibration.status == "contradicted"
    assert told.prior == trusted.prior


def test_figures_count_only_where_a_density_is_given():
    counted = SAMPLES["figures"].expect(micrograph(None)).prior
    assert counted.count == pytest.approx(13.1 * (128 * 0.025) ** 2)
    assert counted.scale_px == pytest.approx(0.276 / 0.025)
    bare = SAMPLES["spacing"].expect(micrograph(None), counted=False).prior
    assert bare.count is None and bare.contrast == "dark" and bare.part(Lattice) is None
    with pytest.raises(ScopegymError, match="give the density too"):
        SAMPLES["spacing"].expect(micrograph(None))


def test_an_estimate_says_that_nothing_checks_it():
    found = SAMPLES["estimate"].expect(micrograph(None))
    assert found.prior.sources["scale_px"] == "estimated" and found.calibration is None
    assert "without an independent check" in found.warnings[0]


def test_columns_too_close_to_tell_apart_are_refused():
    with pytest.raises(ScopegymError, match="at least 3 px"):
        Sample(spacing="2 px").expect(micrograph(), counted=False)


def test_the_name_is_public():
    assert scopegym.Sample is Sample
