"""A learned policy as a search agent: first its proposal, then similar workflows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.policy import Policy
from scopegym.envs.problem import Problem, Trial
from scopegym.workflow import Step, Workflow

#: Share of later proposals that are draws from the policy; the others are neighbours of the best
#: workflow so far. Draws change the structure, neighbours only parameters.
DRAWN = 0.5
#: Standard deviation of a neighbour's parameters, as a share of their range: finer than the bins.
WIDTH = 0.08


@agent(episodes=True)
def ppo(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Take the proposal of the task's own policy, then search around it."""
    yield from guided(Policy.shipped(problem.task.name), problem, budget, rng)


def guided(
    policy: Policy, problem: Problem, budget: Budget, rng: np.random.Generator
) -> Iterator[Trial]:
    """The policy's proposal, then draws from it and neighbours of the best workflow so far."""
    shortest = max(1, len(policy.rules.grammar.missing(0)))
    episode = policy.play(problem, horizon=budget.left)
    best = budget.record(episode)
    yield best
    while budget.left >= shortest:
        trial = None
        if best.failure is None and best.workflow.steps and rng.random() >= DRAWN:
            trial = budget.evaluate(neighbour(best.workflow, rng))
        if trial is None:
            trial = budget.record(policy.play(problem, rng, horizon=budget.left))
        yield trial
        better = best.failure is not None or trial.score.value > best.score.value
        if trial.failure is None and better:
            best = trial


def neighbour(workflow: Workflow, rng: np.random.Generator) -> Workflow:
    """The workflow with a small change of every parameter of one step."""
    chosen = int(rng.integers(len(workflow)))
    step = workflow.steps[chosen]
    moved = {}
    for name, value in step.params.items():
        space = step.operator.parameters[name].space
        unit = space.to_unit(value) + rng.normal(0, WIDTH)
        moved[name] = space.from_unit(float(np.clip(unit, 0, 1)))
    steps = list(workflow)
    steps[chosen] = Step(step.op, moved)
    return Workflow(tuple(steps))
