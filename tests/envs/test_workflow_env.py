"""What holds for every environment: Gymnasium's contract, exact masks, determinism, recorded
failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import gymnasium
import numpy as np
import pytest
import tifffile
from gymnasium.utils.env_checker import check_env

import scopegym  # noqa: F401 - registers the environments
from scopegym.artifacts import Image, digest
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.actions import BINS
from scopegym.envs.encodings import FlatActions, MultiDiscreteActions
from scopegym.envs.episode import FAILED, ILLEGAL
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.envs.workflow_env import WorkflowEnv
from scopegym.errors import ScopegymError
from scopegym.limits import Limits
from scopegym.operators.base import operator
from scopegym.operators.base import registry as operators
from scopegym.sample.crystal import Crystal
from scopegym.space import Real
from scopegym.testing import TASK_CHECKS
from scopegym.testing.base import Check
from scopegym.workflow import Step, Workflow

TASKS = sorted(tasks)
ATOMS = "scopegym/AtomFinding-v0"


def make_problem(seed: int = 1, noise: float = 0.2, spacing_px: float = 9.0) -> Problem:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    size = projection.spacing_nm / spacing_px
    micrograph = simulate_crystal(projection, (96, 96), size, seed=seed, noise=noise)
    return Problem(micrograph, projection.prior((96, 96), pixel_size_nm=size), tasks["atoms"])


@pytest.fixture
def env() -> WorkflowEnv:
    return WorkflowEnv("atoms", images=[make_problem()])


@pytest.fixture
def plugins() -> Iterator[None]:
    """Operators that fail, take long, or take much."""
    before = dict(operators._entries)

    @operator
    def failing(image: Image, *, mood: Annotated[float, Real(0.0, 1.0)] = 0.5) -> Image:
        """Fail."""
        raise RuntimeError(f"mood {mood} on {image.shape}")

    @operator
    def sleeping(image: Image) -> Image:
        """Take long."""
        time.sleep(20)
        return image

    @operator
    def greedy(image: Image) -> Image:
        """Take much."""
        return Image(np.ones((30_000, 30_000), np.float32)[: image.shape[0], : image.shape[1]])

    yield
    operators._entries.clear()
    operators._entries.update(before)


def draw(mask, rng: np.random.Generator, stop: float = 0.0) -> int:
    """A legal action, stopping only with this chance."""
    legal = np.flatnonzero(mask)
    return 0 if len(legal) == 1 or rng.random() < stop else int(rng.choice(legal[1:]))


def run_step(env: WorkflowEnv, step: Step) -> tuple:
    for action in env.rules.actions.encode(step):
        result = env.step(action)
    return result


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.__name__)
def test_contract(task: str, check: Check):
    check(tasks[task])


def test_arguments_pass_through_make():
    reward = tasks["atoms"].reward.plus("separability")
    env = gymnasium.make(
        ATOMS,
        images=[make_problem()],
        reward=reward,
        operators=["gaussian", "local_maxima"],
        horizon=2,
        device="cpu",
    ).unwrapped
    env.reset(seed=0)
    assert env.rules.horizon == 2 and env.rules.actions.operators == ("gaussian", "local_maxima")
    assert set(env.episode.score.terms) == set(reward.weights)
    assert env.action_space.n == 3 + BINS


@pytest.mark.parametrize("task", TASKS)
def test_masks_are_exact_wherever_an_episode_gets(task: str):
    env = WorkflowEnv(task, images=[tasks[task].sample(np.random.default_rng(5))])
    rng = np.random.default_rng(0)
    for _ in range(2):
        env.reset(seed=1)
        ended = False
        while not ended:
            episode, mask = env.episode, env.action_masks()
            if episode.draft is None:
                following = env.rules.grammar.following(episode.position)
                runs = [
                    n in following and operators[n].runs_on(episode.state)
                    for n in env.rules.actions.operators
                ]
                expected = [True, *runs, *[False] * (env.action_space.n - 1 - len(runs))]
            else:
                values = env.rules.actions.grids[episode.draft.op][len(episode.draft.values)]
                bins = env.action_space.n - env.rules.actions.first_bin
                expected = [True, *[False] * len(env.rules.actions.operators)]
                expected += [i < len(values) for i in range(bins)]
            assert mask.tolist() == expected
            for action in np.flatnonzero(~mask):
                after = episode.play(int(action))
                assert after.illegal and after.reward == -ILLEGAL
                assert (after.steps, after.draft, after.score) == (
                    episode.steps,
                    episode.draft,
                    episode.score,
                )
            _, _, stopped, cut_off, info = env.step(draw(mask, rng))
            assert not info["illegal"]
            ended = stopped or cut_off


@pytest.mark.parametrize("action", [-1, 26, 10**6])
def test_an_action_beyond_the_space_is_illegal_and_not_an_error(env: WorkflowEnv, action: int):
    env.reset(seed=0)
    _, reward, stopped, cut_off, info = env.step(action)
    assert reward == -ILLEGAL and info["illegal"] and not stopped and not cut_off


def test_stopping_is_legal_in_the_middle_of_an_operator(env: WorkflowEnv):
    env.reset(seed=0)
    env.step(1 + env.rules.actions.operators.index("laplacian_of_gaussian"))
    assert env.episode.draft is not None and env.action_masks()[0]
    _, _, stopped, cut_off, _ = env.step(0)
    assert (stopped, cut_off) == (True, False)
    with pytest.raises(ScopegymError, match="call reset"):
        env.step(0)


def test_rewards_add_up_to_the_score_and_the_expert_can_be_written_down(env: WorkflowEnv):
    env.reset(seed=0)
    played = [run_step(env, step) for step in tasks["atoms"].expert]
    # With the last slot filled there is nothing left to choose.
    assert [stopped for _, _, stopped, _, _ in played] == [False, False, True]
    earned, info = sum(reward for _, reward, *_ in played), played[-1][-1]
    written, expert = env.episode.workflow, tasks["atoms"].expert
    # Default values are among the bins; the expert's Gaussian is none and takes the nearest.
    assert written.steps[1:] == expert.steps[1:]
    assert written.steps[0].params["sigma"] == pytest.approx(0.15, rel=0.15)
    expected = make_problem().evaluate(written).score
    assert info["score"] == {"value": expected.value, "terms": dict(expected.terms)}
    assert info["score"]["value"] == pytest.approx(earned, abs=1e-12)


def test_an_episode_ends_at_its_horizon_with_room_for_what_is_mandatory():
    env = WorkflowEnv("atoms", images=[make_problem()], horizon=3)
    env.reset(seed=0)
    assert run_step(env, Step("clahe"))[2:4] == (False, False)
    legal = [env.rules.actions.operators[a - 1] for a in np.flatnonzero(env.action_masks())[1:]]
    assert legal == list(tasks["atoms"].slots[2].operators)
    assert run_step(env, Step("local_maxima"))[2:4] == (False, False)
    assert run_step(env, Step("refine_positions"))[2:4] == (True, False)
    assert env.episode.executions == 3


def test_stopping_fills_the_mandatory_slots_as_the_expert_does():
    env = WorkflowEnv("atoms", images=[make_problem()])
    env.reset(seed=0)
    _, first, *_ = run_step(env, Step("local_maxima"))
    _, reward, stopped, _, info = env.step(0)
    expected = make_problem().evaluate(Workflow((Step("local_maxima"), Step("refine_positions"))))
    assert stopped and env.episode.workflow == expected.workflow
    assert info["score"]["value"] == expected.score.value == pytest.approx(first + reward)
    assert env.episode.executions == env.stats.executions == 2


def test_stopping_without_an_answer_leaves_none():
    env = WorkflowEnv("atoms", images=[make_problem()])
    env.reset(seed=0)
    run_step(env, Step("gaussian"))
    _, reward, stopped, _, _ = env.step(0)
    assert stopped and reward == 0 and env.episode.executions == 1
    assert env.episode.trial.failure == "the slot 'detect' is empty"


def test_illegal_actions_cannot_go_on_for_ever(env: WorkflowEnv):
    env.reset(seed=0)
    ended = [env.step(23)[3] for _ in range(env.rules.micro_steps)]
    assert ended == [*[False] * (len(ended) - 1), True]
    assert env.stats.illegal == len(ended)


@pytest.mark.usefixtures("plugins")
def test_a_failing_operator_is_a_recorded_penalised_no_op():
    env = WorkflowEnv("atoms", images=[make_problem()], operators=["gaussian", "failing"])
    env.reset(seed=0)
    before = env.episode
    _, reward, stopped, cut_off, info = run_step(env, Step("failing"))
    assert reward == -FAILED and info["failure"] == "failing: RuntimeError: mood 0.5 on (96, 96)"
    assert not stopped and not cut_off and not info["illegal"]
    assert env.episode.state is before.state and env.episode.steps == ()
    assert env.episode.executions == 1 and env.stats.failures == 1


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("sleeping", Limits(seconds=0.2), "took longer than 0.2 s"),
        ("greedy", Limits(nbytes=2**28), "Memory"),
    ],
)
@pytest.mark.usefixtures("plugins")
def test_time_and_memory_are_limited(name: str, limits: Limits, reason: str):
    env = WorkflowEnv("atoms", images=[make_problem()], operators=[name], limits=limits)
    env.reset(seed=0)
    start = time.perf_counter()
    _, reward, _, _, info = run_step(env, Step(name))
    assert time.perf_counter() - start < 10
    assert reward == -FAILED and reason in info["failure"]


def trajectory(seed: int) -> list[str]:
    """Everything that an agent could see of two random episodes, as hashes."""
    env = gymnasium.make(ATOMS)
    rng = np.random.default_rng(seed)
    seen: list[str] = []
    for episode in range(2):
        observation, info = env.reset(seed=seed if episode == 0 else None)
        ended = False
        while not ended:
            action = draw(info["action_mask"], rng, stop=0.02)
            observation, reward, stopped, cut_off, info = env.step(action)
            arrays = [
                memoryview(np.ascontiguousarray(a).reshape(-1).view(np.uint8))
                for a in observation.values()
            ]
            plain = {**info, "action_mask": info["action_mask"].tolist()}
            seen.append(digest(*arrays, repr((action, reward, stopped, cut_off)), repr(plain)))
            ended = stopped or cut_off
    return seen


def test_same_seed_and_actions_same_trajectory_in_another_process():
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"  # noqa: PTH120
        "import json, test_workflow_env as t; print(json.dumps(t.trajectory(3)))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )
    mine = trajectory(3)
    assert json.loads(done.stdout) == mine
    assert trajectory(4) != mine


def test_nothing_returned_shares_memory_with_what_comes_later(env: WorkflowEnv):
    first, info = env.reset(seed=0)
    kept = {key: value.copy() for key, value in first.items()}
    mask = info["action_mask"].copy()
    run_step(env, Step("gaussian"))
    second = run_step(env, Step("local_maxima"))[0]
    for key in first:
        assert (first[key] == kept[key]).all() and not np.shares_memory(first[key], second[key])
    assert (info["action_mask"] == mask).all()


def test_timings_stay_out_of_info(env: WorkflowEnv):
    _, info = env.reset(seed=0)
    assert set(info) == {"action_mask", "score", "failure", "illegal"}
    for _ in range(2):
        env.reset(seed=0)
        run_step(env, Step("local_maxima"))
    assert env.stats.executions == 2 and env.stats.cache_hits >= 1
    assert env.stats.seconds["operators"] > 0 and env.stats.seconds["observation"] > 0


def test_reset_takes_every_kind_of_image(env: WorkflowEnv, tmp_path):
    problem = make_problem(seed=7)
    tifffile.imwrite(tmp_path / "image.tif", problem.micrograph.data)
    for image in (
        0,
        problem,
        problem.micrograph,
        tmp_path / "image.tif",
        str(tmp_path / "image.tif"),
    ):
        env.reset(options={"image": image})
        data = env.episode.problem.micrograph.data
        expected = env.images[0].micrograph.data if image == 0 else problem.micrograph.data
        assert (data == expected).all()
    # Only a problem brings its own prior; of a bare image it is estimated.
    assert set(env.episode.problem.prior.sources.values()) == {"estimated"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "atom"}, "atoms"),
        ({"operators": ["gausian"]}, "gaussian"),
        ({"operators": []}, "at least one operator"),
        ({"horizon": 0}, "at least 1 execution"),
        ({"bins": 1}, "at least 2 bins"),
        ({"images": []}, "images is empty"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments: dict, message: str):
    with pytest.raises(ScopegymError, match=message):
        WorkflowEnv(**arguments)


@pytest.mark.parametrize("image", [5, -1, 3.5, "missing.tif"])
def test_bad_images_are_refused_in_one_sentence(env: WorkflowEnv, image):
    with pytest.raises(ScopegymError):
        env.reset(options={"image": image})


def test_asking_before_the_first_episode_is_an_error(env: WorkflowEnv):
    for ask in (env.action_masks, lambda: env.step(0)):
        with pytest.raises(ScopegymError, match="reset"):
            ask()


def test_the_picture_shows_the_result(env: WorkflowEnv):
    assert env.render() is None
    env = WorkflowEnv("atoms", images=[make_problem()], render_mode="rgb_array")
    env.reset(seed=0)
    empty = env.render()
    run_step(env, Step("local_maxima"))
    marked = env.render()
    assert empty.dtype == np.uint8 and empty.shape == marked.shape and empty.shape[2] == 3

    def orange(picture):
        red, green, blue = (picture[..., i].astype(int) for i in range(3))
        return int(((red > 180) & (green < 160) & (blue < 90)).sum())

    assert orange(empty) == 0 and orange(marked) > 500


# Other encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [MultiDiscreteActions, FlatActions])
# Gymnasium warns whoever checks a wrapped environment that it is one.
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_whole_steps_are_legal_where_their_masks_say_so(wrapper, env: WorkflowEnv):
    wrapped = wrapper(env)
    check_env(wrapped, skip_render_check=True)
    rng = np.random.default_rng(0)
    for _ in range(4):
        _, info = wrapped.reset(seed=0)
        for _ in range(3):
            mask = wrapped.action_masks()
            assert (mask == info["action_mask"]).all()
            if wrapper is FlatActions:
                action = draw(mask, rng)
            else:
                operator_ = draw(mask[: env.rules.actions.first_bin], rng)
                action = np.array([operator_, *rng.integers(0, wrapped.bins, 5)])
            _, _, stopped, cut_off, info = wrapped.step(action)
            assert not info["illegal"] and not cut_off
            if stopped:
                break
        assert len(env.episode.steps) + env.stats.failures >= 1


def test_a_multidiscrete_action_is_the_step_it_names(env: WorkflowEnv):
    wrapped = MultiDiscreteActions(env)
    wrapped.reset(seed=0)
    number = 1 + env.rules.actions.operators.index("refine_positions")
    assert wrapped.step(np.array([number, 0, 0, 0, 0, 0]))[4]["illegal"]
    wrapped.step(np.array([1 + env.rules.actions.operators.index("local_maxima"), 3, 2, 7, 7, 7]))
    assert wrapped.step(np.array([number, 7, 0, 0, 0, 0]))[2]
    found, refined = env.episode.steps
    grids = env.rules.actions.grids
    assert tuple(found.params.values()) == (
        grids["local_maxima"][0][3],
        grids["local_maxima"][1][2],
    )
    assert refined.params["method"] == "centre_of_mass"  # the last of two, on the last of 8 bins


def test_flat_actions_name_every_operator_at_both_ends_of_its_range(env: WorkflowEnv):
    table = FlatActions(env).table
    assert table[0] == [0] and len({tuple(row) for row in table}) == len(table)
    assert {row[0] for row in table} == set(range(1 + len(env.rules.actions.operators)))
    log = [row for row in table if len(row) == 6]
    assert len(log) == 2 * 3**5
