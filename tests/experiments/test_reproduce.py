"""Reproductions: contracts, the parts of Wang, Freysoldt and Liebscher, and the full run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from scopegym.datasets.patterns import PLANE_GROUPS
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.experiments.folders import MANIFEST
from scopegym.experiments.reproduce import plane_group_claims, registry
from scopegym.experiments.reproduce.base import Claim, Reproduction, reproduce, summary
from scopegym.experiments.reproduce.plane_groups import (
    METRICS,
    PATTERSON,
    operations,
    patterson,
    tables,
)
from scopegym.experiments.reproduce.symmetry_pictures import draw_tables

paper_003 = importlib.import_module("scopegym.experiments.reproduce.symmetry")
PNG = b"\x89PNG"


@pytest.fixture
def stub():
    """A reproduction that draws nothing much, forgotten after the test."""
    made = []

    def quick(out: Path, seed: int) -> list[Claim]:
        made.append(seed)
        (out / "dot.png").write_bytes(PNG)
        figures = {"accuracy": np.float64(0.5), "rows": [[1.0], [2.0]]}
        return [Claim("dot", "There is a dot.", "always", np.bool_(True), figures, "dot.png", "ok")]

    before = dict(registry._entries)
    registry.add(Reproduction("quick", quick, "Quick."))
    yield made
    registry._entries.clear()
    registry._entries.update(before)


@pytest.mark.parametrize("name", sorted(registry))
def test_a_reproduction_says_what_it_is(name):
    assert registry[name].name == name
    assert registry[name].__doc__.split("\n")[0].endswith(".")
    assert callable(registry[name].function)


def test_pictures_and_figures_are_written_together(stub, tmp_path):
    plain = reproduce("quick", tmp_path / "out", seed=3)
    read = json.loads((tmp_path / "out" / "reproduce.json").read_text())
    assert stub == [3] and read == plain and read["seed"] == 3 and read["reproduced"] is True
    assert read["claims"][0]["figures"] == {"accuracy": 0.5, "rows": [[1.0], [2.0]]}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "dot.png",
        "reproduce.json",
        MANIFEST,
    ]
    lines = "\n".join(summary(plain))
    assert "dot: reproduced. There is a dot." in lines and "rows: [2 rows]" in lines


@pytest.mark.usefixtures("stub")
def test_a_claim_without_its_picture_writes_nothing(tmp_path):
    claim = Claim("none", "No picture.", "never", False, {}, "none.png")
    registry._entries["quick"] = Reproduction("quick", lambda _out, _seed: [claim])
    with pytest.raises(ScopegymError, match=r"did not draw none\.png"):
        reproduce("quick", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("stub")
def test_the_command_prints_figures_or_one_json_object(tmp_path, monkeypatch, capsys):
    for extra in ((), ("--json",)):
        command = ["scopegym", "reproduce", "quick", "--out", str(tmp_path), *extra]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr().out
        assert not stop.value.code
        if extra:
            assert json.loads(out)["claims"][0]["name"] == "dot"
        else:
            assert "accuracy: 0.500" in out


def test_an_unknown_name_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scopegym", "reproduce", "symetry", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "symmetry" in capsys.readouterr().err


def test_fisher_separability_is_equation_4():
    values = np.array([[0.0], [2.0], [10.0], [12.0], [14.0]])
    classes = np.array([0, 0, 1, 1, 1])
    mean = 38 / 5
    between = 2 * (1 - mean) ** 2 + 3 * (12 - mean) ** 2
    within = 2 * 1 + 3 * (8 / 3)
    assert paper_003.fisher(values, classes) == pytest.approx([between / within])


@pytest.mark.parametrize("show", ["phases", "grains", "separability"])
def test_the_papers_demonstrations_come_out_on_a_small_field(show, tmp_path):
    claim = getattr(paper_003, show)(tmp_path, 0, size=288)
    assert claim.reproduced, dict(claim.figures)
    assert (tmp_path / claim.picture).read_bytes().startswith(PNG)


def test_planar_faults_of_a_precipitate_have_their_label(tmp_path):
    claim = paper_003.precipitate(tmp_path, 0)
    assert claim.reproduced, dict(claim.figures)
    assert claim.figures["fault_label_elsewhere"] < 0.02
    assert claim.figures["recall"]["fault"] > 0.9


def test_every_plane_group_has_a_metric_and_a_patterson_symmetry():
    assert set(PATTERSON) == set(PLANE_GROUPS)
    assert sorted(group for members in METRICS.values() for group in members) == sorted(PATTERSON)


@pytest.mark.parametrize(
    ("group", "turns", "mirror"),
    [
        ("p1", (), False),
        ("pg", (), False),
        ("cm", (), True),
        ("p2gg", (180,), False),
        ("p2mg", (180,), True),
        ("p4gm", (90, 180), True),
        ("p3", (120,), False),
        ("p31m", (120,), True),
        ("p6", (60, 120, 180), False),
        ("p6mm", (60, 120, 180), True),
    ],
)
def test_operations_are_read_off_the_group(group, turns, mirror):
    assert operations(group) == (turns, mirror)


@pytest.mark.parametrize("group", ["p1", "pg", "cm", "p4", "p31m"])
def test_translation_scores_have_the_patterson_symmetry_of_the_group(group):
    assert patterson(group, 2, 0) == PATTERSON[group]


def test_scores_say_which_operations_a_pattern_has(tmp_path):
    claim = plane_group_claims.scores(tmp_path, 0, motifs=1, chosen=("p1", "p2mm", "p3"))
    assert claim.reproduced, dict(claim.figures)
    assert (tmp_path / claim.picture).is_file()


def test_pairs_of_one_metric_are_compared_and_others_are_not(tmp_path):
    found = tables(("p4mm", "p1", "p4"), size=176, motifs=1, seed=0)
    for table in found:
        assert table.groups == ("p1", "p4", "p4mm")
        assert np.isnan(table.accuracy[0, 1:]).all()
        known = table.accuracy[np.isfinite(table.accuracy)]
        assert len(known) == 5 and (known >= 0.5).all() and (known <= 1).all()
    draw_tables(tmp_path / "tables.png", found)
    assert (tmp_path / "tables.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_paper_003_is_reproduced_as_a_whole(tmp_path):
    plain = reproduce("symmetry", tmp_path)
    assert plain["reproduced"], [c["name"] for c in plain["claims"] if not c["reproduced"]]
    assert {claim["picture"] for claim in plain["claims"]} <= {p.name for p in tmp_path.iterdir()}
    table = next(c for c in plain["claims"] if c["name"] == "table I")
    assert table["figures"]["measured"] == {group: PATTERSON[group] for group in PATTERSON}
