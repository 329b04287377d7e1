"""The simulator of patterns: its symmetries, its truth, its disturbances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scopegym.artifacts import Image, Labels
from scopegym.datasets.patterns import (
    PLANE_GROUPS,
    Pattern,
    lattice,
    plane_group,
    plane_group_pattern,
)
from scopegym.datasets.simulate_patterns import (
    disk,
    grains,
    halves,
    simulate_patterns,
    tilt_boundary,
    twin,
    two_grains,
    two_phases,
)
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph

#: Operations in the cell as the International Tables give it, centring included.
ORDERS = dict(zip(PLANE_GROUPS, (1, 2, 2, 2, 4, 4, 4, 4, 8, 4, 8, 8, 3, 6, 6, 6, 12), strict=True))
READY: tuple[Callable[..., Micrograph], ...] = (two_phases, two_grains, tilt_boundary, twin)


def truth(micrograph: Micrograph) -> np.ndarray:
    assert isinstance(micrograph.truth, Labels)
    return micrograph.truth.map


@pytest.mark.parametrize("name", PLANE_GROUPS)
def test_a_plane_group_is_a_group(name: str) -> None:
    matrices, translations = plane_group(name)
    assert len(matrices) == ORDERS[name]

    def key(matrix: np.ndarray, shift: np.ndarray) -> tuple[float, ...]:
        return (*matrix.ravel().tolist(), *(np.round(shift, 6) % 1).tolist())

    known = {key(m, t) for m, t in zip(matrices, translations, strict=True)}
    assert len(known) == len(matrices)
    for m, t in zip(matrices, translations, strict=True):
        for n, u in zip(matrices, translations, strict=True):
            assert key(m @ n, m @ u + t) in known


@pytest.mark.parametrize("name", PLANE_GROUPS)
def test_operations_are_rigid_in_the_cell_and_keep_the_motif(name: str) -> None:
    pattern = plane_group_pattern(name, 30.0, seed=3)
    matrices, translations = plane_group(name)
    cell = pattern.lattice_px
    assert abs(np.linalg.det(cell)) == pytest.approx(900)
    for m, t in zip(matrices, translations, strict=True):
        rigid = np.linalg.inv(cell) @ m.T @ cell
        np.testing.assert_allclose(rigid @ rigid.T, np.eye(2), atol=1e-12)
        moved = pattern.columns @ m.T + t
        apart = moved[:, None] - pattern.columns
        same = (np.abs(apart - np.rint(apart)) < 1e-9).all(axis=-1)
        same &= np.isclose(pattern.weights[:, None], pattern.weights)
        assert same.any(axis=1).all()


@pytest.mark.parametrize("name", PLANE_GROUPS)
def test_pictures_have_the_symmetry_and_no_other_of_its_kind(name: str) -> None:
    """Of the point operations of square and hexagon, the picture keeps exactly its group's."""
    pattern = plane_group_pattern(name, 30.0)
    matrices, _ = plane_group(name)
    others = {"p3": "p6mm", "p6": "p6mm"}.get(name[:2], "p4mm" if name[1] == "4" else "p2mm")
    columns, weights = pattern.columns, pattern.weights
    own = {m.tobytes() for m in matrices}
    for candidate in plane_group(others)[0]:
        moved = columns @ candidate.T
        # An operation is there if some translation brings all columns onto their like.
        shifts = columns[weights == weights[0]] - moved[0]
        kept = any(_overlay(moved + s, columns, weights) for s in shifts)
        assert kept == (candidate.tobytes() in own)


def _overlay(moved: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> bool:
    apart = moved[:, None] - columns
    same = (np.abs(apart - np.rint(apart)) < 1e-6).all(axis=-1)
    return bool((same & np.isclose(weights[:, None], weights)).any(axis=1).all())


def test_a_picture_repeats_with_its_lattice() -> None:
    pattern = Pattern(np.array([(12.0, 3.0), (-2.0, 15.0)]), np.array([(0.2, 0.3), (0.7, 0.6)]),
                      np.array([1.0, 0.5]), 8.0)  # fmt: skip
    picture = simulate_patterns(np.zeros((90, 90), int), [pattern]).data
    np.testing.assert_allclose(picture[:60, :60], picture[12:72, 3:63], atol=1e-4)
    np.testing.assert_allclose(picture[2:62, :60], picture[:60, 15:75], atol=1e-4)


def test_rotation_is_counter_clockwise_on_the_screen() -> None:
    turned = lattice(10, 20).rotated(90)
    np.testing.assert_allclose(turned.lattice_px, [(0, -10), (-20, 0)], atol=1e-12)
    assert turned.spacing_px == 10


@pytest.mark.parametrize("make", READY)
def test_ready_made_fields(make: Callable[..., Micrograph]) -> None:
    found = make((128, 160), noise=0.5, seed=4)
    labels = truth(found)
    assert found.data.shape == labels.shape == (128, 160)
    assert len(np.unique(labels)) >= 2
    assert found.metadata["spacing_px"] > 0
    np.testing.assert_array_equal(found.data, make((128, 160), noise=0.5, seed=4).data)
    assert (found.data != make((128, 160), noise=0.5, seed=5).data).any()


def test_truth_is_exact_to_the_pixel() -> None:
    first, second = lattice(8), lattice(8).rotated(25)
    regions = halves((96, 96), 70, 5)
    both = simulate_patterns(regions, [first, second]).data
    alone = [simulate_patterns(np.full((96, 96), 0), [p]).data for p in (first, second)]
    # Scaled to 0..1 together and alone: linear in one another, region by region.
    for i, one in enumerate(alone):
        inside = regions == i
        fitted = np.polyfit(one[inside], both[inside], 1)
        np.testing.assert_allclose(np.polyval(fitted, one[inside]), both[inside], atol=1e-5)


def test_whole_columns_are_whole_and_keep_apart() -> None:
    cut, whole = (two_grains((128, 128), whole_columns=w).data for w in (False, True))
    # Away from the boundary they differ by the common scale at most.
    np.testing.assert_allclose(cut[:, :55], whole[:, :55], atol=0.1)
    steps = [np.abs(np.diff(image[:, 63:65], axis=1)).max() for image in (cut, whole)]
    assert steps[1] < steps[0]


def test_noise_is_in_units_of_the_clean_contrast() -> None:
    clean, noisy = (two_grains(noise=n, seed=1).data for n in (0.0, 2.0))
    assert (noisy - clean).std() == pytest.approx(2 * clean.std(), rel=0.02)
    assert clean.min() == 0
    assert clean.max() == 1


def test_distortions_move_the_lattice_and_not_the_truth() -> None:
    still, drifting = two_grains((128, 128)), two_grains((128, 128), drift=(3.0, 20.0))
    np.testing.assert_array_equal(truth(still), truth(drifting))
    np.testing.assert_allclose(still.data[0], drifting.data[0], atol=0.1)
    assert np.abs(still.data - drifting.data).max() > 0.5
    jittered = two_grains((128, 128), jitter_px=1.0)
    assert np.abs(still.data - jittered.data).mean() > 0.02


def test_a_twin_mirrors_its_matrix_and_a_fault_skips_a_layer() -> None:
    plain = twin((200, 120), 12.0, lamella_px=60, fault=False)
    labels = truth(plain)
    assert set(np.unique(labels)) == {0, 1}
    rows = np.flatnonzero((labels == 1).any(axis=1))
    # About the layer that both share, what lies below is what lies above.
    middle = next(
        y for y in range(rows[0] - 3, rows[0] + 4)
        if np.abs(plain.data[y - 20 : y] - plain.data[y + 20 : y : -1]).max() < 0.35
    )  # fmt: skip
    assert abs(middle - rows[0]) <= 1
    faulted = twin((200, 120), 12.0, lamella_px=60)
    assert set(np.unique(truth(faulted))) == {0, 1, 2}
    height = (truth(faulted) == 2).any(axis=1).sum()
    assert height == pytest.approx(2 * 12.0 * (3**-0.5) / (6**0.5 / 4), abs=1.1)


def test_region_maps() -> None:
    assert halves((4, 6)).tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    assert halves((4, 6), 0).tolist() == [[0] * 6] * 2 + [[1] * 6] * 2
    assert disk((41, 41), 10).sum() == pytest.approx(np.pi * 100, rel=0.05)
    assert len(np.unique(grains((80, 80), 7, seed=1))) == 7
    np.testing.assert_array_equal(grains((80, 80), 7, seed=1), grains((80, 80), 7, seed=1))


def test_metadata_has_the_mean_spacing() -> None:
    found = simulate_patterns(halves((64, 64)), [lattice(8), lattice(10, 20)])
    assert found.metadata["spacing_px"] == 9
    assert found.metadata["period_px"] == pytest.approx((8 + 200**0.5) / 2)
    assert Image(found.data).shape == (64, 64)


def test_what_cannot_be_drawn() -> None:
    one = [lattice(8)]
    flat = np.zeros((8, 8), int)
    for regions in (flat - 1, flat + 1, np.zeros((0, 3), int), np.zeros(4, int), flat + 0.5):
        with pytest.raises(ScopegymError, match="regions"):
            simulate_patterns(regions, one)
    for wrong in ({"noise": -1.0}, {"jitter_px": float("nan")}, {"column_width": 0.0},
                  {"drift": (0.0, float("inf"))}):  # fmt: skip
        with pytest.raises(ScopegymError):
            simulate_patterns(flat, one, **wrong)
    with pytest.raises(ScopegymError, match="plane group"):
        plane_group("p5")
    with pytest.raises(ScopegymError, match="spans no area"):
        Pattern(np.ones((2, 2)), np.zeros((1, 2)), np.ones(1), 5.0)
    with pytest.raises(ScopegymError, match="as many"):
        Pattern(np.eye(2), np.zeros((1, 2)), np.ones(2), 5.0)
    with pytest.raises(ScopegymError, match="spacing"):
        Pattern(np.eye(2), np.zeros((1, 2)), np.ones(1), 0.0)
    with pytest.raises(ScopegymError, match="grain"):
        grains((9, 9), 0)
