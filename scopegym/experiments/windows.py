"""A point task solved window by window: the parameters follow the image, the result is one."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scopegym import device as devices
from scopegym.agents.base import Front, Pick
from scopegym.artifacts import Array, Points, State
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.expectations import Expectation
from scopegym.experiments.solve import DOUBTFUL, Result, search
from scopegym.micrograph import Micrograph
from scopegym.plain import Anything, Items, Record, Whole, checked
from scopegym.prior import Prior
from scopegym.registry import PluginFile, read_plugins
from scopegym.rewards.base import Reward
from scopegym.workers import Backend, WorkerDied, one_thread, spread
from scopegym.workers.pool import CALL_SECONDS, EXECUTION_SECONDS
from scopegym.workflow import LONGEST, Workflow

#: A window's points count this far beyond its own part of the field [spacings]: two windows that
#: place a column on the seam on either side of it must not both leave it to the other.
LEEWAY = 0.25
#: Points of different windows that are closer than this are one column [spacings].
ONE_COLUMN = 0.5
#: What a recipe says of its windows; their workflows are read one by one.
RECORDED = Record(
    {
        "size": Whole(1, 10**6),
        "stride": Whole(1, 10**6),
        "workflows": Items(Anything(), 1, LONGEST),
    }
)


@dataclass(frozen=True)
class Window:
    """A square part of a field: its place in the grid, its first pixel and its side [px]."""

    row: int
    column: int
    top: int
    left: int
    size: int

    @property
    def origin(self) -> Array:
        """The place (y, x) of its first pixel in the field."""
        return np.array([self.top, self.left])

    def of(self, field: Array) -> Array:
        """This part of a field ``[H, W]``."""
        return field[self.top :, self.left :][: self.size, : self.size]

    def __str__(self) -> str:
        return f"[{self.top}:{self.top + self.size}, {self.left}:{self.left + self.size}]"


@dataclass(frozen=True)
class Grid:
    """Square windows of side ``size`` that cover a field of ``shape`` (H, W), one every ``stride``
    pixels; the last of a row and of a column ends with the field, and may overlap more.

    Raises ScopegymError when they cannot cover it.
    """

    shape: tuple[int, int]
    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= min(self.shape):
            raise ScopegymError(
                f"A window must be 1 to {min(self.shape)} px, as the image has {self.shape[0]} x "
                f"{self.shape[1]} px; it is {self.size} px."
            )
        if not 1 <= self.stride <= self.size:
            raise ScopegymError(
                f"The stride of windows of {self.size} px must be 1 to {self.size} px, or parts of "
                f"the image are left out; it is {self.stride} px."
            )

    @cached_property
    def first(self) -> tuple[Array, Array]:
        """The first pixels of the windows along y and along x."""
        y, x = (
            np.array([*range(0, length - self.size, self.stride), length - self.size])
            for length in self.shape
        )
        return y, x

    @property
    def seams(self) -> tuple[Array, Array]:
        """Where the parts of the field meet that belong to the windows, along y and along x [px]:
        half-way between their centres."""
        y, x = ((first[1:] + first[:-1] + self.size - 1) / 2 for first in self.first)
        return y, x

    @property
    def counts(self) -> tuple[int, int]:
        """How many windows there are along y and along x."""
        return len(self.first[0]), len(self.first[1])

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Window]:
        """The windows row by row."""
        return (self[row, column] for row, column in np.ndindex(self.counts))

    def __getitem__(self, place: tuple[int, int]) -> Window:
        """The window in a row and a column."""
        (row, column), (tops, lefts) = place, self.first
        return Window(row, column, int(tops[row]), int(lefts[column]), self.size)

    @property
    def middle(self) -> Window:
        """The window that is solved first."""
        rows, columns = self.counts
        return self[rows // 2, columns // 2]

    def after(self, window: Window) -> list[Window]:
        """The neighbours that start from this window's workflow: those from which it lies one step
        towards the middle. So rings around the middle are solved side by side, and every window
        starts from the same neighbour, however fast the workers are."""
        rows = _outward(window.row, self.middle.row, self.counts[0])
        columns = _outward(window.column, self.middle.column, self.counts[1])
        next_ring = (self[row, column] for row in rows for column in columns)
        return [neighbour for neighbour in next_ring if neighbour != window]

    def beyond(self, window: Window, yx: Array) -> Array:
        """How far positions ``[N, 2]`` lie outside the window's own part of the field, the places
        whose nearest centre is its own, ``[N]`` [px]; negative inside."""
        bounds = [
            np.concatenate([[-np.inf], seams, [np.inf]])[index : index + 2]
            for seams, index in zip(self.seams, (window.row, window.column), strict=True)
        ]
        low, high = np.array(bounds).T
        beyond: Array = np.maximum(low - yx, yx - high).max(axis=1)
        return beyond

    def depth(self, window: Window, yx: Array) -> Array:
        """How far positions ``[N, 2]`` lie inside the window, ``[N]`` [px]. Where it ends with the
        field no other window sees more, so only its other edges count."""
        low = window.origin - 0.5
        high = low + self.size
        low = np.where(low < 0, -np.inf, low)
        high = np.where(high > np.array(self.shape) - 1, np.inf, high)
        return np.minimum(yx - low, high - yx).min(axis=1)


def _outward(index: int, middle: int, count: int) -> list[int]:
    """The indices from which this one lies next towards the middle; the middle is its own next."""
    steps = (0, -1, 1) if index == middle else (1 if index > middle else -1,)
    return [index + step for step in steps if 0 <= index + step < count]


def merge(grid: Grid, found: Mapping[Window, Points], spacing_px: float) -> Points:
    """The points of all windows, each in its window's pixels, as points of the whole field.

    A point belongs to the window whose centre is nearest. Where two windows both claim a column on
    their seam, the position deeper inside its window stays.
    """
    parts = []
    for window, points in found.items():
        whole = Points(points.yx + window.origin, grid.shape, points.sigma_px, points.strength)
        own = whole[grid.beyond(window, whole.yx) <= LEEWAY * spacing_px]
        parts.append((own, grid.depth(window, own.yx)))
    joined = Points(
        np.concatenate([part.yx for part, _ in parts]),
        grid.shape,
        np.concatenate([part.sigma_px for part, _ in parts]),
        np.concatenate([part.strength for part, _ in parts]),
    )
    owner = np.repeat(np.arange(len(parts)), [len(part) for part, _ in parts])
    depth = np.concatenate([depth for _, depth in parts])
    return joined[_deepest(joined.yx, owner, depth, ONE_COLUMN * spacing_px)]


def _deepest(yx: Array, owner: Array, depth: Array, radius_px: float) -> Array:
    """Which positions ``[N, 2]`` stay when, of those of different owners within a radius, only the
    deepest does, ``[N]``."""
    from scipy.spatial import KDTree

    kept = np.ones(len(yx), bool)
    pairs = KDTree(yx).query_pairs(radius_px, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    pairs = np.take_along_axis(pairs, np.argsort(-depth[pairs], axis=1, kind="stable"), axis=1)
    # From the deepest position on: what has gone itself drives out nothing.
    for deeper, other in pairs[np.argsort(-depth[pairs[:, 0]], kind="stable")]:
        if kept[deeper]:
            kept[other] = False
    return kept


def part(problem: Problem, window: Window) -> Problem:
    """The problem of one window. Its picture is normalised by itself, so that parameters in units
    of contrast mean the same in a faint window as in a bright one."""
    whole = problem.micrograph
    crop = Micrograph(window.of(whole.data), whole.pixel_size_nm, f"{whole.name}{window}")
    prior = problem.prior.cropped((window.size, window.size), (whole.shape[0], whole.shape[1]))
    return Problem(crop, prior, problem.task, problem.reward)


@dataclass(frozen=True, eq=False)
class Job:
    """How windows are solved. It travels to the workers."""

    micrograph: Micrograph
    prior: Prior
    task: str
    reward: Reward
    agent: str
    budget: int
    seed: int = 0
    pick: Pick = "value"
    device: str = "cpu"
    plugins: tuple[PluginFile, ...] = ()

    @property
    def problem(self) -> Problem:
        """The problem of the whole image."""
        return Problem(self.micrograph, self.prior, tasks[self.task], self.reward)


@dataclass(frozen=True, eq=False)
class Solved:
    """What was found in a window, in its pixels, and how; or why nothing was."""

    window: Window
    points: Points
    trial: Trial | None = None
    evaluations: int = 0
    executions: int = 0
    timing: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        window, trial = self.window, self.trial
        return {
            "top": window.top,
            "left": window.left,
            "points": len(self.points),
            "score": None
            if trial is None
            else {"value": trial.score.value, "terms": dict(trial.score.terms)},
            "evaluations": self.evaluations,
            "operator_executions": self.executions,
            "workflow": None if trial is None else trial.workflow.to_dict(),
            "failure": self.failure,
        }


class Solver:
    """Solves windows; lives in a worker."""

    def __init__(self, job: Job) -> None:
        one_thread()
        self.job = job
        self.problem = job.problem

    def solve(self, window: Window, start: Workflow | None) -> Solved:
        """Search one window, from the workflow of a neighbour and from the expert's."""
        job, problem = self.job, part(self.problem, window)
        expert = problem.task.expert
        if start is not None and not 0 < len(start) <= job.budget:
            start = None
        if start is not None:
            # To the window's search the neighbour is the expert: agents set out from there, and
            # where the reward does not decide its workflow stays.
            problem = replace(problem, task=replace(problem.task, expert=start))
        try:
            with devices.using(job.device):
                result = search(
                    problem,
                    Expectation(problem.prior, None, ()),
                    job.agent,
                    job.budget,
                    job.seed,
                    job.pick,
                    first=() if start is None else (expert,),
                )
        except ScopegymError as error:  # an empty part must not end the search of the others
            return missed(window, str(error))
        return Solved(
            window,
            result.points,
            result.chosen,
            result.evaluations,
            result.executions,
            result.timing,
        )


def missed(window: Window, failure: str) -> Solved:
    """A window without result."""
    return Solved(window, Points(np.empty((0, 2)), (window.size, window.size)), failure=failure)


@dataclass(frozen=True, eq=False, kw_only=True)
class Windowed(Result):
    """What was found window by window. Its trials are those chosen in the windows, and last the
    merged points judged on the whole image."""

    grid: Grid
    windows: tuple[Solved, ...]
    merged: Points

    def state_of(self, trial: Trial) -> State:
        del trial
        return State.start(self.problem.source).with_artifact(self.merged)

    @property
    def evaluations(self) -> int:
        return sum(solved.evaluations for solved in self.windows)

    @property
    def executions(self) -> int:
        return sum(solved.executions for solved in self.windows)

    @property
    def way(self) -> str:
        chosen = {solved.trial.workflow for solved in self.windows if solved.trial is not None}
        return f"{len(chosen)} different ones in {len(self.windows)} windows"

    @property
    def recorded(self) -> dict[str, Any]:
        return {
            "windows": {
                "size": self.grid.size,
                "stride": self.grid.stride,
                "workflows": [
                    None if solved.trial is None else solved.trial.workflow.to_dict()
                    for solved in self.windows
                ],
            }
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "window": self.grid.size,
            "stride": self.grid.stride,
            "windows": [solved.to_dict() for solved in self.windows],
        }


def solve_windows(
    problem: Problem,
    expectation: Expectation,
    size: int,
    stride: int | None = None,
    *,
    agent: str = "bayes",
    budget: int,
    seed: int = 0,
    pick: Pick = "value",
    workers: int = 1,
    backend: Backend = "serial",
    device: str = "cpu",
    plugins: Sequence[Path | PluginFile] = (),
    on_window: Callable[[Solved], None] | None = None,
) -> Windowed:
    """Search the best workflow for every window of ``size`` pixels, one every ``stride`` (default:
    half the size), and merge what they find.

    ``budget`` counts operator executions in each window. The result does not depend on the number
    of workers. Raises ScopegymError for a task that is not about points, for windows that do not
    fit, and when no window has a result.
    """
    grid = tiled(problem, size, stride)
    job = Job(
        problem.micrograph, problem.prior, problem.task.name, problem.reward,
        agent, budget, seed, pick, device, read_plugins(plugins),
    )  # fmt: skip
    start = time.perf_counter()
    by_window = {}
    for solved in _solved(job, grid, workers, backend):
        by_window[solved.window] = solved
        if on_window is not None:
            on_window(solved)
    windows = tuple(by_window[window] for window in grid)
    good = [solved.trial for solved in windows if solved.trial is not None]
    if not good:
        raise ScopegymError(f"No window has a result: {windows[0].failure}")
    points = merge(grid, {s.window: s.points for s in windows}, problem.prior.scale_px)
    whole = judged(problem, points)
    return Windowed(
        problem=problem,
        agent=agent,
        seed=seed,
        budget=budget,
        trials=(*good, whole),
        front=Front(problem.reward, [whole]),
        chosen=whole,
        pick=pick,
        seconds=time.perf_counter() - start,
        calibration=expectation.calibration,
        warnings=(*expectation.warnings, *_doubts(windows)),
        timing=_timing(windows),
        grid=grid,
        windows=windows,
        merged=points,
    )


def tiled(problem: Problem, size: int, stride: int | None = None) -> Grid:
    """The grid of windows for a problem. Raises ScopegymError as ``solve_windows`` does."""
    if problem.task.answer is not Points:
        raise ScopegymError(
            f"Task {problem.task.name} gives {problem.task.answer.__name__.lower()}; only points "
            "can be merged from windows."
        )
    grid = Grid(problem.source.shape, size, max(1, size // 2) if stride is None else stride)
    least = math.ceil(problem.task.least_field * problem.prior.scale_px)
    if size < least:
        raise ScopegymError(
            f"A window of {size} px is too small: task {problem.task.name} needs {least} px, "
            f"{problem.task.least_field:g} spacings of {problem.prior.scale_px:.1f} px."
        )
    return grid


def judged(problem: Problem, points: Points) -> Trial:
    """Merged points, judged on the whole image. No workflow of its own has made them."""
    score = problem.judge(State.start(problem.source).with_artifact(points))
    return Trial(Workflow(), score, 0, 0.0, 0.0)


def _solved(job: Job, grid: Grid, workers: int, backend: Backend) -> Iterator[Solved]:
    """The windows as they are done, the middle one first."""
    waiting: deque[tuple[Window, Workflow | None]] = deque([(grid.middle, None)])
    workers = min(workers, len(grid))
    limit = max(CALL_SECONDS, EXECUTION_SECONDS * job.budget)
    for (window, start), future in spread(
        waiting, "solve", workers, backend, Solver, job, plugins=job.plugins, seconds=limit
    ):
        try:
            solved = future.result()
        except WorkerDied as death:
            solved = missed(window, f"It ended its worker: {death}.")
        handed_on = start if solved.trial is None else solved.trial.workflow
        waiting.extend((neighbour, handed_on) for neighbour in grid.after(window))
        yield solved


def _timing(windows: Sequence[Solved]) -> dict[str, float]:
    """Where the time went in all windows together, whichever worker spent it."""
    spent: dict[str, float] = {}
    for solved in windows:
        for name, seconds in solved.timing.items():
            spent[name] = spent.get(name, 0.0) + seconds
    return spent


def _doubts(windows: Sequence[Solved]) -> list[str]:
    """What to tell the user of windows that are worse than the merged score says."""
    doubts = []
    failed = [solved for solved in windows if solved.trial is None]
    if failed:
        doubts.append(
            f"{len(failed)} of {len(windows)} windows have no result; {failed[0].window}: "
            f"{failed[0].failure}"
        )
    low = [s for s in windows if s.trial is not None and s.trial.score.value < DOUBTFUL]
    if low:
        doubts.append(
            f"{len(low)} of {len(windows)} windows score below {DOUBTFUL:g}, {low[0].window} among "
            "them: look twice."
        )
    return doubts


def rerun(problem: Problem, recorded: Any) -> Points:
    """The merged points that the windows of a recipe give on an image of the same shape.

    Raises ScopegymError when they are malformed, are those of another shape, or when one fails.
    """
    checked(RECORDED, recorded, "The recipe's entry 'windows'")
    grid = tiled(problem, recorded["size"], recorded["stride"])
    workflows = [w if w is None else Workflow.from_dict(w) for w in recorded["workflows"]]
    if len(workflows) != len(grid):
        raise ScopegymError(
            f"The recipe has {len(workflows)} windows, and '{problem.micrograph.name}' takes "
            f"{len(grid)} of that size; such a recipe fits images of one shape."
        )
    found = {}
    for window, workflow in zip(grid, workflows, strict=True):
        if workflow is None:
            continue
        smaller = part(problem, window)
        failure = smaller.evaluate(workflow).failure
        points = None if failure else smaller.run(workflow).get(Points)
        if points is None:
            raise ScopegymError(f"The recipe fails in window {window}: {failure or 'no points'}.")
        found[window] = points
    return merge(grid, found, problem.prior.scale_px)
