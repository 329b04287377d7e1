"""Square windows over a field: their places, their problems, and the merging of their points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scopegym.artifacts import Array, Points
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph

#: A window's points count up to this distance beyond its own part of the field [spacings].
#: Otherwise a column on a seam can be lost when each window places it on the other's side.
LEEWAY = 0.25

#: Points of different windows that are closer than this are one column [spacings].
ONE_COLUMN = 0.5


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
        """Seams between the windows' parts of the field, along y and along x [px]: half-way
        between window centres."""
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
        """The neighbours that start from this window's workflow: for them it is one step towards
        the middle. Rings around the middle are solved in parallel, and the start of every window
        does not depend on the speed of workers."""
        rows = _outward(window.row, self.middle.row, self.counts[0])
        columns = _outward(window.column, self.middle.column, self.counts[1])
        next_ring = (self[row, column] for row in rows for column in columns)
        return [neighbour for neighbour in next_ring if neighbour != window]

    def beyond(self, window: Window, yx: Array) -> Array:
        """Distance of positions ``[N, 2]`` outside the window's own part of the field, ``[N]``
        [px]; negative inside. The own part is the region nearest to the window's centre."""
        bounds = [
            np.concatenate([[-np.inf], seams, [np.inf]])[index : index + 2]
            for seams, index in zip(self.seams, (window.row, window.column), strict=True)
        ]
        low, high = np.array(bounds).T
        beyond: Array = np.maximum(low - yx, yx - high).max(axis=1)
        return beyond

    def depth(self, window: Window, yx: Array) -> Array:
        """Distance of positions ``[N, 2]`` from the window's edges, ``[N]`` [px]. Edges of the
        field do not count, because no other window sees more there."""
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
    """Which positions ``[N, 2]`` remain, ``[N]``: of several owners' positions within a radius only
    the deepest."""
    from scipy.spatial import KDTree

    kept = np.ones(len(yx), bool)
    pairs = KDTree(yx).query_pairs(radius_px, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    pairs = np.take_along_axis(pairs, np.argsort(-depth[pairs], axis=1, kind="stable"), axis=1)
    # Start with the deepest position: a removed position must not remove others.
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


def tiled(problem: Problem, size: int, stride: int | None = None) -> Grid:
    """The grid of windows for a problem. Raises ScopegymError as ``solve_windows`` does."""
    if not problem.task.kind.mergeable:
        raise ScopegymError(
            f"Task {problem.task.name} gives {problem.task.kind.name}, which cannot be merged from "
            "windows."
        )
    grid = Grid(problem.source.shape, size, max(1, size // 2) if stride is None else stride)
    least = math.ceil(problem.task.least_field * problem.prior.scale_px)
    if size < least:
        raise ScopegymError(
            f"A window of {size} px is too small: task {problem.task.name} needs {least} px, "
            f"{problem.task.least_field:g} spacings of {problem.prior.scale_px:.1f} px."
        )
    return grid
