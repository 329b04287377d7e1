"""Policy bundles: what they do, and what is refused."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scopegym.agents.base import Budget
from scopegym.agents.policy import SHIPPED, SPEC, WEIGHTS, Policy
from scopegym.agents.ppo import guided, neighbour
from scopegym.answers import agreement
from scopegym.artifacts import Points
from scopegym.cache import Cache
from scopegym.envs.episode import Episode
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import Operator
from scopegym.workflow import Step, Workflow

ATOMS = tasks["atoms"]
PROBLEMS = [ATOMS.sample(np.random.default_rng([5, i])) for i in range(6)]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.shipped("atoms")


@pytest.fixture
def bundle(tmp_path) -> Path:
    return Path(shutil.copytree(SHIPPED / "atoms", tmp_path / "policy"))


def change(bundle: Path, **entries) -> None:
    spec = json.loads((bundle / SPEC).read_text())
    (bundle / SPEC).write_text(json.dumps({**spec, **entries}))


def put(bundle: Path, content: bytes) -> None:
    """Exchange the weights and the hash that vouches for them."""
    (bundle / WEIGHTS).write_bytes(content)
    change(bundle, sha256=hashlib.sha256(content).hexdigest())


def test_the_shipped_policy_is_small_and_says_how_it_was_made(policy: Policy):
    size = sum(file.stat().st_size for file in (SHIPPED / "atoms").iterdir())
    assert size < 5 * 2**20
    assert policy.spec["training"]["settings"]["steps"] > 0
    assert policy.spec["validation"]["images"] >= 100
    rows = (SHIPPED / "atoms" / "training.csv").read_text().splitlines()
    best = max(float(row.split(",")[0]) for row in rows[1:])
    assert policy.spec["validation"]["score"] == pytest.approx(best, abs=1e-5)


def test_the_shipped_policy_finds_columns_it_never_saw(policy: Policy):
    trials = [policy.propose(problem) for problem in PROBLEMS]
    found = [p.run(t.workflow).need(Points) for p, t in zip(PROBLEMS, trials, strict=True)]
    f1 = [
        agreement(p.micrograph.truth, points, p.prior)
        for p, points in zip(PROBLEMS, found, strict=True)
    ]
    assert np.mean(f1) > 0.95
    assert np.mean([trial.executions for trial in trials]) <= 5


def test_a_proposal_is_whole(policy: Policy):
    for problem in PROBLEMS:
        trial = policy.propose(problem)
        assert trial.workflow.steps[-1].operator.output is ATOMS.answer
        assert any(step.op == "refine_positions" for step in trial.workflow)
        assert ATOMS.grammar.filled(trial.workflow) is not None
        assert len(trial.workflow) <= trial.executions
        assert problem.evaluate(trial.workflow).score == trial.score


def test_an_episode_is_the_same_each_time_and_draws_follow_their_generator(policy: Policy):
    fresh = Problem(PROBLEMS[0].micrograph, PROBLEMS[0].prior, ATOMS)
    assert policy.play(fresh).workflow == policy.play(PROBLEMS[0]).workflow
    drawn = [str(policy.play(fresh, np.random.default_rng(seed)).workflow) for seed in range(8)]
    again = [str(policy.play(fresh, np.random.default_rng(seed)).workflow) for seed in range(8)]
    assert drawn == again and len(set(drawn)) > 2


def test_probabilities_are_of_legal_actions_and_add_up(policy: Policy):
    episode = Episode.start(PROBLEMS[0], policy.rules)
    for action in (1, policy.rules.actions.first_bin):
        chances = policy.probabilities(episode)
        assert chances.sum() == pytest.approx(1, abs=1e-5) and (chances[~episode.mask] == 0).all()
        episode = episode.play(action)


def test_a_shorter_horizon_is_kept(policy: Policy):
    assert policy.play(PROBLEMS[0], np.random.default_rng(0), horizon=1).executions <= 1


def test_only_a_strange_problem_is_strange(policy: Policy):
    assert sum(bool(policy.out_of_domain_features(problem)) for problem in PROBLEMS) <= 1
    problem = PROBLEMS[0]
    ramp = np.tile(np.linspace(0, 1, 256) ** 8, (256, 1))
    from scopegym.micrograph import Micrograph

    assert policy.out_of_domain_features(Problem(Micrograph(ramp), problem.prior, ATOMS))


def test_search_around_the_proposal_begins_with_it_and_gets_no_worse(policy: Policy):
    problem = PROBLEMS[1]
    trials = list(guided(policy, problem, Budget(problem, 60), np.random.default_rng(0)))
    assert trials[0].workflow == policy.play(problem).workflow
    assert sum(max(1, trial.executions) for trial in trials) <= 60 and len(trials) > 10
    assert len({str(trial.workflow) for trial in trials}) > 5


def test_a_neighbour_differs_in_one_step_and_stays_in_its_space():
    workflow = Workflow((Step("gaussian"), Step("local_maxima")))
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = neighbour(workflow, rng)
        changed = [a != b for a, b in zip(moved, workflow, strict=True)]
        assert [step.op for step in moved] == ["gaussian", "local_maxima"] and sum(changed) <= 1


def test_a_bundle_reads_back_as_it_was_saved(policy: Policy, tmp_path):
    policy.save(tmp_path)
    again = Policy.load(tmp_path)
    assert again.spec == policy.spec
    for name, weight in policy.weights.items():
        assert (again.weights[name] == weight).all()


def test_using_a_policy_needs_no_deep_learning_library():
    program = (
        "import sys, numpy as np\n"
        "from scopegym.agents.policy import Policy\n"
        "policy = Policy.shipped('atoms')\n"
        "policy.propose(policy.task.sample(np.random.default_rng(0)))\n"
        "print([name for name in ('torch', 'stable_baselines3', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# What is refused ----------------------------------------------------------------------------------


class Bomb:
    """What a malicious bundle would hold."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the bundle ran code')",))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: shutil.rmtree(b), "no policy folder"),
        (lambda b: (b / SPEC).unlink(), "lacks spec.json"),
        (lambda b: (b / WEIGHTS).unlink(), "lacks policy.safetensors"),
        (lambda b: (b / SPEC).write_text("{"), "not JSON"),
        (lambda b: (b / SPEC).write_text("[]"), "layout None"),
        (lambda b: change(b, policy=99), "layout 99; this version reads 2"),
        (lambda b: change(b, task=None), "task must be text"),
        (lambda b: change(b, operators=[3]), r"operators\[0\] must be a mapping"),
        (lambda b: change(b, domain={}), "domain lacks the entry 'low'"),
        (lambda b: change(b, task="atom"), "atoms"),
        (lambda b: change(b, bins=5), "other parameter values of"),
        (lambda b: change(b, features=["score"]), "other features"),
        (lambda b: (b / WEIGHTS).write_bytes((b / WEIGHTS).read_bytes()[:-100]), "hash"),
        (lambda b: (b / WEIGHTS).write_bytes(b"\0" * 10), "hash"),
        (lambda b: put(b, pickle.dumps(Bomb())), "no safetensors"),
        (lambda b: put(b, b""), "no safetensors"),
    ],
)  # fmt: skip
def test_a_damaged_bundle_is_refused_in_one_sentence(damage, message: str, bundle: Path):
    damage(bundle)
    with pytest.raises(ScopegymError, match=message) as refused:
        Policy.load(bundle)
    assert "\n" not in str(refused.value)


def test_other_operators_are_refused_by_name(bundle: Path):
    spec = json.loads((bundle / SPEC).read_text())
    spec["operators"][1]["version"] = 7
    name = spec["operators"][1]["name"]
    change(bundle, operators=spec["operators"])
    with pytest.raises(ScopegymError, match=f"trained with {name} version 7; this is version 1"):
        Policy.load(bundle)
    spec["operators"][1]["name"] = "of_my_own"
    change(bundle, operators=spec["operators"])
    with pytest.raises(ScopegymError, match="of_my_own"):
        Policy.load(bundle)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda w: w.pop("policy2.bias"), "no weights policy2.bias"),
        (lambda w: w.update({"policy2.bias": w["policy2.bias"][:-1]}), "no weights policy2.bias"),
        (lambda w: w.update({"figures.bias": w["figures.bias"] * np.nan}), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tamper, message: str, policy: Policy, tmp_path):
    weights = dict(policy.weights)
    tamper(weights)
    Policy(policy.spec, weights).save(tmp_path)
    with pytest.raises(ScopegymError, match=message):
        Policy.load(tmp_path)


def test_a_task_without_a_policy_says_how_to_get_one():
    with pytest.raises(ScopegymError, match=r"there is one for atoms.*scopegym train symmetry"):
        Policy.shipped("symmetry")


# Bundles from strangers ---------------------------------------------------------------------------


def domain(change_range):
    """A change of the two ends of the domain."""

    def damage(bundle: Path) -> None:
        spec = json.loads((bundle / SPEC).read_text())
        low, high = change_range(spec["domain"]["low"], spec["domain"]["high"])
        change(bundle, domain={"low": low, "high": high})

    return damage


def validation(**entries):
    def damage(bundle: Path) -> None:
        spec = json.loads((bundle / SPEC).read_text())
        changed = {**spec["validation"], **entries}
        change(bundle, validation={k: v for k, v in changed.items() if v != "absent"})

    return damage


def operators(change_entries):
    def damage(bundle: Path) -> None:
        spec = json.loads((bundle / SPEC).read_text())
        change(bundle, operators=change_entries(spec["operators"]))

    return damage


def weight(name: str, dtype: str, shape: list[int], nbytes: int):
    """Weights whose header says what it likes."""

    def damage(bundle: Path) -> None:
        header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, nbytes]}}
        head = json.dumps(header).encode()
        put(bundle, len(head).to_bytes(8, "little") + head + bytes(nbytes))

    return damage


def as_pipe(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name)


def as_link(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    (bundle / name).symlink_to("/dev/zero")


def as_huge(bundle: Path, name: str) -> None:
    with (bundle / name).open("wb") as file:
        file.truncate(2**30)


HOSTILE = {
    "no domain": (lambda b: change(b, domain={}), "domain lacks"),
    "an empty domain": (domain(lambda *_: ([], [])), "domain"),
    "a short domain": (domain(lambda low, high: (low[:-1], high[:-1])), "rising ranges"),
    "a domain of two lengths": (domain(lambda low, high: (low, high[:-1])), "rising ranges"),
    "a domain upside down": (domain(lambda low, high: (high, low)), "rising ranges"),
    "a domain of NaN": (domain(lambda _, high: ([math.nan] * 50, high)), "NaN"),
    "a domain without end": (domain(lambda low, _: (low, [math.inf] * 50)), "Infinity"),
    "a domain of everything": (domain(lambda *_: ([-1e9] * 50, [1e9] * 50)), "from -5 to 5"),
    "a domain of text": (domain(lambda _, high: (["0"] * 50, high)), "must be a number"),
    "a domain of true": (domain(lambda low, _: (low, [True] * 50)), "must be a number"),
    "no validation": (lambda b: change(b, validation={}), "validation lacks"),
    "no low score": (validation(low_score="absent"), "lacks the entry 'low_score'"),
    "a low score of null": (validation(low_score=None), "low_score must be a number"),
    "a low score of NaN": (validation(low_score=math.nan), "NaN"),
    "a low score of text": (validation(low_score="0.8"), "low_score must be a number"),
    "a low score of true": (validation(low_score=True), "low_score must be a number"),
    "a low score below 0": (validation(low_score=-1), "from 0 to 1"),
    "a score above 1": (validation(score=1.5), "from 0 to 1"),
    "a validation on nothing": (validation(images=0), "images must be a whole number"),
    "no bins": (lambda b: change(b, bins=0), "bins must be a whole number from 2"),
    "bins below 0": (lambda b: change(b, bins=-3), "bins must be a whole number from 2"),
    "a billion bins": (lambda b: change(b, bins=10**9), "bins must be a whole number"),
    "bins of true": (lambda b: change(b, bins=True), "bins must be a whole number"),
    "no horizon": (lambda b: change(b, horizon=0), "horizon must be a whole number"),
    "a horizon of a billion": (lambda b: change(b, horizon=10**9), "horizon must be a whole"),
    "a horizon of 401 digits": (lambda b: change(b, horizon=10**400), "horizon must be a whole"),
    "features of lists": (lambda b: change(b, features=[[1]]), r"features\[0\] must be text"),
    "a million features": (lambda b: change(b, features=["x"] * 10**6), "cannot be read|features"),
    "an operator twice": (operators(lambda entries: [*entries, entries[0]]), "an operator twice"),
    "no operator": (operators(lambda _: []), "operators must be a list of 1"),
    "many operators": (operators(lambda entries: entries * 100), "operators must be a list|twice"),
    "an operator of a list": (operators(lambda e: [{**e[0], "name": [1]}]), "name must"),
    "an operator without values": (operators(lambda _: [{"name": "clahe"}]), "lacks"),
    "values of text": (operators(lambda e: [{**e[0], "values": "abc"}]), "values must be a list"),
    "a reward of nothing": (lambda b: change(b, reward={}), "reward is malformed"),
    "a reward of NaN": (lambda b: change(b, reward={"name": "x", "weights": {}}), "malformed"),
    "no hash": (lambda b: change(b, sha256=None), "sha256 must be text"),
    "an empty hash": (lambda b: change(b, sha256=""), "its hash differs"),
    "a layout of a list": (lambda b: change(b, policy=[1]), "layout a list"),
    "deep nesting": (lambda b: (b / SPEC).write_text("[" * 10**6), "nested too deep"),
    "a name twice": (lambda b: (b / SPEC).write_text('{"policy": 1, "policy": 1}'), "twice"),
    "a number beyond all": (lambda b: (b / SPEC).write_text('{"policy": 1e999}'), "too large"),
    "no text": (lambda b: (b / SPEC).write_bytes(b"\xff\xfe"), "not JSON"),
    "a spec that is a pipe": (lambda b: as_pipe(b, SPEC), "a pipe"),
    "weights that are a pipe": (lambda b: as_pipe(b, WEIGHTS), "a pipe"),
    "a spec that is a device": (lambda b: as_link(b, SPEC), "a device"),
    "weights that are a device": (lambda b: as_link(b, WEIGHTS), "a device"),
    "a huge spec": (lambda b: as_huge(b, SPEC), "more than"),
    "huge weights": (lambda b: as_huge(b, WEIGHTS), "more than"),
    "weights of bfloat16": (weight("figures.bias", "BF16", [4], 8), "safetensors|no weights"),
    "weights of an odd type": (weight("figures.bias", "F1", [4], 8), "no safetensors"),
    "weights of another shape": (weight("figures.bias", "F32", [3], 8), "no safetensors"),
    "weights of a huge shape": (weight("figures.bias", "F32", [2**40, 2**40], 8), "no safetensors"),
    "weights of no layer": (weight("backdoor", "F32", [2], 8), "of no layer: 'backdoor'"),
    "double weights": (weight("figures.bias", "F64", [1], 8), "no weights"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_bundle_is_one_sentence_at_once(what: str, bundle: Path):
    damage, message = HOSTILE[what]
    damage(bundle)
    start = time.perf_counter()
    with pytest.raises(ScopegymError, match=message) as refused:
        Policy.load(bundle)
    assert len(str(refused.value)) <= 600 and str(refused.value).isprintable()
    assert time.perf_counter() - start < 5


def test_double_weights_are_refused(policy: Policy, tmp_path):
    weights = {name: weight.astype(np.float64) for name, weight in policy.weights.items()}
    Policy(policy.spec, weights).save(tmp_path)
    with pytest.raises(ScopegymError, match="must be float32, not float64"):
        Policy.load(tmp_path)


def test_a_failed_proposal_is_no_start_and_no_bar(policy: Policy, monkeypatch):
    apply, trials = Operator.apply, []

    def moody(self, state, parameters, prior):
        if self.name == "refine_positions" and not trials:
            raise RuntimeError("not today")
        return apply(self, state, parameters, prior)

    monkeypatch.setattr(Operator, "apply", moody)
    problem = replace(PROBLEMS[0], cache=Cache())
    search = guided(policy, problem, Budget(problem, 40), np.random.default_rng(1))
    trials.append(next(search))
    trials += search
    assert trials[0].failure == "refine_positions: RuntimeError: not today"
    assert sum(trial.failure is None for trial in trials) > 5
    for trial in trials:
        if trial.failure is None:
            assert ATOMS.grammar.filled(trial.workflow) is not None


def test_a_proposal_has_room_for_what_is_mandatory(policy: Policy):
    for most in (0, 1, 2):
        trial = policy.propose(PROBLEMS[0], most)
        assert trial.failure is None and trial.executions == 2
