"""A point task solved window by window, with local parameters and one merged result."""

from scopegym.experiments.windows.grid import Grid, Window, merge, part, tiled
from scopegym.experiments.windows.replay import rerun
from scopegym.experiments.windows.solving import Job, Solver, Windowed, judged, solve_windows

__all__ = [
    "Grid",
    "Job",
    "Solver",
    "Window",
    "Windowed",
    "judged",
    "merge",
    "part",
    "rerun",
    "solve_windows",
    "tiled",
]
