"""Windows: seams, warm starts, recipes, reports, other processes, bad input."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.answers import agreement
from scopegym.artifacts import Points
from scopegym.datasets.simulate import simulate_crystal, simulate_gradient
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.experiments import cli, windows
from scopegym.experiments.maps import maps
from scopegym.experiments.outputs import write_result
from scopegym.experiments.replay import replay
from scopegym.experiments.windows import Grid, Windowed, merge, part, solve_windows
from scopegym.metrics import match_points
from scopegym.micrograph import Micrograph
from scopegym.sample import Expectation
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Recipe, Step, Workflow

SPACING = 8.0
PROJECTION = Crystal.named("SrTiO3").project((0, 0, 1))
PIXEL_NM = PROJECTION.spacing_nm / SPACING


def problem_of(micrograph: Micrograph) -> Problem:
    shape = (micrograph.shape[0], micrograph.shape[1])
    return Problem(micrograph, PROJECTION.prior(shape, pixel_size_nm=PIXEL_NM), tasks["atoms"])


def solved(problem: Problem, size: int, stride: int | None = None, **options) -> Windowed:
    expectation = Expectation(problem.prior, None, ())
    return solve_windows(
        problem, expectation, size, stride, **{"agent": "expert", "budget": 6, **options}
    )


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(simulate_crystal(PROJECTION, (90, 120), PIXEL_NM, noise=0.05, seed=1))


@pytest.fixture(scope="module")
def result(problem) -> Windowed:
    return solved(problem, 48, agent="random", budget=9)


@st.composite
def grids(draw) -> Grid:
    size = draw(st.integers(16, 60))
    stride = draw(st.integers(4, size))
    shape = draw(st.tuples(st.integers(size, 130), st.integers(size, 130)))
    return Grid(shape, size, stride)


@given(grids())
@settings(max_examples=60, deadline=None)
def test_every_pixel_belongs_to_one_window_that_holds_it(grid: Grid):
    yx = np.argwhere(np.ones(grid.shape))
    owned = np.zeros(len(yx), int)
    for window in grid:
        own = grid.beyond(window, yx) < 0
        owned += own
        assert (grid.depth(window, yx[own]) >= 0).all()
    # A pixel exactly on a seam belongs to both sides; merging decides there.
    on_seam = [np.isin(yx[:, axis], seams) for axis, seams in enumerate(grid.seams)]
    assert (owned[~np.any(on_seam, axis=0)] == 1).all()


@given(grids())
@settings(max_examples=40, deadline=None)
def test_every_window_starts_from_one_neighbour(grid: Grid):
    reached, ring = [grid.middle], [grid.middle]
    while ring:
        after = [(window, other) for window in ring for other in grid.after(window)]
        for window, other in after:
            assert max(abs(window.row - other.row), abs(window.column - other.column)) == 1
        ring = [other for _, other in after]
        reached += ring
    assert sorted(reached, key=lambda w: (w.row, w.column)) == list(grid)


@given(grids(), st.tuples(st.floats(0, 8), st.floats(0, 8)), st.floats(0, 1.4), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_no_column_is_doubled_or_lost_at_a_seam(grid: Grid, shift, turn, seed):
    """Each window sees every column in it, up to an eighth of a spacing off."""
    rng = np.random.default_rng(seed)
    steps = np.indices((80, 80)).reshape(2, -1).T - 40
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    columns = steps @ rotation * SPACING + shift
    high = np.array(grid.shape) - 0.5
    columns = columns[((columns >= -0.5) & (columns < high)).all(axis=1)]
    found = {}
    for window in grid:
        low = window.origin - 0.5
        inside = ((columns >= low) & (columns < low + window.size)).all(axis=1)
        off = rng.uniform(-1, 1, (int(inside.sum()), 2)) * SPACING / 8 / np.sqrt(2)
        seen = np.clip(columns[inside] + off, low, low + window.size)
        found[window] = Points(seen - window.origin, (window.size, window.size))
    merged = merge(grid, found, SPACING)
    matched = match_points(merged, Points(columns, grid.shape), SPACING / 4)
    assert len(merged) == len(columns) == len(matched.found)


def test_of_two_positions_on_a_seam_the_one_deeper_in_its_window_stays():
    grid = Grid((40, 70), 40, 30)
    left, right = grid
    assert grid.seams[1].tolist() == [34.5]
    found = {
        left: Points([[20, 35.5]], (40, 40), strength=[1.0]),
        right: Points([[20, 34.4 - 30]], (40, 40), strength=[2.0]),
    }
    merged = merge(grid, found, SPACING)
    assert len(merged) == 1
    # 35.5 lies 4 px from the end of the left window, 34.4 lies 4.9 px from that of the right.
    assert merged.strength.tolist() == [2.0]


def test_points_of_one_window_are_never_merged():
    grid = Grid((40, 40), 40, 20)
    close = Points([[10, 10], [10, 11]], (40, 40))
    assert len(merge(grid, {grid.middle: close}, SPACING)) == 2


def test_no_points_at_all_merge_to_none():
    grid = Grid((40, 60), 40, 20)
    nothing = Points(np.empty((0, 2)), (40, 40))
    assert len(merge(grid, dict.fromkeys(grid, nothing), SPACING)) == 0


def test_merged_points_are_those_of_the_image(problem, result):
    matched = match_points(result.points, problem.micrograph.truth, SPACING / 4, SPACING / 2)
    assert matched.f1 > 0.95
    assert result.points.shape == (90, 120)
    assert result.chosen.score == problem.judge(result.state)
    assert result.found.count == len(result.points)


def test_a_window_starts_from_its_neighbour_and_keeps_what_ties(problem):
    """The middle window takes an odd workflow; where the reward does not decide, so do all."""
    odd = Workflow((Step("gaussian", {"sigma": 0.16}), *tasks["atoms"].expert.steps[1:]))
    job = windows.Job(problem.micrograph, problem.prior, "atoms", problem.reward, "expert", 6)
    solver = windows.Solver(job)
    window = Grid((90, 120), 48, 24)[0, 0]
    alone, warm = solver.solve(window, None), solver.solve(window, odd)
    assert alone.trial.workflow == tasks["atoms"].expert
    assert warm.trial.workflow == odd
    assert (alone.evaluations, warm.evaluations) == (1, 2)


def test_a_neighbour_that_went_wrong_is_not_followed(problem):
    wrong = Workflow((Step("laplacian_of_gaussian", {"threshold": 0.5}), Step("refine_positions")))
    job = windows.Job(problem.micrograph, problem.prior, "atoms", problem.reward, "expert", 6)
    followed = windows.Solver(job).solve(Grid((90, 120), 48, 24)[0, 0], wrong)
    assert followed.trial.workflow == tasks["atoms"].expert


def test_each_window_is_normalised_by_itself():
    fading = simulate_crystal(PROJECTION, (64, 128), PIXEL_NM, seed=2).data * np.geomspace(
        1, 0.1, 128
    )
    problem = problem_of(Micrograph(fading, PIXEL_NM))
    left, right = (part(problem, window) for window in Grid((64, 128), 64, 64))
    assert right.micrograph.data.max() < 0.5 * left.micrograph.data.max()
    assert right.source.pixels.max() == pytest.approx(left.source.pixels.max(), abs=0.2)
    assert left.prior.count == pytest.approx(problem.prior.count / 2)


def test_windows_succeed_where_one_setting_fails():
    """The same workflow with the same parameters, on the whole and by windows."""
    ybco = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    image = simulate_gradient(ybco, (128, 512), 0.025, blur=1.4, noise=0.2, seed=1)
    prior = ybco.prior((128, 512), pixel_size_nm=0.025)
    problem = Problem(image, prior, tasks["atoms"])
    by_windows = solved(problem, 128, 64)
    assert {s.trial.workflow for s in by_windows.windows} == {problem.task.expert}
    one_setting = problem.run(problem.task.expert).need(Points)
    assert agreement(image.truth, one_setting, prior) < 0.9
    assert agreement(image.truth, by_windows.points, prior) > 0.99


def test_an_empty_window_does_not_end_the_others():
    image = simulate_crystal(PROJECTION, (48, 144), PIXEL_NM, seed=3).data.copy()
    image[:, 96:] = 0.0
    result = solved(problem_of(Micrograph(image, PIXEL_NM, "half")), 48, 48)
    assert [bool(s.failure) for s in result.windows] == [False, False, True]
    assert "1 of 3 windows have no result; [0:48, 96:144]" in " ".join(result.warnings)
    assert result.points.yx[:, 1].max() < 97
    assert json.loads(json.dumps(result.to_dict()["windows"][2]))["workflow"] is None
    assert np.isnan(maps(result)[0].values).tolist() == [[False, False, True]]


def test_maps_cover_the_grid(result):
    drawn = maps(result)
    assert drawn[0].title == "score"
    assert all(one.values.shape == result.grid.counts for one in drawn)
    assert all(one.bounds[0] < one.bounds[1] for one in drawn[1:])
    assert all(
        re.fullmatch("#[0-9a-f]{6,8}", one.colour(v)) for one in drawn for v in one.values.flat
    )


def test_everything_is_written_and_replays(result, problem, tmp_path):
    write_result(result, tmp_path)
    assert {"windows.png", "report.html", "result.json", "workflow.yaml", "points.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    written = json.loads((tmp_path / "result.json").read_text())
    assert (written["window"], written["stride"]) == (48, 24)
    assert len(written["windows"]) == len(result.grid)
    assert written["operator_executions"] == sum(
        w["operator_executions"] for w in written["windows"]
    )
    page = (tmp_path / "report.html").read_text()
    assert "Every window" in page and page.count("<rect x=") == len(maps(result)) * len(result.grid)
    again = replay(Recipe.read(tmp_path / "workflow.yaml"), problem.micrograph)
    assert again.agrees
    assert np.array_equal(again.points.yx, result.points.yx)


def test_a_recipe_of_windows_refuses_another_shape(result, tmp_path):
    write_result(result, tmp_path)
    recipe = Recipe.read(tmp_path / "workflow.yaml")
    other = simulate_crystal(PROJECTION, (90, 160), PIXEL_NM, seed=1)
    with pytest.raises(ScopegymError, match="fits images of one shape"):
        replay(recipe, other)


@pytest.mark.parametrize("windows", [3, {"size": 48}, {"size": 48, "stride": 24, "workflows": 1}])
def test_a_malformed_recipe_of_windows_is_refused(windows, problem):
    text = Workflow().to_yaml(
        prior=problem.prior, task="atoms", reward=problem.reward.to_dict(),
        image={"sha256": problem.micrograph.sha256}, windows=windows,
    )  # fmt: skip
    with pytest.raises(ScopegymError, match="'windows' is malformed"):
        replay(Recipe.read(text), problem.micrograph)


def test_the_result_is_the_same_however_many_work(problem, result):
    again = solved(problem, 48, agent="random", budget=9, workers=3)
    assert np.array_equal(again.points.yx, result.points.yx)
    assert again.recorded == result.recorded


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_other_processes_find_the_same(problem, result, backend, request):
    if backend == "ray":
        request.getfixturevalue("ray_here")
    again = solved(problem, 48, agent="random", budget=9, workers=2, backend=backend)
    assert np.array_equal(again.points.yx, result.points.yx)
    assert again.recorded == result.recorded


@pytest.mark.parametrize(
    ("task", "size", "stride", "message"),
    [
        ("atoms", 91, None, "A window must be 1 to 90 px, as the image has 90 x 120 px; it is 91"),
        ("atoms", 12, None, "A window of 12 px is too small: task atoms needs 16 px, 2 spacings"),
        ("atoms", 48, 49, "must be 1 to 48 px, or parts of the image are left out; it is 49"),
        ("atoms", 48, 0, "must be 1 to 48 px"),
        ("symmetry", 48, None, "which cannot be merged from windows"),
    ],
)
def test_bad_input_is_one_sentence(problem, task, size, stride, message):
    asked = Problem(problem.micrograph, problem.prior, tasks[task])
    with pytest.raises(ScopegymError, match=re.escape(message)):
        solved(asked, size, stride)


@pytest.fixture
def image(problem, tmp_path) -> Path:
    np.save(tmp_path / "image.npy", problem.micrograph.data)
    return tmp_path / "image.npy"


def call(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["scopegym", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_line_solves_and_replays(monkeypatch, capsys, image, tmp_path):
    scale = ("--pixel-size", f"{PIXEL_NM:.6f} nm")
    known = ("--crystal", "SrTiO3", "--zone", "0,0,1", *scale)
    quick = ("--agent", "expert", "--budget", "6", "--backend", "serial", "--workers", "1")
    out = tmp_path / "out"
    assert call(monkeypatch, "solve", image, *known, *quick, "--window", "60", "--out", out) == 0
    assert "6 windows" in capsys.readouterr().out
    recipe = out / "workflow.yaml"
    assert call(monkeypatch, "run", recipe, image, *scale, "--check", "--out", tmp_path / "b") == 0
    assert (tmp_path / "b" / "points.csv").read_text() == (out / "points.csv").read_text()


@pytest.mark.parametrize("more", [("--stride", "9"), ("--window", "500"), ("--window", "0")])
def test_the_command_line_refuses(monkeypatch, capsys, image, tmp_path, more):
    known = ("--crystal", "SrTiO3", "--zone", "0,0,1", "--pixel-size", f"{PIXEL_NM:.6f} nm")
    assert call(monkeypatch, "solve", image, *known, *more, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
