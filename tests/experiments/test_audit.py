"""The audit: what it says of a good reward, of poor ones, and of hostile ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scopegym.answers.base import adversaries
from scopegym.artifacts import Labels, Points
from scopegym.envs import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.audit import audit
from scopegym.experiments.audit.adversaries import against, wrong_size
from scopegym.experiments.audit.examine import (
    NOISE,
    OPTIMISER,
    Attack,
    Examined,
    Examiner,
    Job,
    Judged,
    attacks,
    true_answer,
    wrong_answers,
)
from scopegym.experiments.audit.hostile import ASKED, probe
from scopegym.experiments.audit.run import agreement_of, by_noise, by_term, cost, margins, summary
from scopegym.registry import load_plugin
from scopegym.rewards.base import Reward
from scopegym.rewards.base import registry as rewards

ATOMS = tasks["atoms"].reward


def job(task="atoms", reward=None, workflows=6):
    return Job(task, reward or tasks[task].reward, workflows)


def judged(value, truth, **terms):
    return Judged(value, terms or {"a": value}, truth)


def examined(index, tried, attacks=(), noise=0.1, honest=0.9):
    return Examined(index, f"#{index}", noise, judged(honest, 1.0), tuple(tried), tuple(attacks))


def value(one):
    return one.value


# --- figures, by hand -----------------------------------------------------------------------------


def test_agreement_counted_by_hand():
    # Problem 0: order right, regret 0. Problem 1: the highest reward (0.9) has truth 0.5, best 0.8.
    one = examined(0, [judged(0.1, 0.0), judged(0.5, 0.4), judged(0.9, 0.8)])
    other = examined(1, [judged(0.1, 0.0), judged(0.5, 0.8), judged(0.9, 0.5)])
    found = agreement_of([one, other], value)
    # Three pairs, of which one is the wrong way round: (2 - 1) / 3.
    assert found["kendall"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["regret_median"] == pytest.approx((0 + 0.3) / 2)
    assert found["regret_most"] == pytest.approx(0.3)
    assert found["chosen_truth"] == pytest.approx((0.8 + 0.5) / 2)


def test_a_constant_value_has_no_correlation_and_equal_truths_do_not_count():
    constant = examined(0, [judged(0.5, t) for t in (0.0, 0.5, 1.0)])
    alike = examined(1, [judged(v, 0.7) for v in (0.0, 0.5, 1.0)])
    assert agreement_of([constant], value)["kendall"] == 0.0
    assert agreement_of([constant, alike], value)["kendall"] == 0.0
    assert agreement_of([alike], value)["kendall"] is None


def test_margins_take_the_strongest_wrong_answer_of_each_adversary():
    rivals = [
        Attack("grid", 0, judged(0.2, 0.1), wrong=True),
        Attack("grid", 1, judged(0.3, 0.2), wrong=True),
        Attack("grid", 2, judged(0.8, 0.9), wrong=False),  # mostly right: no adversary
        Attack("shift", 0, judged(0.9, 0.9), wrong=False),
    ]
    [row] = margins([examined(0, [judged(0.9, 1.0)], rivals)], value)
    assert row["adversary"] == "grid" and row["mostly_right"] == 0
    assert row["margin"] == row["least"] == pytest.approx(0.9 - 0.3)


def test_noise_levels_hold_every_problem_once():
    rows = [*by_noise([examined(i, [judged(0.5, 0.5)] * 2, noise=1 - i / 10) for i in range(10)])]
    assert sum(row["problems"] for row in rows) == 10 and len(rows) == 4
    assert all(a["noise"][1] <= b["noise"][0] for a, b in pairwise(rows))


def test_leaving_out_a_term_that_tells_loses_and_one_that_does_not_loses_nothing():
    reward = Reward("two", {"count_error": 1, "spacing_error": 1}, "product")

    def answer(good, useless, truth):
        return judged(good * useless, truth, count_error=good, spacing_error=useless)

    tried = [answer(t, 0.5, t) for t in (0.1, 0.4, 0.8)]
    one = Examined(0, "", None, answer(1.0, 0.5, 1.0), tuple(tried), ())
    useful, useless = by_term(reward, [one])
    assert useful["kendall"] == 1.0 and useful["without"]["kendall"] == 0.0
    assert useless["kendall"] == 0.0 and useless["without"]["kendall"] == 1.0


def test_cost_is_that_of_the_reward():
    rows = [replace(judged(0.5, 0.5), seconds=(3.0, 1.0)) for _ in range(4)]
    assert cost([examined(0, rows)])["median_s"] == 1.0
    assert cost([examined(0, rows)])["share"] == pytest.approx(0.25)


# --- wrong answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["atoms", "symmetry", "disorder"])
def test_adversaries_answer_in_kind_the_same_every_time(task):
    problem = job(task).problem(1)
    truth = true_answer(problem)
    entries = against(problem, truth)
    assert len(entries) >= 9
    for entry in entries:
        answers = [*wrong_answers(job(task), problem, 1, entry.name)]
        again = [*wrong_answers(job(task), problem, 1, entry.name)]
        assert [a.key for a in answers] == [a.key for a in again]
        for answer in answers:
            assert type(answer) is type(truth)
            if isinstance(answer, Points):
                assert (answer.yx >= -0.5).all() and answer.shape == truth.shape
            else:
                assert isinstance(answer, Labels)
                assert answer.map.shape == truth.map.shape
                assert answer.background == truth.background


def test_grid_and_random_points_are_as_many_as_the_columns():
    problem = job().problem(2)
    truth = true_answer(problem)
    for title in ("square grid of the right count", "random positions"):
        [answer] = wrong_answers(job(), problem, 2, f"points: {title}")
        assert len(answer) == pytest.approx(len(truth), rel=0.1)


def test_a_wrong_pixel_size_is_expected_as_such():
    problem = job().problem(0)
    wrong = wrong_size(problem, 0.3).prior
    assert wrong.scale_px == pytest.approx(1.3 * problem.prior.scale_px)
    assert wrong.count == pytest.approx(problem.prior.count / 1.69)
    assert np.allclose(wrong.lattice_px, 1.3 * np.array(problem.prior.lattice_px))


def test_every_adversary_says_what_it_does():
    assert all(entry.about for entry in adversaries.values())


def test_noise_scores_nothing_for_atoms():
    found = Examiner(job()).examine(3)
    noise = [attack for attack in found.attacks if attack.name == NOISE]
    assert len(noise) == 2
    assert all(attack.wrong and attack.judged.truth == 0 for attack in noise)
    assert all(attack.judged.value < 0.1 for attack in noise)
    assert found.honest.value > 0.6 and found.honest.truth == 1.0


def test_where_no_answer_is_wrong_nobody_is_fooled():
    """Without disorder, calling nothing disordered is right: it must not count against the reward;
    of an image of noise it is wrong all the same."""
    drawn = job("disorder")
    index = next(i for i in range(40) if not true_answer(drawn.problem(i)).map.any())
    problem = drawn.problem(index)
    found = [*attacks(drawn, problem, index, [judged(0.9, 1.0)])]
    assert all(a.wrong == (a.judged.truth < 1 / 3) for a in found)
    assert all(a.wrong for a in found if a.name == NOISE)
    # An optimiser that has only right answers to show fools nobody.
    [optimiser] = [a for a in found if a.name == OPTIMISER]
    assert not optimiser.wrong or optimiser.judged.truth == 0


# --- behaviour ------------------------------------------------------------------------------------

HOSTILE = {
    "nan": ("is finite", 'return float("nan")'),
    "raises": ("raises nothing", 'raise RuntimeError("no idea")'),
    "hangs": ("ends in time", "while True:\n        pass"),
    "sleeps": ("ends in time", "import time\n    time.sleep(60)"),
    "peeks": (
        "does not read the truth",
        "import gc\n    from scopegym import Micrograph\n"
        "    known = [o.truth for o in gc.get_objects() if isinstance(o, Micrograph)]\n"
        "    return float(len(points) in [len(truth) for truth in known])",
    ),
    "writes": ("does not mutate its input", "points.yx[:] = 0\n    return 1.0"),
    "swaps": (
        "does not mutate its input",
        'object.__setattr__(points, "yx", points.yx[:1])\n    return len(points) / 100',
    ),
    "constant": ("is not constant", "return 0.5"),
    "moody": ("is deterministic", "import random\n    return random.random()"),
}

PLUGIN = '''
from scopegym import Prior, reward_term
from scopegym.artifacts import Points

@reward_term(direction="maximize", bounds=(0.0, 1.0))
def {name}(points: Points, prior: Prior) -> float:
    """A hostile claim."""
    {body}
'''


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Hostile terms are gone after each test."""
    monkeypatch.setattr(rewards, "_entries", dict(rewards._entries))


def plugin(folder: Path, name: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text(PLUGIN.format(name=name, body=HOSTILE[name][1]))
    return file


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rewards_are_named(name, tmp_path, monkeypatch):
    from scopegym.experiments.audit import hostile

    monkeypatch.setattr(hostile, "LIMITS", replace(hostile.LIMITS, seconds=0.5))
    load_plugin(plugin(tmp_path, name))
    lines = {line.name: line for line in probe(job(reward=ATOMS.plus(name)))}
    assert set(lines) == set(ASKED)
    failed = [line for line in lines.values() if not line.passed]
    assert HOSTILE[name][0] in [line.name for line in failed]
    assert all(name in line.text for line in failed)


@pytest.mark.parametrize("task", ["atoms", "symmetry", "disorder"])
def test_the_tasks_own_rewards_behave(task):
    assert all(line.passed for line in probe(job(task)))


# --- the whole ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    return audit("atoms", out, problems=3, workflows=8, backend="serial"), out


def test_an_audit_writes_what_it_returns(small):
    plain, out = small
    assert json.loads((out / "audit.json").read_text()) == json.loads(json.dumps(plain))
    assert len(pd.read_parquet(out / "workflows.parquet")) == 3 * 8
    attacks = pd.read_parquet(out / "attacks.parquet")
    assert {"blank", NOISE, "right lattice, shifted"} <= {*attacks["adversary"]}
    assert plain["passed"] == all(line["passed"] for line in plain["verdict"])
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and page.count("data:image/jpeg") >= 10
    assert (out / "audit.md").read_text().count("\n") == len(plain["verdict"]) + 2
    assert summary(plain)[-1].startswith(plain["reward"]["name"])


def test_an_audit_is_reproducible_and_spreads(small, tmp_path):
    plain, _ = small
    again = audit("atoms", tmp_path, problems=3, workflows=8, backend="processes")
    for key in ("overall", "noise_levels", "terms", "adversaries"):
        assert again[key] == plain[key]


def test_the_true_answer_beats_blank_grid_and_noise(small):
    plain, _ = small
    margin = {row["adversary"]: row["least"] for row in plain["adversaries"]}
    for name in ("blank", "everything", "random positions", NOISE):
        assert margin[name] > 0.4


def test_the_papers_two_terms_alone_are_fooled(tmp_path):
    """Paper 000's own reward cannot tell a square grid or a shifted lattice from the truth."""
    paper = Reward("paper", {"count_error": 1, "spacing_error": 1}, "linear")
    plain = audit("atoms", tmp_path, reward=paper, problems=4, workflows=4, backend="serial")
    margin = {row["adversary"]: row["median"] for row in plain["adversaries"]}
    assert margin["right lattice, shifted"] < 0.2
    assert not plain["passed"]


def test_a_misbehaving_reward_is_not_examined_further(tmp_path):
    load_plugin(plugin(tmp_path, "raises"))
    reward = ATOMS.plus("raises")
    plain = audit("atoms", tmp_path / "out", reward=reward, problems=2, workflows=2)
    assert plain["problems"] == 0 and not plain["passed"]
    [failed] = [line for line in plain["verdict"] if not line["passed"]]
    assert failed["name"] == "raises nothing" and "no idea" in failed["text"]
    assert "No problem was examined" in (tmp_path / "out" / "report.html").read_text()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scopegym.experiments.cli", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_names_a_constant_term_and_exits_1(tmp_path):
    file = plugin(tmp_path, "constant")
    sizes = ("--problems", "2", "--workflows", "2", "--backend", "serial", "--json")
    done = run("atoms", "--reward", f"{file}:constant", "--out", str(tmp_path / "out"), *sizes)
    assert done.returncode == 1, done.stderr
    plain = json.loads(done.stdout)
    assert plain["passed"] is False
    [line] = [line for line in plain["verdict"] if line["name"] == "is not constant"]
    assert "constant is constant" in line["text"] and not line["passed"]


def test_the_command_audits_a_reward_in_place_of_the_tasks(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from scopegym.rewards.base import Reward\n"
        'mine = Reward("mine", {"count_error": 1, "image_evidence": 2}, "linear")\n'
    )
    sizes = ("--problems", "2", "--workflows", "2", "--backend", "serial", "--json")
    done = run("atoms", "--reward", f"{file}:mine", "--out", str(tmp_path / "out"), *sizes)
    assert json.loads(done.stdout)["reward"]["weights"] == {"count_error": 1, "image_evidence": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("atomz",), "did you mean atoms"),
        (("atoms", "--reward", "count_eror"), "did you mean count_error"),
        (("atoms", "--reward", "nowhere.py:term"), "does not exist"),
        (("atoms", "--problems", "1"), "--problems"),
    ],
)
def test_bad_input_is_one_sentence_and_2(arguments, said, tmp_path):
    done = run(*arguments, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_term_that_asks_for_the_truth_is_refused(tmp_path):
    file = tmp_path / "cheat.py"
    file.write_text(
        "from scopegym import Micrograph, reward_term\n"
        '@reward_term(direction="maximize", bounds=(0, 1))\n'
        "def cheat(micrograph: Micrograph) -> float:\n    return 1.0\n"
    )
    done = run("atoms", "--reward", f"{file}:cheat", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "the truth is not an input" in done.stderr


def test_unwritable_folders_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScopegymError, match="Cannot write"):
        audit("atoms", tmp_path / "file", problems=2, workflows=2)
