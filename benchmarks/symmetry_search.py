"""Does searching segment better than the expert, and does the reward know the best segmentation?

Simulated images of two regions as the task samples them. Truth only judges afterwards: the value
of every workflow tried is held against its share of right pixels.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from scopegym.agents.base import registry as agents
from scopegym.artifacts import Labels
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem, Trial
from scopegym.experiments.solve import break_ties
from scopegym.metrics import label_accuracy

cv2.setNumThreads(1)
PROBLEMS, SEED, COUNT = 20, 2024, 40
#: More operator executions than 40 workflows can cost.
PLENTY = 1000
#: The chosen workflow may lose this much accuracy to the best one tried.
TOLERANCE = 0.02
TASK = tasks["symmetry"]
EXPERT = TASK.expert


class Tried(NamedTuple):
    """A workflow that was judged by the reward, and by the truth."""

    trial: Trial
    accuracy: float


def tried(problem: Problem, seed: int) -> list[Tried]:
    """The first workflows of a search as ``solve`` does it: nothing found, the expert's, others."""
    truth = problem.micrograph.truth
    assert isinstance(truth, Labels) and problem.task.null is not None
    rows = []
    trials = chain(
        [problem.evaluate(problem.task.null)], agents["bayes"].search(problem, PLENTY, seed)
    )
    for trial in islice(trials, COUNT):
        labels = None if trial.failure else problem.run(trial.workflow).need(Labels)
        rows.append(Tried(trial, 0.0 if labels is None else label_accuracy(labels, truth)))
    return rows


def affordable(rows: Sequence[Tried], executions: int) -> Sequence[Tried]:
    """What a search with this budget of operator executions would have tried: the same, less."""
    spent = np.cumsum([row.trial.executions for row in rows])
    return rows[: int(np.searchsorted(spent, executions, side="right"))]


def chosen(rows: Sequence[Tried]) -> Tried:
    """What ``solve`` would have returned."""
    trials = [row.trial for row in rows]
    best = max((t for t in trials if t.failure is None), key=lambda trial: trial.score.value)
    return rows[trials.index(break_ties(trials, best, EXPERT, TASK.tie))]


def experts(rows: Sequence[Tried]) -> Tried:
    """The expert's workflow among those tried."""
    return next(row for row in rows if row.trial.workflow == EXPERT)


def summary(title: str, searches: Sequence[Sequence[Tried]]) -> None:
    """Print what the searches chose, against the expert's and the best workflow tried."""
    picked = [chosen(rows).accuracy for rows in searches]
    expert = [experts(rows).accuracy for rows in searches]
    best = [max(row.accuracy for row in rows) for rows in searches]
    lost = [b - p for b, p in zip(best, picked, strict=True)]
    print(f"\n{title}: {statistics.mean(map(len, searches)):.1f} workflows on average")
    for name, values in (("expert", expert), ("chosen", picked), ("best tried", best)):
        least, median, mean = min(values), statistics.median(values), statistics.mean(values)
        print(f"  {name:11s} median {median:.4f}  mean {mean:.4f}  least {least:.4f}")
    print(
        f"  chosen below the best tried: at most {max(lost):.4f}; more than {TOLERANCE} on "
        f"{sum(value > TOLERANCE for value in lost)} of {len(lost)} images"
    )


def record(rows: Sequence[Tried]) -> list[dict[str, object]]:
    """Plain values of all workflows tried, to look into what misled the reward."""
    return [
        {
            "workflow": str(row.trial.workflow),
            "steps": row.trial.executions,
            "value": row.trial.score.value,
            "terms": dict(row.trial.score.terms),
            "accuracy": row.accuracy,
            "failure": row.trial.failure,
        }
        for row in rows
    ]


def main(seed: int = SEED, out: str = "") -> None:
    """Search all images drawn with ``seed``; a file ``out`` takes all workflows tried."""
    rng = np.random.default_rng(seed)
    problems = [tasks["symmetry"].sample(rng) for _ in range(PROBLEMS)]
    weights = tasks["symmetry"].reward.weights
    print(f"{PROBLEMS} simulated images of two regions (seed {seed}), bayes; weights {weights}")
    print("image  patterns                          noise  expert  chosen  best    value   seconds")
    searches = []
    for number, problem in enumerate(problems):
        start = time.perf_counter()
        rows = tried(problem, number)
        problem.cache.clear()
        searches.append(rows)
        what = " | ".join(problem.micrograph.metadata["patterns"])
        best, pick = max(row.accuracy for row in rows), chosen(rows)
        print(
            f"{number:5d}  {what:32s} {problem.micrograph.metadata['noise']:6.2f}  "
            f"{experts(rows).accuracy:.4f}  {pick.accuracy:.4f}  {best:.4f}  "
            f"{pick.trial.score.value:.4f} {time.perf_counter() - start:8.1f}",
            flush=True,
        )
    budget = [affordable(rows, COUNT) for rows in searches]
    summary(f"budget of {COUNT} operator executions", budget)
    summary(f"{COUNT} workflows", searches)
    if out:
        Path(out).write_text(json.dumps([record(rows) for rows in searches], indent=1))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]), *sys.argv[2:3])
