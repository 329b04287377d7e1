"""Wrong answers that a reward must not fall for, one function for each and kind of answer.

Each knows the truth, and makes of it something that looks right in one respect: the count, the
spacing, the area. What turns out mostly right all the same is no adversary; the audit leaves it
out.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from scopegym.artifacts import Array, Artifact, Labels, Points
from scopegym.envs.problem import Problem
from scopegym.operators.filters import smooth
from scopegym.registry import Registry
from scopegym.sample.crystal import CRYSTALS

#: Errors of the pixel size that are tried.
ERRORS = (0.05, 0.1, 0.3)
#: Squares along the side of a chequerboard.
SQUARES = 4

Answers = Callable[[Problem, typing.Any, np.random.Generator], Iterator[Artifact]]


@dataclass(frozen=True)
class Adversary:
    """Makes wrong ``answers`` of one ``kind`` from a problem, its truth and chance."""

    name: str
    kind: type[Artifact]
    answers: Answers
    about: str

    @property
    def title(self) -> str:
        """What it is called, without the kind."""
        return self.name.partition(": ")[2]


#: All adversaries by ``kind: name``.
registry: Registry[Adversary] = Registry("adversary")


def adversary(title: str) -> Callable[[Answers], Answers]:
    """Register a function of problem, truth and random generator; the kind is the truth's type."""

    def register(function: Answers) -> Answers:
        kind = typing.get_type_hints(function)["truth"]
        name = f"{kind.__name__.casefold()}: {title}"
        registry.add(Adversary(name, kind, function, inspect.getdoc(function) or ""))
        return function

    return register


def against(answer: Artifact) -> list[Adversary]:
    """The adversaries for this kind of answer."""
    return [entry for entry in registry.values() if type(answer) is entry.kind]


# --- columns --------------------------------------------------------------------------------------


@adversary("blank")
def no_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """Nothing at all."""
    del problem, rng
    yield truth[:0]


@adversary("everything")
def all_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """A position every quarter of a spacing: no column is missed."""
    del rng
    yield _grid(truth.shape, max(problem.prior.scale_px / 4, 1.0))


@adversary("square grid of the right count")
def square_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """As many positions as there are columns, in rows and lines, blind to the image."""
    del problem, rng
    yield _grid(truth.shape, math.sqrt(math.prod(truth.shape) / max(len(truth), 1)))


@adversary("random positions")
def random_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """As many positions as there are columns, anywhere."""
    del problem
    yield _points(rng.uniform(-0.5, np.array(truth.shape) - 0.5, (len(truth), 2)), truth.shape)


@adversary("right lattice, shifted")
def shifted_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """All columns displaced by half a cell, along either edge and both."""
    del rng
    first, second = np.array(problem.prior.lattice_px or np.eye(2) * problem.prior.scale_px) / 2
    for shift in (first, second, first + second):
        yield _points(truth.yx + shift, truth.shape)


@adversary("lattice of another crystal")
def other_crystal(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """The columns that another crystal would have at this pixel size, along its [001]."""
    size, lattice = problem.micrograph.pixel_size_nm, problem.prior.lattice_px
    if size is None:
        return
    for crystal in CRYSTALS.values():
        projection = crystal.project((0, 0, 1))
        (y, x), _ = projection.lattice_px(size)
        (to_y, to_x), _ = lattice or ((0.0, 1.0), (1.0, 0.0))
        turn = math.degrees(math.atan2(-to_y, to_x) - math.atan2(-y, x))
        found = projection.positions(
            truth.shape,
            pixel_size_nm=size,
            rotation_deg=turn,
            origin_yx=tuple(rng.uniform(0, np.array(truth.shape))),
        )
        yield _points(found.yx, truth.shape)


def _stretched_points(error: float) -> Answers:
    def stretched(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
        """The columns that a pixel size wrong by this much predicts: the lattice, stretched."""
        del problem, rng
        middle = (np.array(truth.shape) - 1) / 2
        yield _points(middle + (1 + error) * (truth.yx - middle), truth.shape)

    return stretched


def _grid(shape: tuple[int, int], distance: float) -> Points:
    """Positions in rows and lines this far apart [px], in the middle of the field."""
    rows, columns = (
        (np.arange(n) - (n - 1) / 2) * distance + (length - 1) / 2
        for length in shape
        for n in [max(1, round(length / distance))]
    )
    return _points(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2), shape)


def _points(yx: Array, shape: tuple[int, int]) -> Points:
    """The positions that lie in the field."""
    inside = ((yx >= -0.5) & (yx < np.array(shape) - 0.5)).all(axis=1)
    return Points(yx[inside], shape)


# --- regions --------------------------------------------------------------------------------------


@adversary("blank")
def no_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """No region, or one that is the whole image."""
    del problem, rng
    yield _like(truth, np.full(truth.map.shape, truth.background or 0))


@adversary("everything")
def all_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """All of the image in a region; or, where every pixel is in one anyway, one per spacing."""
    del rng
    if truth.background is not None:
        yield _like(truth, np.full(truth.map.shape, truth.background + 1))
    else:
        rows, columns = _blocks(truth, problem.prior.scale_px)
        yield _like(truth, rows * (columns.max() + 1) + columns)


@adversary("chequerboard")
def chequered_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """Squares with the right number of labels; or, on a background, squares of the right area."""
    del problem, rng
    kinds = np.unique(truth.map)
    side = min(truth.map.shape) / SQUARES
    rows, columns = _blocks(truth, side)
    if truth.background is None:
        yield _like(truth, kinds[(rows + columns) % len(kinds)])
    else:
        share = float(np.mean(truth.map != truth.background))
        y, x = (np.abs(n % side - side / 2) for n in np.indices(truth.map.shape))
        squares = np.maximum(y, x) < math.sqrt(share) * side / 2
        yield _like(truth, np.where(squares, truth.background + 1, truth.background))


@adversary("one disk")
def disk_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """One disk of the right area, somewhere: nothing is more compact."""
    del problem
    background = 0 if truth.background is None else truth.background
    away = np.hypot(*(n - rng.uniform(0, n.max()) for n in np.indices(truth.map.shape)))
    pixels = int(np.count_nonzero(truth.map != background))
    disk = away <= np.sort(away, axis=None)[max(pixels, 1) - 1]
    yield _like(truth, np.where(disk, background + 1, background))


@adversary("random regions")
def random_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """Labels with the right shares, drawn for every square of a spacing by itself."""
    rows, columns = _blocks(truth, problem.prior.scale_px)
    drawn = rng.choice(truth.map.ravel(), size=(rows.max() + 1, columns.max() + 1))
    yield _like(truth, drawn[rows, columns])


@adversary("right regions, shifted")
def shifted_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """The true map displaced by a quarter of the field, what leaves it coming in again."""
    del problem, rng
    quarter = np.array(truth.map.shape) // 4
    for shift in ((quarter[0], 0), (0, quarter[1]), tuple(quarter)):
        yield _like(truth, np.roll(truth.map, shift, (0, 1)))


def _stretched_labels(error: float) -> Answers:
    def stretched(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
        """The true map at a scale that is wrong by this much, about a corner."""
        del problem, rng
        rows, columns = ((np.arange(n) / (1 + error)).astype(int) for n in truth.map.shape)
        yield _like(truth, truth.map[np.ix_(rows, columns)])

    return stretched


for _error in ERRORS:
    for _stretched in (_stretched_points, _stretched_labels):
        adversary(f"pixel size wrong by {100 * _error:.0f} %")(_stretched(_error))


def _blocks(truth: Labels, side: float) -> tuple[Array, Array]:
    """Which square of this side [px] every pixel is in: row and column ``[H, W]``."""
    rows, columns = (np.indices(truth.map.shape) // max(side, 1.0)).astype(int)
    return rows, columns


def _like(truth: Labels, numbers: Array) -> Labels:
    return Labels(numbers, background=truth.background)


# --- the question put wrongly ---------------------------------------------------------------------


def wrong_size(problem: Problem, error: float) -> Problem:
    """The same image, with what a pixel size stated too small by this share makes one expect."""
    return replace(problem, prior=problem.prior.stretched(1 + error))


def noise_images(problem: Problem, rng: np.random.Generator) -> Iterator[Problem]:
    """The same question about an image of noise: white, and as smooth as columns are."""
    micrograph = problem.micrograph
    white = rng.normal(size=micrograph.shape)
    for name, pixels in (
        ("white noise", white),
        ("smooth noise", smooth(white, 0.15 * problem.prior.scale_px)),
    ):
        image = replace(micrograph, data=pixels, name=name, truth=None)
        yield replace(problem, micrograph=image)
