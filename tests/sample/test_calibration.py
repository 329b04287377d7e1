"""Lattices recovered from simulated and real images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scopegym.artifacts import Image
from scopegym.errors import ScopegymError
from scopegym.sample.calibration import check_calibration
from scopegym.sample.crystal import Crystal
from scopegym.sample.estimation import estimate_prior
from scopegym.sample.lattice import measure_lattice
from scopegym.sample.projection import Projection

Array = NDArray[np.float64]
YBCO = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
STO = Crystal.named("SrTiO3").project((1, 0, 0))
PROJECTIONS = {
    seen.name: seen
    for seen in (
        YBCO,
        STO,
        Crystal.named("SrTiO3").project((1, 1, 0)),
        Crystal.named("Cu").project((1, 1, 1)),
        Crystal.named("Si").project((1, 1, 0)),
        Crystal.named("MoS2").project((0, 0, 1)),
    )
}


def render(
    seen: Projection,
    lattice_px: Any,
    shape: tuple[int, int] = (256, 256),
    noise: float = 0.0,
    seed: int = 0,
    origin: tuple[float, float] = (3.3, 7.1),
) -> Array:
    """Columns as Gaussians a fifth of the spacing wide, range 0 to 1, with white noise."""
    sigma = 0.2 * seen.prior(shape, lattice_px=lattice_px).scale_px
    yx, kind = seen.positions(shape, lattice_px=lattice_px, origin_yx=origin, margin_px=4 * sigma)
    y, x = (
        np.exp(-((np.arange(n)[:, None] - p) ** 2) / (2 * sigma**2))
        for n, p in zip(shape, yx.T, strict=True)
    )
    image = (y * seen.weights[kind]) @ x.T
    rng = np.random.default_rng(seed)
    return image / image.max() + noise * rng.normal(size=shape)


def distorted(
    seen: Projection, spacing_px: float, stretch: tuple[float, float], rotation: float
) -> tuple[float, Array]:
    """A pixel size at which the spacing is nominal, and a lattice stretched along (y, x)."""
    size = seen.spacing_nm / spacing_px
    turn = np.radians(rotation)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return size, np.array(seen.lattice_px(size)) @ np.diag(stretch) @ matrix


def strain_between(measured: Any, true: Array) -> float:
    """The largest principal strain between two lattices, whatever base describes them."""
    change = np.array(measured) @ np.linalg.inv(true)
    whole = np.rint(change)
    assert abs(abs(np.linalg.det(whole)) - 1) < 1e-6, f"another lattice: {change.tolist()}"
    residual = np.linalg.inv(true) @ np.linalg.inv(whole) @ np.array(measured)
    return float(np.abs(np.linalg.svd(residual, compute_uv=False) - 1).max())


lattices = st.fixed_dictionaries(
    {
        "name": st.sampled_from(sorted(PROJECTIONS)),
        "spacing": st.floats(7, 14),
        "scale": st.floats(0.72, 1.28),
        "strain": st.floats(-0.04, 0.04),
        "rotation": st.floats(-180, 180),
        "shift": st.tuples(st.floats(0, 60), st.floats(0, 60)),
        "seed": st.integers(0, 10_000),
    }
)


def recover(case: dict[str, Any], noise: float) -> float:
    seen = PROJECTIONS[case["name"]]
    stretch = (case["scale"] * (1 + case["strain"]), case["scale"] * (1 - case["strain"]))
    size, true = distorted(seen, case["spacing"], stretch, case["rotation"])
    image = render(seen, true, noise=noise, seed=case["seed"], origin=case["shift"])
    fit = measure_lattice(image, seen, size)
    assert fit.reliable, fit
    return strain_between(fit.lattice_px, true)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=lattices)
def test_any_lattice_is_recovered_at_low_noise(case: dict[str, Any]) -> None:
    assert recover(case, noise=0.05) < 0.005


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=lattices)
def test_any_lattice_is_recovered_in_noise(case: dict[str, Any]) -> None:
    assert recover(case, noise=0.3) < 0.015


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    y=st.floats(0.9, 1.1),
    x=st.floats(0.9, 1.1),
    rotation=st.floats(-85, 85),
    seed=st.integers(0, 99),
)
@example(y=1.12, x=1.0, rotation=0.0, seed=0)
@example(y=1.0, x=0.88, rotation=20.0, seed=0)
def test_ratios_belong_to_their_axes(y: float, x: float, rotation: float, seed: int) -> None:
    # c is three times b: a swap or a third of c would pass for a lattice, and must not
    size, true = distorted(YBCO, 12, (y, x), rotation)
    fit = measure_lattice(render(YBCO, true, noise=0.2, seed=seed), YBCO, size)
    assert fit.reliable
    assert fit.ratios == pytest.approx((y, x), rel=0.01)
    # stretch and turn do not mix: the stretch lies along the axes before the turn
    assert fit.rotation_deg == pytest.approx(rotation, abs=0.7)
    assert fit.angle_error_deg == pytest.approx(0, abs=1)
    assert fit.contrast > 0.8


def test_small_image_of_few_cells() -> None:
    for seed in range(6):
        size, true = distorted(YBCO, 12, (1.03, 0.98), 25.0 * seed)
        fit = measure_lattice(render(YBCO, true, (128, 128), 0.3, seed), YBCO, size)
        assert fit.reliable and strain_between(fit.lattice_px, true) < 0.015


def test_heavy_noise() -> None:
    size, true = distorted(YBCO, 12, (1.0, 1.0), 10)
    fit = measure_lattice(render(YBCO, true, (384, 384), 0.6), YBCO, size)
    assert fit.reliable and fit.ratios == pytest.approx((1, 1), abs=0.005)


def test_uneven_background_and_dark_columns() -> None:
    size, true = distorted(STO, 10, (1.05, 0.97), 30)
    rough = gaussian_filter(np.random.default_rng(3).normal(size=(256, 256)), 6)
    image = 1.5 * rough / np.abs(rough).max() - render(STO, true, noise=0.1)
    fit = measure_lattice(image, STO, size)
    assert fit.reliable and strain_between(fit.lattice_px, true) < 0.005
    assert fit.contrast < -0.5


def test_oblong_image_and_fine_pixels() -> None:
    size, true = distorted(YBCO, 27, (1.02, 1.02), 0)
    fit = measure_lattice(render(YBCO, true, (300, 451), 0.1), YBCO, size)
    assert fit.ratios == pytest.approx((1.02, 1.02), abs=0.003)


def test_slim_cell_of_one_column() -> None:
    seen = Crystal("slim", (0.3, 0.3, 2.4), [29], [[0, 0, 0]]).project((1, 0, 0))  # type: ignore[arg-type]
    size, true = distorted(seen, 10, (1.04, 1.02), 15)
    fit = measure_lattice(render(seen, true, (320, 320), 0.1), seen, size)
    assert fit.reliable and strain_between(fit.lattice_px, true) < 0.005


@pytest.mark.parametrize("wrong", [0.7, 1.3])
def test_gross_error_is_contradicted_and_measured(wrong: float) -> None:
    size, true = distorted(YBCO, 12, (1.0, 1.0), 0)
    verdict = check_calibration(render(YBCO, true, noise=0.2), YBCO, size * wrong)
    assert verdict.status == "contradicted"
    assert verdict.ratios == pytest.approx((wrong, wrong), rel=0.005)
    assert verdict.lattice_px is None
    assert "more than the 10 % allowed" in verdict.message


def test_verdicts_and_their_sentences() -> None:
    size, true = distorted(YBCO, 12, (1.0, 1.0), 0)
    image = render(YBCO, true, noise=0.1)
    agrees = check_calibration(Image(image), YBCO, size)
    assert agrees.status == "agrees"
    measured = check_calibration(image, YBCO, size * 1.05)
    assert measured.status == "measured"
    assert measured.message == (
        "Measured against YBa2Cu3O7 [100]: c axis (vertical) 5.0 % longer than the crystal's, "
        "b axis (horizontal) 5.0 % longer than the crystal's; the expected "
        "count and spacing use the measured scale, lengths in nm the recorded pixel size."
    )
    strict = check_calibration(image, YBCO, size * 1.05, tolerance=0.03)
    assert strict.status == "contradicted"
    for verdict in (agrees, measured):
        assert verdict.lattice_px is not None
        prior = verdict.prior(YBCO, (256, 256))
        assert prior.count == pytest.approx(
            YBCO.prior((256, 256), pixel_size_nm=size).count, rel=5e-3
        )
    plain = json.loads(json.dumps(measured.to_dict()))
    assert plain["status"] == "measured"
    assert plain["axes"] == ["[001]", "[010]"]
    assert plain["ratios"] == pytest.approx([1.05, 1.05], abs=0.002)


def photographs() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :256] / 256
    disc = ((y - 0.4) ** 2 + (x - 0.6) ** 2 < 0.05).astype(float)
    return {
        "noise": rng.normal(size=(256, 256)),
        "small noise": rng.normal(size=(128, 128)),
        "soft": gaussian_filter(rng.normal(size=(256, 256)), 8),
        "amorphous": gaussian_filter(rng.normal(size=(512, 512)), 2),
        "ramp": y + 2 * x + 0.3 * disc,
        "disc": gaussian_filter(disc, 1) + 0.02 * rng.normal(size=(256, 256)),
        "scan lines": rng.normal(size=(256, 1)) + rng.normal(size=(256, 256)),
        "constant": np.full((256, 256), 7.0),
        "tiny": rng.normal(size=(5, 9)),
    }


@pytest.mark.parametrize("name", photographs())
@pytest.mark.parametrize("spacing", [8, 14])
def test_an_image_without_lattice_is_unmeasurable(name: str, spacing: float) -> None:
    image = photographs()[name]
    for seen in PROJECTIONS.values():
        size = seen.spacing_nm / spacing
        verdict = check_calibration(image, seen, size)
        assert verdict.status == "unmeasurable", (seen.name, verdict.message)
        assert verdict.ratios is None and verdict.lattice_px is None
        assert verdict.fit.lattice_px == seen.lattice_px(size)


def test_photograph_is_unmeasurable() -> None:
    from skimage.data import camera

    assert check_calibration(camera(), YBCO, YBCO.spacing_nm / 10).status == "unmeasurable"


@pytest.mark.parametrize("size", [1e-6, 1e3])
def test_absurd_pixel_sizes_are_contradicted_and_the_right_one_is_named(size: float) -> None:
    right, true = distorted(YBCO, 12, (1.0, 1.0), 0)
    found = check_calibration(render(YBCO, true), YBCO, size)
    assert found.status == "contradicted" and found.premise == "fails"
    assert f"at {1000 * right:.3g} pm per pixel" in found.message
    near = check_calibration(render(YBCO, true), YBCO, size, anywhere=False)
    assert near.status == "unmeasurable" and near.premise != "holds"


def test_bad_input_is_named() -> None:
    with pytest.raises(ScopegymError, match="two axes"):
        measure_lattice(np.zeros((3, 8, 8)), YBCO, 0.03)
    with pytest.raises(ScopegymError, match="NaN"):
        measure_lattice(np.full((64, 64), np.nan), YBCO, 0.03)
    with pytest.raises(ScopegymError, match="positive"):
        measure_lattice(np.zeros((64, 64)), YBCO, 0.0)
    with pytest.raises(ScopegymError, match="constant"):
        estimate_prior(np.zeros((64, 64)))


def test_same_answer_twice_and_input_untouched() -> None:
    size, true = distorted(STO, 10, (1.05, 0.97), 30)
    image = render(STO, true, noise=0.4)
    image.flags.writeable = False
    assert measure_lattice(image, STO, size) == measure_lattice(image, STO, size)
    assert estimate_prior(image).to_dict() == estimate_prior(image).to_dict()


# images made for the project or published by others


@pytest.mark.parametrize(
    ("file", "pixels"),
    [
        ("ybco_100_haadf_raw", "raw"),
        ("ybco_100_haadf_src035A", "raw"),
        ("ybco_100_haadf_src035A_up2", "up2"),
        ("ybco_100_haadf_up2_poisson_dose2e4_seed0", "up2"),
    ],
)
def test_abtem_simulation(shared_data: Path, file: str, pixels: str) -> None:
    folder = shared_data / "abtem" / "ybco_100_prism"
    meta = json.loads((folder / "meta.json").read_text())
    size_y, size_x = (0.1 * s for s in meta[f"pixel_angstrom_{pixels}"])
    fit = measure_lattice(np.load(folder / f"{file}.npy"), YBCO, size_y)
    # the pixels of the simulation are not quite square
    assert fit.ratios[0] == pytest.approx(1.0, abs=0.003)
    assert fit.ratios[1] * size_x / size_y == pytest.approx(1.0, abs=0.003)
    assert abs(fit.rotation_deg) < 0.1 and fit.reliable


@pytest.fixture(scope="session")
def real_ybco(shared_data: Path) -> Array:
    import tifffile

    path = shared_data / "atom_finding" / "scilink_ybco_haadf" / "YBCO_tem.tif"
    return np.asarray(tifffile.imread(path), dtype=float)


def test_real_ybco(real_ybco: Array) -> None:
    # A stacking fault crosses the field at row 251, which splits the 00l reflections and makes
    # c/2 read 0.626 nm in the spectrum. Between faults the rows of Ba repeat every 34.6 px.
    verdict = check_calibration(real_ybco, YBCO, 0.035246)
    assert verdict.status == "measured"
    assert verdict.ratios == pytest.approx((1.045, 1.030), abs=0.005)
    assert abs(verdict.fit.rotation_deg) < 1
    upper, lower = (
        measure_lattice(real_ybco[rows], YBCO, 0.035246)
        for rows in (slice(0, 250), slice(262, 512))
    )
    assert upper.ratios == pytest.approx(verdict.ratios, abs=0.008)
    assert lower.ratios == pytest.approx(verdict.ratios, abs=0.008)


def test_real_ybco_with_a_wrong_pixel_size(real_ybco: Array) -> None:
    for wrong in (0.75, 1.25):
        verdict = check_calibration(real_ybco, YBCO, 0.035246 * wrong)
        assert verdict.status == "contradicted"
        assert verdict.ratios == pytest.approx((1.045 * wrong, 1.030 * wrong), rel=0.005)


def test_real_barium_titanate(shared_data: Path) -> None:
    from ncempy.io import dm

    path = shared_data / "atom_finding" / "baghizadeh_batio3" / "BTO_crystal_1.dm4"
    image = np.asarray(dm.dmReader(str(path))["data"], dtype=float)
    verdict = check_calibration(image, Crystal.named("BaTiO3").project(), 0.02966)
    assert verdict.status == "measured" and verdict.ratios is not None
    assert sorted(verdict.ratios) == pytest.approx([0.952, 0.989], abs=0.005)


def test_real_molybdenum_disulfide(shared_data: Path) -> None:
    path = shared_data / "atom_finding" / "scilink_mos2_haadf" / "MoS2_stem_Exp-000-2.npy"
    seen = Crystal.named("MoS2").project((0, 0, 1))
    verdict = check_calibration(np.load(path), seen, 9.0 / 512)
    assert verdict.status == "measured"
    measured = np.array(verdict.fit.lattice_px) * 9.0 / 512
    area = abs(np.linalg.det(measured)) / seen.cell_area_nm2
    assert area == pytest.approx(1.006, abs=0.01)
    rows = 1 / np.linalg.norm(np.linalg.inv(measured), axis=0)
    assert 0.25 < rows.min() < rows.max() < 0.29  # {10-10} spacings, 0.2737 nm undistorted


def test_images_of_something_else(shared_data: Path) -> None:
    import tifffile

    folder = shared_data / "atom_finding" / "acstem_pt_single_atoms"
    for path in sorted(folder.rglob("*.tif")):
        assert check_calibration(tifffile.imread(path), YBCO, 0.0293).status == "unmeasurable"


# expectations from the image alone


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("spacing", [8, 12, 18])
@pytest.mark.parametrize("name", ["SrTiO3 [100]", "Cu [111]", "YBa2Cu3O7 [100]"])
def test_estimated_prior(name: str, spacing: float, noise: float) -> None:
    seen = PROJECTIONS[name]
    _, true = distorted(seen, spacing, (1.0, 1.0), 17)
    expected = seen.prior((256, 256), lattice_px=true)
    found = estimate_prior(render(seen, true, noise=noise))
    assert found.scale_px == pytest.approx(expected.scale_px, rel=0.10)
    assert found.count == pytest.approx(expected.count, rel=0.10)
    assert set(found.sources.values()) == {"estimated"}


def test_estimated_prior_of_dark_columns() -> None:
    _, true = distorted(STO, 11, (1.0, 1.0), 0)
    image = render(STO, true, noise=0.1)
    bright, dark = estimate_prior(image), estimate_prior(-image, contrast="dark")
    assert dark.contrast == "dark"
    assert (dark.scale_px, dark.count) == pytest.approx((bright.scale_px, bright.count))


def test_estimated_prior_of_noise_is_still_a_prior() -> None:
    found = estimate_prior(np.random.default_rng(0).normal(size=(200, 200)))
    assert found.scale_px > 1 and found.count is not None and found.count >= 0


def test_estimated_prior_of_real_ybco(real_ybco: Array) -> None:
    verdict = check_calibration(real_ybco, YBCO, 0.035246)
    expected = verdict.prior(YBCO, (512, 512))
    found = estimate_prior(real_ybco)
    assert found.scale_px == pytest.approx(expected.scale_px, rel=0.1)
    assert found.count == pytest.approx(expected.count, rel=0.1)
