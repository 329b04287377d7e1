"""Output files: tables, pictures, the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.answers import registry as kinds
from scopegym.experiments.findings import Outcome
from scopegym.experiments.folders import Output
from scopegym.experiments.recipe import recipe
from scopegym.experiments.solve import Result
from scopegym.experiments.windows import Windowed

#: Files of ``solve`` and ``run`` beside the tables of an answer.
PAGES = (
    "result.json",
    "workflow.yaml",
    "overlay.png",
    "front.png",
    "windows.png",
    "report.html",
)


def result_files() -> set[str]:
    """All possible files of ``solve`` and ``run``, for any task."""
    return {*PAGES, *(name for kind in kinds.values() for name in kind.files)}


def write_result(result: Result, folder: str | Path) -> list[Path]:
    """Write ``result.json``, ``workflow.yaml``, the table of the answer, ``overlay.png``,
    ``front.png`` and ``report.html``; for windows, ``windows.png`` too. They replace those of a
    former search; gives the new paths of those that somebody had changed. Raises ScopegymError if
    the folder holds other files of these names."""
    from scopegym.experiments.maps import write_maps
    from scopegym.experiments.pictures import write_front, write_overlay
    from scopegym.experiments.report import write_report

    output = Output(Path(folder), "solve")
    with output.writing() as scratch:
        write_answer(result, scratch)
        write_overlay(result, scratch / "overlay.png")
        write_front(result, scratch / "front.png")
        write_report(result, scratch / "report.html")
        if isinstance(result, Windowed):
            write_maps(result, scratch / "windows.png")
        (scratch / "workflow.yaml").write_text(
            recipe(result.problem, result.chosen, **result.recorded), encoding="utf-8"
        )
        (scratch / "result.json").write_text(to_json(result.to_dict()), encoding="utf-8")
    return output.kept


def write_answer(outcome: Outcome, folder: Path) -> None:
    """Write the tables of an answer."""
    size = outcome.problem.micrograph.pixel_size_nm
    outcome.problem.task.kind.write(outcome.answer, outcome.state, size, folder)


def to_json(plain: Any) -> str:
    """JSON text; NumPy numbers become plain ones, and NaN is refused rather than written."""
    return json.dumps(plain, indent=2, allow_nan=False, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not plain")
