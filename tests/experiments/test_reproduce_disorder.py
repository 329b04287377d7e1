"""Paper 000, figure 4: its pieces by hand, the fast claims, and the full run."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from scopegym.artifacts import Labels, Points, State
from scopegym.datasets.bundled import bundled
from scopegym.envs import registry as tasks
from scopegym.experiments.reproduce.base import reproduce
from scopegym.micrograph import Micrograph

figure_4 = importlib.import_module("scopegym.experiments.reproduce.disorder")
PNG = b"\x89PNG"


def state(mask: np.ndarray) -> State:
    source = Micrograph(np.arange(mask.size, dtype=np.float32).reshape(mask.shape)).normalized()
    return State.start(source).with_artifact(Labels(mask.astype(int), background=0))


@pytest.mark.parametrize("piece", ["sublattices", "orientations"])
def test_classes_of_columns_are_what_the_paper_says(piece: str, tmp_path: Path):
    claim = getattr(figure_4, piece)(tmp_path)
    assert claim.reproduced, dict(claim.figures)
    assert (tmp_path / claim.picture).read_bytes().startswith(PNG)


def test_sublattices_are_right_at_a_low_dose_too():
    points, right = figure_4.species(bundled("ybco_100_poisson"))
    assert right >= 0.97 and len(set(points.classes)) == 4


def test_classes_count_as_right_when_most_of_them_are_of_one_kind():
    yx = np.stack([np.full(6, 30.0), 20.0 + 8 * np.arange(6)], axis=1)
    kinds = np.array(["Ba", "Ba", "Ba", "Cu", "Cu", "Cu"])
    truth = Micrograph(np.zeros((60, 80)), truth=Points(yx, (60, 80)))
    found = Points(yx, (60, 80), classes=np.array([0, 0, 1, 1, 1, 1]))
    assert figure_4.told_apart(found, truth, kinds, 8.0) == pytest.approx(5 / 6)


def test_shape_of_a_square_in_both_readings():
    mask = np.zeros((100, 100), bool)
    mask[20:60, 20:60] = True
    around, first, second, share = figure_4.shape(state(mask))
    # Pixel edges are taken for a slanted outline on average: pi / 4 of their length.
    assert around == pytest.approx(1.6 * np.pi / 4)
    assert first == pytest.approx(0.16 / around)
    assert second == pytest.approx(min(4 * np.pi * 0.16 / around**2, 1))
    assert share == pytest.approx(0.16)
    assert figure_4.shape(state(np.zeros((100, 100), bool))) == (0, 0, 0, 0)


def test_the_front_leaves_out_what_is_beaten_and_what_finds_nothing():
    shapes = np.array(
        [
            [0.0, 0.0, 0.0, 0.0],  # nothing
            [1.0, 0.1, 0.2, 0.1],
            [2.0, 0.2, 0.2, 0.3],  # larger and longer: on the first front, beaten in the second
            [2.5, 0.2, 0.1, 0.3],  # beaten in both
        ]
    )
    assert figure_4.undominated(shapes, 1) == [1, 2]
    assert figure_4.undominated(shapes, 2) == [1]
    assert figure_4.different(shapes[[1, 1, 2]]) == 2
    assert figure_4.spread(shapes[1:, 3]) == "10.00 to 30.00 %"


def test_variants_differ_in_what_is_tuned_only():
    for first in (figure_4.chain(), tasks["disorder"].expert):
        found = figure_4.variants(first)
        assert len(set(found)) == len(found) == 126
        names = [step.op for step in first]
        assert all([step.op for step in workflow] == names for workflow in found)
        assert all(workflow.steps[:-5] == first.steps[:-5] for workflow in found)


@pytest.mark.slow
def test_figure_4_is_reproduced_as_a_whole(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("SCOPEGYM_DATA", raising=False)
    plain = reproduce("disorder", tmp_path)
    claims = {claim["name"]: claim for claim in plain["claims"]}
    assert list(claims) == ["sub-lattices", "orientations", "front", "map"]
    assert plain["reproduced"], [name for name in claims if not claims[name]["reproduced"]]
    assert {claim["picture"] for claim in claims.values()} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.slow
def test_the_regions_of_the_real_image_are_where_it_fails(shared_data: Path, tmp_path: Path):
    claim = figure_4.real(tmp_path, shared_data / figure_4.REAL, 0)
    assert claim.reproduced, dict(claim.figures)
    assert claim.figures["score"] > claim.figures["score of no region"] + 0.2
    assert (tmp_path / "real.png").read_bytes().startswith(PNG)
