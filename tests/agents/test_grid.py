"""The grid is regular, as fine as the budget pays, and turns only the knobs that matter most."""

from __future__ import annotations

from itertools import product

import pytest

from scopegym.agents.base import registry as agents
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.operators.base import registry as operators
from scopegym.sample.crystal import Crystal

ATOMS = tasks["atoms"]
COST = len(ATOMS.expert)


@pytest.fixture(scope="module")
def problem() -> Problem:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    size = projection.spacing_nm / 8
    micrograph = simulate_crystal(projection, (64, 64), size, seed=1, noise=0.1)
    return Problem(micrograph, projection.prior((64, 64), pixel_size_nm=size), ATOMS)


def tuned(trial: Trial) -> tuple[object, ...]:
    steps = {step.op: step.params for step in trial.workflow}
    return tuple(steps[op][key] for op, key in (name.split(".") for name in ATOMS.tuned))


def defaults() -> tuple[object, ...]:
    steps = {step.op: step.params for step in ATOMS.expert}
    return tuple(steps[op][key] for op, key in (name.split(".") for name in ATOMS.tuned))


@pytest.mark.parametrize(
    ("affordable", "levels", "turned"),
    [(3, 3, 1), (8, 8, 1), (9, 3, 2), (15, 3, 2), (16, 4, 2), (26, 5, 2), (27, 3, 3), (64, 4, 3)],
)
def test_grid_is_the_finest_regular_one_that_the_budget_pays(problem, affordable, levels, turned):
    budget = (1 + affordable) * COST + COST - 1
    expert, *trials = agents["grid"].search(problem, budget, 0)
    assert expert.workflow == ATOMS.expert
    spaces = [
        operators[op].parameters[key].space
        for op, key in (name.split(".") for name in ATOMS.tuned[:turned])
    ]
    expected = set(product(*(space.bins(levels) for space in spaces)))
    assert {tuned(trial)[:turned] for trial in trials} == expected
    assert len(trials) == len(expected) == levels**turned
    assert all(tuned(trial)[turned:] == defaults()[turned:] for trial in trials)


@pytest.mark.parametrize("affordable", [1, 2, 3])
def test_a_budget_below_the_smallest_grid_pays_for_the_expert(problem, affordable):
    trials = list(agents["grid"].search(problem, affordable * COST, 0))
    assert [trial.workflow for trial in trials] == [ATOMS.expert]


def test_structure_is_always_the_experts(problem):
    for trial in agents["grid"].search(problem, 30, 0):
        assert [step.op for step in trial.workflow] == [step.op for step in ATOMS.expert]
        assert trial.workflow.steps[0] == ATOMS.expert.steps[0]


def test_all_tuned_parameters_exist_in_the_experts_workflow():
    used = {step.op for step in ATOMS.expert}
    for name in ATOMS.tuned:
        op, key = name.split(".")
        assert op in used and key in operators[op].parameters
