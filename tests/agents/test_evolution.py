"""Regularised evolution: what makes it that, and that it earns more than chance."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scopegym.agents import evolution as module
from scopegym.agents.base import registry as agents
from scopegym.agents.bayes import starting_points
from scopegym.agents.encoding import Encoding
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem, Slot, Task, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Step, Workflow

ATOMS = tasks["atoms"]
PROBLEMS = [
    ("YBa2Cu3O7", (0, 0, 1), 0.5),
    ("SrTiO3", (0, 0, 1), 0.3),
    ("Cu", (1, 1, 0), 0.4),
    ("MoS2", (0, 0, 1), 0.35),
]


def make(name: str, zone: tuple[int, int, int], noise: float, task: Task = ATOMS) -> Problem:
    projection = Crystal.named(name).project(zone)
    size = projection.spacing_nm / 9
    micrograph = simulate_crystal(projection, (96, 96), size, seed=5, noise=noise, background=0.3)
    return Problem(micrograph, projection.prior((96, 96), pixel_size_nm=size), task)


def search(problem: Problem, budget: int, seed: int = 0, agent: str = "evolution") -> list[Trial]:
    return list(agents[agent].search(problem, budget, seed))


def test_parents_are_drawn_from_the_youngest_only(monkeypatch: pytest.MonkeyPatch):
    drawn_from, original = [], module.tournament

    def watched(living, rng):
        drawn_from.append([trial.workflow for trial in living])
        return original(living, rng)

    monkeypatch.setattr(module, "tournament", watched)
    tried = [trial.workflow for trial in search(make(*PROBLEMS[0]), 100)]
    size = module.POPULATION
    assert all(len(living) == size for living in drawn_from)
    alive = {tuple(w.key for w in living) for living in drawn_from}
    # The last proposal may not be paid for any more; its parents are the last trials all the same.
    ages = range(size, len(tried) + 1)
    assert alive == {tuple(w.key for w in tried[end - size : end]) for end in ages}


def test_a_tournament_picks_the_best_of_its_draw_and_not_of_all():
    living = [SimpleNamespace(score=SimpleNamespace(value=v)) for v in (0.1, 0.9, 0.4, 0.3)]
    rng = SimpleNamespace(integers=lambda *_, **__: np.array([0, 3, 2, 3, 0]))
    assert module.tournament(living, rng) is living[2]


def test_it_begins_with_the_starting_points_and_repeats_none():
    trials = search(make(*PROBLEMS[0]), 400)
    starts = starting_points(ATOMS)
    assert [trial.workflow for trial in trials[: len(starts)]] == starts
    encoding = Encoding(ATOMS)
    points = np.array([encoding.encode(trial.workflow) for trial in trials])
    apart = np.abs(points[:, None] - points).max(axis=2)
    assert apart[~np.eye(len(points), dtype=bool)].min() >= 1e-4


def test_a_space_of_two_workflows_is_tried_out_and_then_repeated():
    slots = (Slot("contrast", ("invert",)), Slot("scale", ("standardize",), optional=False))
    task = replace(ATOMS, slots=slots, expert=Workflow((Step("standardize"),)))
    problem = make(*PROBLEMS[0], task)
    trials = search(problem, 30)
    assert {len(trial.workflow) for trial in trials[:2]} == {1, 2}
    assert sum(trial.executions for trial in trials) >= 29


def test_evolution_is_no_worse_than_chance_on_any_problem_and_better_on_average():
    gains = []
    for arguments in PROBLEMS:
        problem = make(*arguments)
        ours, chance = (
            np.mean([max(t.score.value for t in search(problem, 60, s, name)) for s in range(2)])
            for name in ("evolution", "random")
        )
        gains.append(ours - chance)
    print("gains of evolution over random:", np.round(gains, 3))
    assert np.mean(gains) > 0.03
    assert min(gains) > -0.01


def test_evolution_goes_beyond_its_starting_points():
    gains = []
    for arguments in PROBLEMS:
        values = [trial.score.value for trial in search(make(*arguments), 120)]
        gains.append(max(values) - max(values[: len(starting_points(ATOMS))]))
    print("gains of evolution over its starting points:", np.round(gains, 4))
    assert np.mean(gains) > 0
