"""Operators with weights, and operators that have to be stopped."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from scopegym import device, resources
from scopegym.artifacts import Frames, Image, Points, State
from scopegym.cache import Cache
from scopegym.datasets.simulate_patterns import two_phases
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.grammar import Grammar, Slot
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.limits import LimitExceededError, Limits, limited
from scopegym.micrograph import Micrograph
from scopegym.operators import isolation
from scopegym.operators.base import Operator, declare
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.registry import load_plugin
from scopegym.resources import Resource
from scopegym.space import Real
from scopegym.workflow import Recipe, Step, Workflow, starting

IMAGE = two_phases((48, 56), 8.0, noise=0.2)
PRIOR = Prior(8.0, count=30.0)

PLUGIN = '''
import os
from typing import Annotated, Any

from scopegym import device, operator
from scopegym.artifacts import Image
from scopegym.resources import Resource
from scopegym.space import Real

BUILT = []

def network(tensors, metadata):
    BUILT.append((device.current(), metadata["architecture"]))
    weight = tensors["weight"]
    if weight.ndim:
        raise RuntimeError("Error(s) in loading:\\n size mismatch")
    return lambda pixels: pixels * float(weight)

WEIGHTS = Resource(network, "scaled.safetensors", "train them with `scopegym detector train`")

@operator(tasks=("atoms",), isolated=False)
def scaled(
    image: Image, *, network: Annotated[Any, WEIGHTS], offset: Annotated[float, Real(0, 1)] = 0.0
) -> Image:
    """Multiply by the weight."""
    return Image(network(image.pixels) + offset)

@operator(tasks=("atoms",))
def scaled_elsewhere(image: Image, *, network: Annotated[Any, WEIGHTS]) -> Image:
    """The same in a process of its own; the first pixel tells which, the second how often the
    weights were loaded there."""
    pixels = network(image.pixels).copy()
    pixels[0, :2] = os.getpid(), len(BUILT)
    return Image(pixels)

@operator(tasks=("atoms",), isolated=True)
def endless(image: Image) -> Image:
    """Compiled code that no signal interrupts."""
    sum(range(10**13))
    return image

@operator(tasks=("atoms",), isolated=True)
def crashing(image: Image) -> Image:
    """End the process."""
    os._exit(7)

@operator(tasks=("atoms",), isolated=True)
def greedy(image: Image) -> Image:
    """Take much."""
    import numpy as np
    return Image(np.ones((30_000, 30_000), np.float32)[:48, :56])

@operator(tasks=("atoms",), isolated=True)
def failing(image: Image) -> Image:
    """Fail."""
    raise ValueError("no such luck")

@operator(tasks=("atoms",))
def endless_here(image: Image) -> Image:
    """Not isolated by itself."""
    sum(range(10**13))
    return image
'''


def write(path: Path, weight: Any = 2.0, **metadata: str) -> None:
    import torch
    from safetensors.torch import save_file

    about = {"architecture": "scale", **metadata}
    save_file({"weight": torch.tensor(weight)}, path, about)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A plug-in with its weights beside it; both are gone after the test."""
    kept = dict(operators._entries)
    file = tmp_path / "own.py"
    file.write_text(PLUGIN)
    write(tmp_path / "scaled.safetensors")
    load_plugin(file)
    yield file
    operators._entries.clear()
    operators._entries.update(kept)
    resources._objects.clear()


def pixels(state: State) -> Any:
    image = state.get(Image)
    assert image is not None
    return image.pixels


def built(operator: Operator) -> list[Any]:
    found: list[Any] = sys.modules[operator.function.__module__].BUILT
    return found


# Weights -----------------------------------------------------------------------------------------


def test_weights_are_no_parameter_and_come_by_keyword(plugin: Path):
    scaled = operators["scaled"]
    assert [*scaled.parameters] == ["offset"] and [*scaled.resources] == ["network"]
    state = Workflow((Step("scaled", {"offset": 0.5}),)).run(IMAGE, PRIOR)
    expected = IMAGE.normalized().pixels * 2 + np.float32(0.5)
    assert np.allclose(pixels(state), expected)
    assert np.allclose(scaled(IMAGE.normalized(), offset=0.5).pixels, expected)
    with pytest.raises(ScopegymError, match="scaled has no parameter network"):
        Step("scaled", {"network": 3})
    assert plugin.exists()


def test_they_are_loaded_once_for_each_file_and_device(plugin: Path):
    run = Workflow((Step("scaled"),)).run
    run(IMAGE, PRIOR, cache=Cache())
    run(IMAGE, PRIOR, cache=Cache())
    assert built(operators["scaled"]) == [("cpu", "scale")]
    with device.using("torch"):
        run(IMAGE, PRIOR, cache=Cache())
    assert len(built(operators["scaled"])) == 2
    write(plugin.with_name("scaled.safetensors"), 3.0)
    assert np.allclose(pixels(run(IMAGE, PRIOR)), IMAGE.normalized().pixels * 3)
    assert len(built(operators["scaled"])) == 3


def test_the_hash_belongs_to_the_derivation(plugin: Path, tmp_path: Path):
    cache, run = Cache(), Workflow((Step("scaled"),)).run
    former = run(IMAGE, PRIOR, cache=cache)
    other = tmp_path / "other.safetensors"
    write(other, 5.0)
    with resources.using({"scaled.safetensors": other}):
        changed = run(IMAGE, PRIOR, cache=cache)
    assert changed.image.key != former.image.key
    assert np.allclose(pixels(changed), 2.5 * pixels(former))
    assert run(IMAGE, PRIOR, cache=cache).image is former.image
    assert plugin.exists()


def test_a_recipe_records_the_hash_and_refuses_other_weights(plugin: Path):
    file = plugin.with_name("scaled.safetensors")
    workflow = Workflow((Step("gaussian"), Step("scaled")))
    recipe = workflow.to_yaml(prior=PRIOR)
    assert operators["scaled"].weights["network"] in recipe
    assert Recipe.read(recipe).workflow == workflow
    former = file.read_bytes()
    write(file, 3.0)
    with pytest.raises(
        ScopegymError, match=r"^Step 2 \(scaled\) was made with weights of SHA-256 \w{12}"
    ):
        Recipe.read(recipe)
    file.unlink()
    with pytest.raises(ScopegymError, match=r"cannot be read at .* `scopegym detector train`\.$"):
        Recipe.read(recipe)
    file.write_bytes(former)
    assert Recipe.read(recipe).workflow == workflow
    for wrong in ("[1, 2]", "{other: x}", "text"):
        text = recipe.replace("  weights:\n", f"  weights: {wrong}\n")
        kept = [line for line in text.splitlines() if "    network: " not in line]
        with pytest.raises(ScopegymError, match="that scaled does not have"):
            Recipe.read("\n".join(kept))


def test_missing_or_foreign_weights_are_one_sentence(plugin: Path):
    file = plugin.with_name("scaled.safetensors")
    problem = Problem(IMAGE, PRIOR, tasks["atoms"])
    workflow = Workflow((Step("scaled"),))
    write(file, [1.0, 2.0])
    failure = problem.evaluate(workflow).failure
    assert failure is not None
    assert failure.startswith(f"The weights '{file}' do not fit network: Error(s) in loading")
    for content in (b"", pickle.dumps({"weight": 1}), file.read_bytes()[:-4]):
        file.write_bytes(content)
        failure = problem.evaluate(workflow).failure
        assert failure is not None and "are not a safetensors file, which is the only" in failure
    file.unlink()
    failure = problem.evaluate(workflow).failure
    assert failure is not None and failure.startswith("The weights 'scaled.safetensors' cannot be")
    assert failure.endswith("; train them with `scopegym detector train`")
    os.mkfifo(file)  # without a writer, reading would wait for ever
    failure = problem.evaluate(workflow).failure
    assert failure is not None and "it is no regular file" in failure


def test_only_safetensors_are_taken():
    with pytest.raises(ScopegymError, match=r"Weights are \.safetensors files, not 'a\.pt'"):
        Resource(print, "a.pt")


def test_a_resource_needs_no_default_but_stands_behind_the_star():
    def wrong(image: Image, network: Annotated[Any, Resource(print, "a.safetensors")]) -> Image: ...  # type: ignore[empty-body]

    with pytest.raises(ScopegymError, match="must be an artifact or a Prior, or stand behind"):
        declare(wrong)


# A process of its own ----------------------------------------------------------------------------


@pytest.mark.usefixtures("plugin")
def test_weights_are_loaded_once_in_the_other_process():
    assert operators["scaled_elsewhere"].isolated
    run = Workflow((Step("scaled_elsewhere"),)).run
    first, second = (pixels(run(IMAGE, PRIOR, cache=Cache())) for _ in range(2))
    assert first[0, 0] == second[0, 0] != os.getpid()
    assert first[0, 1] == second[0, 1] == 1
    assert np.allclose(first[1:], IMAGE.normalized().pixels[1:] * 2)
    assert not built(operators["scaled"])
    stack = Micrograph(np.stack([IMAGE.data, IMAGE.data[::-1]]))
    frames = run(stack, PRIOR).get(Frames[Image])
    assert frames is not None
    assert [frame.pixels[0, 0] for frame in frames] == [first[0, 0]] * 2


@pytest.mark.usefixtures("plugin")
def test_compiled_code_that_does_not_end_is_stopped():
    problem = Problem(IMAGE, PRIOR, tasks["atoms"], limits=Limits(seconds=1.0))
    operators["endless"].prepare()
    start = time.monotonic()
    trial = problem.evaluate(Workflow((Step("gaussian"), Step("endless"))))
    assert trial.failure == "endless took longer than 1 s"
    assert time.monotonic() - start < 5
    # The next one has a new process.
    assert problem.evaluate(Workflow((Step("scaled_elsewhere"),))).failure is None


@pytest.mark.usefixtures("plugin")
def test_so_it_is_in_an_episode():
    problem = Problem(IMAGE, PRIOR, tasks["atoms"], limits=Limits(seconds=1.0))
    rules = Rules(Grammar.of([Slot("only", ("endless",))]), 3)
    episode = Episode.start(problem, rules)
    for action in rules.actions.encode(Step("endless")):
        episode = episode.play(action)
    assert "took longer than 1 s" in episode.failure and episode.steps == ()


@pytest.mark.usefixtures("plugin")
def test_a_run_can_ask_it_of_every_operator():
    limits = Limits(seconds=1.0, isolated=True)
    problem = Problem(IMAGE, PRIOR, tasks["atoms"], limits=limits)
    same = problem.run(Workflow((Step("gaussian"), Step("local_maxima"))))
    isolated = Problem(IMAGE, PRIOR, tasks["atoms"], limits=limits)
    trial = isolated.evaluate(Workflow((Step("gaussian"), Step("local_maxima"))))
    assert trial.failure is None and trial.score == problem.judge(same)
    trial = problem.evaluate(Workflow((Step("endless_here"),)))
    assert trial.failure == "endless_here took longer than 1 s"


@pytest.mark.usefixtures("plugin")
def test_it_is_stopped_in_another_thread_too():
    caught: list[BaseException] = []

    def work() -> None:
        operators["endless"].prepare()
        try:
            with limited(Limits(seconds=0.5)):
                operators["endless"].apply(starting(IMAGE, PRIOR), {}, PRIOR)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert [type(error) for error in caught] == [LimitExceededError]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crashing", "crashing ended its process: the process ended with exit code 7"),
        ("greedy", "greedy needs more than 0.5 GiB"),
        ("failing", "ValueError: no such luck"),
    ],
)
def test_what_goes_wrong_there_is_recorded_here(name: str, reason: str):
    limits = Limits(seconds=20.0, nbytes=2**29)
    problem = Problem(IMAGE, PRIOR, tasks["atoms"], limits=limits)
    trial = problem.evaluate(Workflow((Step(name),)))
    assert trial.failure == reason and trial.score == problem.reward.worst


def test_a_function_that_no_file_defines_travels_by_value():
    factor = 3

    def local(image: Image, *, offset: Annotated[float, Real(0, 1)] = 0.5) -> Points:
        """Tell the process."""
        return Points(np.array([[os.getpid(), factor * offset]]), image.shape)

    found = declare(local, isolated=True)
    state = found.apply(starting(IMAGE, PRIOR), {}, PRIOR)
    points = state.get(Points)
    assert points is not None and points.yx[0, 0] != os.getpid() and points.yx[0, 1] == 1.5
    assert not points.yx.flags.writeable


def test_an_operator_of_the_package_gives_the_same_there(monkeypatch: pytest.MonkeyPatch):
    workflow = Workflow((Step("gaussian"),))
    here = workflow.run(IMAGE, PRIOR, cache=Cache())
    calls = []
    original = isolation.carried_out
    monkeypatch.setattr(isolation, "carried_out", lambda *a: calls.append(a) or original(*a))
    with limited(replace(Limits(), isolated=True)):
        there = workflow.run(IMAGE, PRIOR, cache=Cache())
    assert len(calls) == 1 and np.array_equal(pixels(here), pixels(there))
