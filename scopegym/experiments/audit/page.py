"""The page of an audit: verdict, statistics, and pictures of the worst cases."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.artifacts import Artifact
from scopegym.envs.problem import Problem
from scopegym.experiments.audit.adversaries import against
from scopegym.experiments.audit.examine import (
    OPTIMISER,
    Attack,
    Examined,
    Job,
    Judged,
    misleadings,
    true_answer,
    wrong_answers,
)
from scopegym.experiments.pictures import grey_levels
from scopegym.experiments.report import sentence
from scopegym.experiments.templates import render
from scopegym.rewards.base import registry as terms
from scopegym.workflow import Workflow

#: Largest number of points in the scatter plot, so that they do not overlap.
SCATTERED = 1500
#: Number of problems shown, those of largest regret.
REGRETTED = 3
#: Side [inches] and resolution of a picture: single columns are visible, and the file is small.
INCHES, DPI = 3.0, 110


def write_page(job: Job, plain: dict[str, Any], examined: Sequence[Examined], path: Path) -> None:
    """Write the report: one HTML file that needs no network."""
    content = {
        "audit": plain,
        "scatter": scatter(job, examined),
        "strips": {row["adversary"]: _strip(row["adversary"], examined) for row in _rows(plain)},
        "wrong": [*_wrong_pictures(job, plain, examined)],
        "regretted": [*_regret_pictures(job, examined)],
        "claims": {name: sentence(terms[name].__doc__) for name in job.reward.weights},
    }
    path.write_text(render("audit/page.html", content), encoding="utf-8")


def _rows(plain: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(plain.get("adversaries", []), key=lambda row: row["margin"])


def scatter(job: Job, examined: Sequence[Examined]) -> dict[str, list[tuple[float, float]]]:
    """Truth and value of a random part of the workflows, and of those with the highest reward."""
    every = [(judged.truth, judged.value) for one in examined for judged in one.tried]
    rng = np.random.default_rng(job.seed)
    drawn = rng.permutation(len(every))[:SCATTERED]
    chosen = [chosen_of(one) for one in examined]
    return {
        "tried": [every[row] for row in sorted(drawn)],
        "chosen": [(judged.truth, judged.value) for judged in chosen],
    }


def chosen_of(one: Examined) -> Judged:
    """The workflow of highest reward on a problem."""
    return max(one.tried, key=lambda judged: judged.value)


def _strip(name: str, examined: Sequence[Examined]) -> list[float]:
    """The margin to an adversary's best wrong answer on every problem that has one."""
    margins = []
    for one in examined:
        values = [a.judged.value for a in one.attacks if a.wrong and a.name == name]
        margins += [one.honest.value - max(values)] if values else []
    return margins


# --- pictures -------------------------------------------------------------------------------------


def _wrong_pictures(
    job: Job, plain: dict[str, Any], examined: Sequence[Examined]
) -> Iterator[dict[str, Any]]:
    """The worst case of every adversary, the most dangerous first."""
    by_index = {one.index: one for one in examined}
    for row in _rows(plain):
        one = by_index[row["worst"]]
        rivals = [a for a in one.attacks if a.wrong and a.name == row["adversary"]]
        attack = max(rivals, key=lambda rival: rival.judged.value)
        problem, answer = shown(job, one, attack)
        yield {
            "title": row["adversary"],
            "picture": picture(problem, answer),
            "image": problem.micrograph.name,
            "value": attack.judged.value,
            "truth": attack.judged.truth,
            "honest": one.honest.value,
            "terms": attack.judged.terms,
        }


def shown(job: Job, one: Examined, attack: Attack) -> tuple[Problem, Artifact | None]:
    """The problem and the wrong answer of an attack, computed again."""
    problem = job.problem(one.index)
    workflow = attack.judged.workflow
    if workflow is None:
        kinds = {entry.title: entry.name for entry in against(problem, true_answer(problem))}
        answers = [*wrong_answers(job, problem, one.index, kinds[attack.name])]
        return problem, answers[attack.number]
    if attack.name != OPTIMISER:
        _, problem = misleadings(job, problem, one.index)[attack.number]
    return problem, _answer(problem, workflow)


def _answer(problem: Problem, workflow: Workflow) -> Artifact | None:
    """The answer of a workflow, None if it fails or has none."""
    if problem.evaluate(workflow).failure is not None:
        return None
    return problem.run(workflow).get(problem.task.answer)


def _regret_pictures(job: Job, examined: Sequence[Examined]) -> Iterator[dict[str, Any]]:
    """Problems of largest regret: the workflow of highest reward, and that of highest truth."""

    def regret(one: Examined) -> float:
        return max(judged.truth for judged in one.tried) - chosen_of(one).truth

    for one in sorted(examined, key=regret, reverse=True)[:REGRETTED]:
        problem = job.problem(one.index)
        best = max(one.tried, key=lambda judged: judged.truth)
        cases = []
        for title, judged in (("highest reward", chosen_of(one)), ("nearest to the truth", best)):
            assert judged.workflow is not None
            cases.append(
                {
                    "title": title,
                    "picture": picture(problem, _answer(problem, judged.workflow)),
                    "value": judged.value,
                    "truth": judged.truth,
                    "workflow": str(judged.workflow),
                    "terms": judged.terms,
                }
            )
        yield {"image": one.name, "noise": one.noise, "regret": regret(one), "cases": cases}


def picture(problem: Problem, answer: Artifact | None) -> str:
    """The image under an answer, as the data URL of a JPEG."""
    from matplotlib.figure import Figure

    data = problem.micrograph.data
    figure = Figure(figsize=(INCHES, INCHES * data.shape[0] / data.shape[1]), dpi=DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(grey_levels(data), cmap="gray", interpolation="nearest")
    limits = axes.get_xlim(), axes.get_ylim()
    if answer is not None:
        zoom = max(1, round(INCHES * DPI / max(data.shape)))
        problem.task.kind.draw(answer, axes, problem.prior, zoom)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    axes.set_axis_off()
    content = BytesIO()
    figure.savefig(content, format="jpg", pil_kwargs={"quality": 82})
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
