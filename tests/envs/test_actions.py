"""Micro-steps: grids that hold the default, and a way there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.envs.actions import Actions
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators
from scopegym.space import Choice
from scopegym.workflow import Step, Workflow

ACTIONS = Actions(tuple(operators))
ATOMS = tasks["atoms"]


@pytest.mark.parametrize("name", sorted(operators))
def test_grids_lie_in_their_spaces_and_hold_the_default(name: str):
    for parameter, values in zip(
        operators[name].parameters.values(), ACTIONS.grids[name], strict=True
    ):
        assert parameter.default in values and len(set(values)) == len(values)
        assert all(parameter.space.check(value) == value for value in values)
        assert len(values) <= ACTIONS.bins or isinstance(parameter.space, Choice)


@given(st.data())
def test_a_step_of_grid_values_is_written_down_and_read_back(data):
    name = data.draw(st.sampled_from(sorted(operators)))
    values = [data.draw(st.sampled_from(grid)) for grid in ACTIONS.grids[name]]
    step = Step(name, dict(zip(operators[name].parameters, values, strict=True)))
    draft = None
    for action in ACTIONS.encode(step):
        draft = ACTIONS.extend(draft, action)
    assert ACTIONS.finished(draft) and ACTIONS.step(draft) == step


def test_numbers_do_not_overlap_and_names_tell_them():
    assert ACTIONS.names()[: ACTIONS.first_bin] == ["stop", *operators]
    assert len(ACTIONS.names()) == ACTIONS.size
    with pytest.raises(ScopegymError, match="none of"):
        Actions(("gaussian",)).encode(Step("median"))


# What is left of an episode's workflow -----------------------------------------------------------


def test_steps_that_were_replaced_unread_are_dropped():
    problem = ATOMS.sample(np.random.default_rng(0))
    written = Workflow(
        (
            Step("local_maxima"),
            Step("gaussian"),
            Step("template_match"),
            Step("invert"),
            Step("drop_weak"),
        )
    )
    kept = problem.essential(written)
    assert [step.op for step in kept] == ["gaussian", "template_match", "drop_weak"]
    assert problem.evaluate(kept).score == problem.evaluate(written).score
    assert problem.essential(kept) == kept


def test_refinement_reads_the_image_so_its_filter_stays():
    problem = ATOMS.sample(np.random.default_rng(0))
    steps = (Step("local_maxima"), Step("gaussian"), Step("refine_positions"))
    assert problem.essential(Workflow(steps)).steps == steps


def test_obligatory_steps_are_added_as_the_expert_takes_them():
    refined = Workflow((Step("local_maxima"), Step("refine_positions", {"radius": 0.4})))
    assert ATOMS.completed(refined) == refined
    bare = ATOMS.completed(Workflow((Step("local_maxima"),)))
    assert bare.steps[1] == Step("refine_positions")
    nothing = ATOMS.completed(Workflow())
    assert [step.op for step in nothing] == ["laplacian_of_gaussian", "refine_positions"]
