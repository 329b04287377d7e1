"""A policy applied to many images: verdicts, kills, reruns, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from scopegym.agents.policy import Policy
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.experiments.apply import Job, apply, summary
from scopegym.experiments.collection import files
from scopegym.experiments.folders import Output
from scopegym.registry import read_plugins
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Recipe

CRYSTAL = Crystal.named("SrTiO3")
SAMPLE = Sample(crystal=CRYSTAL, zone=(0, 0, 1), pixel_size="0.025 nm", calibration="report")
JOB = Job(Policy.shipped("atoms"), SAMPLE)


def write_image(path: Path, seed: int, noise: float = 0.1, frames: int | None = None) -> Path:
    projection = CRYSTAL.project((0, 0, 1))
    images = [
        simulate_crystal(projection, (128, 128), 0.025, seed=seed + i, noise=noise).data
        for i in range(frames or 1)
    ]
    pixels = np.stack(images) if frames else images[0]
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten images and a stack of three."""
    made = tmp_path_factory.mktemp("images")
    for seed in range(10):
        write_image(made / f"image{seed}.tif", seed)
    write_image(made / "stack.tif", 100, frames=3)
    return made


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert apply(JOB, files([folder]), out, backend="serial").failed == {}
    return out


def table(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "results.parquet")


def written(out: Path) -> dict[str, bytes]:
    """Every result file by its path, without the table, whose bytes hold library versions."""
    kept = (p for p in out.rglob("*") if p.is_file() and p.suffix != ".parquet")
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


def test_every_image_and_frame_has_its_results(undisturbed: Path):
    rows = table(undisturbed)
    assert len(rows) == 13
    assert rows.loc[rows.image == "stack.tif", "frame"].tolist() == [0, 1, 2]
    assert rows.score.min() > 0.85 and (rows.operator_executions <= 5).all()
    assert (abs(rows.points / rows.expected - 1) < 0.15).all()
    assert summary(undisturbed) == {
        "images": 13,
        "wrong-premise": 0,
        "ok": int((rows.verdict == "ok").sum()),
        "doubtful": int((rows.verdict == "doubtful").sum()),
        "score": pytest.approx(rows.score.mean()),
    }
    result = json.loads((undisturbed / "image3.tif" / "result.json").read_text())
    assert result["verdict"] in ("ok", "doubtful") and bool(result["reasons"]) == (
        result["verdict"] == "doubtful"
    )
    recipe = Recipe.read(undisturbed / "image3.tif" / "workflow.yaml")
    assert recipe.recorded["score"]["value"] == result["score"]["value"]
    points = pd.read_csv(undisturbed / "image3.tif" / "points.csv")
    assert len(points) == result["answer"]["points"]
    assert (undisturbed / "stack.tif" / "0002" / "points.csv").exists()


def test_a_second_run_does_nothing(undisturbed: Path, folder: Path):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("result.json")}
    seen: list = []
    apply(
        JOB,
        files([folder]),
        undisturbed,
        backend="serial",
        on_result=lambda *heard: seen.append(heard),
    )
    assert not seen
    assert {p: p.stat().st_mtime_ns for p in undisturbed.rglob("result.json")} == before
    assert len(table(undisturbed)) == 13


def test_only_what_is_missing_or_changed_is_done_again(undisturbed: Path, folder: Path, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folder, images)
    apply(JOB, files([images]), out, backend="serial")
    shutil.rmtree(out / "image1.tif")
    shutil.rmtree(out / "stack.tif" / "0002")
    (out / "image4.tif" / "result.json").write_text("{")
    write_image(images / "image5.tif", 77)
    seen = []
    apply(
        JOB, files([images]), out, backend="serial",
        on_result=lambda applied, _: seen.append(applied.image),
    )  # fmt: skip
    assert sorted(seen) == ["image1.tif", "image4.tif", "image5.tif", "stack.tif"]
    mine, theirs = table(out), table(undisturbed)
    same = mine.image != "image5.tif"
    pd.testing.assert_frame_equal(mine[same], theirs[same])
    assert not mine[~same].equals(theirs[~same])


PROGRAM = """
import sys
from pathlib import Path
import test_apply as t
from scopegym.experiments.apply import apply
from scopegym.experiments.collection import files
if __name__ == "__main__":
    apply(t.LONG, files([sys.argv[1]]), sys.argv[2], workers=2, backend=sys.argv[3])
"""

#: Long enough that a kill finds the work half done.
LONG = replace(JOB, refine=8)


@pytest.fixture(scope="module")
def undisturbed_long(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed-long")
    assert apply(LONG, files([folder]), out, backend="serial").failed == {}
    return out


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_killed_worker_and_killed_driver_leave_no_trace(
    backend: str, folder: Path, undisturbed_long: Path, tmp_path
):
    program, out = tmp_path / "driver.py", tmp_path / "out"
    program.write_text(PROGRAM)
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])  # noqa: PTH120
    command = [sys.executable, str(program), str(folder), str(out), backend]
    environment = {**os.environ, "PYTHONPATH": paths}
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_for(lambda: len(list(out.glob("*/result.json"))) >= 2, driver)
        os.kill(a_worker(driver.pid, backend), signal.SIGKILL)
        done = len(list(out.glob("*/result.json")))
        wait_for(lambda: len(list(out.glob("*/result.json"))) > min(done + 1, 9), driver)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    left = {p: p.stat().st_mtime_ns for p in out.rglob("result.json")}
    subprocess.run(command, env=environment, check=True, timeout=300)
    # What was done is not done again, and nothing differs from a run without kills.
    assert {p: p.stat().st_mtime_ns for p in left} == left
    pd.testing.assert_frame_equal(table(out), table(undisturbed_long))
    assert written(out) == written(undisturbed_long)


def wait_for(condition, driver: subprocess.Popen, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition() and driver.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)


def a_worker(driver: int, backend: str) -> int:
    """The process of a worker of this driver."""
    mark = "spawn_main" if backend == "processes" else "ray::Holder"
    for line in subprocess.run(
        ["ps", "-wweo", "pid,sid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        pid, session, args = (
            line.split(None, 2) if len(line.split(None, 2)) == 3 else ("0", "0", "")
        )
        if mark in args and (backend == "ray" or int(session) == driver):
            return int(pid)
    raise AssertionError("no worker is running")


def test_refining_tries_more_and_gets_no_worse(undisturbed: Path, folder: Path, tmp_path):
    meant = {"image3.tif": folder / "image3.tif", "image4.tif": folder / "image4.tif"}
    for out in ("first", "second"):
        apply(replace(JOB, refine=8, seed=1), meant, tmp_path / out, backend="serial")
    refined = table(tmp_path / "first").set_index("image")
    plain = table(undisturbed).set_index("image").loc[refined.index]
    assert (refined.score >= plain.score - 0.005).all()
    assert (refined.operator_executions > plain.operator_executions).all()
    # The draws depend on the image and the seed alone.
    pd.testing.assert_frame_equal(refined, table(tmp_path / "second").set_index("image"))


# Verdicts -----------------------------------------------------------------------------------------


def verdict(path: Path, out: Path, sample: Sample = SAMPLE) -> tuple[str, list[str]]:
    assert apply(replace(JOB, sample=sample), {path.name: path}, out, backend="serial").failed == {}
    result = json.loads((out / path.name / "result.json").read_text())
    return result["verdict"], result["reasons"]


def test_a_good_image_is_ok(folder: Path, tmp_path):
    assert verdict(folder / "image0.tif", tmp_path) == ("ok", [])


def test_noise_is_doubtful_because_no_lattice_stands_out(tmp_path):
    pixels = np.random.default_rng(0).normal(0, 1, (128, 128)).astype(np.float32)
    tifffile.imwrite(tmp_path / "noise.tif", pixels)
    said, reasons = verdict(tmp_path / "noise.tif", tmp_path / "out")
    assert said == "doubtful" and any("was not found" in reason for reason in reasons)


def test_a_wrong_pixel_size_is_a_wrong_premise_because_the_lattice_contradicts_it(folder, tmp_path):
    sample = replace(SAMPLE, pixel_size="0.030 nm")
    said, reasons = verdict(folder / "image0.tif", tmp_path, sample)
    assert said == "wrong-premise"
    assert any("more than the 10 % allowed" in reason for reason in reasons)


def test_an_image_unlike_training_says_in_what(tmp_path):
    pixels = write_image(tmp_path / "image.tif", 3, noise=0.0)
    data = tifffile.imread(pixels)
    data[40:90, 40:90] = 30 * data.max()  # a dead detector region
    tifffile.imwrite(pixels, data)
    said, reasons = verdict(pixels, tmp_path / "out")
    assert said != "ok" and not any("training images" in reason for reason in reasons)
    [result] = (tmp_path / "out").rglob("result.json")
    notes = json.loads(result.read_text(encoding="utf-8"))["notes"]
    assert any("Unlike the training images in" in note for note in notes)


# Bad input ----------------------------------------------------------------------------------------


def test_unreadable_images_are_listed_and_the_others_done(folder: Path, tmp_path):
    shutil.copy(folder / "image0.tif", tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_bytes(b"no image")
    tifffile.imwrite(tmp_path / "flat.tif", np.ones((64, 64), np.float32))
    (tmp_path / "notes.txt").write_text("not an image, not looked at")
    out = tmp_path / "out"
    meant = files([tmp_path])
    meant["gone.tif"] = tmp_path / "gone.tif"
    failed = apply(JOB, meant, out, backend="serial").failed
    assert set(failed) == {"bad.tif", "flat.tif", "gone.tif"}
    assert "constant" in failed["flat.tif"] and all("\n" not in text for text in failed.values())
    assert table(out).image.tolist() == ["good.tif"]
    assert not (out / "bad.tif").exists()


def test_a_folder_of_another_run_is_left_alone(undisturbed: Path, folder: Path):
    with pytest.raises(ScopegymError, match="results of another run"):
        apply(replace(JOB, seed=9), files([folder]), undisturbed, backend="serial")


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


@pytest.mark.parametrize("typed", ["typo/..", "typo/.", "typo", "", "missing.tif"])
def test_an_input_that_does_not_exist_is_refused_before_anything_is_touched(
    typed: str, tmp_path, monkeypatch
):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(ScopegymError, match=r"no file or folder|no name of a file"):
        apply(JOB, files([typed]), tmp_path / "victim" / "applied", backend="serial")
    assert everything(tmp_path) == before


def test_a_folder_with_the_name_of_an_image_is_not_replaced(folder: Path, tmp_path):
    (tmp_path / "image0.tif").mkdir()
    (tmp_path / "image0.tif" / "thesis.txt").write_text("years of work")
    meant = files([folder / "image0.tif", folder / "image1.tif"])
    with pytest.raises(ScopegymError, match="was not written by this run"):
        apply(JOB, meant, tmp_path, backend="serial")
    assert (tmp_path / "image0.tif" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "image1.tif").exists()


def test_an_image_that_is_away_keeps_its_former_result(folder: Path, tmp_path):
    image, out = tmp_path / "image.tif", tmp_path / "out"
    shutil.copy(folder / "image0.tif", image)
    meant = files([image])
    apply(JOB, meant, out, backend="serial")
    before = written(out)
    image.rename(tmp_path / "away.tif")
    ran = apply(JOB, meant, out, backend="serial")
    assert list(ran.failed) == ["image.tif"] and written(out) == before and len(table(out)) == 1


def test_the_result_of_another_image_of_the_same_name_does_not_count_as_done(tmp_path):
    images = [tmp_path / name / "x.tif" for name in ("a", "b")]
    for seed, image in enumerate(images):
        image.parent.mkdir()
        write_image(image, seed)
        os.utime(image, (1e9, 1e9))  # as an archive may leave it
    out = tmp_path / "out"
    apply(JOB, files(images[:1]), out, backend="serial")
    before = written(out)
    with pytest.raises(ScopegymError, match="result of another image of that name"):
        apply(JOB, files(images[1:]), out, backend="serial")
    # The same image in another place is the same image.
    images[0].parent.rename(tmp_path / "moved")
    seen = []
    apply(
        JOB, files([tmp_path / "moved" / "x.tif"]), out, backend="serial",
        on_result=lambda *heard: seen.append(heard),
    )  # fmt: skip
    assert not seen and written(out) == before


def test_scratch_and_half_a_result_do_not_count_as_done(folder: Path, tmp_path):
    out, meant = tmp_path / "out", files([folder / "image0.tif"])
    apply(JOB, meant, out, backend="serial")
    whole = written(out)
    # As a killed run may leave it: results in a scratch folder, and one without its recipe.
    shutil.copytree(out / "image0.tif", out / "image0.tif" / ".scopegym-x")
    assert len(table(out)) == 1
    shutil.rmtree(out / "image0.tif" / ".scopegym-x")
    (out / "image0.tif" / "workflow.yaml").unlink()
    apply(JOB, meant, out, backend="serial")
    assert written(out) == whole and len(table(out)) == 1


def test_what_the_user_added_to_a_result_is_kept_when_it_is_done_again(folder: Path, tmp_path):
    image, out = tmp_path / "image.tif", tmp_path / "out"
    shutil.copy(folder / "image0.tif", image)
    apply(JOB, files([image]), out, backend="serial")
    (out / "image.tif" / "notes.txt").write_text("mine")
    write_image(image, 5)
    ran = apply(JOB, files([image]), out, backend="serial")
    assert ran.kept == (str(out / "image.tif~1"),)
    assert (out / "image.tif~1" / "notes.txt").read_text() == "mine"
    assert not (out / "image.tif" / "notes.txt").exists() and len(table(out)) == 1


def test_a_stack_that_became_shorter_or_one_image_leaves_no_frame_behind(tmp_path):
    image, out = tmp_path / "s.tif", tmp_path / "out"
    for frames, expected in ((3, 3), (2, 2), (None, 1), (2, 2)):
        write_image(image, 7 + expected, frames=frames)
        apply(JOB, files([image]), out, backend="serial")
        rows = table(out)
        assert rows.frame.tolist() == list(range(expected))
        assert len(list(out.rglob("result.json"))) == expected


def test_results_of_other_commands_are_left_alone(folder: Path, tmp_path):
    with Output(tmp_path, "solve").writing() as scratch:
        (scratch / "result.json").write_text('{"task": "atoms"}')
    with pytest.raises(ScopegymError, match="holds results of 'scopegym solve'"):
        apply(JOB, files([folder / "image0.tif"]), tmp_path, backend="serial")
    assert (tmp_path / "result.json").read_text() == '{"task": "atoms"}'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refine": 1}, "refine 0 there, 1 here"),
        ({"device": "cuda"}, "device"),
        ({"plugins": True}, "plugins"),
    ],
)
def test_what_is_resumed_is_the_same_work(change: dict, said: str, folder: Path, tmp_path):
    meant = files([folder / "image0.tif"])
    apply(JOB, meant, tmp_path / "out", backend="serial")
    if "plugins" in change:
        (tmp_path / "mine.py").write_text("")
        change = {"plugins": read_plugins([tmp_path / "mine.py"])}
    with pytest.raises(ScopegymError, match=said):
        apply(replace(JOB, **change), meant, tmp_path / "out", backend="serial")


def test_other_versions_do_not_go_on_with_a_run(folder: Path, tmp_path, monkeypatch):
    meant = files([folder / "image0.tif"])
    apply(JOB, meant, tmp_path, backend="serial")
    monkeypatch.setattr("scopegym.experiments.apply.versions", lambda: {"numpy": "1.0"})
    with pytest.raises(ScopegymError, match="versions"):
        apply(JOB, meant, tmp_path, backend="serial")


def test_names_tell_files_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "x.tif", 0)
    write_image(tmp_path / "y[1].tif", 0)
    assert set(files([tmp_path / "a", tmp_path / "b"])) == {"a-x.tif", "b-x.tif"}
    assert set(files([tmp_path / "*" / "*.tif"])) == {"a-x.tif", "b-x.tif"}
    assert set(files([tmp_path / "y[1].tif"])) == {"y[1].tif"}
    assert len(files([tmp_path / "a", tmp_path / "a" / "x.tif"])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "No image is given"), (["*.tif"], "No file matches"), (["."], "holds no image")],
)
def test_no_image_is_refused(arguments: list[str], message: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScopegymError, match=message):
        files(arguments)
