"""What holds for every agent, present and future."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import pytest

from scopegym.agents.base import registry as agents
from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Image
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import operator
from scopegym.operators.base import registry as operators
from scopegym.sample.crystal import Crystal
from scopegym.space import Real
from scopegym.testing import AGENT_CHECKS
from scopegym.testing.agents import traces
from scopegym.testing.base import Check
from scopegym.workflow import Step, Workflow

#: The libraries that extras bring; their agents are tested where they are installed.
EXTRAS = {
    "botorch": "botorch",
    "optuna": "optuna",
    "optuna_gp": "optuna",
    "optuna_nsga2": "optuna",
}
AGENTS = sorted(name for name in agents if find_spec(EXTRAS.get(name, "scopegym")))
ATOMS = tasks["atoms"]
BUDGET = 28


def make_problem(noise: float = 0.2) -> Problem:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    size = projection.spacing_nm / 9
    micrograph = simulate_crystal(projection, (96, 96), size, seed=1, noise=noise)
    return Problem(micrograph, projection.prior((96, 96), pixel_size_nm=size), ATOMS)


def search(name: str, problem: Problem, budget: int = BUDGET, seed: int = 0) -> list[Trial]:
    return list(agents[name].search(problem, budget, seed))


@pytest.fixture
def failing_operator() -> Iterator[str]:
    """A plug-in that asks to be an action of the task and fails on half of its range."""
    before = dict(operators._entries)

    @operator(tasks=("atoms",))
    def moody(image: Image, *, mood: Annotated[float, Real(0.0, 1.0)] = 0.9) -> Image:
        """Fail in a bad mood."""
        if mood > 0.3:
            raise RuntimeError(f"mood {mood:.2f}")
        return image

    yield moody.name
    operators._entries.clear()
    operators._entries.update(before)


@pytest.fixture(scope="module")
def found() -> dict[str, list[Trial]]:
    """One search of every agent on the same problem."""
    return {name: search(name, make_problem()) for name in AGENTS}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("check", AGENT_CHECKS, ids=lambda check: check.__name__)
def test_contract(name: str, check: Check):
    check(agents[name])


@pytest.mark.parametrize("name", AGENTS)
def test_executions_before_cache_hits_stay_within_the_budget(name: str, found):
    trials = found[name]
    assert trials
    assert all(trial.executions == len(trial.workflow) for trial in trials)
    assert sum(trial.executions for trial in trials) <= BUDGET


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("budget", [3, 4, 5, 7])
def test_smallest_budgets_give_at_least_one_trial_and_are_kept(name: str, budget: int):
    for seed in range(4):
        trials = search(name, make_problem(), budget, seed)
        assert trials
        assert sum(trial.executions for trial in trials) <= budget


@pytest.mark.parametrize("name", AGENTS)
def test_operators_run_no_oftener_than_is_charged(name: str, monkeypatch: pytest.MonkeyPatch):
    calls, original = [], type(operators["gaussian"]).apply

    def counted(self, state, parameters, prior):
        calls.append(self.name)
        return original(self, state, parameters, prior)

    monkeypatch.setattr(type(operators["gaussian"]), "apply", counted)
    trials = search(name, make_problem())
    assert len(calls) == sum(trial.executions for trial in trials)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("budget", [-1, 0, 2])
def test_a_budget_below_the_experts_cost_is_refused(name: str, budget: int):
    assert len(ATOMS.expert) == 3
    with pytest.raises(ScopegymError, match=rf"budget of {budget} .* takes 3"):
        search(name, make_problem(), budget)


@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"expert"}))
def test_most_of_the_budget_is_spent(name: str, found):
    longest = len(Encoding(ATOMS).slots)
    least = BUDGET * 0.6 if name == "grid" else BUDGET - longest + 1
    assert sum(trial.executions for trial in found[name]) >= least


@pytest.mark.parametrize("name", AGENTS)
def test_generator_and_seed_are_the_same_beginning(name: str, found):
    trials = agents[name].search(make_problem(), BUDGET, np.random.default_rng(0))
    assert traces(list(trials)) == traces(found[name])


PROGRAM = """
import json, sys
sys.path.insert(0, {folder!r})
import test_agents_contract as t
print(json.dumps({{name: t.traces(t.search(name, t.make_problem())) for name in t.AGENTS}}))
"""


def test_same_trials_in_a_fresh_process_with_other_hash_seeds(found):
    program = PROGRAM.format(folder=os.path.dirname(__file__))  # noqa: PTH120
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )
    theirs = json.loads(done.stdout)
    for name in AGENTS:
        assert [tuple(pair) for pair in theirs[name]] == traces(found[name]), name


@pytest.mark.parametrize("name", AGENTS)
def test_proposals_lie_in_the_tasks_space(name: str, found):
    encoding = Encoding(ATOMS)
    for trial in found[name]:
        assert encoding.encode(trial.workflow) is not None
        assert {step.op for step in trial.workflow} <= set(ATOMS.operators)
        # A step checks its parameters when it is made; a recipe does so once more.
        assert Workflow.from_dict(trial.workflow.to_dict()) == trial.workflow


@pytest.mark.parametrize("name", AGENTS)
def test_trials_come_one_by_one(name: str):
    trials = agents[name].search(make_problem(), BUDGET, 0)
    first = next(trials)
    assert first.executions <= BUDGET
    trials.close()


@pytest.mark.parametrize("name", AGENTS)
def test_failing_workflows_are_recorded_and_the_search_goes_on(name: str, failing_operator: str):
    problem = make_problem()
    trials = search(name, problem, 45)
    used = [t for t in trials if failing_operator in {step.op for step in t.workflow}]
    for trial in used:
        # It fits two slots of the task, so it may come twice.
        moods = [s.params["mood"] for s in trial.workflow if s.op == failing_operator]
        assert (trial.failure is not None) == (max(moods) > 0.3)
        if trial.failure:
            assert "RuntimeError: mood" in trial.failure
            assert trial.score.value == 0 and trial.score == problem.reward.worst
    assert any(trial.failure is None for trial in trials)
    assert sum(trial.executions for trial in trials) <= 45


@pytest.mark.parametrize("name", AGENTS)
def test_search_goes_on_when_nothing_but_failures_comes(name: str, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(type(operators["gaussian"]), "apply", broken)
    trials = search(name, make_problem())
    assert trials and all(t.score.value == 0 for t in trials)
    # An episode leaves out an operator that fails; a workflow fails as a whole.
    assert all(trial.failure.endswith("OSError: disk on fire") for trial in trials)
    assert sum(trial.executions for trial in trials) <= BUDGET


def test_a_plug_in_joins_the_first_slot_of_its_kind_only(failing_operator: str):
    assert failing_operator in Encoding(ATOMS).task.operators
    holders = [slot.name for slot in ATOMS.grammar.slots if failing_operator in slot.operators]
    assert holders == ["contrast"]


def test_the_plug_in_is_gone_afterwards():
    assert "moody" not in operators and "moody" not in ATOMS.operators
    with pytest.raises(ScopegymError, match="Unknown operator"):
        Step("moody")
