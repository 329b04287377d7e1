"""Faults, interruptions, closed pipes and plug-ins that print: what the command line does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.experiments.interrupt import (
    INTERRUPTED,
    TERMINATED,
    Stopped,
    on_interrupt,
)
from scopegym.experiments.solve import _failures
from scopegym.workers import stopping_on_sigterm

COMMAND = [sys.executable, "-m", "scopegym.experiments.cli"]
#: Prints in every way there is: when it is loaded, in Python, past Python and in C.
NOISY = """
import ctypes, os
def noise(where):
    print("python", where)
    os.write(1, b"descriptor\\n")
    ctypes.CDLL(None).puts(b"in C")
noise("import")
from typing import Annotated
from scopegym import operator
from scopegym.artifacts import Image
from scopegym.space import Real
@operator(tasks=("atoms",))
def noisy(image: Image, *, p: Annotated[float, Real(1.0, 3.0)] = 2.0) -> Image:
    '''Say something.'''
    noise("operator")
    return Image(image.pixels)
"""


def command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300, **options,
    )  # fmt: skip


@pytest.fixture
def noisy(tmp_path) -> Path:
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return path


@pytest.fixture
def main(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scopegym", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


# JSON alone ---------------------------------------------------------------------------------------


def test_json_is_alone_on_standard_output_whatever_a_plug_in_prints(noisy, tmp_path):
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((64, 64)))
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\ntask: atoms\nworkflow: [{operator: noisy}, {operator: local_maxima}]\n"
        "prior: {scale_px: 9.0, count: 50}\nimage: {shape: [64, 64]}\n"
        "reward: {name: r, weights: {count_error: 1.0}, scalarisation: product}\n"
    )
    ran = command(
        *("run", tmp_path / "r.yaml", tmp_path / "image.npy", "--plugin", noisy),
        *("--out", tmp_path / "out", "--json"),
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["images"][0]["image"] == "image.npy"
    for said in ("python import", "python operator", "descriptor", "in C"):
        assert said in ran.stderr


def test_an_error_with_json_is_alone_too(noisy):
    ran = command("list", "nothing", "--plugin", noisy, "--json")
    assert ran.returncode == 2
    assert "nothing" in json.loads(ran.stdout)["error"] and "in C" in ran.stderr


def test_without_json_a_plug_in_prints_where_it_likes(noisy):
    ran = command("list", "agents", "--plugin", noisy)
    assert ran.returncode == 0 and "python import" in ran.stdout


def test_other_encodings_and_closed_outputs_end_no_command():
    ran = command("list", "operators", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ran.returncode == 0, ran.stderr
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        line = " ".join([*COMMAND, "list", "agents", "--json", closed])
        assert subprocess.run(line, shell=True, check=False, capture_output=True).returncode == 0


def test_a_reader_that_has_seen_enough_is_not_an_error():
    line = " ".join([*COMMAND, "list operators | head -1"])
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False
    )
    assert ran.stderr == "" and ran.stdout.count("\n") == 1
    with subprocess.Popen(
        [*COMMAND, "list", "operators"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# Faults -------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(monkeypatch):
    def fail(kind: str) -> None:
        raise ZeroDivisionError(f"of {kind}\nin two lines")

    monkeypatch.setattr("scopegym.experiments.catalogue.catalogue", fail)


@pytest.mark.usefixtures("faulty")
def test_a_fault_is_one_sentence_with_the_way_to_report_it(main, monkeypatch):
    code, out, err = main("list", "agents")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "ZeroDivisionError: of agents in two lines" in err and "please report it" in err
    code, out, err = main("list", "agents", "--json")
    assert code == 1 and "ZeroDivisionError" in json.loads(out)["error"]
    monkeypatch.setenv("SCOPEGYM_TRACEBACK", "1")
    assert "Traceback" in main("list", "agents")[2]


def test_memory_and_recursion_are_faults_like_others(main, monkeypatch):
    for error in (MemoryError(), RecursionError("deep"), OSError(28, "No space left on device")):
        monkeypatch.setattr(
            "scopegym.experiments.catalogue.catalogue", lambda _, e=error: (_ for _ in ()).throw(e)
        )
        code, out, err = main("list", "agents")
        assert (code, out, err.count("\n")) == (1, "", 1) and type(error).__name__ in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "atoms", "x" * 300, "--estimate"),
        ("apply", "x" * 300, "image.npy", "--estimate"),
        ("list", "agents", "--plugin", "x" * 300),
    ],
)
def test_a_name_that_is_too_long_is_bad_input(arguments: tuple[str, ...], main):
    code, out, err = main(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and "File name too long" in err


# Interruptions ------------------------------------------------------------------------------------


def test_an_interrupted_command_says_what_it_kept(main, monkeypatch):
    def stop(_: str) -> None:
        with on_interrupt(lambda: "37 of 100 images are done."):
            raise KeyboardInterrupt

    monkeypatch.setattr("scopegym.experiments.catalogue.catalogue", stop)
    assert main("list", "agents") == (130, "", "37 of 100 images are done.\n")
    code, out, _ = main("list", "agents", "--json")
    assert code == 130 and json.loads(out) == {"error": "37 of 100 images are done."}


def test_an_interruption_without_a_word_of_the_command(main, monkeypatch):
    for stop, code in ((KeyboardInterrupt(), 130), (SystemExit(15), 143)):
        monkeypatch.setattr(
            "scopegym.experiments.catalogue.catalogue", lambda _, e=stop: (_ for _ in ()).throw(e)
        )
        assert main("list", "agents") == (code, "", "Stopped before the command was done.\n")


def test_sigterm_ends_a_block_and_its_own_message_stays():
    with pytest.raises(Stopped, match="kept") as stop, stopping_on_sigterm(), on_interrupt("kept"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stop.value.code == TERMINATED
    outer, inner = on_interrupt("outer"), on_interrupt("inner")
    with pytest.raises(Stopped, match="inner") as stop, outer, inner:
        raise KeyboardInterrupt
    assert stop.value.code == INTERRUPTED
    with pytest.raises(SystemExit), on_interrupt("never"):
        raise SystemExit(3)
    with pytest.raises(ScopegymError), on_interrupt("never"):
        raise ScopegymError("bad input")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_leaves_a_checkpoint(number, tmp_path):
    out = tmp_path / "policy"
    line = [*COMMAND, "train", "atoms", "--out", str(out), "--backend", "serial"]
    line += ["--workers", "1", "--steps", "100000", "--validation", "1"]

    def heeding() -> None:
        signal.signal(number, signal.SIG_DFL)  # a job in the background inherits that it is ignored

    how = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heeding}
    with subprocess.Popen(line, **how) as process:
        deadline = time.monotonic() + 200
        while not list(out.glob("tensorboard/*/events*")) and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(5)  # an update or two
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert ("--resume continues" in said) == (out / "checkpoint.pt").exists(), said


# The reason of failures -----------------------------------------------------------------------


def test_failed_workflows_are_told_with_their_most_frequent_reason():
    problem = tasks["atoms"].sample(np.random.default_rng(0))
    good = problem.evaluate(tasks["atoms"].expert)
    failed = [replace(good, failure=reason) for reason in ("rare", "no peaks", "no peaks")]
    [doubt] = _failures([good, *failed])
    assert doubt.startswith("3 of 4 workflows failed") and "no peaks" in doubt


# Options ------------------------------------------------------------------------------------------


OPTIONS = {
    "pixels of nothing": (("--pixel-size", "1e-30 nm"), "1e-05 to 100000 nm"),
    "pixels of a universe": (("--pixel-size", "1e300 nm"), "1e-05 to 100000 nm"),
    "pixels beyond numbers": (("--pixel-size", "1e999 nm"), "positive"),
    "pixels of no text": (("--pixel-size", ""), "not a length"),
    "pixels of odd digits": (("--pixel-size", "²⁵ pm"), "not a length"),
    "a zone of large indices": (("--zone", "1000,999,997"), "-20 to 20"),
    "a zone of no direction": (("--zone", "0,0,0"), "zone"),
    "a zone of letters": (("--zone", "a,b,c"), "zone"),
    "a zone of two": (("--zone", "1,0"), "zone"),
    "a zone of no text": (("--zone", ""), "zone"),
    "a budget of a trillion": (("--budget", str(10**12)), "budget"),
    "a seed beyond the generator's": (("--seed", str(2**40)), "seed"),
    "more workers than any machine": (("--window", "80", "--workers", "100000"), "workers"),
    "a window of a pixel": (("--window", "1"), "window"),
    "a frame before the first": (("--frame", "-1"), "frame"),
    "a crystal that is a folder": (("--crystal", "."), "crystal"),
    "a crystal without a name": (("--crystal", ""), "crystal"),
    "a crystal file that is missing": (("--crystal", "none.cif"), "none.cif"),
}
FIGURES = {
    "a density beyond the pixels": (("--density", "1e300", "--spacing", "8 px"), "more than one"),
    "a density of infinity": (("--density", "inf", "--spacing", "8 px"), "must be finite"),
    "a density of NaN": (("--density", "nan", "--spacing", "8 px"), "positive"),
    "a density below 0": (("--density", "-1", "--spacing", "8 px"), "positive"),
    "a spacing of nothing": (("--density", "1", "--spacing", "1e-9 px"), "3 px"),
    "a spacing of a metre": (("--density", "1", "--spacing", "1e9 nm"), "larger side"),
    "a spacing beyond numbers": (("--density", "1", "--spacing", "1e999 nm"), "positive"),
}


@pytest.mark.parametrize("what", [*OPTIONS, *FIGURES])
def test_an_absurd_option_is_one_sentence_at_once(main, what, tmp_path):
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((96, 96)))
    options, word = {**OPTIONS, **FIGURES}[what]
    base = ["solve", str(tmp_path / "image.npy"), "--agent", "expert", "--budget", "3"]
    if what in OPTIONS and "--crystal" not in options:
        base += ["--crystal", "Cu"]
    start = time.perf_counter()
    code, out, err = main(*base, "--pixel-size", "20 pm", "--out", str(tmp_path / "o"), *options)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert word in err and len(err) < 700
    assert not (tmp_path / "o").exists() and time.perf_counter() - start < 10
