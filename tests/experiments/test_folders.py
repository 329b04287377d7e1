"""Output folders: what a command wrote it may replace, and everything else stays."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scopegym.errors import ScopegymError
from scopegym.experiments.folders import MANIFEST, Output, commit, retire

OTHER = "was not made by scopegym"


def write(folder: Path, files: dict[str, str], more: bool = False, command: str = "solve") -> None:
    with Output(folder, command).writing(more) as scratch:
        for name, text in files.items():
            (scratch / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    """All files but the manifests, by their path."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): p.read_text() for p in found}


def test_files_appear_together(tmp_path: Path):
    folder = tmp_path / "new" / "run"
    with Output(folder, "solve").writing() as scratch:
        (scratch / "a.txt").write_text("1")
        (scratch / "b.txt").write_text("2")
        assert not (folder / "a.txt").exists()
    assert content(folder) == {"a.txt": "1", "b.txt": "2"}
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["command"] == "solve" and set(manifest["files"]) == {"a.txt", "b.txt"}


def test_a_failure_inside_leaves_no_file_and_keeps_former_ones(tmp_path: Path):
    write(tmp_path, {"a.txt": "former"})

    def fail() -> None:
        with Output(tmp_path, "solve").writing() as scratch:
            (scratch / "a.txt").write_text("new")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert content(tmp_path) == {"a.txt": "former"}


def test_former_files_of_the_command_go_and_those_of_the_user_stay(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, {"points.csv": "1", "result.json": "1"})
    write(tmp_path, {"labels.tif": "2", "result.json": "2"})
    assert content(tmp_path) == {"notes.txt": "mine", "labels.tif": "2", "result.json": "2"}
    write(tmp_path, {"more.txt": "3"}, more=True)
    assert set(content(tmp_path)) == {"notes.txt", "labels.tif", "result.json", "more.txt"}


def test_a_file_of_the_user_is_never_replaced(tmp_path: Path):
    (tmp_path / "points.csv").write_text("mine")
    with pytest.raises(ScopegymError, match=OTHER):
        Output(tmp_path, "solve").claim(["points.csv"])
    with pytest.raises(ScopegymError, match=OTHER):
        write(tmp_path, {"a.txt": "new", "points.csv": "new"})
    assert content(tmp_path) == {"points.csv": "mine"}


def test_a_result_that_the_user_changed_is_kept_beside(tmp_path: Path):
    write(tmp_path, {"points.csv": "1", "mask.tif": "1"})
    (tmp_path / "points.csv").write_text("1, corrected by hand")
    (tmp_path / "mask.tif").write_text("1, painted over")
    write(tmp_path, {"points.csv": "2"})
    assert content(tmp_path) == {
        "points.csv": "2",
        "points.csv~1": "1, corrected by hand",
        "mask.tif~1": "1, painted over",
    }


def test_a_link_in_the_place_of_a_result_is_not_followed(tmp_path: Path):
    write(tmp_path / "out", {"points.csv": "same"})
    (tmp_path / "mine.csv").write_text("same")
    (tmp_path / "out" / "points.csv").unlink()
    (tmp_path / "out" / "points.csv").symlink_to(tmp_path / "mine.csv")
    write(tmp_path / "out", {"points.csv": "new"})
    assert (tmp_path / "mine.csv").read_text() == "same"
    assert (tmp_path / "out" / "points.csv~1").is_symlink()


def test_folders_of_other_commands_and_runs_are_refused(tmp_path: Path):
    write(tmp_path, {"result.json": "1"})
    with pytest.raises(ScopegymError, match="holds results of 'scopegym solve'"):
        Output(tmp_path, "run").claim()
    first, second = (Output(tmp_path / "b", "apply", {"pixel_size": s}) for s in ("1 nm", "2 nm"))
    first.claim()
    first.claim()
    with pytest.raises(ScopegymError, match='pixel size "1 nm" there, "2 nm" here'):
        second.claim()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"versions": {"numpy": "2.4", "scipy": "2"}}, 'versions: scipy "1" there, "2" here'),
        ({"images": "b" * 32}, "images differ"),
        ({"crystal": None}, 'crystal "Cu" there, not given here'),
        ({"new": 3}, "new not given there, 3 here"),
    ],
)
def test_a_refusal_says_which_setting_differs(run: dict, said: str, tmp_path: Path):
    versions = {"numpy": "2.4", "scipy": "1"}
    former = {"seed": 0, "versions": versions, "images": "a" * 32, "crystal": "Cu"}
    Output(tmp_path, "apply", former).claim()
    with pytest.raises(ScopegymError, match=re.escape(said)):
        Output(tmp_path, "apply", {**former, **run}).claim()


def test_a_claim_leaves_nothing_behind(tmp_path: Path):
    Output(tmp_path / "new" / "run", "solve").claim(["a.txt"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"command": 1, "run": {}, "files": {}}', "null"])
def test_a_manifest_of_somebody_else_is_refused(text: str, tmp_path: Path):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ScopegymError, match="is not one of scopegym's"):
        write(tmp_path, {"a.txt": "1"})
    assert (tmp_path / MANIFEST).read_text() == text


@pytest.mark.parametrize("name", ["../mine.txt", "..", ".", "", "a/../../mine.txt", "/etc/passwd"])
def test_a_manifest_cannot_name_files_elsewhere(name: str, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    write(tmp_path / "out", {"mine.txt": "mine"})
    manifest = tmp_path / "out" / MANIFEST
    plain = json.loads(manifest.read_text())
    plain["files"][name] = plain["files"]["mine.txt"]
    manifest.write_text(json.dumps(plain))
    with pytest.raises(ScopegymError, match="is not one of scopegym's"):
        write(tmp_path / "out", {"a.txt": "1"})
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_killed_while_its_files_move_can_be_repeated(tmp_path: Path, monkeypatch):
    write(tmp_path, {"a.txt": "1", "b.txt": "1", "c.txt": "1"})
    original = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == "b.txt":
            raise SystemExit
        return original(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        write(tmp_path, {"a.txt": "2", "b.txt": "2"})
    monkeypatch.setattr(Path, "replace", original)
    write(tmp_path, {"a.txt": "3", "b.txt": "3"})
    assert content(tmp_path) == {"a.txt": "3", "b.txt": "3"}


def test_scratch_folders_of_killed_runs_go_and_those_of_running_ones_stay(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getpid()):
        (tmp_path / f".scopegym-{platform.node()}+{process}-x").mkdir()
    (tmp_path / ".scopegym-notes").mkdir()
    Output(tmp_path, "solve").claim()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".scopegym-{platform.node()}+{os.getpid()}-x", ".scopegym-notes"}


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ScopegymError, match="Cannot write to the folder"):
            Output(folder, "solve").claim()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_sentence(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(ScopegymError, match="Permission denied"):
        Output(tmp_path / "run", "solve").claim()


# One folder as one result -------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path: Path) -> Output:
    made = Output(tmp_path, "apply", {"seed": 0})
    made.claim()
    return made


def test_a_result_is_swapped_in_whole(output: Output):
    target = output.folder / "x.tif"
    assert commit(target, {"a.txt": b"1", "b.txt": b"1"}, output) is None
    assert commit(target, {"a.txt": b"2"}, output) is None
    assert content(output.folder) == {"x.tif/a.txt": "2"}


def test_a_result_with_changes_of_the_user_is_kept_beside(output: Output):
    target = output.folder / "x.tif"
    commit(target, {"a.txt": b"1"}, output)
    (target / "notes.txt").write_text("mine")
    assert commit(target, {"a.txt": b"2"}, output) == output.folder / "x.tif~1"
    (target / "a.txt").write_text("2, corrected")
    assert commit(target, {"a.txt": b"3"}, output) == output.folder / "x.tif~2"
    assert content(output.folder) == {
        "x.tif/a.txt": "3",
        "x.tif~1/a.txt": "1",
        "x.tif~1/notes.txt": "mine",
        "x.tif~2/a.txt": "2, corrected",
    }


def test_a_folder_of_the_user_is_no_result(output: Output, tmp_path: Path):
    (output.folder / "x.tif").mkdir()
    (output.folder / "x.tif" / "mine.txt").write_text("mine")
    other = Output(tmp_path / "other", "apply", {"seed": 1})
    other.claim()
    commit(other.folder / "y.tif", {"a.txt": b"1"}, other)
    (output.folder / "y.tif").symlink_to(other.folder / "y.tif")
    (other.folder / "y.tif").rename(output.folder / "z.tif")
    for name in ("x.tif", "y.tif", "z.tif"):
        for replace in (lambda t: commit(t, {"a.txt": b"2"}, output), lambda t: retire(t, output)):
            with pytest.raises(ScopegymError, match="was not written by this run"):
                replace(output.folder / name)
    assert (output.folder / "x.tif" / "mine.txt").read_text() == "mine"
    assert (output.folder / "z.tif" / "a.txt").read_text() == "1"


def test_a_stack_goes_with_all_its_frames_unless_one_was_changed(output: Output):
    target = output.folder / "s.tif"
    for run in ("1", "2"):
        commit(target, {}, output)
        for frame in ("0000", "0001"):
            commit(target / frame, {"a.txt": run.encode()}, output)
        if run == "1":
            assert retire(target, output) is None and not target.exists()
    (target / "0001" / "a.txt").write_text("changed")
    assert retire(target, output) == output.folder / "s.tif~1"
    assert len(content(output.folder / "s.tif~1")) == 2


def test_a_refused_folder_of_a_result_leaves_no_manifest(tmp_path: Path):
    (tmp_path / "image.tif").mkdir()
    output = Output(tmp_path, "apply", {"seed": 0})
    with pytest.raises(ScopegymError, match="was not written by this run"):
        output.claim(["results.parquet"], folders=["image.tif"])
    assert [path.name for path in tmp_path.iterdir()] == ["image.tif"]


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ScopegymError, match="Cannot write to the folder"):
        Output(tmp_path / "link", "apply").claim()
