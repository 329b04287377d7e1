"""The modules import in one direction, without circles; read from their syntax, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

import scopegym

PACKAGE = Path(scopegym.__file__).parent
ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*/*.py")])
#: Each may import what stands before it.
LAYERS = ("operators", "answers", "rewards", "envs", "agents", "experiments")
#: Modules that belong to no layer: they may import these layers and no others. All others are
#: below the layers.
ABOVE = {
    "scopegym": LAYERS,  # the public names
    "scopegym.testing.operators": ("operators",),  # the contract of each registry
    "scopegym.testing.rewards": ("rewards",),
    "scopegym.testing.tasks": ("envs", "operators"),
    "scopegym.testing.agents": ("agents", "envs"),
    "scopegym.testing.plugin": ("agents", "envs", "operators", "rewards"),
    "scopegym.workflow": ("operators",),  # its steps are operators
    "scopegym.datasets.simulate_disorder": ("operators",),  # its truth is grown as an answer is
}


class Import(NamedTuple):
    """One module's import of another; ``late`` where a function does it when it is called."""

    source: str
    target: str
    line: int
    late: bool


def modules(package: Path) -> dict[str, Path]:
    """The modules of a package by their full names."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path) -> list[Import]:
    """All imports between modules of a package, but those for type checkers alone."""
    known = modules(package)
    return [
        Import(name, target, line, late)
        for name, path in known.items()
        for target, line, late in _imports(ast.parse(path.read_text("utf-8")), known, False)
        if target != name
    ]


def _imports(node: ast.AST, known: dict[str, Path], late: bool) -> Iterator[tuple[str, int, bool]]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        late = True
    if isinstance(node, ast.Import):
        yield from ((a.name, node.lineno, late) for a in node.names if a.name in known)
    if isinstance(node, ast.ImportFrom) and node.module in known:
        for name in (f"{node.module}.{alias.name}" for alias in node.names):
            yield name if name in known else node.module, node.lineno, late
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, known, late)


def circle(found: list[Import]) -> list[str]:
    """The modules of one circle, the first again at the end; none where there is no circle."""
    graph: dict[str, set[str]] = {}
    for each in found:
        graph.setdefault(each.source, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def upward(found: list[Import]) -> list[Import]:
    """Imports of a layer by one below it, or by a module that is below all layers."""
    return [each for each in found if _layer(each.target) > _layer(each.source)
            and _name(each.target) not in ABOVE.get(each.source, ())]  # fmt: skip


def _name(module: str) -> str:
    return [*module.split("."), ""][1]


def _layer(module: str) -> int:
    return LAYERS.index(_name(module)) if _name(module) in LAYERS else -1


@cache
def ours() -> list[Import]:
    return imports(PACKAGE)


@pytest.mark.parametrize("late", [False, True], ids=["at import", "in functions too"])
def test_no_module_imports_itself_by_way_of_others(late: bool):
    found = [each for each in ours() if late or not each.late]
    assert len(found) > 200
    assert circle(found) == []


def test_no_layer_imports_a_higher_one():
    assert upward(ours()) == []


def test_exceptions_are_needed():
    used = {(each.source, _name(each.target)) for each in ours()}
    for module, layers in ABOVE.items():
        if module != "scopegym":
            assert all((module, layer) in used for layer in layers), module


def test_faults_are_seen(tmp_path: Path):
    """A circle at import, one by a function, an import upwards; one for type checkers is none."""
    package = tmp_path / "house"
    sources = {
        "__init__": "",
        "operators/__init__": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from house.envs import b\n",
        "envs/__init__": "",
        "envs/a": "from house.envs import b",
        "envs/b": "import house.envs.a",
        "envs/c": "def f():\n    from house.agents.d import g\n",
        "agents/d": "from house.envs.c import f",
    }
    for name, source in sources.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    found = imports(package)
    at_import = circle([each for each in found if not each.late])
    assert set(at_import) == {"house.envs.a", "house.envs.b"}
    others = [each for each in found if each.source not in at_import]
    assert set(circle(others)) == {"house.envs.c", "house.agents.d"}
    assert [(each.source, each.target, each.late) for each in upward(found)] == [
        ("house.envs.c", "house.agents.d", True)
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_what_there_is(script: Path):
    """Nothing of a benchmark is run; names that moved are noticed all the same."""
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scopegym"):
            module = import_module(node.module)
            for alias in node.names:
                found = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                assert found, f"{node.module} has no {alias.name}"
