"""Solving from Python is solving from the command line: same options, same result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import scopegym
from scopegym.datasets.simulate import simulate_crystal
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.experiments.outputs import to_json
from scopegym.experiments.recipe import recipe
from scopegym.experiments.replay import replay
from scopegym.experiments.solve import Result
from scopegym.experiments.windows import Windowed
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Recipe

PIXEL_NM = 0.025
STO: dict[str, Any] = {"crystal": "SrTiO3", "zone": (0, 0, 1), "pixel_size": "25 pm"}
#: The same on the command line.
OPTIONS = ("--crystal", "SrTiO3", "--zone", "0,0,1", "--pixel-size", "25 pm")
QUICK: dict[str, Any] = {"agent": "bayes", "budget": 16, "seed": 5}
QUICK_OPTIONS = ("--agent", "bayes", "--budget", "16", "--seed", "5")
TERM = """
from scopegym import reward_term
from scopegym.artifacts import Points

@reward_term(direction="maximize", bounds=(0.0, 1.0))
def few_points(points: Points) -> float:
    return 1 / (1 + len(points))
"""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    return simulate_crystal(projection, (96, 96), PIXEL_NM, noise=0.1, seed=4).data


@pytest.fixture(scope="module")
def image(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "image.npy"
    np.save(path, pixels)
    return path


def called(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: Any) -> dict[str, Any]:
    """``result.json`` of the command ``solve``."""
    argv = ["scopegym", "solve", *map(str, arguments), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    told: dict[str, Any] = json.loads((out / "result.json").read_text())
    return told


def comparable(result: Result | dict[str, Any]) -> dict[str, Any]:
    """What depends neither on the clock nor on whether the image comes from a file."""
    plain = json.loads(to_json(result.to_dict())) if isinstance(result, Result) else dict(result)
    for name in ("seconds", "timing", "image", "sha256"):
        plain.pop(name)
    return plain


def test_a_path_an_array_and_a_micrograph_give_what_the_command_gives(
    monkeypatch, image, pixels, tmp_path
):
    expected = comparable(called(monkeypatch, tmp_path, image, *OPTIONS, *QUICK_OPTIONS))
    assert expected["score"]["value"] > 0.8
    given = (image, str(image), pixels, pixels.astype(float).tolist(), Micrograph(pixels))
    for one in given:
        assert comparable(scopegym.solve(one, **STO, **QUICK)) == expected, type(one)
    sample = Sample(**STO)
    assert comparable(scopegym.solve(image, sample=sample, **QUICK)) == expected


EVERY_OPTION: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "figures": (
        {"density": 13.1, "spacing": "0.276 nm", "pixel_size": "25 pm"},
        ("--density", "13.1", "--spacing", "0.276 nm", "--pixel-size", "25 pm"),
    ),
    "estimate": ({"estimate": True, "pick": "chebyshev"}, ("--estimate", "--pick", "chebyshev")),
    "dark and trusted": (
        {**STO, "contrast": "dark", "calibration": "trust"},
        (*OPTIONS, "--contrast", "dark", "--calibration", "trust"),
    ),
    "another task": (
        {"task": "symmetry", "spacing": "8 px", "device": "cpu"},
        ("--task", "symmetry", "--spacing", "8 px", "--device", "cpu"),
    ),
    "windows": (
        {**STO, "window": 60, "stride": 36, "workers": 1, "backend": "serial"},
        (*OPTIONS, "--window", "60", "--stride", "36", "--workers", "1", "--backend", "serial"),
    ),
}


@pytest.mark.parametrize("what", EVERY_OPTION)
def test_every_option_means_the_same(monkeypatch, image, tmp_path, what):
    options, arguments = EVERY_OPTION[what]
    expected = comparable(called(monkeypatch, tmp_path, image, *arguments, *QUICK_OPTIONS))
    result = scopegym.solve(image, **{**QUICK, **options})
    assert comparable(result) == expected
    assert isinstance(result, Windowed) == (what == "windows")


def test_a_term_of_a_file_and_a_plugin(monkeypatch, image, tmp_path):
    file = tmp_path / "term.py"
    file.write_text(TERM)
    term = f"{file}:few_points"
    told = called(monkeypatch, tmp_path / "out", image, *OPTIONS, *QUICK_OPTIONS, "--reward", term)
    expected = comparable(told)
    assert "few_points" in expected["score"]["terms"]
    for options in ({"reward": term}, {"reward": ["few_points"], "plugins": [file]}):
        assert comparable(scopegym.solve(image, **STO, **QUICK, **options)) == expected
    only = scopegym.Reward("only", {"few_points": 1.0}, "linear")
    assert set(scopegym.solve(image, **STO, **QUICK, reward=only).chosen.score.terms) == {
        "few_points"
    }


def test_one_frame_of_a_stack(pixels):
    stack = np.stack([np.zeros_like(pixels), pixels])
    of_stack = scopegym.solve(stack, **STO, **QUICK, frame=1)
    assert of_stack.chosen.score == scopegym.solve(pixels, **STO, **QUICK).chosen.score
    with pytest.raises(ScopegymError, match="choose a frame"):
        scopegym.solve(stack, **STO, **QUICK)
    with pytest.raises(ScopegymError, match="frame"):
        scopegym.solve(stack, **STO, **QUICK, frame=7)


def test_with_nothing_said_it_is_estimated_and_says_so(pixels):
    result = scopegym.solve(pixels, **QUICK)
    assert result.problem.prior.sources["scale_px"] == "estimated"
    assert "without an independent check" in result.warnings[0]


def test_a_prior_stands_for_a_sample(pixels):
    prior = Prior(11.0, 79.0)
    result = scopegym.solve(pixels, prior=prior, pixel_size="25 pm", **QUICK)
    assert result.problem.prior == prior and result.calibration is None
    assert result.problem.micrograph.pixel_size_nm == PIXEL_NM


def test_every_trial_and_window_is_heard_of(pixels):
    trials: list[Any] = []
    windows: list[Any] = []
    result = scopegym.solve(pixels, **STO, **QUICK, on_trial=trials.append)
    assert tuple(trials) == result.trials
    few = {**STO, **QUICK, "window": 60, "backend": "serial", "workers": 1}
    result = scopegym.solve(pixels, **few, on_window=windows.append)
    assert isinstance(result, Windowed) and len(windows) == len(result.windows)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "said twice": ({"crystal": "Cu", "estimate": True}, "exactly one way"),
    "sample and crystal": ({"sample": Sample(estimate=True), "crystal": "Cu"}, "once: .*'crystal'"),
    "sample and contrast": ({"sample": Sample(estimate=True), "contrast": "dark"}, "'contrast'"),
    "prior and crystal": ({"prior": Prior(8.0), "crystal": "Cu"}, "once: .*'crystal'"),
    "prior and sample": ({"prior": Prior(8.0), "sample": Sample(estimate=True)}, "'prior'"),
    "a word for a sample": ({"sample": "Cu"}, "must be a Sample, not 'Cu'"),
    "a number for a prior": ({"prior": 8.0}, r"must be a Prior, not 8\.0"),
    "unknown task": ({"task": "atom"}, "atoms"),
    "unknown agent": ({"agent": "bays"}, "bayes"),
    "unknown term": ({"reward": "no_such_term"}, "no_such_term"),
    "a number for a reward": ({"reward": 3}, "reward .* not 3"),
    "pick of nothing": ({"pick": "best"}, "euclidean"),
    "seed too large": ({"seed": 2**32}, "seed"),
    "seed of text": ({"seed": "a"}, "seed"),
    "budget of nothing": ({"budget": 0}, "budget"),
    "half a window": ({"window": 60.5}, "whole number"),
    "a list of tasks": ({"task": ["atoms"]}, "Unknown task"),
    "no agent": ({"agent": None}, "Unknown agent 'None'"),
    "unknown backend": ({"window": 60, "backend": "bogus"}, "Unknown backend 'bogus'; known: ray"),
    "a number for a device": ({"device": 3}, "cpu, cuda"),
    "a word for a frame": ({"frame": "first"}, "whole number from 0, not 'first'"),
    "one plug-in missing": ({"plugins": "nowhere.py"}, "nowhere.py"),
    "stride alone": ({"stride": 9}, "window"),
    "window too large": ({"window": 500}, "500"),
    "device": ({"device": "tpu"}, "cpu, cuda"),
    "plug-in missing": ({"plugins": ["nowhere.py"]}, "nowhere.py"),
    "pixel size": ({"pixel_size": "3 furlong"}, "furlong"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_option_is_one_sentence(pixels, what):
    options, match = BAD[what]
    with pytest.raises(ScopegymError, match=match) as caught:
        scopegym.solve(pixels, **{"agent": "expert", "budget": 6, **options})
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "image",
    [None, "none.tif", [], [[1, 2], [3]], "", object(), np.zeros((4, 4), complex), np.zeros(7), 3],
    ids=lambda image: type(image).__name__,
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ScopegymError):
        scopegym.solve(image, estimate=True, **QUICK)


def test_a_recipe_knows_the_frame_that_it_was_made_for(tmp_path):
    frames = [lattice_in_noise(seed) for seed in range(2)]
    tifffile.imwrite(tmp_path / "s.tif", np.stack(frames).astype(np.float32))
    given = {"spacing": "9 px", "density": 10.0, "pixel_size": "0.03 nm", "budget": 6}
    stack = scopegym.load(tmp_path / "s.tif", "0.03 nm")
    result = scopegym.solve(tmp_path / "s.tif", frame=0, agent="expert", **given)
    made = Recipe.read(recipe(result.problem, result.chosen))
    assert replay(made, stack.frame(0)).agrees
    assert not replay(made, stack.frame(1)).same_image


def lattice_in_noise(seed: int) -> np.ndarray:
    """A square lattice in noise."""
    y, x = np.mgrid[:96, :96] * 2 * np.pi / 9
    return np.cos(y) + np.cos(x) + np.random.default_rng(seed).normal(0, 0.1, (96, 96))
