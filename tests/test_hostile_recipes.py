"""Recipes, tables, bundles and crystals from strangers: one sentence, at once, in little memory."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError, one_line, shown
from scopegym.experiments.replay import read_table, replay
from scopegym.plain import Items, Number, Positive, Record, Table, Text, Whole, read_bytes
from scopegym.rewards.base import Reward
from scopegym.sample.crystal import Crystal
from scopegym.sample.crystal import crystal as find_crystal
from scopegym.workflow import Recipe, Step, Workflow

MICROGRAPH = simulate_crystal(Crystal.named("Cu").project((1, 0, 0)), (96, 96), 0.02, seed=1)
HUGE = "1" + "0" * 400
PRIOR = "{scale_px: 9.0, count: 100, contrast: bright, sources: {}}"
REWARD = "{name: r, weights: {count_error: 1.0}, scalarisation: product}"


def recipe(**entries: str) -> str:
    parts = {
        "recipe": "1",
        "task": "atoms",
        "workflow": "[{operator: local_maxima}]",
        "prior": PRIOR,
        "reward": REWARD,
        "image": "{sha256: x, shape: [96, 96], pixel_size_nm: 0.02}",
        **entries,
    }
    return "".join(f"{name}: {value}\n" for name, value in parts.items())


def step(value: str, operator: str = "gaussian", name: str = "sigma") -> str:
    return recipe(workflow=f"[{{operator: {operator}, parameters: {{{name}: {value}}}}}]")


def weights(value: str) -> str:
    return recipe(reward=REWARD.replace("1.0", value))


def windows(**entries: str) -> str:
    parts = {"size": "48", "stride": "24", "workflows": "[null]", **entries}
    return recipe(windows="{" + ", ".join(f"{k}: {v}" for k, v in parts.items()) + "}")


def prior(**entries: str) -> str:
    parts = {"scale_px": "9.0", **entries}
    return recipe(prior="{" + ", ".join(f"{k}: {v}" for k, v in parts.items()) + "}")


def image(**entries: str) -> str:
    parts = {"sha256": "x", "shape": "[96, 96]", "pixel_size_nm": "0.02", **entries}
    return recipe(image="{" + ", ".join(f"{k}: {v}" for k, v in parts.items()) + "}")


ONES = "[" + "1," * 300_000 + "1]"
HOSTILE = {
    "a number of 401 digits": step(HUGE),
    "a number in base 60 that takes minutes": step("1" + ":1" * 300_000),
    "a number of a million hexadecimal digits": step("0x" + "f" * 1_000_000),
    "a step number of 20 digits": step("9" * 30, "laplacian_of_gaussian", "num_sigma"),
    "a list for a parameter": step("[1, 2]", "refine_positions", "method"),
    "a mapping for a parameter": step("{a: 1}", "refine_positions", "method"),
    "true for a number": step("true"),
    "text for a number": step("'0.1'"),
    "a list for an operator": recipe(workflow="[{operator: [gaussian]}]"),
    "many steps": recipe(workflow="[" + "{operator: gaussian}," * 9_000 + "]"),
    "an operator's name of 600 kB": recipe(workflow=f"[{{operator: {'x' * 600_000}}}]"),
    "a version of another kind": recipe(workflow="[{operator: gaussian, version: [1]}]"),
    "ones for a workflow": recipe(workflow=ONES),
    "ones for a task": recipe(task=ONES),
    "ones for a prior": recipe(prior=ONES),
    "ones for neighbours": prior(neighbour_sums_px=ONES),
    "ones for a shape": image(shape=ONES),
    "a name twice": recipe() + "workflow: []\n",
    "a name twice within": prior(count="1", contrast="bright", scale_px="9.0, scale_px: 10.0"),
    "a list for a name": recipe() + "? [1, 2]\n: 3\n",
    "bytes": recipe(task="!!binary aGFjaw=="),
    "a set": recipe(task="!!set {atoms}"),
    "a layout of 401 digits": recipe(recipe=HUGE),
    "a task of a date": recipe(task="2020-01-01"),
    "a task of a number": recipe(task="7"),
    "no area": image(shape="[0, 0]"),
    "a negative area": image(shape="[-96, 96]"),
    "a huge area": image(shape="[1000000000, 1000000000]"),
    "one side": image(shape="[96]"),
    "a shape of text": image(shape="[a, b]"),
    "a shape of NaN": image(shape="[.nan, 96]"),
    "pixels of no size": image(pixel_size_nm="0"),
    "pixels of negative size": image(pixel_size_nm="-1"),
    "pixels of text": image(pixel_size_nm="x"),
    "pixels of NaN": image(pixel_size_nm=".nan"),
    "pixels smaller than a nucleus": image(pixel_size_nm="1.0e-30"),
    "pixels of a planet": image(pixel_size_nm="1.0e+300"),
    "an image of text": recipe(image="here"),
    "a spacing of nothing": prior(scale_px="1.0e-300"),
    "a spacing below three pixels": prior(scale_px="0.5"),
    "a spacing of the universe": prior(scale_px="1.0e+300"),
    "a spacing of infinity": prior(scale_px=".inf"),
    "a spacing of NaN": prior(scale_px=".nan"),
    "a spacing of text": prior(scale_px="'9'"),
    "a spacing of true": prior(scale_px="true"),
    "a count of NaN": prior(count=".nan"),
    "a count of 1e300": prior(count="1.0e+300"),
    "neighbours of text": prior(neighbour_sums_px="abc"),
    "neighbours of NaN": prior(neighbour_sums_px="[.nan]"),
    "a lattice of one vector": prior(lattice_px="[[1, 2]]"),
    "a lattice of infinity": prior(lattice_px="[[1, 2], [.inf, 1]]"),
    "a contrast of a list": prior(contrast="[bright]"),
    "sources of lists": prior(sources="{scale_px: [crystal]}"),
    "a disordered share of three": prior(disordered="[0, 1, 2]"),
    "an unknown weight": recipe(reward=REWARD.replace("count_error", "nothing")),
    "a weight of NaN": weights(".nan"),
    "a weight of nothing": weights("0"),
    "a negative weight": weights("-1"),
    "a weight of infinity": weights(".inf"),
    "a weight of 401 digits": weights(HUGE),
    "a weight of text": weights("much"),
    "no weight": recipe(reward="{name: r, weights: {}, scalarisation: product}"),
    "a scalarisation of a list": recipe(reward=REWARD.replace("product", "[product]")),
    "a reward of text": recipe(reward="high"),
    "no reward": recipe(reward="null"),
    "a score of NaN": recipe(score="{value: .nan}"),
    "a score of 401 digits": recipe(score=f"{{value: {HUGE}}}"),
    "a score of text": recipe(score="{value: high}"),
    "a score of true": recipe(score="{value: true}"),
    "a score of a list": recipe(score="[1]"),
    "windows of no size": windows(size="0"),
    "windows of negative size": windows(size="-48"),
    "windows of a kilometre": windows(size="1000000000"),
    "windows of text": windows(size="x"),
    "windows of half a pixel": windows(size="0.5"),
    "windows without a stride": windows(stride="0"),
    "windows of another number": windows(),
    "windows without workflows": windows(workflows="null"),
    "windows of text workflows": windows(workflows="[a, b, c]"),
    "escapes for the terminal": recipe(task='"\\e[2J\\e[31mgone"'),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_recipe_is_one_sentence_at_once(what):
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ScopegymError) as refused:
            replay(Recipe.read(HOSTILE[what]), MICROGRAPH)
        seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(refused.value)
    assert len(message) <= 600 and message.isprintable() and message.endswith((".", "?"))
    assert "Traceback" not in message and "Error" not in message
    assert seconds < 4 and peak < 200e6, (seconds, peak)  # tracing itself takes most of it


def test_the_recipe_that_these_are_made_from_is_accepted():
    replay(Recipe.read(recipe()), MICROGRAPH)
    replay(Recipe.read(recipe(score="{value: 0.5, terms: {count_error: 0.1}}")), MICROGRAPH)


def test_a_recipe_of_a_huge_file_or_a_pipe_is_refused_unread(tmp_path):
    huge, pipe = tmp_path / "huge.yaml", tmp_path / "pipe.yaml"
    with huge.open("wb") as file:
        file.truncate(100 * 2**20)
    os.mkfifo(pipe)
    for path, reason in ((huge, "104,857,600 bytes"), (pipe, "a pipe"), (Path("/dev/zero"), "dev")):
        with pytest.raises(ScopegymError, match=reason):
            Recipe.read(path)
    with pytest.raises(ScopegymError, match="more than"):
        Recipe.read("recipe: 1\n#" + "x" * (5 * 2**20))


def test_a_recipe_of_thousands_of_windows_is_read_soon():
    workflow = Workflow((Step("gaussian"), Step("local_maxima"), Step("refine_positions")))
    text = Workflow().to_yaml(
        windows={"size": 128, "stride": 64, "workflows": [workflow.to_dict()] * 3969}
    )
    start = time.perf_counter()
    assert len(Recipe.read(text).recorded["windows"]["workflows"]) == 3969
    assert time.perf_counter() - start < 20


def test_a_step_made_in_python_is_checked_alike():
    for value in (10**400, float("nan"), True, "1", None, [1]):
        with pytest.raises(ScopegymError, match=r"gaussian\.sigma must"):
            Step("gaussian", {"sigma": value})
    with pytest.raises(ScopegymError, match="must be one of"):
        Step("refine_positions", {"method": [1]})


def test_a_reward_that_is_no_mapping_is_refused():
    with pytest.raises(ScopegymError, match="must be a mapping"):
        Reward.from_dict([1])


# Tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "/etc/passwd,image.tif,0.5",
        "../r.yaml,image.tif,0.5",
        "r.yaml,../../image.tif,0.5",
        "r.yaml,,0.5",
        "r.yaml,image.tif,nan",
        "r.yaml,image.tif,1e999",
        "r.yaml,image.tif,-1",
        "r.yaml,image.tif",
    ],
)
def test_a_table_leads_to_its_own_folder_alone(row, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(f"recipe_file,image_file,score\n{row}\n")
    with pytest.raises(ScopegymError, match=r"Line 1 of the table|outside of the table's folder"):
        read_table(table)
    table.write_text("recipe_file,image_file,score\na/r.yaml,b/image.tif,0.5\n")
    assert read_table(table)[0].recipe == tmp_path / "a" / "r.yaml"


def test_a_table_of_a_huge_field_a_pipe_or_no_text_is_refused(tmp_path):
    pipe, long, binary = tmp_path / "p.csv", tmp_path / "l.csv", tmp_path / "b.csv"
    os.mkfifo(pipe)
    long.write_text("recipe_file,image_file,score\n" + "x" * 1_000_000)
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (pipe, long, binary):
        with pytest.raises(ScopegymError, match="cannot be read"):
            read_table(path)


# Crystals ----------------------------------------------------------------------------------------


def cif(rows: str, edge: str = "4.0") -> str:
    cell = "".join(f"_cell_length_{axis} {edge}\n_cell_angle_{angle} 90\n" for axis, angle in AXES)
    names = ("type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    head = "".join(f"_atom_site_{name}\n" for name in names)
    return f"data_x\n{cell}_symmetry_space_group_name_H-M 'P 1'\nloop_\n{head}{rows}\n"


AXES = (("a", "alpha"), ("b", "beta"), ("c", "gamma"))
ATOM = "Cu 0 0 0 {}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cif(ATOM.format("-1")), "occupancies"),
        (cif(ATOM.format("nan")), "occupancies"),
        (cif(ATOM.format("0")), "occupancies"),
        (cif(ATOM.format("1e300")), "occupancies"),
        (cif(ATOM.format("?")), "cannot be read as a crystal"),
        (cif(ATOM.format("1"), "1e-30"), "edges must be"),
        (cif(ATOM.format("1"), "1e30"), "edges must be"),
        (cif(ATOM.format("1"), "nan"), "edges must be"),
        ("loop_\n" * 50_000, "cannot be read as a crystal"),
        ("\0\1\2" * 1000, "cannot be read as a crystal"),
        ("", "cannot be read as a crystal"),
    ],
)
def test_a_hostile_crystal_is_one_sentence(text, reason, tmp_path):
    path = tmp_path / "x.cif"
    path.write_text(text)
    with pytest.raises(ScopegymError, match=reason) as refused:
        find_crystal(path)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_crystal_of_too_many_atoms_is_given_up(tmp_path):
    path = tmp_path / "x.cif"
    rng = np.random.default_rng(0)
    path.write_text(cif("\n".join(f"Cu {x} {y} {z} 1" for x, y, z in rng.random((20_000, 3)))))
    start = time.perf_counter()
    with pytest.raises(ScopegymError, match="longer than 5 s"):
        find_crystal(path)
    assert time.perf_counter() - start < 20


def test_a_crystal_that_is_a_folder_a_pipe_or_huge_is_refused(tmp_path):
    pipe, huge, folder = (tmp_path / f"{name}.cif" for name in ("pipe", "huge", "folder"))
    os.mkfifo(pipe)
    folder.mkdir()
    with huge.open("wb") as file:
        file.truncate(17 * 2**20)
    for path in (pipe, huge, folder, tmp_path / "none.cif"):
        with pytest.raises(ScopegymError):
            find_crystal(path)


@pytest.mark.parametrize("zone", ["1000,999,997", "21,0,0", "1e300,0,0", "inf,1,0", "a,b,c", "1,0"])
def test_a_zone_of_large_indices_is_refused(zone):
    with pytest.raises(ScopegymError, match="-20 to 20"):
        Crystal.named("Cu").project(zone)


# The rules themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Number(0, 1), 2),
        (Number(0, 1), True),
        (Number(0, 1), float("nan")),
        (Number(0, 1), 10**400),
        (Positive(1), 0),
        (Whole(0, 9), 1.0),
        (Text(3), "four"),
        (Items(Whole(0, 9), 1, 2), []),
        (Items(Whole(0, 9), 1, 2), "ab"),
        (Items(Whole(0, 9), 1, 2), [10]),
        (Table(Whole(0, 9), 1), {"a": 1, "b": 2}),
        (Table(Whole(0, 9), 1), {1: 1}),
        (Record({"a": Text()}), {}),
        (Record({}, {"a": Text()}, open=False), {"b": 1}),
    ],
)
def test_a_rule_refuses_what_breaks_it(rule, value):
    with pytest.raises(ScopegymError, match="thing") as refused:
        rule.check(value, "The thing")
    assert len(str(refused.value)) < 300


def test_messages_are_one_short_printable_line():
    assert str(ScopegymError("a\nb\x1b[2J\u202e")) == "a b\ufffd[2J\ufffd"
    assert len(str(ScopegymError("x" * 10**7))) <= 600
    assert len(one_line("word " * 10**6, 100)) <= 100
    for value in (10**5000, "x" * 10**6, [1] * 10**6, {}, None):
        assert len(shown(value)) < 200


def test_a_file_is_read_up_to_its_bound(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5, "The file") == b"12345"
    with pytest.raises(ScopegymError, match=r"5 bytes, more than 4\.$"):
        read_bytes(path, 4, "The file")
