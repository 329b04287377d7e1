"""Registries: look-ups that help, names that stay unique, and plug-ins from files."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import scopegym
from scopegym import operators, rewards
from scopegym import registry as module
from scopegym.answers.base import adversaries, adversary
from scopegym.artifacts import Points
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as all_operators
from scopegym.registry import Registry, UnknownNameError, load_entry_points, load_plugin
from scopegym.workflow import Step, Workflow


@dataclass(frozen=True)
class Entry:
    name: str


@pytest.fixture
def restored() -> Iterator[None]:
    """Plug-ins of a test do not outlive it."""
    entries, modules = dict(all_operators._entries), set(sys.modules)
    yield
    all_operators._entries.clear()
    all_operators._entries.update(entries)
    for name in set(sys.modules) - modules:
        if name.startswith("scopegym_plugin_"):
            del sys.modules[name]


PLUGIN = '''
from typing import Annotated

from scopegym import operator
from scopegym.artifacts import Image
from scopegym.space import Real


@operator
def {name}(image: Image, *, gain: Annotated[float, Real(0.5, 2.0)] = 1.0) -> Image:
    """Multiply the intensity by a gain."""
    return Image({factor} * gain * image.pixels)
'''


def plugin(folder: Path, name: str = "brighten", factor: int = 1, file: str = "mine.py") -> Path:
    path = folder / file
    path.write_text(PLUGIN.format(name=name, factor=factor))
    return path


# --- look-ups -------------------------------------------------------------------------------------


def test_the_package_reads_as_a_mapping_from_name_to_operator() -> None:
    gaussian = scopegym.operators["gaussian"]
    assert gaussian.name == "gaussian"
    assert scopegym.operators.gaussian is gaussian
    assert list(operators) == list(operators.keys()) == list(all_operators)
    assert len(operators) == len(all_operators) > 10
    assert "gaussian" in operators
    assert "gausian" not in operators
    assert rewards["count_error"].name == "count_error"


def test_families_stay_modules() -> None:
    assert operators.filters.smooth.__module__ == "scopegym.operators.filters"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("gausian", "gaussian"),
        ("Gaussian", "gaussian"),
        ("laplacian_of_gausian", "laplacian_of_gaussian"),
        ("refine", "refine_positions"),
    ],
)
def test_a_failed_look_up_suggests_near_names(wrong: str, near: str) -> None:
    with pytest.raises(ScopegymError, match=rf"Unknown operator '{wrong}'; did you mean .*{near}"):
        operators[wrong]
    with pytest.raises(ScopegymError, match=near):
        Step(wrong)


def test_a_name_like_no_other_lists_what_there_is() -> None:
    registry: Registry[Entry] = Registry("dish")
    registry.add(Entry("soup"))
    registry.add(Entry("bread"))
    with pytest.raises(ScopegymError, match=r"Unknown dish 'xyzzy'; known: bread, soup\."):
        registry["xyzzy"]


def test_a_failed_look_up_is_a_key_error_too() -> None:
    registry: Registry[Entry] = Registry("dish")
    assert "soup" not in registry
    assert registry.get("soup") is None
    with pytest.raises(KeyError) as caught:
        registry["soup"]
    assert isinstance(caught.value, UnknownNameError)
    assert str(caught.value).startswith("Unknown dish 'soup'"), "no quotes around the sentence"


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such_operator'"):
        _ = operators.no_such_operator
    assert not hasattr(operators, "no_such_operator")


# --- names ----------------------------------------------------------------------------------------


def test_two_places_cannot_use_one_name() -> None:
    registry: Registry[SimpleNamespace] = Registry("dish")
    first = registry.add(SimpleNamespace(name="soup", __module__="kitchen"))
    with pytest.raises(ScopegymError, match="'soup' of cellar exists already in kitchen"):
        registry.add(SimpleNamespace(name="soup", __module__="cellar"))
    assert registry["soup"] is first
    again = registry.add(SimpleNamespace(name="soup", __module__="kitchen"))
    assert registry["soup"] is again


def test_an_operator_travels_between_processes_by_name() -> None:
    for operator in all_operators.values():
        assert pickle.loads(pickle.dumps(operator)) is operator


# --- plug-ins -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restored")
def test_a_plugin_file_adds_an_operator_everywhere(tmp_path: Path) -> None:
    load_plugin(plugin(tmp_path))
    assert operators["brighten"].__doc__ == "Multiply the intensity by a gain."
    assert "brighten" in list(operators)
    image = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    np.testing.assert_array_equal(operators.brighten(image, gain=2.0).pixels, 2 * image)
    workflow = Workflow((Step("brighten", {"gain": 1.5}),))
    assert Workflow.from_yaml(workflow.to_yaml()) == workflow


@pytest.mark.usefixtures("restored")
def test_a_plugin_may_be_loaded_again_after_a_change(tmp_path: Path) -> None:
    load_plugin(plugin(tmp_path))
    load_plugin(str(plugin(tmp_path, factor=3)))
    assert operators.brighten([[1.0]]).pixels.tolist() == [[3.0]]


@pytest.mark.usefixtures("restored")
def test_a_plugin_cannot_replace_a_built_in_operator(tmp_path: Path) -> None:
    with pytest.raises(ScopegymError, match=r"'gaussian' of .*mine.* exists already in scopegym"):
        load_plugin(plugin(tmp_path, name="gaussian"))
    assert operators["gaussian"].function.__module__ == "scopegym.operators.filters"


def test_a_wrong_answer_cannot_take_the_name_of_another() -> None:
    def blank(problem: object, truth: Points, rng: object) -> Iterator[Points]:
        del problem, rng
        yield truth

    before = adversaries["points: blank"]
    with pytest.raises(ScopegymError, match=r"'points: blank' of .* exists already in scopegym"):
        adversary("blank")(blank)
    assert adversaries["points: blank"] is before


def test_a_task_cannot_take_the_environment_of_another() -> None:
    with pytest.raises(ScopegymError, match=r"'scopegym/AtomFinding-v0' of task 'atoms'"):
        tasks.add(replace(tasks["atoms"], name="mine"))
    assert "mine" not in tasks
    assert gymnasium.spec(tasks["atoms"].env_id).kwargs == {"task": "atoms"}


@pytest.mark.usefixtures("restored")
def test_two_plugins_cannot_use_one_name(tmp_path: Path) -> None:
    load_plugin(plugin(tmp_path))
    with pytest.raises(ScopegymError, match=r"'brighten' of .*other.* exists already in .*mine"):
        load_plugin(plugin(tmp_path, file="other.py"))


@pytest.mark.usefixtures("restored")
def test_plugins_of_the_same_file_name_in_two_folders_are_two_plugins(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    load_plugin(plugin(tmp_path / "one"))
    with pytest.raises(ScopegymError, match="exists already"):
        load_plugin(plugin(tmp_path / "two"))


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("import no_such_module_xyz", "ModuleNotFoundError: No module named 'no_such_module_xyz'"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("raise ValueError('first line\\nsecond line')", "ValueError: first line"),
        (
            "from scopegym import operator\n@operator\ndef f(image): ...",
            "Argument 'image' of f must be an artifact",
        ),
    ],
)
def test_a_plugin_that_fails_says_so_in_one_sentence(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ScopegymError) as caught:
        load_plugin(path)
    message = str(caught.value)
    assert "broken.py' fails: " in message
    assert reason in message
    assert "\n" not in message
    assert not [name for name in sys.modules if name.startswith("scopegym_plugin_broken")]


def test_a_plugin_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScopegymError, match=r"nowhere\.py' does not exist"):
        load_plugin(tmp_path / "nowhere.py")
    with pytest.raises(ScopegymError, match="does not exist"):
        load_plugin(tmp_path)


def test_a_plugin_that_is_not_python_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ScopegymError, match="is not a Python file"):
        load_plugin(path)


DECLARATIONS = {
    "no space": "def f(image: Image, *, a: float = 1.0) -> Image: ...",
    "no default": "def f(image: Image, *, a: Annotated[float, Real(0.0, 1.0)]) -> Image: ...",
    "default outside": (
        "def f(image: Image, *, a: Annotated[float, Real(0.0, 1.0)] = 2.0) -> Image: ..."
    ),
    "no result": "def f(image: Image): ...",
    "another result": "def f(image: Image) -> float: ...",
    "a parameter before the star": "def f(image: Image, a: float = 1.0) -> Image: ...",
}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_a_signature_that_does_not_declare_an_operator_is_refused(
    tmp_path: Path, declaration: str
) -> None:
    path = tmp_path / "undeclared.py"
    path.write_text(
        "from typing import Annotated\n"
        "from scopegym import operator\n"
        "from scopegym.artifacts import Image\n"
        "from scopegym.space import Real\n"
        "@operator\n" + DECLARATIONS[declaration]
    )
    with pytest.raises(ScopegymError, match=r"\bf\b"):
        load_plugin(path)
    assert "f" not in operators


def test_installed_plugins_load_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    asked: list[str] = []

    def points(*, group: str) -> list[SimpleNamespace]:
        asked.append(group)
        return [SimpleNamespace(name="x", value="pkg:x", load=lambda: loaded.append(group))]

    monkeypatch.setattr(module, "entry_points", points)
    load_entry_points()
    assert asked == loaded == ["scopegym.operators", "scopegym.rewards", "scopegym.tasks"]


def test_an_installed_plugin_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("no such thing")

    broken = SimpleNamespace(name="mine", value="pkg:thing", load=load)
    monkeypatch.setattr(module, "entry_points", lambda **_: [broken])
    with pytest.raises(ScopegymError, match=r"'mine' \(pkg:thing\) fails: no such thing"):
        load_entry_points()


def test_registering_needs_no_heavy_imports() -> None:
    code = (
        "import sys, scopegym\n"
        "heavy = {'torch', 'ray', 'skimage.feature', 'sklearn', 'matplotlib.pyplot', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
