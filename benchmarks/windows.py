"""One setting for the whole image against one for every window, where contrast falls tenfold and
blur rises across the field; and two workers against one.

    python benchmarks/windows.py [--agents expert,grid,bayes] [--budget N] [--backend processes|ray]
    python benchmarks/windows.py --workers-only

The second holds two workers against one only; for that the machine must be idle.
"""

from __future__ import annotations

import argparse
import os
import time

from scopegym.answers import agreement
from scopegym.artifacts import Points
from scopegym.datasets.simulate import simulate_gradient
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem
from scopegym.experiments.solve import search
from scopegym.experiments.windows import Windowed, solve_windows
from scopegym.metrics import match_points
from scopegym.sample import Expectation, Sample
from scopegym.sample.crystal import Crystal

WINDOW, STRIDE = 128, 64
CRYSTAL, ZONE = "YBa2Cu3O7", (1, 0, 0)
#: Noise over the height of the brightest column beside it.
NOISE = 0.2
#: Width of the columns at the faint end over that at the bright end.
BLUR = 1.4


def fade(problem: Problem, points: Points) -> str:
    """F1 over the whole image, and the share of columns found in its brightest and faintest
    quarter."""
    truth, width = problem.micrograph.truth, problem.micrograph.shape[1]
    assert isinstance(truth, Points)
    ends = []
    for low in (0, 0.75 * width):
        rows = (truth.yx[:, 1] >= low) & (truth.yx[:, 1] < low + width / 4)
        radius = problem.prior.scale_px / 4
        ends.append(match_points(points, truth[rows], radius, 2 * radius).recall)
    f1 = agreement(truth, points, problem.prior)
    return f"F1 {f1:.3f}, found at the bright end {ends[0]:.3f}, at the faint end {ends[1]:.3f}"


def windows(
    problem: Problem, expectation: Expectation, agent: str, budget: int, workers: int, backend: str
) -> Windowed:
    return solve_windows(
        problem,
        expectation,
        WINDOW,
        STRIDE,
        agent=agent,
        budget=budget,
        workers=workers,
        backend=backend,  # type: ignore[arg-type]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", default="expert,grid,bayes")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--backend", default="processes")
    parser.add_argument("--workers-only", action="store_true")
    given = parser.parse_args()
    projection = Crystal.named(CRYSTAL).project(ZONE)
    micrograph = simulate_gradient(projection, blur=BLUR, noise=NOISE, seed=1)
    expectation = Sample(crystal=CRYSTAL, zone=ZONE).expect(micrograph)
    problem = Problem(micrograph, expectation.prior, tasks["atoms"])
    cores = os.cpu_count() or 1
    agents = given.agents.split(",")
    for agent in () if given.workers_only else agents:
        start = time.perf_counter()
        result = search(problem, expectation, agent, given.budget, 0)
        seconds = time.perf_counter() - start
        print(f"{agent}, one setting: {fade(problem, result.points)}; {seconds:.1f} s", flush=True)
        print(f"    {result.chosen.workflow}")
        merged = windows(problem, expectation, agent, given.budget, cores, given.backend)
        way = f"{len(merged.windows)} windows"
        print(f"{agent}, {way}: {fade(problem, merged.points)}; {merged.seconds:.1f} s", flush=True)
    one, two = (
        windows(problem, expectation, agents[-1], given.budget, workers, given.backend).seconds
        for workers in (1, 2)
    )
    seconds = f"one worker {one:.1f} s, two {two:.1f} s"
    print(f"{agents[-1]}, {seconds}, start included: {one / two:.2f} times")


if __name__ == "__main__":
    main()
