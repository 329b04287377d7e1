"""The command line as a user meets it: good runs, and bad input in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile

from scopegym.datasets.simulate import simulate_crystal
from scopegym.datasets.simulate_patterns import two_grains
from scopegym.experiments import cli
from scopegym.experiments.folders import MANIFEST
from scopegym.sample.crystal import Crystal

FILES = (
    "front.png",
    "overlay.png",
    "points.csv",
    "report.html",
    "result.json",
    "workflow.yaml",
)
QUICK = ("--agent", "expert", "--budget", "3")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def scopegym(monkeypatch, capsys):
    def call(*arguments) -> Ran:
        monkeypatch.setattr(sys, "argv", ["scopegym", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """A simulated YBa2Cu3O7 image in an ImageJ TIFF that knows its pixel size."""
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    micrograph = simulate_crystal(projection, (160, 160), 0.025, noise=0.05, seed=3)
    path = tmp_path_factory.mktemp("images") / "ybco.tif"
    tifffile.imwrite(
        path,
        micrograph.data,
        imagej=True,
        resolution=(1 / 0.025, 1 / 0.025),
        metadata={"unit": "nm"},
    )
    return path


@pytest.fixture(scope="module")
def grains(tmp_path_factory) -> Path:
    """Two simulated grains, 8 px from column to column, in a file that knows no pixel size."""
    micrograph = two_grains((120, 96), 8.0, noise=0.3, seed=1)
    return npy(tmp_path_factory.mktemp("grains") / "grains.npy", micrograph.data)


def segment_arguments(image: Path, out: Path) -> tuple:
    return ("solve", image, "--task", "symmetry", "--spacing", "8 px", "--out", out, *QUICK)


def solve_arguments(image: Path, out: Path) -> tuple:
    return ("solve", image, "--crystal", "YBa2Cu3O7", "--zone", "1,0,0", "--out", out, *QUICK)


def test_solve_writes_everything_and_says_what_it_found(scopegym, image, tmp_path):
    ran = scopegym(*solve_arguments(image, tmp_path / "out"))
    assert ran.code == 0
    assert "columns found in ybco.tif" in ran.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted((*FILES, MANIFEST))
    header, *rows = (tmp_path / "out" / "points.csv").read_text().splitlines()
    assert header == "y_px,x_px,y_nm,x_nm,sigma_px,strength"
    y_px, x_px, y_nm, x_nm = (float(v) for v in rows[0].split(",")[:4])
    assert (y_nm, x_nm) == pytest.approx((0.025 * y_px, 0.025 * x_px), rel=1e-4)


def test_json_is_one_object_with_the_fields_of_the_contract(scopegym, image, tmp_path):
    ran = scopegym(*solve_arguments(image, tmp_path), "--json")
    result = json.loads(ran.out)
    assert ran.err == ""
    fields = (
        "task image sha256 agent seed budget evaluations operator_executions seconds prior "
        "calibration score front chosen warnings"
    )
    assert set(fields.split()) <= result.keys()
    assert result["operator_executions"] == 3
    assert 0 <= result["score"]["value"] <= 1
    assert set(result["score"]["terms"]) == {
        "left_out",
        "invented",
        "count_error",
        "spacing_error",
        "spacing_excess",
        "image_evidence",
    }
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["score"] == result["score"]


def test_a_recipe_replays_to_its_score(scopegym, image, tmp_path):
    scopegym(*solve_arguments(image, tmp_path / "a"))
    recipe = tmp_path / "a" / "workflow.yaml"
    ran = scopegym("run", recipe, image, "--check", "--out", tmp_path / "b", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["images"][0]["agrees"]
    first = (tmp_path / "a" / "points.csv").read_text()
    assert (tmp_path / "b" / "points.csv").read_text() == first


def test_check_fails_when_the_score_does_not_come_out(scopegym, image, tmp_path):
    scopegym(*solve_arguments(image, tmp_path / "a"))
    recipe = tmp_path / "a" / "workflow.yaml"
    text = recipe.read_text()
    score = json.loads((tmp_path / "a" / "result.json").read_text())["score"]["value"]
    assert str(score) in text
    recipe.write_text(text.replace(f"value: {score}", "value: 0.123"))
    assert scopegym("run", recipe, image, "--check", "--out", tmp_path / "b").code == 1


@pytest.mark.parametrize(
    "kind", ["operators", "rewards", "tasks", "agents", "datasets", "crystals"]
)
def test_list_shows_every_kind(scopegym, kind):
    as_text = scopegym("list", kind)
    as_json = json.loads(scopegym("list", kind, "--json").out)
    assert as_text.code == 0
    assert all(row["name"] in as_text.out for row in as_json[kind])
    assert len(as_json[kind]) > 0


def test_a_plug_in_file_adds_an_operator_and_a_reward(scopegym, image, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from typing import Annotated\n"
        "from scopegym import operator, reward_term\n"
        "from scopegym.artifacts import Image, Points\n"
        "from scopegym.prior import Prior\n"
        "from scopegym.space import Real\n"
        "@operator\n"
        "def mine_square(image: Image, *, p: Annotated[float, Real(1.0, 3.0)] = 2.0) -> Image:\n"
        "    '''Raise to a power.'''\n"
        "    return Image(abs(image.pixels) ** p)\n"
        "@reward_term(direction='maximize', bounds=(0.0, 1.0))\n"
        "def mine_any(points: Points, prior: Prior) -> float:\n"
        "    '''Something was found.'''\n"
        "    return 1.0\n"
    )
    listed = json.loads(scopegym("list", "operators", "--plugin", plugin, "--json").out)
    assert "mine_square" in [row["name"] for row in listed["operators"]]
    judged = (*solve_arguments(image, tmp_path / "a"), "--reward", f"{plugin}:mine_any")
    result = json.loads(scopegym(*judged, "--json").out)
    assert result["score"]["terms"]["mine_any"] == 1.0
    recipe = tmp_path / "a" / "workflow.yaml"
    out = ("--out", tmp_path / "b")
    assert scopegym("run", recipe, image, "--check", "--plugin", plugin, *out).code == 0


def test_the_demo_needs_nothing(scopegym, tmp_path):
    ran = scopegym("demo", "--out", tmp_path, *QUICK)
    assert ran.code == 0
    assert str(tmp_path / "report.html") in ran.out


def test_estimate_marks_its_prior(scopegym, image, tmp_path):
    ran = scopegym("solve", image, "--estimate", "--out", tmp_path, *QUICK, "--json")
    assert set(json.loads(ran.out)["prior"]["sources"].values()) == {"estimated"}


def test_density_and_spacing_replace_a_crystal(scopegym, image, tmp_path):
    ran = scopegym(
        *("solve", image, "--density", 13.2, "--spacing", "0.27 nm", "--out", tmp_path),
        *QUICK,
        "--json",
    )
    prior = json.loads(ran.out)["prior"]
    assert prior["scale_px"] == pytest.approx(0.27 / 0.025)
    assert prior["count"] == pytest.approx(13.2 * (160 * 0.025) ** 2)
    assert set(prior["sources"].values()) == {"given"}


# Labels ----------------------------------------------------------------------------------------


def test_a_segmentation_writes_labels_in_place_of_points(scopegym, grains, tmp_path):
    ran = scopegym(*segment_arguments(grains, tmp_path))
    assert ran.code == 0
    assert "2 patterns in 2 regions found in grains.npy; 51 % / 49 % of the area" in ran.out
    expected = {*FILES, MANIFEST, "labels.tif"} - {"points.csv"}
    assert {p.name for p in tmp_path.iterdir()} == expected
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert (labels.dtype, labels.shape) == (np.uint16, (120, 96))
    assert np.unique(labels).tolist() == [0, 1]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["answer"]["patterns"] == result["answer"]["regions"] == 2
    assert result["answer"]["area_shares"] == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_segmentation_replays(scopegym, grains, tmp_path):
    scopegym(*segment_arguments(grains, tmp_path / "a"))
    recipe = tmp_path / "a" / "workflow.yaml"
    ran = scopegym("run", recipe, grains, "--check", "--out", tmp_path / "b")
    assert ran.code == 0
    assert "grains.npy: 2 patterns in 2 regions" in ran.out and "(as recorded)" in ran.out
    assert not (tmp_path / "b" / "points.csv").exists()
    first, again = (tifffile.imread(tmp_path / d / "labels.tif") for d in "ab")
    assert np.array_equal(first, again)


def test_labels_carry_the_pixel_size(scopegym, grains, tmp_path):
    scopegym(*segment_arguments(grains, tmp_path), "--pixel-size", "25 pm")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        tags = file.pages.first.tags
        dots, per = tags["XResolution"].value
        assert tags["ResolutionUnit"].value == 3  # centimetres
        assert dots / per == pytest.approx(1e7 / 0.025)


@pytest.mark.parametrize(
    "expectation",
    [
        ("--estimate",),
        ("--spacing", "8 px"),
        ("--spacing", "0.2 nm", "--pixel-size", "25 pm"),
        ("--spacing", "8 px", "--density", "25", "--pixel-size", "25 pm"),
        ("--crystal", "Cu", "--pixel-size", "22.6 pm", "--calibration", "trust"),
    ],
)
def test_a_segmentation_needs_only_a_length(scopegym, grains, tmp_path, expectation):
    options = ("--task", "symmetry", *expectation, "--out", tmp_path, *QUICK, "--json")
    ran = scopegym("solve", grains, *options)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["prior"]["scale_px"] == pytest.approx(8, rel=0.06)


BAD_EXPECTATIONS = {
    "a spacing where a count is needed": (("--spacing", "8 px"), "the density too"),
    "a density alone": (("--density", "13"), "the spacing too"),
    "a density alone for regions": (("--task", "symmetry", "--density", "13"), "the spacing too"),
    "a density without pixel size": (("--spacing", "8 px", "--density", "13"), "pixel size"),
    "nanometres without pixel size": (
        ("--task", "symmetry", "--spacing", "0.2 nm"),
        "spacing in px",
    ),
    "a count that a further term needs": (
        ("--task", "symmetry", "--spacing", "8 px", "--reward", "count_error"),
        "the density too",
    ),
    "a spacing of nothing": (("--task", "symmetry", "--spacing", "0 px"), "positive"),
    "a spacing without unit": (("--task", "symmetry", "--spacing", "8"), "unit"),
    "columns too close": (("--task", "symmetry", "--spacing", "2 px"), "3 px"),
    "a spacing too wide": (("--task", "symmetry", "--spacing", "12 px"), "120 x 120 px"),
    "nothing": (("--task", "symmetry"), "a spacing"),
}


@pytest.mark.parametrize("what", BAD_EXPECTATIONS)
def test_a_bad_expectation_is_one_sentence(scopegym, grains, tmp_path, what):
    options, word = BAD_EXPECTATIONS[what]
    out = tmp_path / "out"
    assert_one_sentence(scopegym("solve", grains, *options, "--out", out, *QUICK), word)
    assert not out.exists()


def test_a_constant_image_has_no_regions(scopegym, tmp_path):
    path = npy(tmp_path / "k.npy", np.full((120, 120), 7.0))
    assert_one_sentence(scopegym(*segment_arguments(path, tmp_path / "out")), "constant")
    assert not (tmp_path / "out").exists()


def png(path: Path, pixels: np.ndarray) -> Path:
    import imageio.v3 as imageio

    imageio.imwrite(path, pixels)
    return path


def npy(path: Path, pixels: np.ndarray) -> Path:
    np.save(path, pixels)
    return path


RNG = np.random.default_rng(0)
SQUARE = RNG.random((64, 64)).astype(np.float32)
WITH_NAN = SQUARE.copy()
WITH_NAN[3, 4] = np.nan

#: What is wrong, the file that is wrong (made from the folder), and a word of the sentence.
BAD_IMAGES = {
    "missing": (lambda d: d / "none.tif", "none.tif"),
    "truncated": (lambda d: _text(d / "t.tif", "II*\x00garbage"), "t.tif"),
    "colour": (lambda d: png(d / "c.png", RNG.integers(0, 255, (32, 32, 3), np.uint8)), "colour"),
    "nan": (lambda d: npy(d / "n.npy", WITH_NAN), "NaN"),
    "constant": (lambda d: npy(d / "k.npy", np.full((64, 64), 7.0)), "constant"),
    "one pixel": (lambda d: npy(d / "p.npy", np.ones((1, 1))), "p.npy"),
    "stack": (lambda d: npy(d / "s.npy", RNG.random((7, 64, 64))), "stack"),
    "folder": (lambda d: d, "folder"),
    "suffix": (lambda d: _text(d / "x.docx", "no"), "docx"),
}


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def assert_one_sentence(ran: Ran, word: str) -> None:
    assert ran.code == 2, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.count("\n") == 1
    assert word.casefold() in ran.err.casefold(), ran.err


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_a_bad_image_is_one_sentence(scopegym, tmp_path, what):
    make, word = BAD_IMAGES[what]
    path = make(tmp_path)
    out = tmp_path / "out"
    ran = scopegym("solve", path, "--crystal", "Cu", "--pixel-size", "20 pm", "--out", out, *QUICK)
    assert_one_sentence(ran, word)
    assert not out.exists()


BAD_OPTIONS = {
    "pixel size zero": (("--pixel-size", "0 nm"), "positive"),
    "pixel size negative": (("--pixel-size", "-3 pm"), "positive"),
    "pixel size without unit": (("--pixel-size", "0.035"), "unit"),
    "pixel size in furlongs": (("--pixel-size", "3 furlong"), "furlong"),
    "unknown crystal": (("--crystal", "YBaCuO"), "YBa2Cu3O7"),
    "zone zero": (("--zone", "0,0,0"), "zone"),
    "zone of words": (("--zone", "up"), "zone"),
    "unknown task": (("--task", "atom"), "atoms"),
    "unknown agent": (("--agent", "bays"), "bayes"),
    "budget too small": (("--budget", "1"), "budget"),
    "budget of nothing": (("--budget", "0"), "budget"),
    "crystal and estimate": (("--estimate",), "exactly one way"),
    "unknown option": (("--colour", "red"), "--colour"),
    "plug-in missing": (("--plugin", "nowhere.py"), "nowhere.py"),
    "frame out of range": (("--frame", "7"), "frame"),
    "pick of nothing": (("--pick", "best"), "euclidean"),
}


@pytest.mark.parametrize("what", BAD_OPTIONS)
def test_a_bad_option_is_one_sentence(scopegym, image, tmp_path, what):
    options, word = BAD_OPTIONS[what]
    out = tmp_path / "out"
    base = ("solve", image, "--crystal", "YBa2Cu3O7", "--out", out, *QUICK)
    ran = scopegym(*base, *options)
    assert_one_sentence(ran, word)
    assert not out.exists() or not list(out.iterdir())


def test_no_expectation_at_all_is_one_sentence(scopegym, image, tmp_path):
    assert_one_sentence(scopegym("solve", image, "--out", tmp_path, *QUICK), "crystal")


def test_a_missing_pixel_size_is_one_sentence(scopegym, tmp_path):
    path = npy(tmp_path / "u.npy", SQUARE)
    ran = scopegym("solve", path, "--crystal", "Cu", "--out", tmp_path / "out", *QUICK)
    assert_one_sentence(ran, "pixel size")


def test_a_broken_cif_is_one_sentence(scopegym, image, tmp_path):
    cif = _text(tmp_path / "broken.cif", "data_x\n_cell_length_a nonsense\n")
    ran = scopegym("solve", image, "--crystal", cif, "--out", tmp_path / "out", *QUICK)
    assert_one_sentence(ran, "broken.cif")


def test_a_contradicted_pixel_size_stops_unless_trusted(scopegym, image, tmp_path):
    wrong = ("--pixel-size", "32 pm")
    ran = scopegym(*solve_arguments(image, tmp_path / "a"), *wrong)
    assert_one_sentence(ran, "--calibration trust")
    assert not (tmp_path / "a").exists()
    trusted = scopegym(*solve_arguments(image, tmp_path / "b"), *wrong, "--calibration", "trust")
    assert trusted.code == 0


def test_an_output_folder_that_is_a_file_is_one_sentence(scopegym, image, tmp_path):
    blocked = _text(tmp_path / "blocked", "here already")
    ran = scopegym(*solve_arguments(image, blocked))
    assert_one_sentence(ran, "blocked")
    assert blocked.read_text() == "here already"


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ("recipe: 1\nworkflow:\n- {operator: gausian}\n", "gaussian"),
        (
            "recipe: 1\ntask: atoms\nworkflow:\n- {operator: gaussian, parameters: {sigma: 9.0}}\n",
            "sigma",
        ),
        ("recipe: 1\nworkflow: !!python/object/apply:os.system ['touch hacked']\n", "YAML"),
        ("[]\n", "mapping"),
        ("recipe: 99\nworkflow: []\n", "99"),
    ],
)
def test_a_bad_recipe_is_one_sentence(scopegym, image, tmp_path, recipe, word, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = _text(tmp_path / "bad.yaml", recipe)
    assert_one_sentence(scopegym("run", path, image, "--out", tmp_path / "out"), word)
    assert not (tmp_path / "hacked").exists()
    assert not (tmp_path / "out").exists()


def test_errors_with_json_are_one_object(scopegym, tmp_path):
    ran = scopegym("solve", tmp_path / "none.tif", "--estimate", "--json", *QUICK)
    assert ran.code == 2
    assert "none.tif" in json.loads(ran.out)["error"]


def test_importing_the_package_is_light():
    """``import scopegym`` brings neither torch nor ray, nor the libraries of search."""
    code = (
        "import sys, scopegym; heavy = {'torch', 'ray', 'skimage', 'sklearn', 'skopt', 'cv2', "
        "'matplotlib', 'pandas', 'ase'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_installed_command_answers():
    command = Path(sys.executable).parent / "scopegym"
    done = subprocess.run(
        [command, "list", "agents"], capture_output=True, text=True, env=os.environ, check=True
    )
    assert "bayes" in done.stdout


# What is not ours ---------------------------------------------------------------------------------


def test_files_of_the_user_in_the_folder_are_neither_replaced_nor_removed(
    scopegym, image, grains, tmp_path
):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert scopegym(*solve_arguments(image, tmp_path)).code == 0
    assert scopegym(*segment_arguments(grains, tmp_path)).code == 0
    # The table of the former task is gone, the user's file is not.
    expected = {*FILES, MANIFEST, "labels.tif", "thesis.txt"} - {"points.csv"}
    assert {p.name for p in tmp_path.iterdir()} == expected
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "points.csv").write_text("measured by hand")
    ran = scopegym(*solve_arguments(image, tmp_path / "mine"))
    assert_one_sentence(ran, "points.csv' was not made by scopegym")
    assert (tmp_path / "mine" / "points.csv").read_text() == "measured by hand"


def test_a_result_that_the_user_changed_is_kept_and_named(scopegym, image, tmp_path):
    assert scopegym(*solve_arguments(image, tmp_path)).code == 0
    (tmp_path / "points.csv").write_text("corrected by hand")
    ran = scopegym(*solve_arguments(image, tmp_path))
    assert ran.code == 0 and f"Kept: '{tmp_path / 'points.csv~1'}'" in ran.out
    assert (tmp_path / "points.csv~1").read_text() == "corrected by hand"


def test_run_keeps_images_of_one_name_apart(scopegym, image, tmp_path):
    assert scopegym(*solve_arguments(image, tmp_path / "out")).code == 0
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(image, tmp_path / name / "x.tif")
    recipe, both = tmp_path / "out" / "workflow.yaml", (tmp_path / n / "x.tif" for n in "ab")
    assert scopegym("run", recipe, *both, "--out", tmp_path / "again").code == 0
    assert {p.name for p in (tmp_path / "again").iterdir()} == {"a-x.tif", "b-x.tif"}
    ran = scopegym("run", recipe, image, "--out", tmp_path / "out")
    assert_one_sentence(ran, "holds results of 'scopegym solve'")


@pytest.mark.parametrize(
    ("recipe", "image", "word"),
    [
        ("../out/workflow.yaml", "x.tif", "outside"),
        ("workflow.yaml", "../x.tif", "outside"),
        ("..", "x.tif", "outside"),
        (".", "x.tif", "outside"),
    ],
)
def test_a_table_names_files_in_its_own_folder(
    recipe: str, image: str, word: str, scopegym, tmp_path
):
    table = tmp_path / "strange" / "table.csv"
    table.parent.mkdir()
    table.write_text(f"recipe_file,image_file,score\n{recipe},{image},0.5\n")
    assert_one_sentence(scopegym("run", table, "--out", tmp_path / "again"), word)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("recipe", ["..yaml", "...yaml"])
def test_a_table_cannot_write_above_the_folder_for_the_results(recipe: str, scopegym, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(f"recipe_file,image_file,score\nw.yaml,x.tif,0.5\n{recipe},x.tif,0.5\n")
    assert_one_sentence(scopegym("run", table, "--out", tmp_path / "a" / "b"), "Line 2")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("command", ["solve", "apply", "run", "train", "benchmark", "audit"])
def test_an_empty_name_of_a_folder_is_refused(command: str, scopegym, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = {"apply": ["atoms", "x.tif"], "run": ["w.yaml", "x.tif"], "solve": ["x.tif"]}
    ran = scopegym(command, *inputs.get(command, ["atoms"]), "--out", "")
    assert_one_sentence(ran, "no name of a folder")
    assert not [*tmp_path.iterdir()]


def test_a_table_with_two_recipes_of_one_name_is_refused(scopegym, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("recipe_file,image_file,score\na/w.yaml,x.tif,0.5\nb/w.yaml,x.tif,0.5\n")
    assert_one_sentence(scopegym("run", table, "--out", tmp_path / "again"), "Line 2")
