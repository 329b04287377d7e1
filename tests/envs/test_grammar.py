"""The grammar: what may come next, what a workflow lacks, and which slots its steps fill."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.agents.encoding import Encoding
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.grammar import Grammar, Slot
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.workflow import Step, Workflow

ATOMS = tasks["atoms"]
#: Names of operators that all read and give an image, in slots that share some.
NAMES = ("gaussian", "median", "invert")
slots = st.lists(
    st.builds(
        Slot,
        st.just("a slot"),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)
written = st.lists(st.sampled_from(NAMES), max_size=5)


def every_workflow(grammar: Grammar) -> set[tuple[str, ...]]:
    """All that can be in the slots."""
    filled = product(*(slot.options for slot in grammar.slots))
    return {tuple(name for name in names if name is not None) for names in filled}


@given(slots, written)
def test_a_workflow_fits_where_some_filling_of_the_slots_is_it(some, names):
    grammar = Grammar.of(some)
    filled = grammar.filled(Step(name) for name in names)
    assert (filled is not None) == (tuple(names) in every_workflow(grammar))
    if filled is not None:
        assert [step.op for step in filled if step is not None] == names
        for slot, step in zip(grammar.slots, filled, strict=True):
            assert (None if step is None else step.op) in slot.options


@given(slots, written)
def test_what_is_written_by_the_rule_and_then_completed_fits(some, names):
    grammar, position, steps = Grammar.of(some), 0, []
    for name in names:
        following = grammar.following(position)
        if name in following:
            # Nothing mandatory is passed over.
            assert all(at >= following[name] for at in grammar.missing(position))
            steps.append(Step(name))
            position = following[name] + 1
    steps += [grammar.fallbacks[at] for at in grammar.missing(position)]
    assert grammar.filled(steps) is not None


@given(slots)
def test_what_can_be_written_fits_and_no_operator_of_one_slot_is_out_of_reach(some):
    grammar = Grammar.of(some)
    reached, begun = set(), [((), 0)]
    while begun:
        names, position = begun.pop()
        if not grammar.missing(position):
            reached.add(names)
        begun += [((*names, op), at + 1) for op, at in grammar.following(position).items()]
    assert reached <= every_workflow(grammar)
    if sum(len(slot.operators) for slot in some) == len(grammar.operators):
        assert reached == every_workflow(grammar)


def test_fallbacks_are_the_experts_steps():
    assert [ATOMS.grammar.fallbacks[at] for at in ATOMS.grammar.missing(0)] == [
        Step("laplacian_of_gaussian"),
        Step("refine_positions"),
    ]
    small = ATOMS.grammar.only(["local_maxima", "gaussian"])
    assert [slot.name for slot in small.slots] == ["denoise", "detect"]
    assert [small.fallbacks[at] for at in small.missing(0)] == [Step("local_maxima")]


def test_an_operator_of_no_slot_joins_one_or_is_refused():
    grammar = ATOMS.grammar.only(["drop_edge", "local_maxima"])
    assert [slot.operators for slot in grammar.slots] == [("local_maxima",), ("drop_edge",)]
    with pytest.raises(ScopegymError, match="'kmeans' reads Features and gives Labels; no slot"):
        ATOMS.grammar.only(["kmeans"])


@pytest.mark.parametrize("name", sorted(tasks))
def test_searchers_and_episodes_write_the_same_workflows(name: str):
    """A draw of the searchers can be played in an episode, and an episode can be encoded."""
    task, rng = tasks[name], np.random.default_rng(0)
    encoding, rules = Encoding(task), Rules(task.grammar, task.horizon)
    for _ in range(50):
        steps, position = list(encoding.sample(rng)), 0
        for step in steps:
            position = task.grammar.following(position)[step.op] + 1
        assert not task.grammar.missing(position) and len(steps) <= task.horizon
    problem = task.sample(rng)
    for _ in range(3):
        episode, promised = Episode.start(problem, rules), 0
        while not episode.ended:
            legal = np.flatnonzero(episode.mask)
            action = int(rng.choice(legal[1:] if len(legal) > 1 else legal))
            # What the cheapest way on costs never falls, and the episode costs no less.
            assert promised <= episode.least(action) <= task.horizon
            promised, episode = episode.least(action), episode.play(action)
        if episode.trial.failure is None:
            assert promised <= episode.executions <= task.horizon
            assert encoding.encode(episode.workflow) is not None


def test_a_failed_mandatory_step_is_a_failed_trial(monkeypatch):
    from scopegym.operators.base import Operator

    def broken(*_):
        raise RuntimeError("not today")

    problem = ATOMS.sample(np.random.default_rng(0))
    monkeypatch.setattr(Operator, "apply", broken)
    rules = Rules(ATOMS.grammar, 2)
    episode = Episode.start(problem, rules)
    for _ in range(2):
        for action in rules.actions.encode(Step("local_maxima")):
            episode = episode.play(action)
    assert episode.ended == "stopped" and episode.workflow == Workflow()
    assert episode.trial.failure == "local_maxima: RuntimeError: not today"
    assert problem.evaluate(Workflow()).failure is None


def test_a_fallback_is_the_step_that_the_expert_puts_there():
    slots = (Slot("a", ("gaussian",)), Slot("b", ("gaussian",), optional=False))
    only = Step("gaussian", {"sigma": 0.3})
    assert Grammar.of(slots, [only]).fallbacks == (Step("gaussian"), only)
