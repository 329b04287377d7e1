"""The best workflow of every image, as recipes that replay and as the images they belong to."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scopegym.datasets.readers import load
from scopegym.envs.problem import Trial
from scopegym.experiments.benchmark.setting import Setting
from scopegym.experiments.folders import Output
from scopegym.experiments.recipe import recipe
from scopegym.experiments.replay import TABLE_COLUMNS
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import Score
from scopegym.workflow import Workflow

TABLE = "workflows.csv"


def write_workflows(setting: Setting, records: Sequence[Mapping[str, Any]], output: Output) -> None:
    """Write ``workflows.csv``, ``workflows/`` and ``images/``: of every image the run of highest
    score, what it chose as a recipe, and the image that it was chosen for."""
    images, recipes = (
        Output(output.folder / name, output.command, output.run) for name in ("images", "workflows")
    )
    chosen = best(records)
    stems = {index: _stem(index, setting.names[index]) for index in chosen}
    with images.writing() as scratch:
        for index, stem in stems.items():
            write_image(setting.problem(index).micrograph, scratch / f"{stem}.tif")
    rows = []
    with recipes.writing() as scratch:
        for index, (record, run) in chosen.items():
            stem, name = stems[index], setting.names[index]
            # The recipe names the file's hash, so it is the file's image that it is about.
            micrograph = load(images.folder / f"{stem}.tif")
            problem = replace(setting.problem(index), micrograph=micrograph)
            workflow = Workflow.from_dict(run["workflow"])
            score = Score(run["terms"], run["score"])
            trial = Trial(workflow, score, len(workflow), 0.0, 0.0)
            (scratch / f"{stem}.yaml").write_text(recipe(problem, trial), encoding="utf-8")
            shown = "" if run["truth"] is None else repr(run["truth"])
            about = (name, record["regime"], record["agent"], record["seed"])
            files = (f"images/{stem}.tif", f"workflows/{stem}.yaml")
            rows.append((*about, repr(run["score"]), shown, *files, str(workflow)))
    with output.writing(more=True) as scratch:
        lines = (scratch / TABLE).open("w", encoding="utf-8", newline="")
        with lines:
            csv.writer(lines).writerows([TABLE_COLUMNS, *rows])


def _stem(index: int, name: str) -> str:
    """The name of an image's files."""
    return f"{index:03d}-{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-.')}"


def best(
    records: Sequence[Mapping[str, Any]],
) -> dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The record and run of highest score for every image."""
    found: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for record in records:
        for run in record.get("runs", ()):
            former = found.get(run["image"])
            if former is None or run["score"] > former[1]["score"]:
                found[run["image"]] = record, run
    return dict(sorted(found.items()))


def write_image(micrograph: Micrograph, path: Path) -> None:
    """Write the pixels as they are, float32, with their calibration."""
    import tifffile

    calibrated: dict[str, Any] = {}
    if micrograph.pixel_size_nm is not None:
        per_nm = 1 / micrograph.pixel_size_nm
        calibrated = {"resolution": (per_nm, per_nm), "metadata": {"unit": "nm"}}
    tifffile.imwrite(path, micrograph.data, imagej=True, **calibrated)
