"""`scopegym benchmark`: what it writes, what it keeps, what it concludes."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from scopegym.agents.base import registry as agents
from scopegym.agents.bayes import starting_points
from scopegym.agents.policy import SHIPPED, Policy
from scopegym.answers import described
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.experiments.benchmark import benchmark, driver, regimes, setting, standings
from scopegym.experiments.benchmark.charts import base
from scopegym.experiments.benchmark.regimes import REFERENCE, Unit, units
from scopegym.experiments.benchmark.searches import (
    Ensemble,
    judged,
    timed,
    warm_started,
)
from scopegym.experiments.benchmark.setting import TEST, TUNING, Frame, Setting, UserImages
from scopegym.experiments.benchmark.standings import Standings, standing
from scopegym.experiments.benchmark.verdict import (
    Cost,
    _not_fooled,
    break_even,
    break_even_points,
    lines,
    training_cost,
)
from scopegym.experiments.folders import MANIFEST
from scopegym.experiments.train import VALIDATION
from scopegym.prior import Prior
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.workers import Parcel, WorkerDied
from scopegym.workflow import Recipe

ATOMS = tasks["atoms"]
HERE = ("--backend", "serial")
SMALL = ("--problems", 2, "--seeds", 2, "--budget", 9, "--training-images", 2, *HERE)


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    """Intervals from a few resamplings: here nobody reads their last digits."""
    monkeypatch.setattr(standings, "DRAWS", 40)
    monkeypatch.setattr(standings, "BAND_DRAWS", 5)
    monkeypatch.setattr(standings, "POINTS", 6)


@pytest.fixture
def scopegym(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["scopegym", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A small benchmark of everything; copied by who changes it."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("DRAWS", 40), ("BAND_DRAWS", 5), ("POINTS", 6)):
            patched.setattr(standings, name, value)
        out = tmp_path_factory.mktemp("benchmark") / "done"
        run(out)
    return out


def run(out: Path, **changes) -> dict:
    arguments = {
        "names": ["expert", "random", "grid", "bayes", "tree", "ppo"],
        "problems": 2,
        "seeds": 2,
        "budget": 9,
        "training": 2,
        "backend": "serial",
    }
    return benchmark("atoms", out, **{**arguments, **changes})


def result(out: Path) -> dict:
    return json.loads((out / "benchmark.json").read_text(encoding="utf-8"))


def refused(ran, *words: str) -> None:
    """One clear sentence and exit code 2."""
    code, out, err = ran
    assert code == 2 and out == "" and err.startswith("Error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


# --- what is written ------------------------------------------------------------------------------


def test_the_result_says_what_was_asked_and_found(done: Path):
    found = result(done)
    assert found["task"] == "atoms" and found["failures"] == []
    assert found["passed"] is all(line["passed"] for line in found["verdict"])
    assert {"name", "passed", "value", "threshold", "text"} == {*found["verdict"][0]}
    assert found["settings"]["measure"] == "F1" and found["settings"]["budget"] == 9
    assert found["machine"]["cores"] >= 1 and "node" not in found["machine"]
    assert found["versions"]["numpy"] == np.__version__
    assert {*found["regimes"]} == {"A", "B", "C"}
    search, learned, refined = (found["regimes"][name]["agents"] for name in "ABC")
    assert [*search] == ["expert", "random", "grid", "bayes", "tree", "ppo"]
    assert {*learned} == {"ppo", "expert", REFERENCE} | {
        f"tuned by {name}" for name in ("random", "grid", "bayes")
    }
    assert {*refined} == {"ppo"} | {
        f"{name}, {start}" for name in ("random", "bayes", "tree") for start in ("warm", "cold")
    }
    for name, figures in search.items():
        assert figures["failed"] == 0 and figures["executions"] <= 9
        for column in ("score", "truth"):
            assert 0 <= figures[column]["low"] <= figures[column]["value"] <= 1
        parts = figures["seconds"]
        total = parts["operators"] + parts["reward"] + parts["overhead"]
        assert parts["total"] == pytest.approx(total) and total > 0
        assert {*figures["better_than"]} == {*search} - {name}
    # Nobody's evaluations per image cost more than the long search's.
    assert learned[REFERENCE]["evaluations"] == 9 and learned["ppo"]["evaluations"] == 1
    assert learned["ppo"]["executions"] <= 8
    assert any("tree and ppo cannot tune a workflow" in note for note in found["notes"])


def test_probabilities_of_improvement_add_up(done: Path):
    search = result(done)["regimes"]["A"]["agents"]
    for one, figures in search.items():
        for other, found in figures["better_than"].items():
            back = search[other]["better_than"][one]["score"]
            assert found["score"]["value"] + back["value"] == pytest.approx(1)
            assert found["score"]["low"] == pytest.approx(1 - back["high"])


def test_tables_hold_every_run_and_every_trial(done: Path):
    runs, curves = (pd.read_parquet(done / f"{name}.parquet") for name in ("runs", "curves"))
    assert {*runs["image"]} == {"simulated-000", "simulated-001"}
    counts = runs.groupby(["regime", "agent"]).size()
    assert counts["A", "bayes"] == 4 and counts["A", "grid"] == counts["A", "expert"] == 2
    assert counts["B", "tuned by grid"] == 2 and counts["B", "tuned by bayes"] == 4
    assert (runs["failure"] == "").all() and runs["hypervolume"].between(0, 1).all()
    for _, run_of in curves.groupby(["regime", "agent", "image", "seed"]):
        assert run_of["trial"].tolist() == [*range(1, len(run_of) + 1)]
        assert run_of["best"].is_monotonic_increasing
        assert run_of["executions"].is_monotonic_increasing
        # The policy's workflows and the tree's may lack what the task obliges to.
        if base(run_of["agent"].iloc[0]) not in ("tree", "ppo"):
            assert (run_of["best"] - run_of["score"] <= tasks["atoms"].tie + 1e-9).all()
    last = curves[curves["regime"] == "A"].groupby(["agent", "image", "seed"]).last()
    mine = runs[runs["regime"] == "A"].set_index(["agent", "image", "seed"]).loc[last.index]
    for column in ("score", "truth", "executions"):
        np.testing.assert_allclose(last[column], mine[column])


def test_a_run_is_what_solve_gives(done: Path):
    from scopegym.experiments.solve import search
    from scopegym.sample import Expectation

    problem = Setting("atoms", 9).problem(1)
    solved = search(problem, Expectation(problem.prior, None, ()), "bayes", 9, 1)
    record = json.loads((done / "runs" / Unit("A", "bayes", 1, 1).file).read_text())
    assert record["runs"][0]["score"] == solved.chosen.score.value
    assert record["runs"][0]["workflow"] == solved.chosen.workflow.to_dict()


def test_the_page_and_the_table_are_self_contained(done: Path):
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") >= 10 and "NaN" not in page and "None" not in page
    for line in result(done)["verdict"]:
        assert line["name"] in page
    table = (done / "leaderboard.md").read_text(encoding="utf-8")
    assert "| agent | score | F1 | P(better than expert) |" in table
    search = table.split("**B")[0]
    assert all(f"| {name} | 0." in search for name in ("bayes", "expert", "ppo"))


# --- reruns ---------------------------------------------------------------------------------------


def stamps(out: Path) -> dict[str, int]:
    return {
        file.name: file.stat().st_mtime_ns
        for file in (out / "runs").iterdir()
        if file.name != MANIFEST
    }


def test_a_second_run_does_nothing_and_a_missing_run_alone_is_done_again(done: Path, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    before, seen = stamps(out), []
    run(out, on_work=lambda *progress: seen.append(progress))
    assert seen == [] and stamps(out) == before
    assert result(out)["regimes"] == result(done)["regimes"]
    lost = Unit("A", "random", 1, 0).file
    (out / "runs" / lost).unlink()
    (out / "runs" / Unit("A", "grid", 0, 0).file).write_text("{")
    run(out, on_work=lambda *progress: seen.append(progress))
    assert len(seen) == 2
    changed = {name for name, stamp in stamps(out).items() if before.get(name) != stamp}
    damaged = Unit("A", "grid", 0, 0).file
    assert changed == {lost, damaged, f"{damaged}~1"}
    again, first = (pd.read_parquet(folder / "runs.parquet") for folder in (out, done))
    timeless = [name for name in first if not name.startswith("seconds")]
    pd.testing.assert_frame_equal(again[timeless], first[timeless])


def test_agents_and_seeds_can_be_added(done: Path, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    before, seen = stamps(out), []
    run(out, names=["expert", "evolution"], on_work=lambda *progress: seen.append(progress))
    assert len(seen) == 4  # two images, two seeds
    assert before.items() <= stamps(out).items()
    assert [*result(out)["regimes"]["A"]["agents"]] == ["expert", "evolution"]


def test_another_benchmarks_folder_is_refused(done: Path, tmp_path):
    before = result(done)
    with pytest.raises(ScopegymError, match="holds results of another run"):
        run(done, budget=10)
    with pytest.raises(ScopegymError, match="holds results of another run"):
        run(done, seed=1)
    bundle = Path(shutil.copytree(SHIPPED / "atoms", tmp_path / "bundle"))
    spec = json.loads((bundle / "spec.json").read_text())
    (bundle / "spec.json").write_text(json.dumps({**spec, "training": {}}))
    with pytest.raises(ScopegymError, match="a benchmark of another policy"):
        run(done, policy=bundle)
    assert result(done) == before


def test_a_run_that_fails_is_recorded_and_counts_as_nothing(done: Path, tmp_path, monkeypatch):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    failing = Unit("A", "bayes", 0, 0)
    (out / "runs" / failing.file).unlink()

    def broken(*_):
        raise RuntimeError("no luck")

    with monkeypatch.context() as patched:
        patched.setattr(regimes, "judged", broken)
        found = run(out)
    assert found["failures"] == [{**failing._asdict(), "reason": "RuntimeError: no luck"}]
    assert not found["passed"] and found["verdict"][0]["value"] == 1
    runs = pd.read_parquet(out / "runs.parquet").query("failure != ''")
    assert runs["score"].tolist() == [0.0] and runs["truth"].tolist() == [0.0]
    assert found["regimes"]["A"]["agents"]["bayes"]["failed"] == 1
    assert "no luck" in (out / "report.html").read_text(encoding="utf-8")
    assert run(out)["failures"] == []  # what failed is tried again


def test_a_unit_that_ends_its_workers_is_recorded(done: Path, tmp_path, monkeypatch):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    lost = Unit("B", "tuned by bayes", None, 0)
    (out / "runs" / lost.file).unlink()

    def deadly(waiting, *_, **__):
        future: Future = Future()
        future.set_exception(WorkerDied("killed"))
        return [(waiting.popleft(), future)]

    monkeypatch.setattr(driver, "map_unordered", deadly)
    found = run(out)
    assert found["failures"] == [{**lost._asdict(), "reason": "Its worker process failed: killed."}]
    runs = pd.read_parquet(out / "runs.parquet").query("failure != ''")
    assert [*runs["image"]] == ["simulated-000", "simulated-001"]  # all that it was about


def test_everything_may_fail(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(regimes, "judged", broken)
    found = run(tmp_path / "out", names=["expert", "ppo"])
    assert not found["passed"] and found["regimes"]["B"]["break_even"]["seconds"] is None
    assert "No run gives" in found["regimes"]["B"]["text"]


# --- problems -------------------------------------------------------------------------------------


def test_problems_are_nobody_elses():
    assert len({TEST, TUNING, VALIDATION, 9001}) == 4
    setting = Setting("atoms", 9)
    test, tuning = setting.problem(0), setting.tuning_problem(0)
    assert test.micrograph.key != tuning.micrograph.key
    assert test.micrograph.key == Setting("atoms", 60, seed=3).problem(0).micrograph.key


def test_work_takes_the_seeds_that_count():
    setting = Setting("atoms", 9, 3, seed=5, policy=Parcel(SHIPPED / "atoms"))
    work = units(setting, ["expert", "bayes", "tree", "ppo"], "ABC", 20)
    seeds = {
        (regime, agent): sorted({u.seed for u in work if (u.regime, u.agent) == (regime, agent)})
        for regime, agent, *_ in work
    }
    assert seeds["A", "expert"] == [5] and seeds["A", "bayes"] == [*range(5, 25)]
    assert seeds["B", "tuned by bayes"] == [5, 6, 7] and seeds["B", "ppo"] == [5]
    assert seeds["C", "tree, warm"] == [*range(5, 10)]
    assert ("B", "tuned by tree") not in seeds and ("C", "expert, warm") not in seeds
    assert len(work) == len({unit.file for unit in work})


@pytest.mark.parametrize("name", sorted(name for name in agents if not agents[name].chance))
def test_agents_without_chance_do_not_ask_for_any(name: str):
    class Chance:
        def __getattr__(self, asked):
            raise AssertionError(f"{name} draws by {asked}")

    problem = Setting("atoms", 9).problem(0)
    from scopegym.agents.base import Budget

    assert [*agents[name].function(problem, Budget(problem, 9), Chance())]


def test_names_of_measures():
    def measure(truth):
        return described(truth).measure(truth)

    assert measure(Setting("atoms", 9).problem(0).micrograph.truth) == "F1"
    assert measure(tasks["disorder"].sample(np.random.default_rng(0)).micrograph.truth) == "IoU"
    assert measure(tasks["symmetry"].sample(np.random.default_rng(0)).micrograph.truth) == (
        "accuracy"
    )


# --- one workflow for many images -----------------------------------------------------------------


def test_an_ensemble_charges_and_averages_over_its_images():
    problems = [Setting("atoms", 9).tuning_problem(index) for index in range(2)]
    together = Ensemble.of(problems)
    trial, *alone = (p.evaluate(ATOMS.expert) for p in (together, *problems))
    assert trial.executions == 6 and trial.failure is None
    assert trial.score.value == pytest.approx(np.mean([one.score.value for one in alone]))
    for name, value in trial.score.terms.items():
        assert value == pytest.approx(np.mean([one.score.terms[name] for one in alone]))
    with pytest.raises(ScopegymError, match="no single picture"):
        list(agents["tree"].search(together, 9, 0))


def test_an_image_on_which_a_workflow_fails_has_the_worst_score():
    problem = Setting("atoms", 9).tuning_problem(0)

    class Failing(Problem):
        def run(self, workflow):
            raise RuntimeError(f"no {workflow}")

    bad = Failing(problem.micrograph, problem.prior, problem.task)
    half = Ensemble.of([problem, bad]).evaluate(ATOMS.expert)
    assert half.failure is None
    assert half.score.value == pytest.approx(problem.evaluate(ATOMS.expert).score.value / 2)
    assert "no" in (Ensemble.of([bad, bad]).evaluate(ATOMS.expert).failure or "")


def test_a_search_without_success_has_no_choice():
    problem = Setting("atoms", 9).problem(0)
    failed = replace(problem.evaluate(ATOMS.expert), failure="it broke")
    with pytest.raises(ScopegymError, match="it broke"):
        judged(0, problem, timed(iter([failed])))


# --- warm starts ----------------------------------------------------------------------------------


def test_a_proposal_is_paid_once_and_the_search_begins_with_it():
    policy, problem = Policy.shipped("atoms"), Setting("atoms", 30).problem(0)
    proposal = policy.propose(problem)
    trials = [*warm_started(agents["bayes"], policy, problem, 30, 0)]
    assert trials[0].workflow == proposal.workflow
    assert trials[0].executions == proposal.executions
    assert sum(trial.executions for trial in trials) <= 30
    assert trials[1].workflow == proposal.workflow and trials[1].executions == 0
    begun = starting_points(replace(ATOMS, expert=proposal.workflow))
    assert [t.workflow for t in trials[1 : len(begun) + 1]] == begun


# --- figures --------------------------------------------------------------------------------------


def test_break_even_by_hand():
    # 600 s of training against 6.5 s a search and 0.5 s an episode: 100 images.
    assert break_even(600, 6.5, 0.5) == pytest.approx(100)
    assert break_even(600, 0.5, 0.5) is None and break_even(600, 0.4, 0.5) is None
    assert break_even(None, 6.5, 0.5) is None
    agents_of = {
        REFERENCE: {"seconds": {"total": 6.5}, "executions": 200.0},
        "ppo": {"seconds": {"total": 0.5}, "executions": 2.5},
    }
    paid = break_even_points({"agents": agents_of}, Cost(600.0, 39_500.0, 1, "spec.json"))
    assert paid["break_even"] == {"seconds": pytest.approx(100), "executions": pytest.approx(200)}
    assert "pays after 100 images" in paid["text"]
    unknown = break_even_points({"agents": agents_of}, Cost(None, None, 1, "spec.json"))
    assert unknown["break_even"]["seconds"] is None and "does not record" in unknown["text"]
    slow = {**agents_of, "ppo": {"seconds": {"total": 7.0}, "executions": 2.5}}
    assert "never pays" in break_even_points({"agents": slow}, Cost(600.0, 1.0, 1, ""))["text"]


def test_the_cost_of_a_training_is_read_where_it_was_written(tmp_path):
    policy = Policy.shipped("atoms")
    logged = training_cost(policy, SHIPPED / "atoms")
    assert (
        logged.source == "training.csv" and logged.seconds >= policy.spec["validation"]["seconds"]
    )
    kept = training_cost(policy, tmp_path)
    assert kept.seconds == policy.spec["validation"]["seconds"] and "spec.json" in kept.source
    silent = Policy({**policy.spec, "validation": {}}, policy.weights)
    assert training_cost(silent, tmp_path).seconds is None


def test_curves_begin_at_nothing_and_keep_their_last_value():
    spent, value = np.array([3, 6, 10]), np.array([0.2, 0.5, 0.9])
    found = standing(spent, value, np.array([1, 3, 5, 6, 10, 60]))
    assert found.tolist() == [0.0, 0.2, 0.2, 0.5, 0.9, 0.9]


def made_up(truths: dict[str, float], scores: dict[str, float], regime: str = "A") -> Standings:
    """Standings of agents whose every run gave the same."""
    table = pd.DataFrame(
        [
            {
                **{"regime": regime, "agent": name, "image": image, "seed": 0, "failure": ""},
                **{"score": scores[name], "truth": truths[name], "executions": 3.0},
            }
            for name in scores
            for image in range(3)
        ]
    )
    return Standings(table, pd.DataFrame(), tuple(scores))


def test_who_gains_score_and_loses_truth_fools_the_reward():
    scores = {"expert": 0.8, "bayes": 0.9, "random": 0.7, "tree": 0.9}
    truths = {"expert": 0.9, "bayes": 0.88, "random": 0.5, "tree": 0.895}
    found = {
        line.name.split()[0]: line for line in _not_fooled(made_up(truths, scores), "F1", 0.01)
    }
    # Random finds less by its own lights too, and the tree loses less than is allowed.
    assert {name: line.passed for name, line in found.items()} == {
        "bayes": False,
        "random": True,
        "tree": True,
    }
    assert found["bayes"].value == pytest.approx(-0.02) and found["bayes"].threshold == -0.01


def test_the_verdict_on_a_policy():
    names = ["ppo", REFERENCE, "tuned by random", "tuned by bayes"]
    learned = made_up(
        dict(zip(names, (0.99, 0.99, 0.95, 0.96), strict=True)),
        dict(zip(names, (0.93, 0.95, 0.90, 0.935), strict=True)),
        "B",
    )
    paid = {"break_even": {"seconds": 40.0}, "text": "It pays."}
    found = {line.name: line for line in lines(tasks["atoms"], {"B": learned}, paid, 60, "F1")}
    assert found["the policy agrees with the truth as well as a long search"].passed
    assert not found["the policy scores as high as a long search"].passed
    assert found["the policy runs few operators"].value == 3
    beats = found["the policy beats one workflow for all images"]
    assert beats.passed and "tuned by bayes (better); score" in beats.text
    assert "tuned by bayes (worse)" in beats.text
    assert found["the training pays"].passed


# --- as a user meets it ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    for seed in range(2):
        image = simulate_crystal(projection, (96, 96), 0.025, seed=seed, noise=0.1)
        tifffile.imwrite(made / f"{seed}.tif", image.data)
    return made


CRYSTAL = ("--crystal", "SrTiO3", "--zone", "0,0,1", "--pixel-size", "25 pm")


def test_a_users_images_without_truth(scopegym, folder, tmp_path):
    out = tmp_path / "out"
    names = ("--agents", "expert,random,ppo")
    code, said, _ = scopegym(
        "benchmark", "atoms", "--images", folder, *CRYSTAL, *names, *SMALL, "--out", out, "--json"
    )
    found = json.loads(said)
    assert code == 0 and found == result(out)
    assert found["settings"]["images"] == ["0.tif", "1.tif"] and not found["settings"]["simulated"]
    # Half of them are tuned to, the other half is left to try.
    assert found["settings"]["tuning_images"] == 1
    assert {*pd.read_parquet(out / "runs.parquet").query("regime == 'B'")["image"]} == {"1.tif"}
    assert found["settings"]["measure"] is None
    assert found["regimes"]["A"]["agents"]["random"]["truth"] is None
    assert any("truth of these images is not known" in note for note in found["notes"])
    assert pd.read_parquet(out / "runs.parquet")["truth"].isna().all()
    assert scopegym("run", out / "workflows.csv", "--check", "--out", tmp_path / "again")[0] == 0
    # The same images in other files, and changed pixels.
    tifffile.imwrite(folder / "1.tif", np.random.default_rng(0).normal(0, 1, (96, 96)))
    refused(
        scopegym("benchmark", "atoms", "--images", folder, *CRYSTAL, *names, *SMALL, "--out", out),
        "holds results of another run",
        "images",
    )


def test_a_users_image_is_read_and_calibrated_once(tmp_path, monkeypatch):
    """However many searches run on it; each still begins with an empty cache."""
    asked = []

    def images_in(path, _sample):
        asked.append(f"read {path.name}")
        return [ATOMS.sample(np.random.default_rng(0)).micrograph]

    def problem_of(micrograph, _sample, task, reward):
        asked.append(f"calibrate {micrograph.name}")
        return Problem(micrograph, Prior(9.0, 40.0), task, reward), None

    monkeypatch.setattr(setting, "images_in", images_in)
    monkeypatch.setattr(setting, "problem_of", problem_of)
    frames = tuple(Frame(name, Parcel(tmp_path / name), 0) for name in ("a.tif", "b.tif"))
    images = UserImages(Sample(estimate=True), frames)
    first, again, other = (images.problem(index, ATOMS) for index in (0, 0, 1))
    assert asked == ["read a.tif", "calibrate a.tif", "read b.tif", "calibrate b.tif"]
    assert first.micrograph is again.micrograph and first.cache is not again.cache
    assert other.micrograph.name == "b.tif" and len(again.cache) == 0
    assert len(pickle.dumps(images)) < 1500


def test_the_best_workflows_replay_and_a_changed_score_is_noticed(scopegym, done, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    table, again = out / "workflows.csv", tmp_path / "again"
    with table.open(encoding="utf-8", newline="") as read:
        rows = [*csv.DictReader(read)]
    runs = pd.read_parquet(out / "runs.parquet")
    assert [row["image"] for row in rows] == ["simulated-000", "simulated-001"]
    for row in rows:
        assert float(row["score"]) == runs[runs["image"] == row["image"]]["score"].max()
        assert Recipe.read(out / row["recipe_file"]).recorded["score"]["value"] == float(
            row["score"]
        )
    code, said, _ = scopegym("run", table, "--check", "--out", again)
    assert code == 0 and said.count("(as recorded)") == 2
    assert (again / Path(rows[1]["recipe_file"]).stem / "points.csv").exists()
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace(rows[0]["score"], "0.5"), encoding="utf-8")
    code, said, _ = scopegym("run", table, "--check", "--out", again)
    assert code == 1 and said.count("(NOT as recorded)") == 1
    assert scopegym("run", table, "--out", again)[0] == 0  # without --check it is no failure


def test_bad_tables_are_refused(scopegym, done, tmp_path):
    table = done / "workflows.csv"
    refused(scopegym("run", table, "image.tif", "--out", tmp_path), "names its images")
    refused(scopegym("run", tmp_path / "none.csv", "--out", tmp_path), "none.csv", "cannot be read")
    (tmp_path / "empty.csv").write_text("image\n")
    refused(scopegym("run", tmp_path / "empty.csv", "--out", tmp_path), "has no line")
    (tmp_path / "odd.csv").write_text("image,score\na,much\n")
    refused(scopegym("run", tmp_path / "odd.csv", "--out", tmp_path), "Line 1", "recipe_file")
    refused(scopegym("run", done / "workflows" / "x.yaml", "--out", tmp_path), "Give the images")


def test_bad_input_is_one_sentence(scopegym, folder, tmp_path):
    out = ("--out", tmp_path / "out", *HERE)
    refused(scopegym("benchmark", "atom", *out), "atoms")
    refused(scopegym("benchmark", "atoms", "--agents", "expert,bays", *out), "bayes")
    refused(scopegym("benchmark", "atoms", "--regimes", "A,D", *out), "regime 'D'", "A, B, C")
    refused(scopegym("benchmark", "atoms", "--budget", 2, *out), "budget of 2", "takes 3")
    refused(scopegym("benchmark", "atoms", "--agents", "bayes", "--regimes", "B", *out), "ppo")
    refused(scopegym("benchmark", "atoms", "--policy", tmp_path / "none", *out), "no policy folder")
    refused(
        scopegym("benchmark", "symmetry", "--agents", "ppo", *out), "No policy for task symmetry"
    )
    refused(scopegym("benchmark", "symmetry", "--policy", "atoms", *out), "is for task atoms")
    refused(
        scopegym("benchmark", "atoms", "--policy", "atoms", "--agents", "bayes", *out),
        "as agent ppo",
    )
    refused(scopegym("benchmark", "atoms", "--images", folder, *out), "exactly one way")
    alone = ("--images", folder / "0.tif", *CRYSTAL)
    refused(scopegym("benchmark", "atoms", *alone, *out), "at least two images")
    (folder / "bad.tif").write_bytes(b"nothing")
    refused(scopegym("benchmark", "atoms", "--images", folder, *CRYSTAL, *out), "bad.tif")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path):
    found = run(tmp_path / "two", names=["expert", "random"], workers=2, backend="processes")
    alone = run(tmp_path / "one", names=["expert", "random"])
    for name in ("expert", "random"):
        mine, theirs = (f["regimes"]["A"]["agents"][name] for f in (found, alone))
        assert mine["score"] == theirs["score"] and mine["truth"] == theirs["truth"]
