"""The contracts that authors of plug-ins can run: they pass what is right and name what is not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

import scopegym.testing
from scopegym.errors import ScopegymError
from scopegym.testing import check_plugin
from scopegym.testing.plugin import CONTRACTS

HEAD = """
from dataclasses import replace
from typing import Annotated

import numpy as np
from scopegym import operator, reward_term
from scopegym.agents.base import agent
from scopegym.artifacts import Image, Labels, Points
from scopegym.envs.problem import registry as tasks
from scopegym.space import Scale
from scopegym.workflow import Step, Workflow

"""
OPERATOR = "@operator\ndef mine(image: Image) -> {}:\n    {}\n    {}\n"
TERM = (
    "@reward_term(direction='minimize', bounds=(0.0, 1.0))\n"
    "def mine(points: Points) -> float:\n    {}\n    {}\n"
)
AGENT = "@agent(chance={})\ndef mine(problem, budget, rng):\n    'Try.'\n    {}\n"
TASK = (
    "tasks.add(replace(tasks['atoms'], name='mine', env_id='scopegym/Mine-v0', "
    "__doc__='Find mine.', {}))\n"
)
#: Plug-ins that break a contract, and what the message says of them.
BAD = {
    "without a docstring": (
        OPERATOR.format("Image", "", "return image"),
        "begin with one sentence",
    ),
    "writes into its input": (
        OPERATOR.format(
            "Image",
            "'Invert.'",
            "image.pixels.setflags(write=True); image.pixels[:] *= -1; "
            "return Image(image.pixels.copy())",
        ),
        "changes its input",
    ),
    "has chance in it": (
        OPERATOR.format(
            "Image", "'Shake.'", "return Image(image.pixels + np.random.random(image.shape))"
        ),
        "another result when it runs again",
    ),
    "gives another kind": (
        OPERATOR.format("Image", "'Find.'", "return Points(np.zeros((0, 2)), image.shape)"),
        "gives Points, and declares Image",
    ),
    "gives NaN": (
        OPERATOR.format("Image", "'Root.'", "return Image(np.full(image.shape, np.nan))"),
        "values that are NaN",
    ),
    "changes the field": (
        OPERATOR.format("Image", "'Cut.'", "return Image(image.pixels[3:, 3:])"),
        "gives a field of (167, 177) px",
    ),
    "divides by zero": (
        OPERATOR.format(
            "Image",
            "'Scale.'",
            "return Image(image.pixels / 0 if image.pixels.std() == 0 else image.pixels)",
        ),
        "on the image 'constant'",
    ),
    "looks at the wrong state": (
        OPERATOR.format("Image", "'Fail.'", "raise ValueError('no idea')"),
        "raises ValueError: no idea",
    ),
    "is undefined": (TERM.format("'Claim.'", "return float('nan')"), "mine is nan on a lattice"),
    "changes its mind": (
        TERM.format("'Claim.'", "return float(np.random.random())"),
        "other values when it is asked again",
    ),
    "raises without neighbours": (
        TERM.format(
            "'Claim.'", "return float(np.sort(points.yx[:, 0])[1] < 0 if len(points) else 0)"
        ),
        "reward term mine fails: IndexError",
    ),
    "claims nothing": (TERM.format("", "return 0.5"), "begin with one sentence"),
    "spends more than it has": (
        AGENT.format(
            False,
            "yield from [problem.evaluate(problem.task.expert)] * budget.executions",
        ),
        "spends 9 executions of 3",
    ),
    "hides its chance": (
        AGENT.format(
            False,
            "yield budget.evaluate(problem.task.expert)\n"
            "    s = Step('gaussian', {'sigma': rng.uniform(0.05, 0.3)})\n"
            "    yield budget.evaluate(Workflow((s, *problem.task.expert.steps[1:]))) or "
            "problem.evaluate(Workflow())",
        ),
        None,
    ),
    "has no chance and says so": (
        AGENT.format(True, "yield budget.evaluate(problem.task.expert)"),
        "gives the same trials from another seed",
    ),
    "embellishes": (
        AGENT.format(
            False,
            "t = budget.evaluate(problem.task.expert); "
            "yield replace(t, score=replace(t.score, value=1.0))",
        ),
        "tells a score of 1.0",
    ),
    "draws the same image": (
        TASK.format("sample=lambda rng: tasks['atoms'].sample(np.random.default_rng(0))"),
        "the same problem from every seed",
    ),
    "ignores its seed": (
        TASK.format("sample=lambda rng: tasks['atoms'].sample(np.random.default_rng())"),
        "another problem from the same seed",
    ),
    "has a foreign expert": (
        TASK.format("expert=Workflow((Step('kmeans'),))"),
        "uses ['kmeans'], which no slot allows",
    ),
    "has too short a horizon": (TASK.format("horizon=1"), "more than the horizon of 1"),
    "tunes what is not there": (TASK.format("tuned=('gaussian.size',)"), "'gaussian.size'"),
    "registers nothing": ("x = 1\n", "registers no operator"),
}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder; what is registered meanwhile is forgotten afterwards."""
    before = [dict(registry._entries) for _, registry, _ in CONTRACTS]
    environments = dict(gymnasium.registry)
    yield tmp_path
    for (_, registry, _), entries in zip(CONTRACTS, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)
    gymnasium.registry.clear()
    gymnasium.registry.update(environments)


def written(folder: Path, source: str) -> Path:
    path = folder / "my_plugin.py"
    path.write_text(HEAD + source, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore")
def test_a_plug_in_that_breaks_its_contract_fails(name: str, scratch: Path):
    source, message = BAD[name]
    with pytest.raises(AssertionError, match=re.escape(message or "mine")):
        check_plugin(written(scratch, source))


def test_a_plug_in_that_keeps_all_contracts_passes(scratch: Path):
    """An operator, a term, a task and an agent, all in one file."""
    source = (
        "@operator(tasks=('atoms',))\n"
        "def brighter(image: Image, *, by: Annotated[float, Scale(0.1, 2.0)] = 1.0) -> Image:\n"
        "    'Add a hundredth of a length.'\n    return Image(image.pixels + by / 100)\n\n"
        "@reward_term(direction='maximize', bounds=(0.0, 1.0))\n"
        "def central(points: Points) -> float:\n"
        "    'Columns lie in the lower half.'\n"
        "    return float(np.mean(points.yx[:, 0] > points.shape[0] / 2))\n\n"
        + AGENT.format(False, "yield budget.evaluate(problem.task.expert)")
        + "\n"
        + TASK.format("horizon=9")
    )
    found = check_plugin(written(scratch, source))
    assert set(found) == {"operator brighter", "reward term central", "agent mine", "task mine"}
    assert all(len(checks) >= 4 for checks in found.values())


@pytest.mark.parametrize("source", ["def f(:\n", "raise OSError('no disk')\n"])
def test_a_file_that_cannot_be_loaded_is_bad_input(source: str, scratch: Path):
    with pytest.raises(ScopegymError, match="fails"):
        check_plugin(written(scratch, source))
    with pytest.raises(ScopegymError, match="does not exist"):
        check_plugin(scratch / "nothing.py")


def plugin_of_the_docs() -> str:
    page = Path(__file__).parents[1] / "docs" / "extend.md"
    found = re.search(
        r"^```python\n(# my_operator.py\n.*?)^```", page.read_text("utf-8"), re.M | re.S
    )
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        (plugin_of_the_docs(), 0, "operator stretch: ok"),
        (HEAD + BAD["gives NaN"][0], 1, "values that are NaN"),
        ("", 1, "registers no operator"),
        (None, 1, "does not exist"),
    ],
)
def test_the_command_says_what_was_checked(
    source: str | None, code: int, says: str, tmp_path: Path
):
    path = tmp_path / "my_operator.py"
    if source is not None:
        path.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "scopegym.testing", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code and says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_beyond_the_core_dependencies_is_imported():
    folder = Path(scopegym.testing.__file__).parent
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    theirs = imported - sys.stdlib_module_names
    assert theirs == {"numpy", "scopegym", "gymnasium", "stable_baselines3"}
