"""Does ``solve`` find disordered regions, and does the reward know? Issue numbers, printed."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import sys
import time

import cv2
import numpy as np
from scipy.stats import spearmanr

from scopegym.artifacts import Labels
from scopegym.crystal import crystal
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem, Trial
from scopegym.experiments.expectations import Expectation
from scopegym.experiments.solve import search
from scopegym.metrics import mask_overlap
from scopegym.workflow import Workflow

cv2.setNumThreads(1)
TASK = tasks["disorder"]
YBCO = crystal("YBa2Cu3O7").project((1, 0, 0))


def problem(seed: int, fraction: float | None = None, size: int = 384) -> Problem:
    """An image of 32 to 55 spacings; a twentieth to three tenths of it disordered, or as given."""
    rng = np.random.default_rng(1000 + seed)
    drawn = float(rng.uniform(0.05, 0.3))
    micrograph = simulate_disorder(
        YBCO,
        (size, size),
        YBCO.spacing_nm / float(np.exp(rng.uniform(np.log(7), np.log(12)))),
        fraction=drawn if fraction is None else fraction,
        count=int(rng.integers(1, 4)),
        displacement=float(rng.uniform(0.15, 0.3)),
        noise=float(rng.uniform(0.03, 0.2)),
        background=float(rng.uniform(0, 0.3)),
        seed=seed,
    )
    prior = YBCO.prior((size, size), pixel_size_nm=micrograph.pixel_size_nm)
    return Problem(micrograph, prior, TASK)


def overlap(one: Problem, trial: Trial) -> float:
    """Intersection over union with the truth, 0 for a failure."""
    labels = None if trial.failure else one.run(trial.workflow).labels
    assert isinstance(one.micrograph.truth, Labels)
    return 0.0 if labels is None else mask_overlap(labels, one.micrograph.truth)


def solved(images: int, agent: str, budget: int, fraction: float | None) -> None:
    """Overlap, or the found share where nothing is disordered; and what the reward lost."""
    found, regrets, ranks = [], [], []
    for seed in range(images):
        one = problem(seed, fraction)
        start = time.perf_counter()
        result = search(one, Expectation(one.prior, None, ()), agent, budget, seed)
        seconds = time.perf_counter() - start
        if fraction == 0:
            found.append(float(np.mean(result.labels.map > 0)))
            print(f"{seed:3d}  none disordered: found {found[-1]:.4f}  {seconds:.1f} s", flush=True)
            continue
        tried = [overlap(one, trial) for trial in result.trials]
        found.append(overlap(one, result.chosen))
        regrets.append(max(tried) - found[-1])
        ranks.append(float(spearmanr(tried, [t.score.value for t in result.trials])[0]))
        print(
            f"{seed:3d}  fraction {one.micrograph.metadata['fraction']:.2f}  overlap "
            f"{found[-1]:.3f}  best tried {max(tried):.3f}  rank correlation {ranks[-1]:.2f}  "
            f"{seconds:.1f} s",
            flush=True,
        )
        one.cache.clear()
    print(f"{agent}, budget {budget}: mean {np.mean(found):.3f}, median {np.median(found):.3f}")
    if regrets:
        print(
            f"regret mean {np.mean(regrets):.3f}, largest {max(regrets):.3f}; rank correlation "
            f"mean {np.mean(ranks):.2f}, least {min(ranks):.2f}"
        )


def speed() -> None:
    """One evaluation of about 4,000 columns once the points are there."""
    size = YBCO.spacing_nm / 16
    micrograph = simulate_disorder(YBCO, (1024, 1024), size, fraction=0.15, noise=0.1)
    one = Problem(micrograph, YBCO.prior((1024, 1024), pixel_size_nm=size), TASK)
    points = one.run(Workflow(TASK.expert.steps[:3])).points
    problem(0, size=192).evaluate(TASK.expert)  # imports
    one.judge(one.run(TASK.null))  # what the reward derives from the image alone is kept too
    assert points is not None
    start, processor = time.perf_counter(), time.process_time()
    one.evaluate(TASK.expert)
    spent = time.process_time() - processor
    print(f"{len(points)} columns: {time.perf_counter() - start:.2f} s, {spent:.2f} s of processor")


if __name__ == "__main__":
    count, who, executions = sys.argv[1:4] or ("30", "evolution", "480")
    solved(int(count), who, int(executions), None)
    solved(6, who, int(executions), 0.0)
    speed()
