"""Does ``solve`` find disordered regions, and does the reward know?

    python benchmarks/disorder.py [--images N] [--agent NAME] [--budget N] [--part NAME]

The parts: ``solve`` on images with and without disorder, ``reward`` over random workflows,
``sublattices`` of the multislice image, ``speed`` at 4,000 columns.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import time

import cv2
import numpy as np
from scipy.stats import spearmanr

from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Labels, Points
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem, Trial
from scopegym.experiments.reproduce.disorder import species
from scopegym.experiments.solve import search
from scopegym.metrics import mask_overlap
from scopegym.sample import Expectation
from scopegym.sample.crystal import crystal
from scopegym.workflow import Workflow

cv2.setNumThreads(1)
TASK = tasks["disorder"]
YBCO = crystal("YBa2Cu3O7").project((1, 0, 0))
#: Random workflows on each of so many images.
WORKFLOWS, RANKED = 60, 10
#: Images without disorder.
ORDERED = 6


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
    labels = None if trial.failure else one.run(trial.workflow).need(Labels)
    assert isinstance(one.micrograph.truth, Labels)
    return 0.0 if labels is None else mask_overlap(labels, one.micrograph.truth)


def solved(images: int, agent: str, budget: int) -> None:
    """Overlap of the chosen regions with the truth, of the expert's, and of the best tried."""
    rows = []
    for seed in range(images):
        one = problem(seed)
        start = time.perf_counter()
        result = search(one, Expectation(one.prior, None, ()), agent, budget, seed)
        seconds = time.perf_counter() - start
        expert = overlap(one, one.evaluate(TASK.expert))
        best = max(overlap(one, trial) for trial in result.trials)
        rows.append((overlap(one, result.chosen), expert, best))
        print(
            f"{seed:3d}  fraction {one.micrograph.metadata['fraction']:.2f}  overlap "
            f"{rows[-1][0]:.3f}  expert {expert:.3f}  best tried {best:.3f}  {seconds:.1f} s",
            flush=True,
        )
        one.cache.clear()
    found, first, best = np.transpose(rows)
    print(
        f"{agent}, budget {budget}, {images} images: mean overlap {found.mean():.3f}, median "
        f"{np.median(found):.3f}, least {found.min():.3f}; expert's {first.mean():.3f}, least "
        f"{first.min():.3f}; regret mean {(best - found).mean():.3f}, largest "
        f"{(best - found).max():.3f}",
        flush=True,
    )


def ordered(agent: str, budget: int) -> None:
    """The share of the field called disordered where nothing is."""
    shares = []
    for seed in range(ORDERED):
        one = problem(seed, 0.0)
        result = search(one, Expectation(one.prior, None, ()), agent, budget, seed)
        shares.append(float(np.mean(result.labels.map > 0)))
    print(f"none disordered, {ORDERED} images: found {', '.join(f'{s:.4f}' for s in shares)}")


def ranked() -> None:
    """Does the reward order random workflows as the truth does, and what does its choice lose?"""
    rows = []
    for seed in range(RANKED):
        one, rng = problem(seed), np.random.default_rng(seed)
        drawn = [one.evaluate(Encoding(TASK).sample(rng)) for _ in range(WORKFLOWS)]
        trials = [trial for trial in drawn if trial.failure is None]
        values = [trial.score.value for trial in trials]
        overlaps = [overlap(one, trial) for trial in trials]
        regret = max(overlaps) - overlaps[int(np.argmax(values))]
        rows.append((float(spearmanr(values, overlaps)[0]), regret))
        print(
            f"{seed:3d}  {len(trials)} random workflows ran: rank correlation {rows[-1][0]:.2f}, "
            f"best overlap {max(overlaps):.3f}, regret {regret:.3f}",
            flush=True,
        )
        one.cache.clear()
    ranks, regrets = np.transpose(rows)
    print(
        f"random workflows, {RANKED} images: rank correlation mean {ranks.mean():.2f}, least "
        f"{ranks.min():.2f}; regret mean {regrets.mean():.3f}, largest {regrets.max():.3f}"
    )


def speed() -> None:
    """One evaluation of about 4,000 columns once the points are there."""
    size = YBCO.spacing_nm / 16
    micrograph = simulate_disorder(YBCO, (1024, 1024), size, fraction=0.15, noise=0.1)
    one = Problem(micrograph, YBCO.prior((1024, 1024), pixel_size_nm=size), TASK)
    points = one.run(Workflow(TASK.expert.steps[:3])).need(Points)
    problem(0, size=192).evaluate(TASK.expert)  # imports
    one.judge(one.run(TASK.null))  # what the reward derives from the image alone is kept too
    assert points is not None
    start, processor = time.perf_counter(), time.process_time()
    one.evaluate(TASK.expert)
    spent = time.process_time() - processor
    print(f"{len(points)} columns: {time.perf_counter() - start:.2f} s, {spent:.2f} s of processor")


def sublattices() -> None:
    """Share of the columns of the multislice image in a class of their species."""
    for image in ("ybco_100", "ybco_100_poisson"):
        print(f"sub-lattices of {image}: {species(bundled(image))[1]:.3f} right")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--agent", default="bayes")
    parser.add_argument("--budget", type=int, default=120)
    parts = ("solve", "reward", "sublattices", "speed")
    parser.add_argument("--part", choices=parts, help="only this one")
    given = parser.parse_args()
    chosen = parts if given.part is None else (given.part,)
    if "sublattices" in chosen:
        sublattices()
    if "speed" in chosen:
        speed()
    if "reward" in chosen:
        ranked()
    if "solve" in chosen:
        solved(given.images, given.agent, given.budget)
        ordered(given.agent, given.budget)


if __name__ == "__main__":
    main()
