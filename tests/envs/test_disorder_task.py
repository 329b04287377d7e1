"""Task disorder: what the search can write, and the problems that it is trained on."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Labels
from scopegym.envs import registry as tasks
from scopegym.workflow import Workflow

TASK = tasks["disorder"]
figure_4 = importlib.import_module("scopegym.experiments.reproduce.disorder")


@pytest.mark.parametrize(
    "workflow", [TASK.expert, figure_4.chain(), figure_4.variants(TASK.expert)[5]]
)
def test_the_search_can_write_the_experts_and_the_papers_workflow(workflow: Workflow):
    encoding = Encoding(TASK)
    point = encoding.encode(workflow)
    assert point is not None
    assert encoding.decode(point) == workflow
    assert len(workflow) <= TASK.horizon and TASK.grammar.filled(workflow) is not None


def test_the_expert_is_the_best_single_guess_on_training_problems():
    found = []
    for seed in (1, 2, 4):
        problem = TASK.sample(np.random.default_rng(seed))
        problem.check()
        truth = problem.micrograph.truth
        assert isinstance(truth, Labels) and truth.background == 0
        trial = problem.evaluate(TASK.expert)
        assert trial.failure is None
        found.append(trial.score.value)
    assert np.mean(found) > 0.5, found
