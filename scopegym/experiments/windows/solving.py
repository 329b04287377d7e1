"""The search in every window, from the middle outwards; windows start from a neighbour's result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scopegym import device as devices
from scopegym.agents.base import Front, Pick
from scopegym.answers.base import counted
from scopegym.artifacts import Points, State
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.belief import trusted, verdict
from scopegym.experiments.solve import Result, search
from scopegym.experiments.windows.grid import Grid, Window, merge, part, tiled
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.registry import PluginFile, read_plugins
from scopegym.rewards.base import Reward
from scopegym.sample import Expectation
from scopegym.workers import Backend, WorkerDied, map_unordered, one_thread
from scopegym.workers.pool import CALL_SECONDS, EXECUTION_SECONDS
from scopegym.workflow import Workflow


@dataclass(frozen=True, eq=False)
class Job:
    """The settings for windows, which are sent to the workers."""

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
    """The result of a window, in its pixels, or the reason of a failure."""

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
    """Solves windows, in a worker."""

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
    """The result of all windows. Its trials are those chosen in the windows; the last one is the
    score of the merged points on the whole image."""

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
        windows = counted(len(self.windows), "windows")
        return f"{counted(len(chosen), 'different workflows')} in {windows}"

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
    doubts = _doubts(windows, trusted(problem))
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
        warnings=(*expectation.warnings, *doubts),
        verdict=verdict(problem, whole.score, expectation, doubts),
        timing=_timing(windows),
        grid=grid,
        windows=windows,
        merged=points,
    )


def judged(problem: Problem, points: Points) -> Trial:
    """Merged points, scored on the whole image. They belong to no single workflow."""
    score = problem.judge(State.start(problem.source).with_artifact(points))
    return Trial(Workflow(), score, 0, 0.0, 0.0)


def _solved(job: Job, grid: Grid, workers: int, backend: Backend) -> Iterator[Solved]:
    """The windows as they are done, the middle one first."""
    waiting: deque[tuple[Window, Workflow | None]] = deque([(grid.middle, None)])
    workers = min(workers, len(grid))
    limit = max(CALL_SECONDS, EXECUTION_SECONDS * job.budget)
    for (window, start), future in map_unordered(
        waiting, "solve", workers, backend, Solver, job, plugins=job.plugins, seconds=limit
    ):
        try:
            solved = future.result()
        except WorkerDied as death:
            solved = missed(window, f"Its worker process failed: {death}.")
        handed_on = start if solved.trial is None else solved.trial.workflow
        waiting.extend((neighbour, handed_on) for neighbour in grid.after(window))
        yield solved


def _timing(windows: Sequence[Solved]) -> dict[str, float]:
    """The timings summed over all windows and workers."""
    spent: dict[str, float] = {}
    for solved in windows:
        for name, seconds in solved.timing.items():
            spent[name] = spent.get(name, 0.0) + seconds
    return spent


def _doubts(windows: Sequence[Solved], least: float) -> list[str]:
    """Warnings about windows without a result or with less than the least score."""
    doubts = []
    failed = [solved for solved in windows if solved.trial is None]
    if failed:
        doubts.append(
            f"{len(failed)} of {len(windows)} windows have no result; {failed[0].window}: "
            f"{failed[0].failure}"
        )
    low = [s for s in windows if s.trial is not None and s.trial.score.value < least]
    if low:
        doubts.append(
            f"{len(low)} of {len(windows)} windows score below {least:g}, {low[0].window} among "
            "them: check the result."
        )
    return doubts
