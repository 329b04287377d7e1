"""`scopegym train` and `scopegym apply` as a user meets them."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from scopegym.agents.policy import SHIPPED
from scopegym.datasets.simulate import simulate_crystal
from scopegym.experiments import cli
from scopegym.sample.crystal import Crystal

CRYSTAL = ("--crystal", "SrTiO3", "--zone", "0,0,1", "--pixel-size", "25 pm")
HERE = ("--backend", "serial")


@pytest.fixture
def scopegym(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["scopegym", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    for seed in range(3):
        image = simulate_crystal(projection, (96, 96), 0.025, seed=seed, noise=0.1)
        tifffile.imwrite(made / f"{seed}.tif", image.data)
    return made


def refused(ran, *words: str) -> None:
    """One clear sentence and exit code 2."""
    code, out, err = ran
    assert code == 2 and out == "" and err.startswith("Error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


def test_train_then_apply(scopegym, folder, tmp_path):
    policy, out = tmp_path / "policy", tmp_path / "out"
    short = ("--steps", 64, "--validation", 2, "--workers", 1, *HERE)
    code, said, _ = scopegym("train", "atoms", "--out", policy, *short, "--json")
    trained = json.loads(said)
    assert code == 0 and trained["task"] == "atoms" and trained["validation"]["images"] == 2
    code, said, _ = scopegym("apply", policy, folder, *CRYSTAL, "--out", out, *HERE, "--json")
    applied = json.loads(said)
    assert code == 0 and applied["images"] == 3 and applied["failed"] == {}
    assert (out / "results.parquet").exists() and (out / "2.tif" / "workflow.yaml").exists()
    assert scopegym("run", out / "2.tif" / "workflow.yaml", folder / "2.tif", "--check",
                    "--pixel-size", "25 pm", "--out", tmp_path / "again")[0] == 0  # fmt: skip


def test_train_on_ones_own_images(scopegym, folder, tmp_path):
    code, out, _ = scopegym(
        "train", "atoms", "--images", folder, *CRYSTAL, "--out", tmp_path / "policy",
        "--steps", 64, "--workers", 1, *HERE,
    )  # fmt: skip
    assert code == 0 and "Policy:" in out
    spec = json.loads((tmp_path / "policy" / "spec.json").read_text())
    assert spec["training"]["images"] == "2 images of the user"


def test_the_shipped_policy_goes_by_the_tasks_name(scopegym, folder, tmp_path):
    code, out, _ = scopegym("apply", "atoms", folder, *CRYSTAL, "--out", tmp_path / "out", *HERE)
    assert code == 0 and "3 images: " in out and "0 failed" in out


def test_unreadable_images_end_in_exit_code_1_after_the_others(scopegym, folder, tmp_path):
    (folder / "bad.tif").write_bytes(b"nothing")
    code, out, err = scopegym("apply", "atoms", folder, *CRYSTAL, "--out", tmp_path / "o", *HERE)
    assert code == 1 and "1 failed" in out and "Failed: bad.tif: " in out and err == ""
    assert (tmp_path / "o" / "0.tif" / "result.json").exists()


def test_bad_policies_are_refused(scopegym, folder, tmp_path):
    end = (folder, *CRYSTAL, "--out", tmp_path / "out", *HERE)
    refused(scopegym("apply", tmp_path / "none", *end), "no policy folder")
    bundle = Path(shutil.copytree(SHIPPED / "atoms", tmp_path / "bundle"))
    (bundle / "policy.safetensors").write_bytes(b"\x80\x04.")
    refused(scopegym("apply", bundle, *end), "hash differs")
    assert not (tmp_path / "out").exists()


def test_bad_images_and_expectations_are_refused(scopegym, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "out", *HERE)
    refused(scopegym("apply", "atoms", tmp_path / "empty", *CRYSTAL, *out), "holds no image")
    refused(scopegym("apply", "atoms", folder, *out), "exactly one way")
    refused(scopegym("apply", "atoms", folder, "--crystal", "SrTiO", *out), "SrTiO3")
    refused(scopegym("train", "atom", *out), "atoms")
    refused(scopegym("train", "atoms", "--images", tmp_path / "empty", "--estimate", *out), "image")
    refused(scopegym("train", "atoms", "--device", "gpu", *out), "gpu")
    refused(scopegym("train", "atoms", "--resume", *out), "start without --resume")


def test_a_ray_address_that_nobody_answers_is_refused(scopegym, folder, tmp_path):
    at = ("--out", tmp_path / "out", "--ray-address", "127.0.0.1:9")
    refused(scopegym("apply", "atoms", folder, *CRYSTAL, *at), "No Ray cluster answers")
    refused(scopegym("train", "atoms", *at), "No Ray cluster answers")
    refused(scopegym("train", "atoms", *at, *HERE), "goes with the backend ray")


def test_a_full_disk_leaves_nothing_half_written(scopegym, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run = ("apply", "atoms", folder, *CRYSTAL, "--out", out, "--workers", 1, *HERE)
    original, written = Path.write_bytes, []

    def full(self, content):
        if out in self.parents and len(written) == 4:
            original(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(self)
        return original(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(scopegym(*run), "No space left")
    monkeypatch.setattr(Path, "write_bytes", original)
    done = {path.parent.name for path in out.rglob("result.json")}
    assert done == {"0.tif"} and not list(out.rglob(".scopegym-*"))
    assert scopegym(*run)[0] == 0
    assert {path.parent.name for path in out.rglob("result.json")} == {"0.tif", "1.tif", "2.tif"}
    assert np.isfinite(json.loads((out / "1.tif" / "result.json").read_text())["score"]["value"])
