"""What is written down: tables, pictures, the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.artifacts import Array, Artifact, Labels, Points
from scopegym.experiments.findings import by_area, region_numbers
from scopegym.experiments.folders import Output
from scopegym.experiments.recipe import recipe
from scopegym.experiments.solve import Result
from scopegym.experiments.windows import Windowed

#: What ``solve`` and ``run`` may write, whatever the task.
RESULT_FILES = (
    "result.json",
    "workflow.yaml",
    "points.csv",
    "labels.tif",
    "mask.tif",
    "overlay.png",
    "front.png",
    "windows.png",
    "report.html",
)


def write_result(result: Result, folder: str | Path) -> None:
    """Write ``result.json``, ``workflow.yaml``, the table of the answer, ``overlay.png``,
    ``front.png`` and ``report.html``; for windows, ``windows.png`` too. They replace those of a
    former search. Raises ScopegymError where the folder holds files of anybody else."""
    from scopegym.experiments.maps import write_maps
    from scopegym.experiments.pictures import write_front, write_overlay
    from scopegym.experiments.report import write_report

    with Output(Path(folder), "solve").writing() as scratch:
        size = result.problem.micrograph.pixel_size_nm
        write_answer(result.answer, result.state.points, size, scratch)
        write_overlay(result, scratch / "overlay.png")
        write_front(result, scratch / "front.png")
        write_report(result, scratch / "report.html")
        if isinstance(result, Windowed):
            write_maps(result, scratch / "windows.png")
        (scratch / "workflow.yaml").write_text(
            recipe(result.problem, result.chosen, **result.recorded), encoding="utf-8"
        )
        (scratch / "result.json").write_text(to_json(result.to_dict()), encoding="utf-8")


def write_answer(
    answer: Artifact, points: Points | None, pixel_size_nm: float | None, folder: Path
) -> None:
    """Write the answer's table, and beside a mask the points that it was drawn from."""
    write_table(answer, pixel_size_nm, folder)
    if isinstance(answer, Labels) and answer.background is not None and points is not None:
        write_points(points, pixel_size_nm, folder, {"class": points.classes})


@singledispatch
def write_table(answer: object, pixel_size_nm: float | None, folder: Path) -> None:
    """Write what answers a task into a folder: one function and one file per kind of artifact."""
    del pixel_size_nm, folder
    raise TypeError(f"No table is written of {type(answer).__name__}.")


@write_table.register
def _(answer: Points, pixel_size_nm: float | None, folder: Path) -> None:
    """``points.csv``; unknown figures stay empty."""
    write_points(answer, pixel_size_nm, folder, {})


def write_points(
    points: Points, pixel_size_nm: float | None, folder: Path, more: Mapping[str, Array]
) -> None:
    """Write ``points.csv``: ``y_px,x_px,y_nm,x_nm,sigma_px,strength`` and ``more`` columns."""
    size = float("nan") if pixel_size_nm is None else pixel_size_nm
    known = (*points.yx.T, *(points.yx.T * size), points.sigma_px, points.strength)
    columns = (*known, *more.values())
    lines = [",".join(("y_px", "x_px", "y_nm", "x_nm", "sigma_px", "strength", *more))]
    lines += [
        ",".join("" if np.isnan(value) else f"{value:.6g}" for value in row)
        for row in zip(*columns, strict=True)
    ]
    (folder / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@write_table.register
def _(answer: Labels, pixel_size_nm: float | None, folder: Path) -> None:
    """``labels.tif``: the pattern of every pixel, from 0 by area, uint16 of the image's size; or
    ``mask.tif`` where there is a background: 0 there, the number of the region elsewhere."""
    import tifffile

    settings: dict[str, Any] = {}
    if pixel_size_nm is not None:
        per_cm = 1e7 / pixel_size_nm
        settings = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    masked = answer.background is not None
    name = "mask.tif" if masked else "labels.tif"
    numbers = region_numbers(answer) if masked else by_area(answer.map)
    tifffile.imwrite(folder / name, numbers, compression="zlib", **settings)


def to_json(plain: Any) -> str:
    """JSON text; NumPy numbers become plain ones, and NaN is refused rather than written."""
    return json.dumps(plain, indent=2, allow_nan=False, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not plain")
