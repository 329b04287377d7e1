"""Search on one problem, choice among the trials, and a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scopegym.agents.base import Agent, Front, Pick
from scopegym.agents.base import registry as agents
from scopegym.artifacts import State
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError, one_line
from scopegym.experiments.belief import Verdict, verdict
from scopegym.experiments.findings import Outcome
from scopegym.sample import Expectation
from scopegym.sample.calibration import Calibration
from scopegym.workflow import Workflow

#: Default budget [operator executions].
DEFAULT_BUDGET = 120


@dataclass(frozen=True, eq=False)
class Result(Outcome):
    """The result of a search on one image."""

    problem: Problem
    agent: str
    seed: int
    budget: int
    trials: tuple[Trial, ...]
    front: Front
    chosen: Trial
    pick: Pick
    seconds: float
    calibration: Calibration | None = None
    warnings: tuple[str, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)
    #: Further figures for ``result.json``: where the time went.
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """The state that the chosen workflow leaves."""
        return self.state_of(self.chosen)

    def state_of(self, trial: Trial) -> State:
        """The state that the workflow of a trial leaves."""
        return self.problem.run(trial.workflow)

    @property
    def evaluations(self) -> int:
        """Number of tested workflows."""
        return len(self.trials)

    @property
    def executions(self) -> int:
        """Operator executions spent, before cache hits."""
        return sum(trial.executions for trial in self.trials)

    @property
    def way(self) -> str:
        """The origin of the result in one line."""
        return str(self.chosen.workflow)

    @property
    def recorded(self) -> dict[str, Any]:
        """The entries of a recipe beside the workflow."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return {
            "task": self.problem.task.name,
            "image": self.problem.micrograph.name,
            "sha256": self.problem.micrograph.sha256,
            "agent": self.agent,
            "seed": self.seed,
            "budget": self.budget,
            "evaluations": self.evaluations,
            "operator_executions": self.executions,
            "seconds": self.seconds,
            "timing": self.timing,
            "prior": self.problem.prior.to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "reward": self.problem.reward.name,
            "answer": dict(self.found.numbers),
            "score": _score(self.chosen),
            **self.verdict.to_dict(),
            "front": [
                {**_score(trial), "workflow": trial.workflow.to_dict()} for trial in self.front
            ],
            "chosen": {"pick": self.pick, "workflow": self.chosen.workflow.to_dict()},
            "warnings": list(self.warnings),
        }


def search(
    problem: Problem,
    expectation: Expectation,
    agent: str,
    budget: int,
    seed: int,
    pick: Pick = "value",
    on_trial: Callable[[Trial], None] | None = None,
    first: Sequence[Workflow] = (),
) -> Result:
    """Spend the budget on a problem and choose one of the trials.

    The workflows ``first`` are tested before the agent's, within the same budget.
    """
    problem.check()
    start = time.perf_counter()
    trials = []
    for trial in explore(problem, agents[agent], budget, seed, first):
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    seconds = time.perf_counter() - start
    front = Front(problem.reward, trials)
    if not front.trials:
        raise ScopegymError(
            f"No workflow succeeded on '{problem.micrograph.name}': {trials[0].failure}."
        )
    chosen = choose(problem, trials, front.best(pick))
    return Result(
        problem=problem,
        agent=agent,
        seed=seed,
        budget=budget,
        trials=tuple(trials),
        front=front,
        chosen=chosen,
        pick=pick,
        seconds=seconds,
        calibration=expectation.calibration,
        warnings=(*expectation.warnings, *_failures(trials)),
        verdict=verdict(problem, chosen.score, expectation),
        timing=_timing(trials, seconds),
    )


def explore(
    problem: Problem,
    agent: Agent,
    budget: int,
    seed: np.random.Generator | int,
    first: Sequence[Workflow] = (),
) -> Iterator[Trial]:
    """The agent's trials, after those of finding nothing and of the workflows to try first, where
    the budget covers them besides the expert's."""
    null = problem.task.null
    for workflow in (*(() if null is None else (null,)), *first):
        if len(workflow) + len(problem.task.expert) <= budget:
            budget -= len(workflow)
            yield problem.evaluate(workflow)
    yield from agent.search(problem, budget, seed)


def choose(
    problem: Problem, trials: Sequence[Trial], best: Trial, expert: Workflow | None = None
) -> Trial:
    """The trial to keep of those that tie with the best one, next to the task's ``expert`` or to
    another workflow."""
    expert = problem.task.expert if expert is None else expert
    return break_ties(trials, best, expert, problem.task.tie)


def break_ties(trials: Sequence[Trial], best: Trial, expert: Workflow, tie: float) -> Trial:
    """Of the trials whose value is within ``tie`` of the best one's, the one that differs in the
    fewest steps from what an expert would do; of several, the first.

    The reward does not see some differences, such as those at the border. Among equal values, steps
    that differ from the expert's are avoided.
    """
    tied = [t for t in trials if t.failure is None and best.score.value - t.score.value <= tie]
    return min(tied, key=lambda trial: len({*trial.workflow} ^ {*expert}))


def _failures(trials: Sequence[Trial]) -> list[str]:
    failures = Counter(trial.failure for trial in trials if trial.failure is not None)
    if not failures:
        return []
    (reason, _), *_ = failures.most_common(1)
    return [
        f"{failures.total()} of {len(trials)} workflows failed and were left out, most often "
        f"because: {one_line(reason, 200)}."
    ]


def _score(trial: Trial) -> dict[str, Any]:
    return {"value": trial.score.value, "terms": dict(trial.score.terms)}


def _timing(trials: Sequence[Trial], seconds: float) -> dict[str, float]:
    operators = float(np.sum([trial.seconds_operators for trial in trials]))
    reward = float(np.sum([trial.seconds_reward for trial in trials]))
    return {
        "operators_s": operators,
        "reward_s": reward,
        "search_s": max(seconds - operators - reward, 0.0),
    }
