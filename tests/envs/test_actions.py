"""Micro-steps: grids that hold the default, and a way there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.envs.actions import Actions
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators
from scopegym.space import Choice
from scopegym.workflow import Step

ACTIONS = Actions(tuple(operators))


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
