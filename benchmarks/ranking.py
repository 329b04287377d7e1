"""How well a reward ranks workflows on images that our simulator did not make.

    python benchmarks/ranking.py DATA [--budget N] [--jobs N]

Random workflows on every image of ``truth/cases.py``, with right and wrong premises, are scored
with the terms of ``atoms`` at several weights. Prints, by weights: Kendall's tau of score and F1
within an image; by how much the F1 of the best-scored workflow is below the best F1 (mean and 90th
percentile with right premises, mean with wrong ones); and over images tau of the best score and F1.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from scipy.stats import kendalltau
from truth.cases import Case, Premise, cases

import scopegym
from scopegym.artifacts import Points
from scopegym.errors import ScopegymError

IMAGE = ("left_out", "invented")
PRIOR = ("count_error", "spacing_error", "spacing_excess", "image_evidence")
#: Weights of the terms that hold points against the image, and against the prior.
WEIGHTS = ((0, 1), (1, 1), (1, 0.5), (1, 0.25), (1, 0.1), (1, 0))
#: Wrong premises that are tried on an image.
WRONG = 3


def tried(job: tuple[Case, Premise, int]) -> list[dict[str, Any]]:
    """F1 and goodness of every random workflow."""
    import cv2

    cv2.setNumThreads(1)
    case, premise, budget = job
    try:
        result = scopegym.solve(
            case.micrograph, agent="random", budget=budget, seed=1, **premise.options
        )
    except ScopegymError:
        return []
    rows = []
    for trial in result.trials:
        points = None if trial.failure else result.state_of(trial).get(Points)
        if points is not None:
            goodness = result.problem.reward.goodnesses(trial.score.terms)
            rows.append({"f1": case.f1(points.yx), **goodness})
    return rows


def value(row: dict[str, float], weights: tuple[float, float]) -> float:
    image, prior = weights
    return float(
        np.prod([row[term] ** image for term in IMAGE] + [row[term] ** prior for term in PRIOR])
    )


def told(found: dict[tuple[str, str, bool], list[dict[str, Any]]]) -> None:
    print("image prior   tau   regret  90 %   wrong   tau over images")
    for weights in WEIGHTS:
        within, regrets, best = [], defaultdict(list), []
        for (_, _, right), rows in found.items():
            f1 = np.array([row["f1"] for row in rows])
            score = np.array([value(row, weights) for row in rows])
            chosen = int(np.argmax(score))
            regrets[right].append(f1.max() - f1[chosen])
            best.append((score[chosen], f1[chosen]))
            tau = kendalltau(score, f1).statistic
            if right and f1.max() > 0.8 and np.isfinite(tau):
                within.append(tau)
        over = kendalltau(*np.array(best).T).statistic
        print(
            f"{weights[0]:5g} {weights[1]:5g} {np.mean(within):6.3f} {np.mean(regrets[True]):7.4f} "
            f"{np.percentile(regrets[True], 90):6.3f} {np.mean(regrets[False]):7.3f} {over:7.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    todo, names = [], []
    for case in cases(options.data):
        wrong = [premise for premise in case.premises if not premise.right][:WRONG]
        for premise in [p for p in case.premises if p.right] + wrong:
            todo.append((case, premise, options.budget))
            names.append((case.name, premise.name, premise.right))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        results = zip(names, pool.map(tried, todo), strict=True)
        found = {name: rows for name, rows in results if len(rows) >= 5}
    print(f"{len(found)} images with premises, {sum(map(len, found.values()))} workflows")
    told(found)


if __name__ == "__main__":
    main()
