"""Bayesian optimisation earns its cost over drawing at random."""

from __future__ import annotations

import numpy as np
import pytest

from scopegym.agents.base import registry as agents
from scopegym.agents.bayes import _Walked, starting_points
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.sample.crystal import Crystal

ATOMS = tasks["atoms"]
DETECTORS = next(slot.operators for slot in ATOMS.slots if slot.name == "detect")
PROBLEMS = [
    ("YBa2Cu3O7", (1, 0, 0), 8.0, 0.2),
    ("YBa2Cu3O7", (0, 0, 1), 9.0, 0.5),
    ("SrTiO3", (0, 0, 1), 10.0, 0.3),
    ("Cu", (1, 1, 0), 8.0, 0.4),
    ("MoS2", (0, 0, 1), 9.0, 0.35),
    ("MoS2", (0, 0, 1), 7.0, 0.2),
]


def make(name: str, zone: tuple[int, int, int], spacing_px: float, noise: float) -> Problem:
    projection = Crystal.named(name).project(zone)
    size = projection.spacing_nm / spacing_px
    micrograph = simulate_crystal(
        projection,
        (96, 96),
        size,
        seed=5,
        rotation_deg=11,
        noise=noise,
        background=0.3,
        column_sigma_nm=0.18 * projection.spacing_nm,
    )
    lattice = projection.lattice_px(size, 11)
    return Problem(micrograph, projection.prior((96, 96), lattice_px=lattice), ATOMS)


def best(agent: str, problem: Problem, budget: int, seed: int) -> float:
    return max(trial.score.value for trial in agents[agent].search(problem, budget, seed))


@pytest.mark.slow
def test_bayes_is_no_worse_than_random_on_any_kind_of_problem_and_better_on_average():
    gains = []
    for problem_arguments in PROBLEMS:
        problem = make(*problem_arguments)
        bayes = best("bayes", problem, 60, 0)
        random = np.mean([best("random", problem, 60, seed) for seed in range(2)])
        gains.append(bayes - random)
    print("gains of bayes over random:", np.round(gains, 3))
    assert np.mean(gains) > 0
    assert min(gains) > -0.01


@pytest.mark.parametrize("problem_arguments", PROBLEMS[:2], ids=str)
def test_bayes_begins_with_the_expert_and_never_ends_below_it(problem_arguments):
    problem = make(*problem_arguments)
    trials = list(agents["bayes"].search(problem, 30, 0))
    assert trials[0].workflow == ATOMS.expert
    expert = problem.evaluate(ATOMS.expert).score.value
    assert max(trial.score.value for trial in trials) >= expert


def test_search_covers_all_detectors_and_goes_beyond_its_starting_points():
    problem = make(*PROBLEMS[0])
    trials = list(agents["bayes"].search(problem, 60, 0))
    used = {step.op for trial in trials for step in trial.workflow if step.op in DETECTORS}
    assert used == set(DETECTORS)
    starts = starting_points(ATOMS)
    assert [trial.workflow for trial in trials[: len(starts)]] == starts
    later = [trial.workflow for trial in trials[len(starts) :]]
    assert len(later) >= 8 and len({w.key for w in later}) == len(later)
    assert all(workflow not in starts for workflow in later)


def test_starting_points_vary_only_the_detector():
    starts = starting_points(ATOMS)
    assert starts[0] == ATOMS.expert
    assert {step.op for start in starts for step in start if step.op in DETECTORS} == set(DETECTORS)
    for start in starts[1:]:
        differing = [a.op for a, b in zip(start, ATOMS.expert, strict=True) if a != b]
        assert len(differing) == 1


def test_the_model_says_what_scikit_optimize_says_of_the_same_forest():
    from skopt.learning import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    points, loss = rng.random((14, 16)), rng.random(14)
    forest = ExtraTreesRegressor(100, min_samples_leaf=3, random_state=1).fit(points, loss)
    cube = rng.random((500, 16))
    for mine, theirs in zip(
        _Walked(forest).predict(cube, return_std=True),
        forest.predict(cube, return_std=True),
        strict=True,
    ):
        assert mine.tolist() == theirs.tolist()
