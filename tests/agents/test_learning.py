"""Training machinery: the same network in PyTorch and NumPy, hosts, and workers that die."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from scopegym.agents.learning.host import EnvSpec, Fragment, Host, Stream
from scopegym.agents.learning.network import weights_of
from scopegym.agents.learning.ppo import FragmentPPO
from scopegym.agents.learning.vec_env import MAX_DEATHS, RayVecEnv
from scopegym.agents.network import Network, log_probabilities
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.workers import WorkerDied

#: Cheap operators and few images: these tests are about the machinery.
OPERATORS = ("gaussian", "local_maxima", "drop_weak")
SPEC = EnvSpec("atoms", {"operators": OPERATORS, "horizon": 3}, pool=2, renewal=0.0)


def make_model(env, **arguments):
    from scopegym.agents.learning.network import POLICY_ARGUMENTS

    settings = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
    policy = {"policy_kwargs": POLICY_ARGUMENTS}
    return FragmentPPO("MultiInputPolicy", env, **settings, **policy, **arguments)


@pytest.fixture(scope="module")
def serial():
    env = RayVecEnv(SPEC, 2, 3, backend="serial")
    yield env
    env.close()


@pytest.fixture(scope="module")
def model(serial):
    return make_model(serial)


def test_network_in_numpy_is_the_one_in_pytorch(serial, model):
    observations = serial.reset()
    rng = np.random.default_rng(0)
    observations["features"] += rng.normal(0, 1, observations["features"].shape).astype(np.float32)
    masks = rng.random((6, serial.action_space.n)) < 0.7
    masks[:, 0] = True
    tensors = {key: torch.as_tensor(value) for key, value in observations.items()}
    with torch.no_grad():
        distribution = model.policy.get_distribution(tensors, action_masks=masks)
        values = model.policy.predict_values(tensors)[:, 0].numpy()
    theirs = distribution.distribution.logits.numpy()
    logits, mine = Network(weights_of(model.policy))(observations)
    chances = log_probabilities(logits, masks)
    assert np.abs(chances - theirs)[masks].max() < 1e-5
    assert (chances[~masks] == -np.inf).all()
    assert np.abs(mine - values).max() < 1e-5


def test_hosts_play_what_the_network_says(model):
    host = Host(SPEC, 2, seed=0)
    weights = weights_of(model.policy)
    fragment = host.fragment(weights, 40)
    assert fragment.actions.shape == (40, 2)
    assert fragment.masks[np.arange(40)[:, None], np.arange(2), fragment.actions].all()
    flat = {key: v.reshape(80, *v.shape[2:]) for key, v in fragment.observations.items()}
    logits, values = Network(weights)(flat)
    chances = log_probabilities(logits, fragment.masks.reshape(80, -1))
    taken = chances[np.arange(80), fragment.actions.reshape(-1)]
    assert np.allclose(taken, fragment.log_probabilities.reshape(-1), atol=1e-5)
    assert np.allclose(values, fragment.values.reshape(-1), atol=1e-5)
    # What follows the last step is what an unfinished episode is bootstrapped from.
    assert np.allclose(fragment.last_values, Network(weights)(host.observations)[1])
    assert (fragment.last_starts == host.starts).all()
    # An episode begins at the first step and after every one that ended.
    assert fragment.starts[0].all()
    ended = int(fragment.starts[1:].sum()) + int(fragment.last_starts.sum())
    assert ended == len(fragment.episodes) > 0
    assert all(1 <= executions <= 3 or earned == 0 for earned, executions in fragment.episodes)


def fragment_of(env, number, rewards, values, starts, last_values, last_starts) -> Fragment:
    """A fragment of two environments with these figures, each given environment by environment."""
    steps, actions = np.array(rewards).T.shape[0], env.action_space.n
    rows = {
        key: np.zeros((steps, 2, *s.shape), s.dtype) for key, s in env.observation_space.items()
    }
    rows["features"][..., 0] = np.arange(2 * steps).reshape(steps, 2) + 100 * number
    return Fragment(
        observations=rows,
        actions=np.arange(2 * steps).reshape(steps, 2) + 10 * number,
        rewards=np.array(rewards, np.float32).T,
        starts=np.array(starts, bool).T,
        values=np.array(values, np.float32).T,
        log_probabilities=-np.arange(2.0 * steps).reshape(steps, 2) - 10 * number,
        masks=np.ones((steps, 2, actions), bool),
        last_values=np.array(last_values, np.float32),
        last_starts=np.array(last_starts, bool),
        episodes=[],
        executions=3,
    )


def test_advantages_and_returns_of_fragments_are_those_computed_by_hand():
    """Generalised advantage estimation (Schulman et al. 2016) with gamma 0.5 and lambda 0.8.

    delta = r + 0.5 V(next) (1 - ended) - V and A = delta + 0.4 A(next) (1 - ended). An episode
    ended with step t where step t + 1 starts one; what follows the last step is ``last_values``
    unless ``last_starts``. Guards against: starts shifted by a step, values carried over the end of
    an episode, a wrong or missing bootstrap value, environments that change places.
    """
    env = RayVecEnv(SPEC, 2, 2, backend="serial")
    model = make_model(env, gamma=0.5, gae_lambda=0.8)
    model.n_steps = 4
    first = fragment_of(
        env,
        0,
        rewards=[(1, 2, 0, 4), (0, 1, 3, 2)],
        values=[(0.5, 1, 2, 1), (1, 2, 0, 4)],
        starts=[(1, 0, 1, 0), (0, 0, 0, 1)],
        last_values=(3, 10),
        last_starts=(0, 1),
    )
    second = fragment_of(
        env,
        1,
        rewards=[(5, 0, 0, 0), (0, 0, 1, 0)],
        values=[(1, 1, 1, 1), (2, 2, 0, 2)],
        starts=[(1, 1, 0, 0), (0, 0, 1, 0)],
        last_values=(2, 4),
        last_starts=(0, 0),
    )
    env.fragments = lambda *_: [first, second]
    buffer = type(model.rollout_buffer)(
        4, env.observation_space, env.action_space, "cpu", gamma=0.5, gae_lambda=0.8, n_envs=4
    )
    callback = CallbackList([])
    callback.init_callback(model)
    assert model.collect_rollouts(env, callback, buffer, 4)
    expected = [(1.4, 1, 0.3, 4.5), (0.08, 0.2, 3, -2), (4, -0.7, -0.5, 0), (-1.8, -2, 2, 0)]
    assert np.allclose(buffer.advantages.T, expected)
    returns = [(1.9, 2, 2.3, 5.5), (1.08, 2.2, 3, 2), (5, 0.3, 0.5, 1), (0.2, 0, 2, 2)]
    assert np.allclose(buffer.returns.T, returns)
    # Each environment keeps its column, in which its own actions and observations lie.
    assert buffer.actions[:, :, 0].T.tolist() == [
        [0, 2, 4, 6], [1, 3, 5, 7], [10, 12, 14, 16], [11, 13, 15, 17]
    ]  # fmt: skip
    assert (buffer.log_probs == -buffer.actions[:, :, 0]).all()
    assert buffer.observations["features"][1, :, 0].tolist() == [2, 3, 102, 103]
    assert model.num_timesteps == 16 and model.executions == 6
    env.close()


def test_fragments_follow_each_other_without_a_gap(model):
    weights = weights_of(model.policy)
    whole, halves = Host(SPEC, 2, seed=5), Host(SPEC, 2, seed=5)
    together = whole.fragment(weights, 20)
    first, second = halves.fragment(weights, 10), halves.fragment(weights, 10)
    for name in ("actions", "rewards", "starts", "masks"):
        parts = np.concatenate([getattr(first, name), getattr(second, name)])
        assert (parts == getattr(together, name)).all(), name
    assert (first.last_starts == second.starts[0]).all()


def test_a_stream_plays_each_problem_several_times():
    drawn: list[int] = []

    def sample(rng):
        drawn.append(int(rng.integers(2**31)))
        return drawn[-1]

    stream, rng = Stream(sample, pool=4, renewal=0.25), np.random.default_rng(0)
    played = [stream(rng) for _ in range(400)]
    assert len(stream.problems) == 4
    assert 60 < len(drawn) < 150 and set(played) == set(drawn)


@pytest.mark.parametrize("hosts", [0, -1])
def test_no_host_is_refused(hosts: int):
    with pytest.raises(ScopegymError, match="at least 1 host and 1 environment"):
        RayVecEnv(SPEC, hosts, 2, backend="serial")


def check_lock_step(env: VecEnv) -> None:
    observations = env.reset()
    assert observations["thumbnails"].shape[0] == env.num_envs == 4
    rng, ends = np.random.default_rng(0), 0
    for _ in range(40):
        masks = np.array(env.env_method("action_masks"))
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, ended, infos = env.step(actions)
        assert rewards.dtype == np.float32 and not any(info["illegal"] for info in infos)
        for i in np.flatnonzero(ended):
            ends += 1
            assert set(infos[i]["terminal_observation"]) == set(observations)
    assert ends > 4
    assert env.get_attr("render_mode") == [None] * 4
    assert [len(stats.seconds) for stats in env.get_attr("stats")] == [4] * 4


def test_lock_step_here():
    env = RayVecEnv(SPEC, 2, 2, backend="serial")
    check_lock_step(env)
    env.close()


def test_lock_step_trains_any_algorithm_of_stable_baselines():
    """The vector environment is a plain one for whoever wants no fragments."""
    from sb3_contrib import MaskablePPO

    from scopegym.agents.learning.network import POLICY_ARGUMENTS

    env = RayVecEnv(SPEC, 1, 2, backend="serial")
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu",
        policy_kwargs=POLICY_ARGUMENTS,
    )  # fmt: skip
    model.learn(32)
    assert model.num_timesteps == 32
    env.close()


def kill(env: RayVecEnv, number: int) -> None:
    """End the process of a host as the system would."""
    os.kill(env._hosts[number].ready.result(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
@pytest.mark.usefixtures("ray_here")
def test_training_goes_on_when_a_worker_dies(backend: str):
    env = RayVecEnv(SPEC, 2, 2, backend=backend)
    try:
        check_lock_step(env)
        model = make_model(env)
        model.learn(64)
        kill(env, 0)
        model.learn(256, reset_num_timesteps=False)
        assert env.deaths == 1 and model.num_timesteps >= 256
        kill(env, 1)
        _, _, ended, infos = env.step(np.zeros(4, int))
        # Episodes of the dead host are cut off; those of the other stopped, as asked.
        assert env.deaths == 2 and ended.all()
        assert [info.get("worker_died", False) for info in infos] == [False, False, True, True]
        assert [info["TimeLimit.truncated"] for info in infos] == [False, False, True, True]
    finally:
        env.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
@pytest.mark.usefixtures("ray_here")
def test_training_goes_on_when_a_worker_is_stopped(backend: str):
    env = RayVecEnv(SPEC, 2, 2, backend=backend, seconds=4, patience=60)
    try:
        model = make_model(env)
        model.learn(64)
        os.kill(env._hosts[0].ready.result(), signal.SIGSTOP)
        while env.deaths == 0:  # the other host plays on meanwhile
            model.learn(256, reset_num_timesteps=False)
        env.reset()
        os.kill(env._hosts[1].ready.result(), signal.SIGSTOP)
        _, _, _, infos = env.step(np.zeros(4, int))
        assert env.deaths == 2
        assert [info.get("worker_died", False) for info in infos] == [False, False, True, True]
    finally:
        env.close()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_there_are_no_more_hosts_than_processors():
    env = RayVecEnv(SPEC, 5, 2, backend="ray")
    env.close()
    assert env.num_envs == 4


class Dying:
    """A worker whose every call is its last."""

    def call(self, *_):
        future: Future = Future()
        future.set_exception(WorkerDied("killed"))
        return future

    def restart(self, *_):
        pass

    def stop(self):
        pass


def test_workers_that_keep_dying_end_the_training(model):
    env = RayVecEnv(SPEC, 1, 1, backend="serial")
    env._hosts = [Dying()]
    with pytest.raises(ScopegymError, match="die repeatedly: killed"):
        env.fragments(weights_of(model.policy), 4)
    assert env.deaths == MAX_DEATHS + 1


def test_a_replaced_host_plays_other_episodes():
    env = RayVecEnv(SPEC, 2, 2, backend="serial", seed=3)
    seeds = [env._arguments(number)[2] for number in range(2)]
    env._replace(0, WorkerDied(""))
    assert env._arguments(0)[2] not in seeds and env._arguments(1)[2] not in seeds


def test_learning_improves_the_return():
    """Two operators, one image: a hundred updates must find what a random policy does not."""
    spec = EnvSpec(
        "atoms",
        {
            "operators": ("gaussian", "local_maxima"),
            "horizon": 2,
            "images": [tasks["atoms"].sample(np.random.default_rng(8))],
        },
    )
    env = RayVecEnv(spec, 1, 8, backend="serial", seed=1)
    model = make_model(env, learning_rate=2e-3, gamma=1.0)
    model.learn(128)
    before = np.mean([earned for earned, _ in model.episodes])
    model.n_epochs = 4
    model.learn(6000, reset_num_timesteps=False)
    after = np.mean([earned for earned, _ in model.episodes])
    assert after > before + 0.2 and after > 0.6


class Scripted:
    """A worker whose calls are over at once, or when the test says so."""

    def __init__(self, name: str, at_once: bool, on_call=None):
        self.name, self.at_once, self.on_call = name, at_once, on_call
        self.calls: list[Future] = []

    def call(self, *_):
        self.calls.append(Future())
        if self.at_once:
            self.finish()
        if self.on_call is not None:
            self.on_call(len(self.calls))
        return self.calls[-1]

    def finish(self):
        self.calls[-1].set_result(f"{self.name} {len(self.calls)}")

    def stop(self):
        pass


def test_a_slow_host_holds_nobody_up_and_its_fragment_counts_later(model):
    env, weights = RayVecEnv(SPEC, 2, 1, backend="serial"), weights_of(model.policy)
    slow = Scripted("slow", False)
    env._hosts = [Scripted("quick", True), slow]
    assert env.fragments(weights, 4) == ["quick 1", "quick 2"]
    slow.finish()
    assert env.fragments(weights, 4) == ["slow 1", "quick 3"]


def test_what_is_ready_beyond_need_is_kept_for_the_next_rollout(model):
    env, weights = RayVecEnv(SPEC, 2, 1, backend="serial"), weights_of(model.policy)
    slow = Scripted("slow", False)
    # Both are ready when one more is needed.
    quick = Scripted("quick", True, lambda number: slow.finish() if number == 2 else None)
    env._hosts = [quick, slow]
    assert env.fragments(weights, 4) == ["quick 1", "slow 1"]
    slow.at_once = True
    assert env.fragments(weights, 4) == ["quick 2", "slow 2"]
