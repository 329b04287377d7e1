"""Operators of plug-ins join the slots of the tasks that they ask for, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from scopegym.envs.problem import load_plugins
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.operators.base import registry as operators

PLUGIN = '''
"""An operator of a user."""

from scopegym import operator
from scopegym.artifacts import Image, Labels, Points


@operator(tasks=("{task}",))
def odd_one(image: Image) -> {kind}:
    """Do something."""
    return {kind}(image.pixels)
'''


@pytest.mark.parametrize(
    ("task", "kind", "said"),
    [
        ("atoms", "Labels", "reads Image and gives Labels; no slot"),
        ("atomz", "Image", "did you mean atoms"),
    ],
)
def test_an_operator_that_fits_nowhere_is_refused_and_forgotten(
    task: str, kind: str, said: str, tmp_path: Path
):
    (tmp_path / "odd.py").write_text(PLUGIN.format(task=task, kind=kind))
    before = {*operators}
    with pytest.raises(ScopegymError, match=said):
        load_plugins([tmp_path / "odd.py"])
    # The session goes on as if nothing had been loaded.
    assert {*operators} == before
    assert tasks["atoms"].grammar
    load_plugins([])


def test_an_operator_that_no_longer_fits_leaves_the_former_one(tmp_path: Path):
    file = tmp_path / "odd.py"
    file.write_text(PLUGIN.format(task="atoms", kind="Image"))
    load_plugins([file])
    try:
        former = operators["odd_one"]
        file.write_text(PLUGIN.format(task="atoms", kind="Labels"))
        with pytest.raises(ScopegymError, match="no slot"):
            load_plugins([file])
        assert operators["odd_one"] is former and "odd_one" in tasks["atoms"].grammar.operators
    finally:
        operators.restore({name: o for name, o in operators.items() if name != "odd_one"})
