"""A workflow or a reward beyond its limits is a recorded failure, not an end or a hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from scopegym.agents.base import registry as agents
from scopegym.artifacts import Image, Points
from scopegym.datasets.simulate_patterns import two_phases
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.grammar import Grammar, Slot
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.solve import search
from scopegym.limits import Limits
from scopegym.operators.base import operator
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.rewards.base import registry as terms
from scopegym.rewards.base import reward_term
from scopegym.sample import Expectation
from scopegym.workflow import Step, Workflow

LIMITS = Limits(seconds=1.0, nbytes=2**29)


@pytest.fixture
def plugins() -> Iterator[None]:
    """Operators and a reward that take long, or take much."""
    kept = [(registry, dict(registry._entries)) for registry in (operators, terms)]

    @operator(tasks=("atoms",))
    def sleeping(image: Image) -> Image:
        """Take long."""
        time.sleep(20)
        return image

    @operator(tasks=("atoms",))
    def greedy(image: Image) -> Image:
        """Take much."""
        return Image(np.ones((30_000, 30_000), np.float32)[: image.shape[0], : image.shape[1]])

    @reward_term(direction="maximize", bounds=(0.0, 1.0))
    def brooding(points: Points) -> float:
        """Take long to judge many points."""
        time.sleep(20 if len(points) else 0)
        return 1.0

    @reward_term(direction="maximize", bounds=(0.0, 1.0))
    def broken(points: Points) -> float:
        """Fail."""
        raise RuntimeError(f"{len(points)} points")

    yield
    for registry, entries in kept:
        registry._entries.clear()
        registry._entries.update(entries)


@pytest.fixture
def problem() -> Problem:
    micrograph = two_phases((96, 96), 8.0, noise=0.2)
    prior = Prior(8.0, count=150.0)
    return Problem(micrograph, prior, tasks["atoms"], limits=LIMITS)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("sleeping", "took longer than 1 s"), ("greedy", "needs more than 0.5 GiB")],
)
def test_an_operator_beyond_its_limits_is_a_recorded_failure(problem, name, reason):
    start = time.monotonic()
    trial = problem.evaluate(Workflow((Step("gaussian"), Step(name))))
    assert trial.failure == f"{name} {reason}"
    assert trial.score == problem.reward.worst and trial.executions == 2
    assert time.monotonic() - start < 10
    # What failed is not kept, what ran is.
    assert problem.evaluate(Workflow((Step("gaussian"),))).failure is None


@pytest.mark.usefixtures("plugins")
def test_a_search_goes_on(problem):
    trials = list(agents["random"].search(problem, 60, 0))
    failures = [trial.failure for trial in trials if trial.failure]
    assert {"sleeping took longer than 1 s", "greedy needs more than 0.5 GiB"} <= {*failures}
    assert len(failures) < len(trials)


@pytest.mark.usefixtures("plugins")
def test_a_reward_beyond_its_limits_is_a_recorded_failure(problem):
    slow = replace(problem, reward=problem.reward.plus("brooding"))
    trial = slow.evaluate(slow.task.expert)
    assert trial.failure == "The reward atoms-v2+brooding took longer than 1 s"
    assert trial.score == slow.reward.worst
    assert slow.evaluate(Workflow()).failure is None
    with pytest.raises(ScopegymError, match=r"No workflow succeeded .* took longer than"):
        search(slow, Expectation(slow.prior, None, ()), "expert", 3, 0)


@pytest.mark.usefixtures("plugins")
def test_so_it_is_in_an_episode(problem):
    slow = replace(problem, reward=problem.reward.plus("brooding"))
    rules = Rules(Grammar.of([Slot("only", ("local_maxima",))]), 3)
    episode = Episode.start(slow, rules)
    for action in rules.actions.encode(Step("local_maxima")):
        episode = episode.play(action)
    assert "took longer than 1 s" in episode.failure and episode.steps == ()


@pytest.mark.usefixtures("plugins")
def test_a_broken_reward_still_ends_the_search(problem):
    """It is a fault of the reward, for every workflow, and its author has to know."""
    broken = replace(problem, reward=problem.reward.plus("broken"))
    with pytest.raises(ScopegymError, match="The reward term broken fails: RuntimeError"):
        broken.evaluate(broken.task.expert)


def test_limits_follow_the_image_unless_given(problem):
    assert replace(problem, limits=None).limits == Limits.of((96, 96))
    assert problem.limits == LIMITS
