"""The contract of an agent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from scopegym.agents import registry as agents
from scopegym.agents.base import Agent
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.testing.base import (
    Check,
    carry_out,
    check_declared,
    crystal,
    prior_of,
    require,
)
from scopegym.workflow import Workflow

#: Operator executions of the test searches.
BUDGET = 28


def lattice_problem() -> Problem:
    """A small problem of the task ``atoms`` with an empty cache."""
    return Problem(crystal(9.0, (96, 96)), prior_of(9.0), tasks["atoms"])


@cache
def searched(agent: Agent, seed: int, budget: int = BUDGET) -> tuple[Trial, ...]:
    return tuple(agent.search(lattice_problem(), budget, seed))


def traces(trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """Workflows and scores, for comparison."""
    return [(str(trial.workflow), trial.score.value) for trial in trials]


def agent_is_declared(agent: Agent) -> None:
    """The docstring begins with one sentence."""
    check_declared("agent", agent, agents)


def agent_keeps_the_budget(agent: Agent) -> None:
    """Trials stay within the budget, and too small a budget is refused."""
    expert = len(tasks["atoms"].expert)
    for budget in (expert, expert + 1, BUDGET):
        trials = searched(agent, 0, budget)
        require(trials, f"Agent {agent.name} tries nothing with {budget} operator executions.")
        spent = sum(trial.executions for trial in trials)
        require(spent <= budget, f"Agent {agent.name} spends {spent} executions of {budget}.")
    for budget in (0, expert - 1):
        try:
            next(iter(agent.search(lattice_problem(), budget, 0)), None)
        except ScopegymError:
            continue
        raise AssertionError(f"Agent {agent.name} takes a budget of {budget} executions.")


def agent_is_deterministic(agent: Agent) -> None:
    """The same seed gives the same trials; another seed gives others if the agent is random."""
    found = traces(searched(agent, 0))
    again = traces(list(agent.search(lattice_problem(), BUDGET, 0)))
    require(again == found, f"Agent {agent.name} gives other trials from the same seed.")
    other = traces(searched(agent, 1)) != found
    require(
        other == agent.chance,
        f"Agent {agent.name} gives {'other' if other else 'the same'} trials from another seed, "
        f"and says chance={agent.chance}.",
    )


def agent_tells_the_truth(agent: Agent) -> None:
    """Workflows use the task's operators, survive a recipe, and reproduce their scores."""
    problem = lattice_problem()
    for trial in searched(agent, 0):
        foreign = sorted({step.op for step in trial.workflow} - set(problem.task.operators))
        require(not foreign, f"Agent {agent.name} uses {foreign}, which the task does not allow.")
        read = Workflow.from_dict(trial.workflow.to_dict())
        require(read == trial.workflow, f"A workflow of agent {agent.name} is changed by a recipe.")
        score = problem.evaluate(trial.workflow).score
        require(
            score == trial.score,
            f"Agent {agent.name} tells a score of {trial.score.value} with terms "
            f"{dict(trial.score.terms)}; it is {score.value} with terms {dict(score.terms)}.",
        )


def agent_searches_noise(agent: Agent) -> None:
    """An image of pure noise is searched to the end, with scores in 0..1."""
    picture = Micrograph(np.random.default_rng(0).normal(0, 1, (80, 80)), name="noise")
    trials = list(agent.search(Problem(picture, prior_of(8.0), tasks["atoms"]), BUDGET, 0))
    inside = trials and all(0 <= trial.score.value <= 1 for trial in trials)
    require(inside, f"Agent {agent.name} finds no score in 0..1 in noise.")


AGENT_CHECKS: tuple[Check, ...] = (
    agent_is_declared,
    agent_keeps_the_budget,
    agent_is_deterministic,
    agent_tells_the_truth,
    agent_searches_noise,
)


def check_agent(agent: Agent) -> tuple[str, ...]:
    """Check an agent's contract on task ``atoms`` and return the names of the checks.

    Raises AssertionError for a broken contract.
    """
    return carry_out(AGENT_CHECKS, agent)
