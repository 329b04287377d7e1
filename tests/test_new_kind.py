"""A new kind of answer with a new task: two files of a user, and every command works on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.slow

#: How strongly an image is modulated, and how often: no kind of answer that the package knows.
KIND = '''
"""Answers that are a wave: its period and its contrast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scopegym.answers import Finding, Kind, adversary, answer_kind
from scopegym.artifacts import Artifact


@dataclass(frozen=True, eq=False)
class Wave(Artifact):
    """A wave of ``period_px`` along x."""

    period_px: float

    @property
    def empty(self):
        return not self.period_px > 0


@answer_kind
class WaveKind(Kind[Wave]):
    """A wave, drawn as lines."""

    artifact = Wave
    files = ("wave.txt",)
    statistic_names = ("period",)

    def agreement(self, truth, found, prior):
        return max(0.0, 1 - abs(found.period_px / truth.period_px - 1))

    def finding(self, answer, problem):
        numbers = {"period_px": answer.period_px}
        return Finding(1, "waves", detail=f"period {answer.period_px:.1f} px", numbers=numbers)

    def write(self, answer, state, size_nm, folder):
        (folder / "wave.txt").write_text(f"{answer.period_px}\\n")

    def draw(self, answer, axes, prior, zoom):
        if not answer.empty:
            for x in np.arange(0, 400, answer.period_px):
                axes.axvline(x)

    def statistics(self, answer, prior):
        return np.array([np.log2(max(answer.period_px, 1e-3) / prior.scale_px)])


@adversary("twice the period")
def twice(problem, truth: Wave, rng):
    """A wave of twice the period."""
    yield Wave(2 * truth.period_px)
'''

TASK = '''
"""Task ``waves``: find the period of a wave."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scopegym import Prior, operator, reward_term
from scopegym.answers import registry as kinds
from scopegym.artifacts import Image, Source
from scopegym.envs.problem import Nouns, Problem, Slot, Task, registry
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import Reward
from scopegym.space import Scale
from scopegym.workflow import Step, Workflow

Wave = kinds["wave"].artifact


@operator
def count_crossings(
    image: Image, *, window: Annotated[float, Scale(0.1, 3.0, log=True)] = 0.2
) -> Wave:
    """The period from how often the smoothed mean profile crosses its mean."""
    from scipy.ndimage import uniform_filter1d

    profile = uniform_filter1d(image.pixels.mean(axis=0), max(1, round(window)))
    rising = np.flatnonzero((profile[1:] > profile.mean()) & (profile[:-1] <= profile.mean()))
    return Wave(float(np.diff(rising).mean()) if len(rising) > 1 else 0.0)


@reward_term(direction="maximize", bounds=(0.0, 1.0))
def wave_evidence(wave: Wave, source: Source) -> float:
    """Share of the mean profile's variance that a sine of this period explains."""
    profile = source.pixels.mean(axis=0)
    phase = 2 * np.pi * np.arange(len(profile)) / wave.period_px
    sine = np.column_stack([np.sin(phase), np.cos(phase), np.ones_like(phase)])
    rest = profile - sine @ np.linalg.lstsq(sine, profile, rcond=None)[0]
    return float(1 - rest.var() / profile.var())


def sample(rng):
    """A wave with noise."""
    period = float(rng.uniform(8, 16))
    x = np.arange(96)
    pixels = np.sin(2 * np.pi * x / period + rng.uniform(0, 6)) + rng.normal(0, 0.3, (64, 96))
    image = Micrograph(pixels, name="wave", truth=Wave(period), metadata={"noise": 0.1})
    return Problem(image, Prior(12.0, sources={"scale_px": "given"}), registry["waves"])


registry.add(
    Task(
        name="waves",
        env_id="mine/Waves-v0",
        slots=(Slot("denoise", ("gaussian",)), Slot("count", ("count_crossings",), optional=False)),
        reward=Reward("waves-v0", {"wave_evidence": 1}, "product"),
        horizon=4,
        expert=Workflow((Step("count_crossings"),)),
        tuned=("count_crossings.window",),
        sample=sample,
        nouns=Nouns("waves"),
        __doc__="Find the period of a wave.",
    )
)
'''


@pytest.fixture
def scopegym(tmp_path):
    """The command line in a process of its own, with both plug-ins."""
    (tmp_path / "wave_kind.py").write_text(KIND)
    (tmp_path / "wave_task.py").write_text(TASK)
    names = ("wave_kind.py", "wave_task.py")
    plugins = [part for name in names for part in ("--plugin", str(tmp_path / name))]

    def call(*arguments: object, codes: tuple[int, ...] = (0,)) -> dict:
        command = [sys.executable, "-m", "scopegym.experiments.cli", *map(str, arguments)]
        done = subprocess.run(
            [*command, *plugins, "--json"], capture_output=True, text=True, check=False
        )
        assert done.returncode in codes, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture
def image(tmp_path) -> Path:
    x = np.arange(96)
    noise = np.random.default_rng(0).normal(0, 0.3, (64, 96))
    pixels = np.sin(2 * np.pi * x / 11) + noise
    tifffile.imwrite(tmp_path / "wave.tif", pixels.astype(np.float32))
    return tmp_path / "wave.tif"


HERE = ("--backend", "serial", "--workers", 1)
KNOWN = ("--spacing", "12 px")


def test_search_and_replay(scopegym, image, tmp_path):
    out = tmp_path / "out"
    found = scopegym("solve", image, "--task", "waves", *KNOWN, "--budget", 12, "--out", out)
    assert found["answer"]["period_px"] == pytest.approx(11, abs=0.3)
    assert float((out / "wave.txt").read_text()) == found["answer"]["period_px"]
    page = (out / "report.html").read_text()
    assert "1 wave found in wave.tif" in page and "data:image/png" in page
    again = scopegym("run", out / "workflow.yaml", image, "--check", "--out", tmp_path / "again")
    assert again["images"][0]["agrees"] and (tmp_path / "again" / "wave.txt").exists()


def test_audit(scopegym, tmp_path):
    sizes = ("--problems", 3, "--workflows", 6, "--workers", 1, "--backend", "serial")
    # On three problems a reward need not pass.
    plain = scopegym("audit", "waves", "--out", tmp_path / "audit", *sizes, codes=(0, 1))
    names = {row["adversary"] for row in plain["adversaries"]}
    assert "twice the period" in names and plain["problems"] == 3


def test_benchmark(scopegym, tmp_path):
    sizes = ("--problems", 2, "--seeds", 1, "--budget", 6, "--agents", "expert,random")
    done = scopegym("benchmark", "waves", "--out", tmp_path / "benchmark", *sizes, *HERE)
    assert done["settings"]["measure"] == "agreement"
    assert done["regimes"]["A"]["agents"]["random"]["truth"]["value"] > 0.5


def test_train_and_apply(scopegym, image, tmp_path):
    policy = tmp_path / "policy"
    scopegym("train", "waves", "--out", policy, "--steps", 64, "--validation", 2, *HERE)
    done = scopegym("apply", policy, image, *KNOWN, "--out", tmp_path / "applied", *HERE)
    assert done["images"] == 1 and done["failed"] == {}
    row = json.loads((tmp_path / "applied" / "wave.tif" / "result.json").read_text())
    assert row["answer"].keys() == {"period_px"}
    assert (tmp_path / "applied" / "wave.tif" / "wave.txt").exists()
