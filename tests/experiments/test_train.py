"""Training end to end on few steps: what is written, resuming, bad input."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scopegym.agents.policy import Policy
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.folders import MANIFEST
from scopegym.experiments.train import train
from scopegym.experiments.training.checkpoint import CHECKPOINT, LOG, kept
from scopegym.experiments.training.course import validate
from scopegym.experiments.training.settings import Settings

ATOMS = tasks["atoms"]
SHORT = replace(
    Settings.of("atoms", steps=384, validation=3), environments=2, fragment=32, evaluate_every=2
)


def run(out: Path, **arguments):
    given = {"settings": SHORT, "workers": 2, "backend": "serial", **arguments}
    return train("atoms", out, **given)


def rows(out: Path) -> list[dict[str, float]]:
    names, *lines = (out / LOG).read_text().splitlines()
    return [dict(zip(names.split(","), map(float, line.split(",")), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("policy")
    run(out)
    return out


def test_a_training_leaves_bundle_log_checkpoint_and_tensorboard(trained: Path):
    assert sorted(file.name for file in trained.iterdir()) == [
        CHECKPOINT,
        "policy.safetensors",
        MANIFEST,
        "spec.json",
        "tensorboard",
        LOG,
    ]
    log = rows(trained)
    assert [row["steps"] for row in log] == [256, 384]
    assert all(0 <= row["score"] <= 1 and 0 <= row["truth"] <= 1 for row in log)
    assert list((trained / "tensorboard").rglob("events*"))


def test_the_best_policy_is_kept_and_can_be_judged_again(trained: Path):
    policy = Policy.load(trained)
    reached = policy.spec["validation"]
    assert reached["score"] == max(row["score"] for row in rows(trained)) or (
        reached["score"] == pytest.approx(max(row["score"] for row in rows(trained)), rel=1e-5)
    )
    problems = [ATOMS.sample(np.random.default_rng([2026, i])) for i in range(3)]
    assert validate(policy, problems)["score"].mean() == pytest.approx(reached["score"], abs=1e-12)
    assert policy.spec["training"] == {
        "images": "simulated by atoms",
        "seed": 0,
        "settings": {**json.loads(json.dumps(SHORT.__dict__))},
    }
    low, high = policy.spec["domain"]["low"], policy.spec["domain"]["high"]
    assert len(low) == len(high) and all(a <= b for a, b in zip(low, high, strict=True))


def test_the_same_seed_gives_the_same_policy(trained: Path, tmp_path):
    run(tmp_path / "again")
    run(tmp_path / "other", seed=1)
    first, again = Policy.load(trained), Policy.load(tmp_path / "again")
    assert all((again.weights[name] == weight).all() for name, weight in first.weights.items())
    other = Policy.load(tmp_path / "other")
    assert any((other.weights[name] != weight).any() for name, weight in first.weights.items())


def test_a_training_goes_on_where_it_stopped(tmp_path):
    run(tmp_path)
    before = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert before["steps"] == 384
    run(tmp_path, settings=replace(SHORT, steps=640), resume=True)
    after = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert after["steps"] == 640 and after["executions"] > before["executions"]
    log = rows(tmp_path)
    assert [row["steps"] for row in log] == [256, 384, 640]
    assert log[2]["seconds"] > log[1]["seconds"]
    # The network went on from where it was: half the steps more move it, but not far.
    name = "action_net.weight"
    moved = (after["policy"][name] - before["policy"][name]).abs().max()
    assert 0 < moved < 0.2
    # With nothing left to do nothing changes.
    run(tmp_path, settings=replace(SHORT, steps=640), resume=True)
    assert rows(tmp_path) == log


def test_a_users_images_train_and_validate(tmp_path):
    problems = [ATOMS.sample(np.random.default_rng([4, i])) for i in range(5)]
    policy = run(tmp_path, problems=problems, settings=replace(SHORT, steps=256))
    assert policy.spec["training"]["images"] == "4 images of the user"
    assert policy.spec["validation"]["images"] == 1


def test_callbacks_hear_of_updates_and_validations(tmp_path):
    updates, validations = [], []
    run(
        tmp_path,
        on_update=lambda *seen: updates.append(seen),
        on_validation=validations.append,
    )
    assert [steps for steps, _ in updates] == [128, 256, 384]
    assert [row.steps for row in validations] == [256, 384]


# Bad input ----------------------------------------------------------------------------------------


class Bomb:
    """What a malicious checkpoint would hold."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the checkpoint ran code')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "start without --resume"),
        (b"", "no checkpoint"),
        (pickle.dumps(Bomb()), "no checkpoint"),
        (b"PK\x03\x04 not really a zip", "no checkpoint"),
    ],
)
def test_a_bad_checkpoint_is_refused(content: bytes | None, message: str, tmp_path):
    if content is not None:
        (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(ScopegymError, match=message):
        run(tmp_path, resume=True)


def test_a_checkpoint_of_other_operators_is_refused(trained: Path, tmp_path):
    checkpoint = torch.load(trained / CHECKPOINT, weights_only=True)
    operators = json.loads(checkpoint["operators"])
    operators[0]["version"] = 9
    torch.save({**checkpoint, "operators": json.dumps(operators)}, tmp_path / CHECKPOINT)
    with pytest.raises(ScopegymError, match="other operators"):
        run(tmp_path, resume=True)


def test_no_image_to_train_on_is_refused(tmp_path):
    with pytest.raises(ScopegymError, match="no image to train on"):
        run(tmp_path, problems=[])


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScopegymError, match="Cannot write"):
        run(tmp_path / "file")


def test_every_task_has_settings():
    for task in tasks:
        assert Settings.of(task).steps > 0
    assert Settings.of("atoms", steps=7).steps == 7
    with pytest.raises(ScopegymError, match="must not be negative"):
        Settings.of("atoms", steps=-1)


# Interruptions ------------------------------------------------------------------------------------


def interrupted(out: Path, after: int, stop: BaseException, **arguments) -> None:
    """A training that is stopped at an update."""

    def on_update(steps: int, _: float) -> None:
        if steps >= after:
            raise stop

    with pytest.raises(type(stop)):
        run(out, on_update=on_update, **arguments)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(15)])
def test_an_interrupted_training_keeps_its_steps_and_goes_on(stop, tmp_path):
    interrupted(tmp_path, 128, stop)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["steps"] == 128
    assert "has 128 steps" in kept(tmp_path) and "--resume" in kept(tmp_path)
    run(tmp_path, resume=True)
    # Validated every second update: the resumed training counts its own.
    assert [row["steps"] for row in rows(tmp_path)] == [384]
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["steps"] == 384


def test_a_training_interrupted_at_its_last_update_is_validated_on_resuming(tmp_path):
    short = replace(SHORT, evaluate_every=50)
    interrupted(tmp_path, 384, KeyboardInterrupt(), settings=short)
    assert not (tmp_path / "spec.json").exists()
    assert run(tmp_path, settings=short, resume=True).spec["validation"]["steps"] == 384


def test_a_training_interrupted_before_any_update_says_that_nothing_is_kept(tmp_path):
    assert "no checkpoint" in kept(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", -1, "steps must be a whole number"),
        ("steps", True, "steps must be a whole number"),
        ("seconds", float("nan"), "seconds must be a number"),
        ("mean", {}, "does not fit"),
        ("policy", {}, "does not fit"),
        ("rows", "[{}]", "does not fit"),
        ("rows", "{", "does not fit"),
        ("operators", "{", "no checkpoint"),
    ],
)
def test_a_checkpoint_with_odd_entries_is_refused(name, value, message, trained: Path, tmp_path):
    checkpoint = torch.load(trained / CHECKPOINT, weights_only=True)
    torch.save({**checkpoint, name: value}, tmp_path / CHECKPOINT)
    with pytest.raises(ScopegymError, match=message) as refused:
        run(tmp_path, resume=True)
    assert "\n" not in str(refused.value)
