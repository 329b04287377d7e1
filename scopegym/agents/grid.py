"""Grid search around the expert's workflow, like systematic tuning by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.envs.problem import Problem, Trial
from scopegym.operators.base import registry as operators
from scopegym.workflow import Step, Workflow

#: Least number of levels per parameter.
LEAST_LEVELS = 3


@agent(chance=False)
def grid(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Grid search around the expert's workflow, over its most important parameters.

    The grid is regular and as fine as the budget allows. All other parameters keep their values.
    """
    del rng
    task = problem.task
    affordable = budget.left // len(task.expert) - 1
    count = max(
        (n for n in range(1, len(task.tuned) + 1) if LEAST_LEVELS**n <= affordable), default=0
    )
    levels = int(affordable ** (1 / count) + 1e-9) if count else 0
    tuned = task.tuned[:count]
    settings = product(*(_bins(name, levels) for name in tuned)) if count else ()
    varied = (_with(task.expert, dict(zip(tuned, values, strict=True))) for values in settings)
    for workflow in (task.expert, *varied):
        trial = budget.evaluate(workflow)
        if trial is None:
            return
        yield trial


def _bins(name: str, levels: int) -> tuple[Any, ...]:
    op, parameter = name.split(".")
    return operators[op].parameters[parameter].space.bins(levels)


def _with(workflow: Workflow, values: dict[str, Any]) -> Workflow:
    """The workflow with these values of parameters, named ``operator.parameter``."""
    return Workflow(
        tuple(
            Step(
                step.op,
                {key: values.get(f"{step.op}.{key}", value) for key, value in step.params.items()},
            )
            for step in workflow
        )
    )
