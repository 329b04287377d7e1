"""Agents of libraries that are not always there: what is asked of them, and that they are missed in
one clear sentence."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scopegym.agents.base import registry as agents
from scopegym.agents.bayes import starting_points
from scopegym.agents.encoding import Encoding
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem, Slot, Task, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Step, Workflow

ATOMS = tasks["atoms"]
#: What an agent needs, and what it answers to.
LIBRARIES = {
    "botorch": "botorch",
    "optuna": "optuna",
    "optuna_gp": "optuna",
    "optuna_nsga2": "optuna",
}
OPTUNAS = [name for name, library in LIBRARIES.items() if library == "optuna"]


def make(task: Task = ATOMS) -> Problem:
    projection = Crystal.named("YBa2Cu3O7").project((0, 0, 1))
    size = projection.spacing_nm / 9
    micrograph = simulate_crystal(projection, (96, 96), size, seed=5, noise=0.5, background=0.3)
    return Problem(micrograph, projection.prior((96, 96), pixel_size_nm=size), task)


def search(name: str, problem: Problem, budget: int, seed: int = 0) -> list[Trial]:
    pytest.importorskip(LIBRARIES[name])
    return list(agents[name].search(problem, budget, seed))


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every study that is begun."""
    optuna = pytest.importorskip("optuna")
    begun, create = [], optuna.create_study

    def created(**options):
        begun.append(create(**options))
        return begun[-1]

    monkeypatch.setattr(optuna, "create_study", created)
    return begun


# Where the library is missing


@pytest.mark.parametrize(("name", "library"), LIBRARIES.items())
def test_a_missing_library_is_said_in_one_sentence(name: str, library: str, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ScopegymError, match=rf'pip install "scopegym\[{library}\]"\.$') as caught:
        next(agents[name].search(make(), 30, 0))
    assert str(caught.value).count(". ") == 0 and "\n" not in str(caught.value)


def test_the_libraries_are_loaded_by_those_who_use_them_only():
    program = "import sys, scopegym.agents; print({'optuna', 'botorch'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# What is asked of all


@pytest.mark.parametrize("name", LIBRARIES)
def test_it_begins_with_the_starting_points_and_repeats_none(name: str):
    trials = search(name, make(), 45)
    starts = starting_points(ATOMS)
    assert [trial.workflow for trial in trials[: len(starts)]] == starts
    assert len({trial.workflow.key for trial in trials}) == len(trials) > len(starts) + 4


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_space_of_two_workflows_is_tried_out_and_then_repeated(name: str):
    slots = (Slot("contrast", ("invert",)), Slot("scale", ("standardize",), optional=False))
    task = replace(ATOMS, slots=slots, expert=Workflow((Step("standardize"),)))
    trials = search(name, make(task), 24)
    assert {len(trial.workflow) for trial in trials} == {1, 2}
    assert sum(trial.executions for trial in trials) >= 23


@pytest.mark.parametrize("name", LIBRARIES)
def test_nothing_is_printed_or_logged_and_no_chance_but_its_own_is_used(name: str, capfd, caplog):
    torch = pytest.importorskip("torch")
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    with caplog.at_level(logging.INFO):
        search(name, make(), 30)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith((*LIBRARIES.values(),))]
    after = np.random.get_state()[1], torch.random.get_rng_state()  # noqa: NPY002
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "budget"),
    [("botorch", 60), ("optuna", 200), ("optuna_gp", 60), ("optuna_nsga2", 120)],
)
def test_the_model_goes_beyond_the_starting_points(name: str, budget: int):
    values = [trial.score.value for trial in search(name, make(), budget)]
    starts = max(values[: len(starting_points(ATOMS))])
    print(f"{name}: best {max(values):.4f}, of its starting points {starts:.4f}")
    # The starting points are near the best that the image allows.
    assert max(values) > starts + 0.0005


# Optuna


@pytest.mark.parametrize("task", sorted(tasks))
@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_of_a_workflow_proposes_it(task: str, seed: int):
    fixed = pytest.importorskip("optuna").trial.FixedTrial
    from scopegym.agents.optuna_search import _choices, _proposed

    encoding = Encoding(tasks[task])
    drawn = encoding.sample(np.random.default_rng(seed))
    for workflow in (drawn, *starting_points(tasks[task])):
        trial = fixed(_choices(workflow, encoding.grammar))
        assert _proposed(trial, encoding.slots, whole=False) == workflow


def test_the_estimator_is_asked_for_used_parameters_only_and_told_values(studies):
    trials = search("optuna", make(), 60)
    slots, known = ATOMS.grammar.slots, {trial.workflow.key: trial for trial in trials}
    told = [trial for trial in studies[0].trials if trial.state.is_finished()]
    assert [trial.value for trial in told[:4]] == [trial.score.value for trial in trials[:4]]
    for trial in told:
        expected = {slot.name for slot in slots}
        for slot in slots:
            used = trial.params[slot.name]
            if used is not None:
                expected |= {f"{slot.name}.{used}.{key}" for key in operators[used].parameters}
        assert trial.params.keys() == expected
        assert trial.value in {t.score.value for t in known.values()}


def test_the_genetic_algorithm_is_told_all_terms_and_breeds_from_the_starting_points(studies):
    problem = make()
    trials = search("optuna_nsga2", problem, 90)
    told = [trial for trial in studies[0].trials if trial.state.is_finished()]
    starts = len(starting_points(ATOMS))
    for ours, theirs in zip(trials[:starts], told, strict=False):
        assert theirs.values == [*problem.reward.goodnesses(ours.score.terms).values()]
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in told]
    assert generations[:starts] == [0] * starts
    assert max(generations) > 1


@pytest.mark.parametrize("name", ["optuna_gp", "optuna_nsga2"])
def test_samplers_without_conditions_are_asked_for_every_parameter(name: str, studies):
    search(name, make(), 30)
    count = sum(
        1 + sum(len(operators[o].parameters) for o in slot.operators)
        for slot in ATOMS.grammar.slots
    )
    assert {len(t.params) for t in studies[0].trials if t.state.is_finished()} == {count}


def test_workflows_that_come_again_cost_nothing_while_there_are_others(studies, monkeypatch):
    optuna = pytest.importorskip("optuna")

    def stuck(*arguments: Any) -> Any:
        space = arguments[-1]
        return getattr(space, "low", None) or space.choices[-1]

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_independent", stuck)
    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", lambda *_: {})
    trials = search("optuna", make(), 60)
    told = [trial for trial in studies[0].trials if trial.state.is_finished()]
    assert len({trial.workflow.key for trial in trials}) == len(trials) < len(told)
    # A proposal that came again was told what it had scored.
    scores = {trial.score.value for trial in trials}
    assert all(trial.value in scores for trial in told)


@pytest.mark.parametrize("name", OPTUNAS)
def test_how_much_optuna_logs_stays_as_it_was(name: str):
    optuna = pytest.importorskip("optuna")
    before = optuna.logging.get_verbosity()
    search(name, make(), 10)
    assert optuna.logging.get_verbosity() == before


# BoTorch


def bump(x: np.ndarray) -> np.ndarray:
    """Two goodnesses ``[N, 2]`` with their peaks at 0.7 and 0.8."""
    return np.exp(-(((x - [0.7, 0.8]) / 0.3) ** 2))


def test_most_growth_is_expected_near_the_peaks_and_none_where_all_is_known():
    pytest.importorskip("botorch")
    from scopegym.agents.botorch_search import _check_installed, _expected_growth

    _check_installed()
    points = np.array([[0.0], [0.15], [0.3], [0.45], [0.6], [1.0]])
    cube = np.linspace(0, 1, 41)[:, None]
    growth = _expected_growth(points, bump(points), cube, seed=0)
    assert 0.65 < cube[int(np.argmax(growth)), 0] < 0.9
    assert growth[0] < growth.max() - 3
    assert np.array_equal(growth, _expected_growth(points, bump(points), cube, seed=0))


def test_a_model_that_cannot_be_fitted_proposes_all_the_same(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("botorch")
    from scopegym.agents.botorch_search import _check_installed

    _check_installed()
    from botorch import fit
    from botorch.exceptions import ModelFittingError

    def failing(*_: object) -> None:
        raise ModelFittingError("all attempts failed")

    monkeypatch.setattr(fit, "fit_gpytorch_mll", failing)
    trials = search("botorch", make(), 30)
    assert len({trial.workflow.key for trial in trials}) == len(trials) > 5
