"""Solving disorder: regions near the truth, what is written down, and bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from scopegym.artifacts import Labels
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.experiments.recipe import recipe
from scopegym.experiments.replay import replay
from scopegym.experiments.solve import Result
from scopegym.experiments.solving import solve
from scopegym.metrics import mask_overlap
from scopegym.micrograph import Micrograph
from scopegym.sample.crystal import crystal
from scopegym.workflow import Recipe

YBCO = crystal("YBa2Cu3O7").project((1, 0, 0))
SIDE, PIXEL_NM = 224, 0.03
PRIOR = YBCO.prior((SIDE, SIDE), pixel_size_nm=PIXEL_NM)


def simulated(fraction: float = 0.15, seed: int = 1) -> Micrograph:
    return simulate_disorder(
        YBCO, (SIDE, SIDE), PIXEL_NM, fraction=fraction, count=1, noise=0.08, seed=seed
    )


def solved(micrograph: Micrograph, **given: Any) -> Result:
    return solve(
        micrograph, "disorder", prior=PRIOR, **{"agent": "evolution", "budget": 30, **given}
    )


def table(mask: np.ndarray) -> list[int]:
    """The pixels of each region, from the first on."""
    return np.bincount(mask.ravel())[1:].tolist()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for a simulated image."""
    folder = tmp_path_factory.mktemp("disorder")
    tifffile.imwrite(
        folder / "image.tif",
        simulated().data,
        imagej=True,
        resolution=(1 / PIXEL_NM, 1 / PIXEL_NM),
        metadata={"unit": "nm"},
    )
    command = f"scopegym solve {folder}/image.tif --task disorder --crystal YBa2Cu3O7"
    command += f" --agent evolution --budget 30 --json --out {folder}/out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", command.split())
        cli.main()
    assert not stop.value.code
    return folder / "out"


# Files --------------------------------------------------------------------------------------


def test_the_mask_has_the_size_of_the_image_and_numbers_regions_by_area(files: Path):
    mask = tifffile.imread(files / "mask.tif")
    assert mask.dtype == np.uint16 and mask.shape == (SIDE, SIDE)
    area = table(mask)
    assert area and min(area) > 0 and area == sorted(area, reverse=True)
    truth = simulated().truth
    assert isinstance(truth, Labels)
    assert mask_overlap(Labels(mask.astype(int), background=0), truth) > 0.6
    assert not (files / "labels.tif").exists()


def test_points_have_their_classes(files: Path):
    points = pd.read_csv(files / "points.csv")
    columns = ["y_px", "x_px", "y_nm", "x_nm", "sigma_px", "strength", "class"]
    assert list(points.columns) == columns
    assert {-1, 0} <= set(points["class"]) <= {-1, *range(8)}
    np.testing.assert_allclose(points["y_nm"], points["y_px"] * PIXEL_NM, rtol=0.02)
    # Those out of their class are where the mask is.
    mask = tifffile.imread(files / "mask.tif") > 0
    at = np.clip(np.rint(points[["y_px", "x_px"]].to_numpy()).astype(int), 0, SIDE - 1)
    assert mask[tuple(at.T)][points["class"] == -1].mean() > 0.9


def test_result_and_report_say_how_much_was_found(files: Path):
    result = json.loads((files / "result.json").read_text(encoding="utf-8"))
    mask = tifffile.imread(files / "mask.tif")
    assert result["task"] == "disorder"
    assert result["answer"] == {
        "regions": int(mask.max()),
        "area_fraction": pytest.approx(np.mean(mask > 0)),
    }
    assert set(result["score"]["terms"]) == {
        "disorder_evidence", "compactness", "perimeter", "disordered_fraction",
    }  # fmt: skip
    report = (files / "report.html").read_text(encoding="utf-8")
    assert "disordered region" in report and "% of the area" in report
    for name in ("overlay.png", "front.png"):
        assert (files / name).read_bytes().startswith(b"\x89PNG")


def test_the_recipe_gives_the_mask_again():
    result = solved(simulated())
    again = replay(Recipe.read(recipe(result.problem, result.chosen)), simulated())
    assert again.agrees
    np.testing.assert_array_equal(again.labels.map, result.labels.map)


# What is found ------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_disordered():
    result = solved(simulated(fraction=0.0), budget=60)
    assert np.mean(result.labels.map > 0) <= 0.02
    assert result.found.text == "0 disordered regions"


def test_one_workflow_comes_near_the_truth():
    micrograph = simulated(seed=4)
    problem = Problem(micrograph, PRIOR, tasks["disorder"])
    labels = problem.run(tasks["disorder"].expert).need(Labels)
    assert labels is not None and isinstance(micrograph.truth, Labels)
    assert mask_overlap(labels, micrograph.truth) > 0.6


# Bad input ----------------------------------------------------------------------------------


def test_a_field_of_few_columns_is_refused():
    small = Micrograph(simulated().data[:100], PIXEL_NM)
    with pytest.raises(ScopegymError, match=r"needs a field of at least \d+ x \d+ px, 12 spacings"):
        solved(small)


def test_an_image_without_columns_has_no_region_and_says_that_workflows_failed():
    y, x = np.mgrid[:SIDE, :SIDE]
    result = solved(Micrograph((y + x).astype(np.float32), PIXEL_NM))
    assert result.found.count == 0
    assert any("workflows failed" in warning for warning in result.warnings)
    with pytest.raises(ScopegymError, match="constant"):
        solved(Micrograph(np.ones((SIDE, SIDE), np.float32), PIXEL_NM))


def test_windows_are_refused(tmp_path: Path, monkeypatch, capsys):
    np.save(tmp_path / "image.npy", simulated().data)
    command = f"scopegym solve {tmp_path}/image.npy --task disorder --crystal YBa2Cu3O7 "
    command += f"--pixel-size 30pm --window 128 --out {tmp_path}/out"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "disorder" in capsys.readouterr().err and not (tmp_path / "out").exists()
