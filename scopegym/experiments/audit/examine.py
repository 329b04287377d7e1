"""Examination of a reward on one labelled problem: scores of workflows and of wrong answers.

The truth is compared with the reward but is never an input of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scopegym.agents.base import registry as agents
from scopegym.agents.encoding import Encoding
from scopegym.answers import agreement, described
from scopegym.answers.base import ERRORS
from scopegym.artifacts import Artifact, State
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.experiments.audit.adversaries import against, noise_images, wrong_size
from scopegym.registry import PluginFile
from scopegym.rewards.base import Reward, Score
from scopegym.workers import one_thread
from scopegym.workflow import Workflow

#: Seed of the problems, different from those of training, validation and benchmark.
STREAM = 7001
#: Numbers of workflows, as shares of those on the problem itself: with a wrong image or prior, and
#: for the optimiser of reward minus truth.
MISLED, HUNTED = 0.2, 0.6
NOISE, OPTIMISER = "image replaced by noise", "an optimiser of reward minus truth"
#: With a wrong pixel size the problem itself is wrong. Such answers are reported but not scored:
#: ``solve`` measures the lattice and corrects or refuses a wrong pixel size.
TOLD = tuple(f"workflows given a pixel size wrong by {100 * error:.0f} %" for error in ERRORS)


@dataclass(frozen=True)
class Judged:
    """The score of one answer: ``value``, ``terms`` as goodnesses 0..1, the ``truth``, and its
    workflow if it has one. ``seconds`` are those of operators and reward."""

    value: float
    terms: Mapping[str, float]
    truth: float
    workflow: Workflow | None = None
    seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Attack:
    """The ``number``-th answer of an adversary. ``wrong`` is False if it is mostly right."""

    name: str
    number: int
    judged: Judged
    wrong: bool


@dataclass(frozen=True)
class Examined:
    """The results for one problem: the scores of the true answer (``honest``), of workflows and of
    wrong answers. ``noise`` is the standard deviation of the white noise as a share of the image's
    range, None if unknown."""

    index: int
    name: str
    noise: float | None
    honest: Judged
    tried: tuple[Judged, ...]
    attacks: tuple[Attack, ...]


@dataclass(frozen=True)
class Job:
    """The task and reward to examine; it is sent to the workers."""

    task: str
    reward: Reward
    workflows: int
    seed: int = 0
    plugins: tuple[PluginFile, ...] = ()

    def problem(self, index: int) -> Problem:
        """The problem of this number, the same in every process."""
        rng = np.random.default_rng([STREAM, self.seed, index])
        problem = tasks[self.task].sample(rng)
        return replace(problem, reward=self.reward)

    def rng(self, index: int, what: int) -> np.random.Generator:
        """The random generator of one part of an examination."""
        return np.random.default_rng([STREAM, self.seed, index, what])


class Examiner:
    """Examines problems in a worker."""

    def __init__(self, job: Job) -> None:
        one_thread()
        self.job = job

    def examine(self, index: int) -> Examined:
        """The examination of one problem."""
        problem = self.job.problem(index)
        problem.evaluate(problem.task.expert)  # fills the cache of what is computed once per image
        tried = tuple(self._tried(problem, index))
        return Examined(
            index,
            problem.micrograph.name,
            problem.micrograph.metadata.get("noise"),
            judged_answer(problem, true_answer(problem)),
            tried,
            tuple(attacks(self.job, problem, index, tried)),
        )

    def _tried(self, problem: Problem, index: int) -> Iterator[Judged]:
        rng, encoding = self.job.rng(index, 0), Encoding(problem.task)
        for _ in range(self.job.workflows):
            yield judged(problem, problem.evaluate(encoding.sample(rng)))


def true_answer(problem: Problem) -> Artifact:
    """The truth; every problem of an audit has one."""
    truth = problem.micrograph.truth
    assert truth is not None
    return truth


def judged_answer(problem: Problem, answer: Artifact) -> Judged:
    """The score of an answer without a workflow."""
    score = problem.judge(State.start(problem.source).with_artifact(answer))
    return Judged(score.value, _terms(problem, score), truth_of(problem, answer))


def judged(problem: Problem, trial: Trial, truth: Problem | None = None) -> Judged:
    """The score of a workflow; its agreement is with the truth of another problem, if given."""
    answer = None if trial.failure else problem.run(trial.workflow).get(problem.task.answer)
    return Judged(
        trial.score.value,
        _terms(problem, trial.score),
        truth_of(truth or problem, answer),
        trial.workflow,
        (trial.seconds_operators, trial.seconds_reward),
    )


def truth_of(problem: Problem, answer: Artifact | None) -> float:
    """Agreement of an answer with the truth; 0 without a truth, as in noise."""
    truth = problem.micrograph.truth
    if answer is None or truth is None:
        return 0.0
    key = ("truth", answer.key, truth.key)
    return problem.cache.get(key, lambda: agreement(truth, answer, problem.prior))


def _terms(problem: Problem, score: Score) -> dict[str, float]:
    return problem.reward.goodnesses(score.terms)


# --- wrong answers --------------------------------------------------------------------------------


def attacks(job: Job, problem: Problem, index: int, tried: Sequence[Judged]) -> Iterator[Attack]:
    """The answers of every adversary, the best answers to a wrong image or prior, and the best
    wrong answer of the optimiser and of the workflows tried before it."""
    truth = true_answer(problem)
    limit = described(truth).wrong_below(truth)
    for entry in against(problem, truth):
        for number, answer in enumerate(wrong_answers(job, problem, index, entry.name)):
            found = judged_answer(problem, answer)
            yield Attack(entry.title, number, found, found.truth < limit)
    rng = job.rng(index, 1)
    for number, (name, misleading) in enumerate(misleadings(job, problem, index)):
        found = misled(problem, misleading, rng, round(MISLED * job.workflows), limit)
        yield Attack(name, number, found, found.truth < limit)
    hunted = [*hunt(problem, job.rng(index, 2), 1 + round(HUNTED * job.workflows)), *tried]
    found = _best_wrong(hunted, limit)
    yield Attack(OPTIMISER, 0, found, found.truth < limit)


def wrong_answers(job: Job, problem: Problem, index: int, name: str) -> Iterator[Artifact]:
    """The answers of one adversary on one problem, the same in every process."""
    truth = true_answer(problem)
    entries = against(problem, truth)
    number = [entry.name for entry in entries].index(name)
    return entries[number].function(problem, truth, job.rng(index, 10 + number))


def misleadings(job: Job, problem: Problem, index: int) -> list[tuple[str, Problem]]:
    """Wrong problems: an image of noise, and a wrong pixel size."""
    noise = [(NOISE, blind) for blind in noise_images(problem, job.rng(index, 3))]
    sizes = [(name, wrong_size(problem, error)) for name, error in zip(TOLD, ERRORS, strict=True)]
    return [*noise, *sizes]


def misled(
    problem: Problem, misleading: Problem, rng: np.random.Generator, count: int, limit: float
) -> Judged:
    """The best wrong answer of the expert's and some random workflows to a wrong problem.

    Answers are compared with the truth of the correct problem. On an image without truth all are
    wrong.
    """
    encoding = Encoding(problem.task)
    workflows = [problem.task.expert, *(encoding.sample(rng) for _ in range(count))]
    trials = (misleading.evaluate(workflow) for workflow in workflows)
    right = problem if misleading.micrograph.truth is not None else misleading
    return _best_wrong([judged(misleading, trial, right) for trial in trials], limit)


def _best_wrong(found: Sequence[Judged], limit: float) -> Judged:
    """The wrong answer of highest value; if none is wrong, the right one of highest value."""
    return max(found, key=lambda one: (one.truth < limit, one.value))


class Fooling(Problem):
    """Maximises reward minus truth, to find reward hacks."""

    def judge(self, state: State) -> Score:
        """The reward minus the truth, mapped to 0..1; terms do not change."""
        score = super().judge(state)
        truth = truth_of(self, state.get(self.task.answer))
        return Score(score.terms, (1 + score.value - truth) / 2)


def hunt(problem: Problem, rng: np.random.Generator, count: int) -> list[Judged]:
    """The trials of an evolution that maximises reward minus truth, with about this many
    workflows."""
    fooling = Fooling(
        problem.micrograph, problem.prior, problem.task, problem.reward, problem.cache
    )
    trials = agents["evolution"].search(fooling, count * len(problem.task.expert), rng)
    return [judged(problem, problem.evaluate(trial.workflow)) for trial in trials]
