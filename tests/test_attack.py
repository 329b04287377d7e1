"""The script that attacks scopegym: a short run of it, and that it notices what it looks for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "attack.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="watches files as Linux does"),
]


@pytest.fixture(scope="module")
def attack():
    spec = importlib.util.spec_from_file_location("attack", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["attack"] = module
    spec.loader.exec_module(module)
    return module


def outcome_of(attack, action) -> str:
    return attack.all_of([attack.Attack("recipes", 0, action)], 0)[0].outcome


def test_a_short_run_finds_every_attack_read_or_refused():
    # In a process of its own: one with other tests has more addresses than an attack may take.
    sizes = ["--count", "42", "--values", "20", "--seed", "1"]
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "| all | 62 |" in ran.stdout


def test_every_kind_of_failure_is_noticed(attack, monkeypatch):
    monkeypatch.setattr(attack, "SECONDS", 4.0)
    import os
    import time

    def fail(folder):
        raise ZeroDivisionError(folder)

    def look_outside(folder):
        return str(len((folder.parent / "canary" / "canary").read_bytes()))

    assert outcome_of(attack, lambda _: "read") == "read"
    assert outcome_of(attack, fail) == "traceback"
    assert outcome_of(attack, lambda _: os.kill(os.getpid(), 11)) == "crash"
    assert outcome_of(attack, lambda _: time.sleep(30)) == "hang"
    assert outcome_of(attack, lambda _: str(np.ones(2**40))) == "memory"
    assert outcome_of(attack, look_outside) == "leak"


def test_mutations_differ_and_repeat(attack):
    content = bytes(range(256)) * 8
    made = [attack.damaged(content, np.random.default_rng(i)) for i in range(50)]
    assert made == [attack.damaged(content, np.random.default_rng(i)) for i in range(50)]
    assert sum(one != content for one in made) >= 48 and all(made)
