"""The best workflow of every image, as recipes that replay and as the images they belong to."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scopegym.envs.problem import Trial
from scopegym.experiments.benchmark.setting import Setting
from scopegym.experiments.outputs import recipe, staged
from scopegym.experiments.replay import TABLE_COLUMNS
from scopegym.micrograph import Micrograph, load
from scopegym.rewards.base import Score
from scopegym.workflow import Workflow

TABLE = "workflows.csv"


def write_workflows(setting: Setting, records: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write ``workflows.csv``, ``workflows/`` and ``images/``: of every image the run of highest
    score, what it chose as a recipe, and the image that it was chosen for."""
    rows = []
    for index, (record, run) in best(records).items():
        stem = f"{index:03d}-{re.sub(r'[^A-Za-z0-9.-]+', '-', setting.names[index]).strip('-.')}"
        image, file = f"images/{stem}.tif", f"workflows/{stem}.yaml"
        problem = setting.problem(index)
        with staged(out / "images") as scratch:
            write_image(problem.micrograph, scratch / f"{stem}.tif")
        # The recipe names the file's hash, so it is the file's image that it is about.
        problem = replace(problem, micrograph=load(out / image))
        workflow = Workflow.from_dict(run["workflow"])
        score = Score(run["terms"], run["score"])
        with staged(out / "workflows") as scratch:
            (scratch / f"{stem}.yaml").write_text(
                recipe(problem, Trial(workflow, score, len(workflow), 0.0, 0.0)), encoding="utf-8"
            )
        shown = "" if run["truth"] is None else repr(run["truth"])
        about = (setting.names[index], record["regime"], record["agent"], record["seed"])
        rows.append((*about, repr(run["score"]), shown, image, file, str(workflow)))
    with staged(out) as scratch, (scratch / TABLE).open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([TABLE_COLUMNS, *rows])


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
