"""The report of a result: one page that needs no network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopegym.answers import Finding
from scopegym.answers.base import data_url
from scopegym.envs.problem import Trial
from scopegym.experiments.belief import Belief
from scopegym.experiments.findings import found
from scopegym.experiments.maps import Map, maps
from scopegym.experiments.pictures import (
    PICKS,
    VALUE,
    Axis,
    grey_levels,
    length_name,
    telling_axes,
)
from scopegym.experiments.recipe import recipe
from scopegym.experiments.solve import Result
from scopegym.experiments.templates import render
from scopegym.experiments.windows import Windowed
from scopegym.prior import Prior
from scopegym.rewards.base import Term
from scopegym.space import Scale
from scopegym.workflow import Step

#: The page's image is reduced to this longer side [px]; larger ones would make the page heavy.
PAGE_IMAGE_PX = 1600
#: Characters for the drawn answers of all trials. Beyond it, trials of lowest value have none.
MOST_CHARACTERS = 1_600_000
#: Number of colours in the legend of a map of numbers.
KEY_COLOURS = 3
#: Sources of the prior's values, in words.
SOURCES = {
    "crystal": "from the crystal",
    "given": "given by the user",
    "estimated": "estimated from this image",
}
#: What a verdict says.
VERDICTS: dict[Belief, str] = {
    "ok": "nothing speaks against the result",
    "doubtful": "check the result",
    "wrong-premise": "the image contradicts what was said of it",
}


def write_report(result: Result, path: str | Path) -> None:
    """Write the report: one HTML file that needs no network."""
    Path(path).write_text(render_report(result), encoding="utf-8")


def render_report(result: Result) -> str:
    """The report as HTML text."""
    return render("report.html", _content(result))


@dataclass(frozen=True, eq=False)
class Entry:
    """A trial shown in full on the page: the chosen one, or one of the front."""

    number: int
    trial: Trial
    #: ``chosen``, and names of ``PICKS``.
    marks: tuple[str, ...]
    finding: Finding
    layer: dict[str, Any] | None


def entries(result: Result) -> list[Entry]:
    """The trials to show in full, ordered by number of evaluation."""
    numbers = {id(trial): number for number, trial in enumerate(result.trials, 1)}
    trials = {id(trial): trial for trial in (*result.front, result.chosen)}
    left, task = MOST_CHARACTERS, result.problem.task
    shown = []
    for trial in sorted(trials.values(), key=lambda t: (t is not result.chosen, -t.score.value)):
        answer = result.state_of(trial).get(task.answer)
        drawn = None if answer is None else task.kind.layer(answer, result.problem)
        size = len(json.dumps(drawn))
        drawn, left = (drawn, left - size) if size <= left else (None, left)
        finding = found(answer, result.problem)
        shown.append(Entry(numbers[id(trial)], trial, _marks(result, trial), finding, drawn))
    return sorted(shown, key=lambda entry: entry.number)


def _marks(result: Result, trial: Trial) -> tuple[str, ...]:
    chosen = ("chosen",) if trial is result.chosen else ()
    best = (name for pick, (name, _) in PICKS.items() if result.front.best(pick) is trial)
    return (*chosen, *best)


def _content(result: Result) -> dict[str, Any]:
    shown = entries(result)
    chosen = next(entry for entry in shown if entry.trial is result.chosen)
    problem, noun = result.problem, result.problem.task.nouns.counted
    return {
        "result": result,
        "noun": noun,
        "painter": problem.task.kind.script,
        "headline": headline(result, chosen.finding),
        "expected": expected_text(result, chosen.finding),
        "spacing": f"{problem.prior.scale_px:.3g} px",
        "verdict": VERDICTS[result.verdict.belief],
        "notes": _notes(result),
        "prior": prior_rows(
            problem.prior, problem.micrograph.pixel_size_nm, problem.task.nouns.counted
        ),
        "entries": shown,
        "chosen": chosen,
        "recipes": {e.number: recipe(result.problem, e.trial, **result.recorded) for e in shown},
        "steps": {e.number: [_step(result, step) for step in e.trial.workflow] for e in shown},
        "maps": [_cells(one) for one in maps(result)] if isinstance(result, Windowed) else [],
        "terms": [_term(term, result) for term in problem.reward.terms],
        "axes": [axis.name for axis in telling_axes(result)],
        "timing": _timing(result.timing),
        "image_png": _png(_reduced(grey_levels(problem.micrograph.data))),
        "command": f"scopegym run workflow.yaml {_image_argument(result)} --check",
        "data": _data(result, shown, chosen),
    }


def _data(result: Result, shown: list[Entry], chosen: Entry) -> dict[str, Any]:
    """Data for the script of the page."""
    axes = [Axis.of_term(term) for term in result.problem.reward.terms] + [VALUE]
    return {
        "shape": result.problem.micrograph.data.shape,
        "pixel_size_nm": result.problem.micrograph.pixel_size_nm,
        "axes": [axis.to_dict() for axis in axes],
        "trials": [_row(trial) for trial in result.trials],
        "entries": [
            {
                "number": e.number,
                "marks": e.marks,
                "found": e.finding.text,
                "layer": e.layer,
            }
            for e in shown
        ],
        "chosen": chosen.number,
    }


def _row(trial: Trial) -> list[float] | None:
    if trial.failure is not None:
        return None
    return [round(value, 5) for value in (*trial.score.terms.values(), trial.score.value)]


def headline(result: Result, finding: Finding) -> str:
    """The result in one sentence."""
    expected = expected_text(result, finding)
    parts = [f"{finding.text} found in {result.problem.micrograph.name or 'the image'}"]
    parts += [f"expected {expected}"] if expected else []
    return "; ".join([*parts, f"score {result.chosen.score.value:.2f}"])


def expected_text(result: Result, finding: Finding) -> str:
    """The expected count with an uncertainty of half a row per axis: the border cuts the lattice
    at any place."""
    if finding.expected is None:
        return ""
    rows = sum(result.problem.prior.scale_px / n for n in result.problem.micrograph.shape)
    return f"{finding.expected:,.0f} ± {0.5 * finding.expected * rows:,.0f}"


def _notes(result: Result) -> list[tuple[str, str]]:
    """Kind and text of every note: the verdict's reasons, the check of the scale, the warnings."""
    reasons = [("warning", text) for text in result.verdict.reasons]
    calibration = result.calibration
    if calibration is not None:
        kind = "good" if calibration.status == "agrees" else "warning"
        notes = [(kind, calibration.message)]
    elif result.problem.micrograph.pixel_size_nm is None:
        notes = [("plain", "The pixel size is unknown, so all lengths are in pixels.")]
    else:
        notes = [("plain", "The pixel size was not checked against the image's own lattice.")]
    said = {text for _, text in reasons}
    notes = reasons + [(kind, text) for kind, text in notes if text not in said]
    said |= {text for _, text in notes}
    return notes + [("warning", text) for text in result.warnings if text not in said]


def prior_rows(prior: Prior, pixel_size_nm: float | None, noun: str) -> list[tuple[str, str, str]]:
    """The prior as rows: name, value, source."""
    rows = [("scale_px", "Spacing", lengths(prior.scale_px, pixel_size_nm))]
    if prior.count is not None:
        rows.append(("count", f"{noun.capitalize()} in the field", f"{prior.count:,.1f}"))
    if prior.neighbour_sums_px:
        sums = ", ".join(dict.fromkeys(f"{px:.1f}" for px in sorted(prior.neighbour_sums_px)))
        rows.append(("neighbour_sums_px", "Distances to four neighbours, summed [px]", sums))
    rows += [(part.name, *part.described()) for part in prior.parts]
    return [(name, text, _source(prior, key)) for key, name, text in rows]


def _source(prior: Prior, key: str) -> str:
    source = prior.sources.get(key, "")
    return SOURCES.get(source, source or "source not stated")


def lengths(px: float, pixel_size_nm: float | None) -> str:
    """A length in pixels, and in nanometres if the scale is known."""
    text = f"{px:.3g} px"
    return text if pixel_size_nm is None else f"{text} = {length_name(px * pixel_size_nm)}"


def _step(result: Result, step: Step) -> dict[str, Any]:
    prior, operator = result.problem.prior, step.operator
    pixels = operator.in_pixels(step.params, prior)
    size = result.problem.micrograph.pixel_size_nm
    rows = []
    for name, value in step.params.items():
        space = operator.parameters[name].space
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        unit = {"spacing": "× spacing"}.get(space.unit, space.unit)
        length = lengths(pixels[name], size) if isinstance(space, Scale) else ""
        rows.append((name, f"{text} {unit}".strip(), length))
    return {"name": step.op, "about": sentence(operator.__doc__), "rows": rows}


def _cells(one: Map) -> dict[str, Any]:
    """A map as the coloured squares of a drawing, and a key to the colours."""
    low, high = one.bounds
    shown = range(len(one.names)) if one.names else np.linspace(low, high, KEY_COLOURS)
    return {
        "title": one.title,
        "shape": one.values.shape,
        "cells": [(y, x, one.colour(v), one.text(v)) for (y, x), v in np.ndenumerate(one.values)],
        "key": [(one.colour(value), one.text(value)) for value in shown],
    }


def _term(term: Term, result: Result) -> dict[str, Any]:
    value = result.chosen.score.terms[term.name]
    return {
        "name": term.name,
        "about": sentence(term.__doc__),
        "direction": term.direction,
        "bounds": "{:g} to {:g}".format(*term.bounds),
        "weight": result.problem.reward.weights[term.name],
        "value": value,
        "goodness": term.goodness(value),
    }


def sentence(docstring: str) -> str:
    """The first paragraph of a docstring on one line, without its markup."""
    return " ".join(docstring.split("\n\n")[0].replace("``", "").split())


def _timing(timing: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the total for each entry in seconds."""
    spent = {k.removesuffix("_s"): v for k, v in timing.items() if k.endswith("_s")}
    total = sum(spent.values()) or 1.0
    return [(name, seconds, seconds / total) for name, seconds in spent.items()]


def _image_argument(result: Result) -> str:
    """The image's name, quoted for a shell; ``IMAGE`` for an array without a file."""
    micrograph = result.problem.micrograph
    return shlex.quote(micrograph.name) if "file_sha256" in micrograph.metadata else "IMAGE"


def _reduced(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, reduced to the largest size on the page."""
    import cv2

    height, width = grey.shape
    zoom = PAGE_IMAGE_PX / max(height, width)
    if zoom >= 1:
        return grey
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _png(grey: NDArray[np.uint8]) -> str:
    """Grey levels as the data URL of a PNG."""
    import cv2

    _, encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return data_url(encoded.tobytes())
