"""Projected columns against numbers worked out by hand and against brute force."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from scopegym.errors import ScopegymError
from scopegym.sample.crystal import CRYSTALS, Crystal, crystal
from scopegym.sample.projection import Projection
from scopegym.sample.zone import axis_name, parse_zone

B, C = 0.38872, 1.16802  # YBa2Cu3O7 [nm]
A_CU, A_SI = 0.3615, 0.543102

PEROVSKITE = """data_test
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
_symmetry_Int_Tables_number 221
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.fixture(scope="module")
def ybco() -> Projection:
    return Crystal.named("YBa2Cu3O7").project((1, 0, 0))


def test_ybco_100_shows_two_barium_one_yttrium_three_copper(ybco: Projection) -> None:
    assert sorted(ybco.labels) == ["Ba", "Ba", "Cu", "Cu+O", "Cu+O", "Y"]
    assert ybco.columns_per_nm2 == pytest.approx(6 / (B * C), rel=1e-9)
    assert ybco.axes == ("[001]", "[010]")
    np.testing.assert_allclose(ybco.lattice_nm, [[C, 0], [0, B]], atol=1e-12)
    rows = dict(zip(np.round(ybco.columns[:, 0], 4).tolist(), ybco.labels, strict=True))
    assert rows[0.0] == "Cu"
    assert rows[0.1843] == rows[0.8157] == "Ba"
    assert rows[0.5] == "Y"


def test_ybco_weights_are_atomic_number_to_the_power_1_7(ybco: Projection) -> None:
    weight = dict(zip(ybco.labels, ybco.weights, strict=True))
    assert weight["Ba"] == 1.0
    assert weight["Y"] == pytest.approx((39 / 56) ** 1.7)
    assert weight["Cu"] == pytest.approx((29 / 56) ** 1.7)
    assert weight["Cu+O"] == pytest.approx((29**1.7 + 8**1.7) / 56**1.7)


def test_ybco_merged_copper_lies_at_the_weighted_centroid(ybco: Projection) -> None:
    share = 8**1.7 / (29**1.7 + 8**1.7)
    merged = sorted(ybco.columns[[label == "Cu+O" for label in ybco.labels], 0])
    assert merged[0] == pytest.approx(0.3556 + share * (0.3773 - 0.3556), abs=1e-6)
    assert merged[0] + merged[1] == pytest.approx(1.0, abs=1e-6)


def test_ybco_neighbours_by_hand(ybco: Projection) -> None:
    z_cu = ybco.columns[ybco.labels.index("Cu+O"), 0]
    y_to_cu = math.hypot(B / 2, (0.5 - z_cu) * C)
    cu_to_ba = math.hypot(B / 2, 0.1843 * C)
    sums = dict(zip(ybco.labels, ybco.neighbour_sums_nm, strict=True))
    assert sums["Y"] == pytest.approx(4 * y_to_cu)
    assert sums["Cu"] == pytest.approx(4 * cu_to_ba)
    ba_to_cu = math.hypot(B / 2, (z_cu - 0.1843) * C)
    # three columns are y_to_cu, two ba_to_cu and one cu_to_ba from their nearest
    assert ybco.spacing_nm == pytest.approx((y_to_cu + ba_to_cu) / 2)


def test_ybco_field_of_8_by_3_cells_holds_144_columns(ybco: Projection) -> None:
    lattice = ((176 / 3, 0.0), (0.0, 156 / 8))
    yx, kind = ybco.positions((176, 156), lattice_px=lattice)
    assert len(yx) == 144
    assert np.bincount(kind).tolist() == [24] * 6
    assert ybco.prior((176, 156), lattice_px=lattice).count == pytest.approx(144)


def test_oxygen_shows_when_asked_for() -> None:
    everything = Crystal.named("ybco").project((1, 0, 0), visible=0.0)
    assert sorted(everything.labels).count("O") == 5
    assert len(everything.columns) == 11
    apart = Crystal.named("ybco").project((1, 0, 0), visible=0.0, merge_nm=0.01)
    assert len(apart.columns) == 13


@pytest.mark.parametrize(
    ("zone", "density", "spacing"),
    [
        ((1, 0, 0), 4 / A_CU**2, A_CU / 2),
        ((1, 1, 0), 2 * math.sqrt(2) / A_CU**2, A_CU * math.sqrt(6) / 4),
        ((1, 1, 1), 4 * math.sqrt(3) / A_CU**2, A_CU / math.sqrt(6)),
    ],
)
def test_copper_density_by_hand(zone: tuple[int, int, int], density: float, spacing: float) -> None:
    seen = Crystal.named("Cu").project(zone)
    assert seen.columns_per_nm2 == pytest.approx(density)
    assert seen.spacing_nm == pytest.approx(spacing)
    np.testing.assert_allclose(seen.weights, 1.0)


def test_silicon_110_dumbbell() -> None:
    seen = Crystal.named("Si").project("1,1,0")
    assert seen.spacing_nm == pytest.approx(A_SI / 4)  # 0.1358 nm
    assert seen.axes == ("[001]", "[-110]")
    assert seen.lattice_nm[0] == pytest.approx((A_SI, 0.0))
    assert seen.lattice_nm[1] == pytest.approx((0.0, A_SI / math.sqrt(2)))
    assert len(seen.columns) == 4


def test_mos2_shows_molybdenum_and_the_sulphur_pair() -> None:
    seen = Crystal.named("MoS2").project((0, 0, 1))
    weight = dict(zip(seen.labels, seen.weights, strict=True))
    assert weight == {"Mo": 1.0, "S": pytest.approx(2 * (16 / 42) ** 1.7)}
    assert seen.spacing_nm == pytest.approx(0.316 / math.sqrt(3), rel=1e-6)
    assert seen.columns_per_nm2 == pytest.approx(2 / (0.316**2 * math.sqrt(3) / 2))
    cosine = np.dot(*seen.lattice_nm) / 0.316**2
    assert cosine == pytest.approx(-0.5)


def test_strontium_titanate_110_separates_sr_o_from_ti() -> None:
    seen = Crystal.named("SrTiO3").project((1, 1, 0))
    assert sorted(seen.labels) == ["Sr+O", "Ti"]
    assert seen.spacing_nm == pytest.approx(0.3905 / 2)


def brute_force(
    entry: Crystal, zone: tuple[int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns near the middle of a large block, and the scattering of each per length of beam."""
    from ase import Atoms
    from ase.build import make_supercell

    atoms = Atoms(entry.numbers, scaled_positions=entry.positions, cell=entry.cell_nm, pbc=True)
    block = make_supercell(atoms, np.diag([9, 9, 9]))
    beam = np.array(zone) @ entry.cell_nm
    length = np.linalg.norm(beam)
    _, _, axes = np.linalg.svd(beam[None] / length)
    centred = block.positions - block.cell.sum(axis=0) / 2
    flat, depth = centred @ axes[1:].T, centred @ beam / length
    # one repeat along the beam, offset by no special fraction
    slab = (depth / length >= -0.4871) & (depth / length < 0.5129)
    near = np.linalg.norm(flat, axis=1) < 0.9
    flat, weight = flat[slab & near], block.numbers[slab & near] ** 1.7 / length
    tree = cKDTree(flat)
    group = np.array([min(g) for g in tree.query_ball_point(flat, 1e-4)])
    first, back = np.unique(group, return_inverse=True)
    return flat[first], np.bincount(back, weight)


def surroundings(
    yx: NDArray[np.float64], weight: NDArray[np.float64], centre: NDArray[np.float64]
) -> set[tuple[float, ...]]:
    """For each column near the middle: its weight and its distances to the nearest eight."""
    tree = cKDTree(yx)
    inner = np.linalg.norm(yx - centre, axis=1) < 0.35
    distances, _ = tree.query(yx[inner], k=9)
    rows = np.column_stack([weight[inner] / weight.max(), distances[:, 1:]])
    return {tuple(row) for row in np.round(rows, 3).tolist()}


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Cu", (1, 1, 0)),
        ("Cu", (1, 1, 1)),
        ("Si", (1, 1, 0)),
        ("SrTiO3", (1, 1, 1)),
        ("SrTiO3", (2, 1, 0)),
        ("BaTiO3", (0, 1, 0)),
        ("MoS2", (0, 0, 1)),
        ("MoS2", (1, 0, 0)),
        ("MoS2", (1, 2, 0)),
    ],
)
def test_projection_against_brute_force(name: str, zone: tuple[int, int, int]) -> None:
    entry = Crystal.named(name)
    seen = entry.project(zone, visible=0.0, merge_nm=1e-4)
    found = seen.positions((200, 200), pixel_size_nm=0.01, margin_px=0)
    mine = surroundings(found.yx * 0.01, seen.weights[found.kind], np.array([1.0, 1.0]))
    truth = surroundings(*brute_force(entry, zone), np.zeros(2))
    assert mine and truth
    for one, other in ((mine, truth), (truth, mine)):
        gaps, _ = cKDTree(np.array(sorted(one))).query(np.array(sorted(other)))
        assert gaps.max() < 0.004


def test_built_in_silicon_and_copper_are_those_of_ase() -> None:
    from ase.build import bulk

    for name in ("Cu", "Si"):
        theirs = bulk(name, cubic=True)
        mine = Crystal.named(name)
        assert len(theirs) == len(mine.numbers)
        assert theirs.cell[0, 0] * 0.1 == pytest.approx(mine.cell_nm[0, 0], rel=2e-3)
        places = {tuple(p) for p in np.round(theirs.get_scaled_positions() % 1, 4).tolist()}
        assert places == {tuple(p) for p in np.round(mine.positions, 4).tolist()}


indices = st.tuples(*[st.integers(-3, 3)] * 3).filter(any)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(CRYSTALS)), zone=indices)
def test_every_zone_axis_projects_to_a_reduced_cell(name: str, zone: tuple[int, int, int]) -> None:
    entry = Crystal.named(name)
    seen = entry.project(zone)
    repeat = np.linalg.norm(np.array(parse_zone(zone)) @ entry.cell_nm)
    volume = abs(np.linalg.det(entry.cell_nm))
    assert seen.cell_area_nm2 == pytest.approx(volume / repeat)
    (ay, ax), (by, bx) = seen.lattice_nm
    assert ay > 0 and abs(ax) < 1e-9 and bx > 0  # down, and to the right
    assert abs(ay * by) <= 0.5001 * min(ay**2, by**2 + bx**2)
    assert seen.columns.min() >= 0 and seen.columns.max() < 1
    assert seen.weights.max() == 1.0 and seen.weights.min() >= 0.15
    assert 0 < seen.spacing_nm <= min(ay, math.hypot(by, bx)) + 1e-9
    opposite = entry.project(tuple(-i for i in zone))
    assert opposite.columns_per_nm2 == pytest.approx(seen.columns_per_nm2)


@settings(max_examples=30, deadline=None)
@given(
    rotation=st.floats(-180, 180),
    origin=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    spacing=st.floats(5, 20),
)
def test_positions_fill_any_field_evenly(
    rotation: float, origin: tuple[float, float], spacing: float
) -> None:
    seen = Crystal.named("Si").project((1, 1, 0))
    size = seen.spacing_nm / spacing
    yx, kind = seen.positions(
        (300, 200), pixel_size_nm=size, origin_yx=origin, rotation_deg=rotation
    )
    expected = seen.prior((300, 200), pixel_size_nm=size).count
    assert expected is not None
    assert abs(len(yx) - expected) < 3 * 1000 / spacing
    assert yx.min() >= -0.5 and (yx < [299.5, 199.5]).all()
    back = (yx - origin) @ np.linalg.inv(np.array(seen.lattice_px(size, rotation)))
    wrapped = back - seen.columns[kind]
    np.testing.assert_allclose(wrapped, np.round(wrapped), atol=1e-6)


def test_positive_rotation_is_counter_clockwise_on_the_screen(ybco: Projection) -> None:
    (ay, ax), _ = ybco.lattice_px(0.05, rotation_deg=30)
    assert (ay, ax) == pytest.approx((C / 0.05 * math.cos(math.pi / 6), C / 0.05 / 2))


def test_margin_widens_the_field(ybco: Projection) -> None:
    inside = ybco.positions((100, 100), pixel_size_nm=0.02)
    wide = ybco.positions((100, 100), pixel_size_nm=0.02, margin_px=10)
    assert {tuple(p) for p in inside.yx} < {tuple(p) for p in wide.yx}


def test_prior_from_a_strained_lattice(ybco: Projection) -> None:
    lattice = ((40.0, 0.0), (0.0, 10.0))
    prior = ybco.prior((400, 500), lattice_px=lattice, contrast="dark")
    assert prior.count == pytest.approx(6 * 400 * 500 / 400)
    assert prior.lattice_px == lattice
    assert prior.contrast == "dark"
    assert set(prior.sources.values()) == {"crystal"}
    copper = prior.neighbour_sums_px[ybco.labels.index("Cu")]
    assert copper == pytest.approx(4 * math.hypot(5, 0.1843 * 40))
    same = ybco.prior((400, 500), pixel_size_nm=0.03)
    np.testing.assert_allclose(np.array(same.neighbour_sums_px) * 0.03, ybco.neighbour_sums_nm)
    assert same.scale_px * 0.03 == pytest.approx(ybco.spacing_nm)


def test_merging_does_not_chain() -> None:
    row = [[0.0, 0.0, z] for z in (0.0, 0.04, 0.08, 0.12, 0.16)]
    chain = Crystal("row", (1.0, 1.0, 1.0), [14] * 5, row)  # type: ignore[arg-type]
    seen = chain.project((1, 0, 0), merge_nm=0.05)
    assert 2 <= len(seen.columns) <= 4
    assert seen.weights.max() / seen.weights.min() <= 3


def test_merging_across_the_edge_of_the_cell() -> None:
    pair = Crystal("pair", (1.0, 1.0, 1.0), [14, 14], [[0, 0.99, 0.99], [0, 0.01, 0.01]])  # type: ignore[arg-type]
    seen = pair.project((1, 0, 0))
    assert seen.columns.tolist() == [[0.0, 0.0]]


def test_zone_axes_are_read_in_every_usual_form() -> None:
    assert parse_zone("1,0,0") == parse_zone("[100]") == parse_zone([1, 0, 0]) == (1, 0, 0)
    assert parse_zone("[1-10]") == parse_zone("1 -1 0") == parse_zone((2, -2, 0)) == (1, -1, 0)
    assert axis_name("[001]") == "c axis"
    assert axis_name("[0-10]") == "b axis"
    assert axis_name("[1-10]") == "[1-10] direction"


@pytest.mark.parametrize("zone", [(0, 0, 0), (1, 0), "a,b,c", (0.5, 0, 1), "", "1,0,nan", "1.0.0"])
def test_bad_zone_axes_are_named(zone: str) -> None:
    with pytest.raises(ScopegymError, match="three integers"):
        Crystal.named("Cu").project(zone)


def test_unknown_crystal_suggests_near_names() -> None:
    with pytest.raises(ScopegymError, match="did you mean YBa2Cu3O7"):
        crystal("YBa2Cu3O8")
    assert crystal("srtio3") is crystal("STO") is CRYSTALS["SrTiO3"]
    assert crystal(CRYSTALS["Cu"]) is CRYSTALS["Cu"]


def test_every_built_in_names_its_source() -> None:
    for entry in CRYSTALS.values():
        assert any(char.isdigit() for char in entry.source), entry.name
        assert not entry.positions.flags.writeable


def test_pickle_and_json_round_trip(ybco: Projection) -> None:
    again = pickle.loads(pickle.dumps(ybco))
    assert again.spacing_nm == ybco.spacing_nm
    assert pickle.loads(pickle.dumps(CRYSTALS["Si"])).name == "Si"
    json.dumps([ybco.lattice_nm, ybco.axes, ybco.neighbour_sums_nm, ybco.labels])


def test_cif_with_space_group_equals_the_built_in(tmp_path: Path) -> None:
    path = tmp_path / "sto.cif"
    path.write_text(PEROVSKITE + "Sr Sr 0 0 0 1\nTi Ti .5 .5 .5 1\nO O .5 .5 0 1\n")
    read = crystal(str(path))
    assert (read.name, len(read.numbers), read.source) == ("sto", 5, str(path))
    mine, theirs = CRYSTALS["SrTiO3"].project((1, 1, 0)), read.project((1, 1, 0))
    np.testing.assert_allclose(theirs.columns, mine.columns, atol=1e-9)
    np.testing.assert_allclose(theirs.weights, mine.weights, rtol=1e-6)


def test_cif_occupancies_weight_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "mixed.cif"
    path.write_text(
        PEROVSKITE + "Sr Sr 0 0 0 .75\nBa Ba 0 0 0 .25\nTi Ti .5 .5 .5 .5\nO O .5 .5 0 1\n"
    )
    seen = crystal(path).project((1, 0, 0), merge_nm=0.01, visible=0.0)
    weight = dict(zip(seen.labels, seen.weights, strict=True))
    mixed = 0.75 * 38**1.7 + 0.25 * 56**1.7
    assert weight["Sr+Ba"] == 1.0
    assert weight["Ti+O"] == pytest.approx((0.5 * 22**1.7 + 8**1.7) / mixed)


@pytest.mark.parametrize(
    "text", ["", "no crystal at all", "data_x\n_cell_length_a 3\n", PEROVSKITE, "\x00\xff" * 40]
)
def test_broken_cif_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.cif"
    path.write_text(text)
    with pytest.raises(ScopegymError, match=r"broken\.cif") as error:
        Crystal.from_cif(path)
    assert "\n" not in str(error.value)


def test_missing_cif_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScopegymError, match="There is no CIF file"):
        crystal(str(tmp_path / "none.cif"))


def test_bad_crystals_are_named() -> None:
    with pytest.raises(ScopegymError, match="no volume"):
        Crystal("flat", np.diag([1.0, 1.0, 0.0]), [1], [[0, 0, 0]])  # type: ignore[arg-type]
    with pytest.raises(ScopegymError, match="as many atomic numbers"):
        Crystal("odd", (1, 1, 1), [1, 2], [[0, 0, 0]])  # type: ignore[arg-type]
    with pytest.raises(ScopegymError, match="atomic numbers 1 to 118"):
        Crystal("odd", (1, 1, 1), [0], [[0, 0, 0]])  # type: ignore[arg-type]


def test_bad_fields_are_named(ybco: Projection) -> None:
    with pytest.raises(ScopegymError, match="pixel size must be positive"):
        ybco.prior((10, 10), pixel_size_nm=-1.0)
    with pytest.raises(ScopegymError, match="not both or neither"):
        ybco.positions((10, 10))
    with pytest.raises(ScopegymError, match="span an area"):
        ybco.prior((10, 10), lattice_px=((1, 1), (2, 2)))
    with pytest.raises(ScopegymError, match="check the pixel size"):
        ybco.positions((4096, 4096), pixel_size_nm=1.0)
