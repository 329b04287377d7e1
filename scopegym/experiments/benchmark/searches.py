"""One search with its history: the cost of each trial, and the choice after it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from scopegym.agents.base import Agent, Budget, Front
from scopegym.agents.policy import Policy
from scopegym.aggregates import hypervolume
from scopegym.answers import agreement
from scopegym.artifacts import Source, State
from scopegym.cache import Cache
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.experiments.solve import choose
from scopegym.rewards.base import Score
from scopegym.workflow import Workflow


class Seconds(NamedTuple):
    """Time of operators and reward, and of the agent itself (``overhead``) [s]."""

    operators: float = 0.0
    reward: float = 0.0
    overhead: float = 0.0

    def plus(self, other: Seconds) -> Seconds:
        """The sum."""
        return Seconds(*(one + two for one, two in zip(self, other, strict=True)))


class Timed(NamedTuple):
    """A trial and its time, including that of the agent before it."""

    trial: Trial
    seconds: Seconds


def timed(trials: Iterator[Trial]) -> list[Timed]:
    """Carry out a search and time its trials."""
    watched = []
    start = time.perf_counter()
    for trial in trials:
        spent = time.perf_counter() - start
        operators, reward = trial.seconds_operators, trial.seconds_reward
        overhead = max(spent - operators - reward, 0.0)
        watched.append(Timed(trial, Seconds(operators, reward, overhead)))
        start = time.perf_counter()
    return watched


class Point(NamedTuple):
    """The state of a search after a trial: executions and seconds so far, the ``best`` value so
    far, and score and truth of the current choice. The truth is None if unknown."""

    executions: int
    operators: float
    reward: float
    overhead: float
    best: float
    score: float
    truth: float | None


@dataclass(frozen=True)
class Run:
    """The result of a search of one image, as plain values."""

    image: int
    score: float
    terms: dict[str, float]
    truth: float | None
    executions: int
    evaluations: int
    failed_workflows: int
    seconds: Seconds
    hypervolume: float
    workflow: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "seconds": self.seconds._asdict()}


def judged(
    image: int, problem: Problem, search: Sequence[Timed], expert: Workflow | None = None
) -> tuple[Run, list[Point]]:
    """The choice at the end of a search, and the state after each trial.

    ``expert`` replaces the task's expert in the choice. Raises ScopegymError when no workflow
    succeeded.
    """
    trials = [entry.trial for entry in search]
    front, chosen, points = Front(problem.reward), None, []
    executions, seconds, truths = 0, Seconds(), dict[str, float | None]()
    for count, (trial, took) in enumerate(search, 1):
        executions, seconds = executions + trial.executions, seconds.plus(took)
        front.add(trial)
        if front.trials:
            chosen = choose(problem, trials[:count], front.best(), expert)
            if chosen.workflow.key not in truths:
                truths[chosen.workflow.key] = truth(problem, chosen.workflow)
        points.append(_point(problem, executions, seconds, front, chosen, truths))
    if chosen is None:
        raise ScopegymError(f"No workflow succeeded: {trials[0].failure if trials else 'none'}.")
    run = Run(
        image=image,
        score=chosen.score.value,
        terms=dict(chosen.score.terms),
        truth=truths[chosen.workflow.key],
        executions=executions,
        evaluations=len(trials),
        failed_workflows=sum(trial.failure is not None for trial in trials),
        seconds=seconds,
        hypervolume=covered(front),
        workflow=chosen.workflow.to_dict(),
    )
    return run, points


def _point(
    problem: Problem,
    executions: int,
    seconds: Seconds,
    front: Front,
    chosen: Trial | None,
    truths: dict[str, float | None],
) -> Point:
    if chosen is None:  # no valid trial yet: the score is 0
        return Point(executions, *seconds, 0.0, 0.0, 0.0 if has_truth(problem) else None)
    best = front.best().score.value
    return Point(executions, *seconds, best, chosen.score.value, truths[chosen.workflow.key])


def truth(problem: Problem, workflow: Workflow) -> float | None:
    """Agreement of a workflow's answer with the truth; None if the truth is unknown."""
    if not has_truth(problem):
        return None
    answer = problem.run(workflow).get(problem.task.answer)
    value = agreement(problem.micrograph.truth, answer, problem.prior)
    return value if math.isfinite(value) else None


def has_truth(problem: Problem) -> bool:
    """True if the truth of the image is known."""
    return problem.micrograph.truth is not None


def covered(front: Front) -> float:
    """The hypervolume of goodness that a front dominates, 0 to 1."""
    points = [[*front.reward.goodnesses(trial.score.terms).values()] for trial in front]
    return hypervolume(np.array(points)) if points else 0.0


# --- one workflow for many images ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ensemble(Problem):
    """Many images as one problem. A workflow runs on all of them; terms and value are means."""

    members: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Ensemble:
        """These problems with one common cache."""
        cache = Cache()
        members = tuple(replace(problem, cache=cache) for problem in problems)
        first = members[0]
        untold = replace(first.micrograph, truth=None)  # each has its own
        return cls(untold, first.prior, first.task, first.reward, cache, members)

    @property
    def source(self) -> Source:
        raise ScopegymError(f"{len(self.members)} images together have no single picture.")

    def run(self, workflow: Workflow) -> State:
        del workflow
        raise ScopegymError(f"{len(self.members)} images together have no single result.")

    def evaluate(self, workflow: Workflow) -> Trial:
        """The trial of a workflow on all images, with the cost of all. An image on which it fails
        has the worst score."""
        trials = [member.evaluate(workflow) for member in self.members]
        names = trials[0].score.terms
        terms = {name: float(np.mean([t.score.terms[name] for t in trials])) for name in names}
        failures = [trial.failure for trial in trials if trial.failure is not None]
        return Trial(
            workflow,
            Score(terms, float(np.mean([trial.score.value for trial in trials]))),
            sum(trial.executions for trial in trials),
            sum(trial.seconds_operators for trial in trials),
            sum(trial.seconds_reward for trial in trials),
            failures[0] if len(failures) == len(trials) else None,
        )


# --- warm starts ---------------------------------------------------------------------------------


def warm_started(
    agent: Agent, policy: Policy, problem: Problem, budget: int, seed: int
) -> Iterator[Trial]:
    """The policy's proposal, then a search with this proposal as the expert's workflow.

    The budget includes the proposal once: a searcher that begins with the same workflow is not
    charged for it.
    """
    proposal = policy.propose(problem)
    yield proposal
    if proposal.failure is not None:
        return
    warm = replace(problem, task=replace(problem.task, expert=proposal.workflow))
    purse = Budget(warm, budget - proposal.executions)
    for trial in agent.function(warm, purse, np.random.default_rng(seed)):
        if trial.workflow == proposal.workflow:
            purse.spent -= trial.executions
            yield replace(trial, executions=0)
        else:
            yield trial
