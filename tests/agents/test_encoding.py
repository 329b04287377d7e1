"""The cube that all searchers share covers the task's workflows, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Image, Points
from scopegym.envs.problem import registry as tasks
from scopegym.operators.base import operator
from scopegym.operators.base import registry as operators
from scopegym.space import Choice, Integer, Real, Scale
from scopegym.workflow import Step, Workflow

ENCODING = Encoding(tasks["atoms"])
points = st.lists(st.floats(0, 1), min_size=ENCODING.dimensions, max_size=ENCODING.dimensions).map(
    np.array
)


@given(points)
def test_every_point_of_the_cube_is_a_workflow_of_the_task(point: np.ndarray):
    workflow = ENCODING.decode(point)
    assert {step.op for step in workflow} <= set(tasks["atoms"].operators)
    positions = [
        next(i for i, slot in enumerate(ENCODING.slots) if step.op in slot.operators)
        for step in workflow
    ]
    assert positions == sorted(set(positions))
    needed = {i for i, slot in enumerate(ENCODING.slots) if not slot.optional}
    assert needed <= set(positions)


@given(points)
def test_encode_undoes_decode(point: np.ndarray):
    workflow = ENCODING.decode(point)
    encoded = ENCODING.encode(workflow)
    assert encoded.shape == (ENCODING.dimensions,)
    assert ((encoded >= 0) & (encoded <= 1)).all()
    again = ENCODING.decode(encoded)
    assert [step.op for step in again] == [step.op for step in workflow]
    for ours, theirs in zip(again, workflow, strict=True):
        for key, value in theirs.params.items():
            # Recipes hold six digits; that is all a round trip may cost.
            assert ours.params[key] == (
                pytest.approx(value, rel=3e-6, abs=3e-6) if isinstance(value, float) else value
            )


@given(points)
def test_canonical_is_idempotent_and_keeps_the_workflow(point: np.ndarray):
    once = ENCODING.canonical(point)
    assert np.allclose(ENCODING.canonical(once), once, atol=2e-5)
    assert [s.op for s in ENCODING.decode(once)] == [s.op for s in ENCODING.decode(point)]


@given(points)
def test_coordinates_that_do_not_apply_are_neutral(point: np.ndarray):
    canonical, workflow = ENCODING.canonical(point), ENCODING.decode(point)
    for slot, start, end in zip(
        ENCODING.slots, ENCODING.starts[:-1], ENCODING.starts[1:], strict=True
    ):
        filling = [step for step in workflow if step.op in slot.operators]
        used = len(filling[0].params) if filling else 0
        assert (canonical[start + 1 + used : end] == 0.5).all()


@settings(max_examples=60, deadline=None)
@given(points, st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.15, 3.0]))
def test_mutation_stays_inside_and_leaves_the_parent_alone(point, seed: int, width: float):
    parent = ENCODING.canonical(point)
    before = parent.copy()
    child = ENCODING.mutate(parent, np.random.default_rng(seed), width)
    assert np.array_equal(parent, before)
    assert child.shape == parent.shape and ((child >= 0) & (child <= 1)).all()
    ENCODING.decode(child)
    changed = [
        not np.array_equal(child[a:b], parent[a:b])
        for a, b in zip(ENCODING.starts[:-1], ENCODING.starts[1:], strict=True)
    ]
    assert sum(changed) <= 3


def test_mutation_reaches_every_operator_in_time():
    rng, seen = np.random.default_rng(0), set()
    point = ENCODING.encode(tasks["atoms"].expert)
    for _ in range(600):
        point = ENCODING.canonical(ENCODING.mutate(point, rng))
        seen |= {step.op for step in ENCODING.decode(point)}
    assert seen == set(tasks["atoms"].operators)


def test_samples_visit_all_fillings_of_a_slot_evenly():
    rng = np.random.default_rng(0)
    workflows = [ENCODING.sample(rng) for _ in range(2000)]
    for slot in ENCODING.slots:
        filled = Counter(
            next((s.op for s in workflow if s.op in slot.operators), None) for workflow in workflows
        )
        options = len(slot.operators) + slot.optional
        assert set(filled) == {*slot.operators, *([None] if slot.optional else [])}
        assert min(filled.values()) > 0.7 * 2000 / options


def test_the_experts_workflow_lies_in_the_cube():
    expert = tasks["atoms"].expert
    decoded = ENCODING.decode(ENCODING.encode(expert))
    assert [step.op for step in decoded] == [step.op for step in expert]


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("gaussian",),
        ("laplacian_of_gaussian",),
        ("laplacian_of_gaussian", "gaussian", "refine_positions"),
        ("gaussian", "gaussian", "local_maxima", "refine_positions"),
        ("local_maxima", "template_match", "refine_positions"),
        ("local_maxima", "refine_positions", "drop_edge"),
    ],
)
def test_workflows_outside_the_slots_have_no_point(steps: tuple[str, ...]):
    assert ENCODING.encode(Workflow(tuple(map(Step, steps)))) is None


@pytest.fixture
def plugged() -> Iterator[None]:
    before = dict(operators._entries)

    @operator(tasks=("atoms",))
    def many_knobs(
        image: Image,
        *,
        a: Annotated[float, Real(1.0, 100.0, log=True)] = 3.0,
        b: Annotated[int, Integer(1, 5)] = 2,
        c: Annotated[str, Choice(("x", "y", "z"))] = "y",
        d: Annotated[float, Scale(0.1, 0.3)] = 0.2,
        e: Annotated[bool, Choice((False, True))] = True,
        f: Annotated[float, Real(-1.0, 1.0)] = 0.0,
        g: Annotated[float, Real(-1.0, 1.0)] = 0.0,
    ) -> Points:
        """Detect with more parameters than any built-in detector."""
        del a, b, c, d, e, f, g
        return Points(((1, 1),), image.shape)

    @operator(tasks=("speckle",))
    def elsewhere(image: Image) -> Points:
        """Belongs to another task."""
        return Points(((1, 1),), image.shape)

    yield
    operators._entries.clear()
    operators._entries.update(before)


@pytest.mark.usefixtures("plugged")
def test_plug_ins_that_ask_for_the_task_join_the_slot_they_fit():
    encoding = Encoding(tasks["atoms"])
    holders = [slot.name for slot in encoding.slots if "many_knobs" in slot.operators]
    assert holders == ["detect"] and "elsewhere" not in tasks["atoms"].operators
    assert encoding.dimensions > ENCODING.dimensions
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        workflow = encoding.sample(rng)
        assert encoding.decode(encoding.encode(workflow)).steps[0].op == workflow.steps[0].op
        for step in workflow:
            if step.op == "many_knobs":
                seen.add((step.params["b"], step.params["c"], step.params["e"]))
    assert len(seen) > 20


def test_plug_ins_leave_with_their_test():
    assert "many_knobs" not in tasks["atoms"].operators
