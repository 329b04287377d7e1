"""Simulated micrographs: exact truth, and disturbances of the size that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.artifacts import Points
from scopegym.datasets.simulate import COLUMN_SIGMA_NM, simulate_crystal, simulate_gradient
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.sample.crystal import Crystal
from scopegym.sample.projection import Projection

STO = Crystal.named("SrTiO3").project((0, 0, 1))
YBCO = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
#: One column per cell of 4 nm: so far apart that each stands alone.
LONE = Projection(((4.0, 0.0), (0.0, 4.0)), np.zeros((1, 2)), np.ones(1), ("Pt",))


def truth(micrograph: Micrograph) -> Points:
    assert isinstance(micrograph.truth, Points)
    return micrograph.truth


def centroid(pixels: np.ndarray) -> np.ndarray:
    y, x = np.indices(pixels.shape)
    return np.array([(y * pixels).sum(), (x * pixels).sum()]) / pixels.sum()


# Repeatability and truth --------------------------------------------------------------------


DISTURBED = {
    "noise": 0.2,
    "vacancies": 0.1,
    "jitter_px": 0.5,
    "background": 0.3,
    "dose": 100.0,
}


def test_same_seed_same_image_and_other_seed_another():
    one, same, other = (simulate_crystal(STO, seed=s, **DISTURBED) for s in (1, 1, 2))
    assert np.array_equal(one.data, same.data)
    assert np.array_equal(truth(one).yx, truth(same).yx)
    assert not np.array_equal(one.data, other.data)


def test_seed_of_the_process_plays_no_part():
    np.random.seed(0)  # noqa: NPY002
    one = simulate_crystal(STO, seed=1, **DISTURBED)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(one.data, simulate_crystal(STO, seed=1, **DISTURBED).data)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.floats(80, 120), st.floats(80, 120)), st.floats(-180, 180))
def test_truth_is_the_centroid_of_an_isolated_column(origin, rotation):
    image = simulate_crystal(LONE, (200, 200), 0.02, origin_yx=origin, rotation_deg=rotation)
    near = np.abs(truth(image).yx - origin).max(axis=1) < 1
    assert near.sum() == 1
    top, left = (int(v) - 15 for v in origin)
    patch = image.data[top : top + 31, left : left + 31].astype(float)
    found = centroid(patch) + np.array((top, left))
    assert found == pytest.approx(truth(image).yx[near][0], abs=1e-3)
    assert truth(image).yx[near][0] == pytest.approx(origin, abs=1e-9)


def test_column_has_the_width_it_was_given():
    image = simulate_crystal(LONE, (101, 101), 0.02, origin_yx=(50, 50), column_sigma_nm=0.08)
    y, _ = np.indices(image.data.shape)
    weight = image.data.astype(float)
    assert math.sqrt((weight * (y - 50) ** 2).sum() / weight.sum()) == pytest.approx(4.0, rel=2e-3)
    assert truth(image).sigma_px == pytest.approx(4.0)
    assert pytest.approx(0.1, rel=0.07) == COLUMN_SIGMA_NM * 2.355  # FWHM of about 0.1 nm


def test_clean_image_spans_zero_to_one_and_brightness_follows_the_weights():
    image = simulate_crystal(YBCO, (256, 256), 0.01, seed=3)
    assert image.data.min() == 0 and image.data.max() == 1
    inner = truth(image).inner(20)
    y, x = np.rint(truth(image).yx[inner]).astype(int).T
    brightness, strength = image.data[y, x], truth(image).strength[inner]
    assert np.corrcoef(brightness, strength)[0, 1] > 0.99


@pytest.mark.parametrize("rotation", [0, 30, 77])
def test_truth_is_every_column_inside_the_field_and_none_outside(rotation):
    image = simulate_crystal(STO, (90, 140), 0.03, seed=2, rotation_deg=rotation)
    yx = truth(image).yx
    assert truth(image).shape == (90, 140)
    assert ((yx >= -0.5) & (yx < [89.5, 139.5])).all()
    expected = STO.columns_per_nm2 * 0.03**2 * 90 * 140
    assert len(yx) == pytest.approx(expected, abs=3 * math.sqrt(90 + 140) / 2)


def test_columns_beyond_the_border_still_shine_in():
    image = simulate_crystal(LONE, (40, 40), 0.02, origin_yx=(-1.5, 20), column_sigma_nm=0.04)
    assert len(truth(image)) == 0
    assert np.unravel_index(image.data.argmax(), image.data.shape) == (0, 20)


def test_rotation_is_counter_clockwise_on_the_screen():
    image = simulate_crystal(STO, (120, 120), 0.01, origin_yx=(60, 60), rotation_deg=10)
    step = np.array(STO.lattice_nm[1]) / 0.01  # to the right
    angle = math.radians(10)
    expected = np.array([60 - step[1] * math.sin(angle), 60 + step[1] * math.cos(angle)])
    assert np.linalg.norm(truth(image).yx - expected, axis=1).min() < 1e-6


# Disturbances -------------------------------------------------------------------------------


def test_noise_has_the_standard_deviation_asked_for():
    clean = simulate_crystal(STO, seed=1)
    for level in (0.05, 0.3, 1.0):
        noise = simulate_crystal(STO, seed=1, noise=level).data - clean.data
        assert noise.std() == pytest.approx(level, rel=0.02)
        assert abs(noise.mean()) < 0.02 * level
        rows = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
        assert abs(rows) < 0.02  # white


@pytest.mark.parametrize("dose", [5.0, 100.0])
def test_dose_gives_counting_statistics(dose):
    clean = simulate_crystal(STO, seed=1).data.astype(float)
    noisy = simulate_crystal(STO, seed=1, dose=dose).data.astype(float)
    counts = noisy * dose
    assert np.allclose(counts, np.rint(counts), atol=1e-3)
    assert noisy.mean() == pytest.approx(clean.mean(), rel=0.02)
    for low, high in ((0.1, 0.3), (0.6, 1.0)):
        there = (clean > low) & (clean < high)
        variance = ((noisy - clean)[there] ** 2).mean()
        assert variance == pytest.approx(clean[there].mean() / dose, rel=0.1)


def test_background_is_smooth_and_of_the_amplitude_asked_for():
    clean = simulate_crystal(STO, seed=1)
    added = simulate_crystal(STO, seed=1, background=0.4).data - clean.data
    assert added.min() == pytest.approx(0, abs=1e-6)
    assert added.max() == pytest.approx(0.4, abs=1e-6)
    # 1.5 waves over 256 px at most: no faster than pi * 1.5 / 256 * sqrt(2) per pixel and wave.
    assert np.abs(np.diff(added, axis=0)).max() < 0.03


@pytest.mark.parametrize("fraction", [0.05, 0.3])
def test_vacancies_take_that_fraction_of_the_columns_away(fraction):
    counts = [
        len(truth(simulate_crystal(STO, seed=s, vacancies=fraction, origin_yx=(0, 0))))
        for s in range(8)
    ]
    full = len(truth(simulate_crystal(STO, origin_yx=(0, 0))))
    spread = math.sqrt(fraction * (1 - fraction) * full / len(counts))
    assert full - np.mean(counts) == pytest.approx(full * fraction, abs=4 * spread)


def test_a_vacancy_is_dark_and_not_in_the_truth():
    whole = simulate_crystal(STO, seed=4, origin_yx=(0, 0))
    holed = simulate_crystal(STO, seed=4, origin_yx=(0, 0), vacancies=0.2)
    kept = {tuple(row) for row in np.round(truth(holed).yx, 6)}
    for y, x in truth(whole)[truth(whole).inner(3)].yx:
        bright = holed.data[round(y), round(x)] > 0.15
        assert bright == (tuple(np.round((y, x), 6)) in kept)


def test_drift_moves_columns_linearly_from_top_to_bottom():
    still = truth(simulate_crystal(STO, (256, 256), 0.02, origin_yx=(3, 4)))
    image = simulate_crystal(STO, (256, 256), 0.02, origin_yx=(3, 4), drift=(0.0, 6.0))
    # On the first line nothing has moved, on the last all of it.
    for y, x in still.yx[still.inner(10)]:
        distance = np.linalg.norm(truth(image).yx - [y, x + 6 * y / 256], axis=1)
        assert distance.min() < 1e-9
    stretched = truth(simulate_crystal(STO, origin_yx=(0, 0), drift=(8.0, 0.0))).yx
    rows = np.unique(np.round(stretched[:, 0], 6))
    unit = STO.lattice_nm[0][0] / 0.02 / 2
    assert np.diff(rows) == pytest.approx(unit * (1 + 8 / 256), rel=1e-6)


def test_drifted_image_shows_columns_where_the_truth_says():
    image = simulate_crystal(
        LONE, (200, 200), 0.02, origin_yx=(100, 100), drift=(5.0, -7.0), column_sigma_nm=0.06
    )
    (where,) = truth(image).yx[np.abs(truth(image).yx - 100).max(axis=1) < 20]
    assert where == pytest.approx([102.5, 96.5])
    patch = image.data[82:123, 76:117].astype(float)
    assert tuple(centroid(patch) + np.array((82, 76))) == pytest.approx(where, abs=0.02)


def test_jitter_shifts_scan_lines_sideways_by_its_standard_deviation():
    # A column as wide as the field is high, so that every line holds a shape to measure.
    wide = {"column_sigma_nm": 0.5, "origin_yx": (64.0, 64.0), "shape": (129, 129)}
    still = simulate_crystal(LONE, pixel_size_nm=0.02, **wide).data.astype(float)
    moved = simulate_crystal(LONE, pixel_size_nm=0.02, jitter_px=0.8, seed=3, **wide).data
    moved = moved.astype(float)
    x = np.arange(129)

    def lines(pixels: np.ndarray) -> np.ndarray:
        weight = pixels - pixels.min(axis=1, keepdims=True)
        return (weight * x).sum(axis=1) / weight.sum(axis=1)

    shift = lines(moved) - lines(still)
    assert np.std(shift[30:100]) == pytest.approx(0.8, rel=0.3)
    assert np.array_equal(
        truth(simulate_crystal(STO, jitter_px=2.0, seed=3, origin_yx=(0, 0))).yx,
        truth(simulate_crystal(STO, seed=3, origin_yx=(0, 0))).yx,
    )


@pytest.mark.parametrize("error", [-0.3, 0.05])
def test_calibration_error_is_in_the_report_only(error):
    honest = simulate_crystal(STO, seed=1)
    wrong = simulate_crystal(STO, seed=1, calibration_error=error)
    assert np.array_equal(honest.data, wrong.data)
    assert wrong.pixel_size_nm == pytest.approx(0.02 * (1 + error))
    assert wrong.metadata["true_pixel_size_nm"] == 0.02


# Bad arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"vacancies": 1.0}, "vacancies"),
        ({"vacancies": -0.1}, "vacancies"),
        ({"vacancies": math.nan}, "vacancies"),
        ({"noise": -1.0}, "noise"),
        ({"noise": math.inf}, "noise"),
        ({"background": -0.1}, "background"),
        ({"jitter_px": -0.1}, "jitter_px"),
        ({"dose": 0.0}, "dose"),
        ({"dose": -3.0}, "dose"),
        ({"dose": math.nan}, "dose"),
        ({"calibration_error": -1.0}, "calibration_error"),
        ({"calibration_error": math.nan}, "calibration_error"),
        ({"pixel_size_nm": 0.0}, "pixel size"),
        ({"pixel_size_nm": -0.02}, "pixel size"),
        ({"pixel_size_nm": 1e-9, "column_sigma_nm": 1e-9}, None),
        ({"pixel_size_nm": 1e3, "shape": (4096, 4096)}, "pixel size"),
        ({"column_sigma_nm": 0.0}, "column_sigma_nm"),
        ({"column_sigma_nm": -0.1}, "column_sigma_nm"),
        ({"column_sigma_nm": math.nan}, "column_sigma_nm"),
        ({"drift": (math.nan, 0.0)}, "drift"),
        ({"drift": (0.0, math.inf)}, "drift"),
        ({"shape": (0, 64)}, "shape"),
        ({"shape": (64, -1)}, "shape"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(arguments, rule):
    if rule is None:
        simulate_crystal(STO, (16, 16), **arguments)
        return
    with pytest.raises(ScopegymError, match=rule):
        simulate_crystal(STO, **{"shape": (32, 32), **arguments})


# A gradient ---------------------------------------------------------------------------------


def test_a_gradient_fades_and_blurs_to_the_right():
    image = simulate_gradient(LONE, (160, 640), 0.05, contrast=10.0, blur=2.0, seed=1)
    columns, sharp = truth(image), COLUMN_SIGMA_NM / 0.05
    inner = columns[columns.inner(8)]
    for (y, x), sigma in zip(inner.yx, inner.sigma_px, strict=True):
        assert sigma == pytest.approx(sharp * 2 ** (x / 640), rel=0.01)
        part = image.data[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9].astype(float)
        # The volume of a Gaussian of height 10^-share and this width.
        assert part.sum() == pytest.approx(2 * np.pi * sigma**2 * 10 ** (-x / 640), rel=0.03)


def test_the_noise_of_a_gradient_fades_with_it():
    noise = (
        simulate_gradient(STO, (200, 400), noise=0.2, seed=1).data
        - simulate_gradient(STO, (200, 400), seed=1).data
    )
    assert noise[:, :20].std() / noise[:, -20:].std() == pytest.approx(10**0.95, rel=0.1)


@pytest.mark.parametrize("wrong", [{"contrast": 0.5}, {"blur": math.nan}, {"noise": -1.0}])
def test_a_gradient_that_is_none_is_refused(wrong):
    with pytest.raises(ScopegymError, match="must"):
        simulate_gradient(STO, **wrong)
