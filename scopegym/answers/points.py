"""Positions as answers, such as columns of atoms."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.answers.base import (
    AMBER,
    ERRORS,
    SIDE,
    Answers,
    Finding,
    Kind,
    View,
    adversary,
    answer_kind,
    decades,
    expected_count,
    seam,
)
from scopegym.artifacts import Array, Points, State
from scopegym.frozen import FrozenDict
from scopegym.metrics import match_points
from scopegym.prior import Prior
from scopegym.sample.crystal import CRYSTALS

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem

#: Radius of a ring [spacings]: more than the column's, less than half the distance to a neighbour.
RING = 0.36


@answer_kind
class PointsKind(Kind[Points]):
    """Positions, drawn as rings."""

    artifact = Points
    mergeable = True
    files = ("points.csv",)
    statistic_names = (
        "count",
        "near",
        "spaced",
        "far",
        "weak",
        "middling",
        "strong",
        "spread",
        "width",
    )
    script = """{
  paint(context, layer, scale) {
    if (!layer.places) {
      const bytes = Uint8Array.from(atob(layer.yx), c => c.charCodeAt(0));
      const shares = new DataView(bytes.buffer);
      layer.places = Array.from({length: bytes.length / 4}, (_, i) =>
        [shares.getUint16(4 * i, true) / 65535 * H, shares.getUint16(4 * i + 2, true) / 65535 * W]);
    }
    const radius = Math.max(layer.radius * scale, 1.6 * ratio());
    const width = clamp(radius / 7, ratio(), 2.5 * ratio());
    const rings = new Path2D();
    for (const [py, px] of layer.places) {
      const y = (py - view.y) * scale, x = (px - view.x) * scale;
      if (y < -radius || x < -radius || y > canvas.height + radius || x > canvas.width + radius) continue;
      rings.moveTo(x + radius, y);
      rings.arc(x, y, radius, 0, 2 * Math.PI);
    }
    /* A dark seam keeps rings visible on white; around small ones it would hide the image. */
    const large = radius > 5 * ratio(), seam = large ? 1.2 * ratio() : 0;
    context.globalAlpha = large ? 1 : .8;
    for (const [colour, line] of [["#0007", width + seam], ["#ffb000", width]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.stroke(rings);
    }
    context.globalAlpha = 1;
  },
}"""  # noqa: E501 - lines of the page's script

    def measure(self, truth: Points) -> str:
        del truth
        return "F1"

    def agreement(self, truth: Points, found: Points, prior: Prior) -> float:
        """F1 within a quarter of the spacing, half a spacing away from the border."""
        return match_points(found, truth, prior.scale_px / 4, prior.scale_px / 2).f1

    def finding(self, answer: Points, problem: Problem) -> Finding:
        count = len(answer)
        numbers = FrozenDict({"points": count})
        noun = problem.task.nouns.counted
        return Finding(count, noun, expected=problem.prior.count, numbers=numbers)

    def write(self, answer: Points, state: State, size_nm: float | None, folder: Path) -> None:
        """``points.csv``; unknown values are empty."""
        del state
        write_points(answer, size_nm, folder, {})

    def draw(self, answer: Points, axes: Any, prior: Prior, zoom: float) -> None:
        """A ring around every position."""
        from matplotlib.collections import EllipseCollection

        diameter = np.full(len(answer), 2 * RING * prior.scale_px)
        # A seventh of the ring's radius [px], within limits; a pixel is 0.72 points.
        width = min(max(RING * prior.scale_px * zoom / 7, 1.1), 2.5) * 0.72
        rings = EllipseCollection(
            diameter,
            diameter,
            np.zeros(len(answer)),
            units="xy",
            offsets=answer.yx[:, ::-1],
            transOffset=axes.transData,
            facecolors="none",
            edgecolors=AMBER,
            linewidths=width,
        )
        rings.set_path_effects(seam(width))
        axes.add_collection(rings)

    def layer(self, answer: Points, problem: Problem) -> dict[str, Any]:
        # 16 bits per coordinate, y then x: a hundredth of a pixel in a field of 512 px.
        shares = np.clip((answer.yx + 0.5) / answer.shape, 0, 1)
        packed = np.round(shares * 65535).astype("<u2").tobytes()
        radius = RING * problem.prior.scale_px
        return {"yx": base64.b64encode(packed).decode("ascii"), "radius": radius}

    def statistics(self, answer: Points, prior: Prior) -> Array:
        from scipy.spatial import KDTree

        figures = np.zeros(len(self.statistic_names))
        figures[0] = np.log2(max(len(answer), 0.1) / expected_count(prior, answer.shape))
        if len(answer) > 1:
            nearest = KDTree(answer.yx).query(answer.yx, k=2)[0][:, 1] / prior.scale_px
            figures[1:4] = np.percentile(nearest, (5, 50, 95)) - 1
        strength = answer.strength[np.isfinite(answer.strength)]
        if len(strength):
            figures[4:7] = decades(np.percentile(strength, (5, 50, 95)))
            figures[7] = strength.std() / (abs(strength.mean()) + 1e-9)
        sigma = answer.sigma_px[np.isfinite(answer.sigma_px)]
        if len(sigma):
            figures[8] = np.median(sigma) / prior.scale_px
        return figures

    def thumbnail(self, answer: Points, view: View) -> Array:
        top, left, height, width = view
        at = ((answer.yx - (top, left) + 0.5) * SIDE / (height, width)).astype(np.intp)
        seen = at[((at >= 0) & (at < SIDE)).all(axis=1)]
        # Points that share a pixel add up to white.
        counts = np.bincount(seen @ (SIDE, 1), minlength=SIDE * SIDE).reshape(SIDE, SIDE)
        return np.minimum(128 * counts, 255).astype(np.uint8)


def write_points(
    points: Points, pixel_size_nm: float | None, folder: Path, more: Mapping[str, Array]
) -> None:
    """Write ``points.csv``: ``y_px,x_px,y_nm,x_nm,sigma_px,strength`` and ``more`` columns."""
    size = float("nan") if pixel_size_nm is None else pixel_size_nm
    known = (*points.yx.T, *(points.yx.T * size), points.sigma_px, points.strength)
    columns = (*known, *more.values())
    lines = [",".join(("y_px", "x_px", "y_nm", "x_nm", "sigma_px", "strength", *more))]
    lines += [
        ",".join("" if np.isnan(value) else f"{value:.6g}" for value in row)
        for row in zip(*columns, strict=True)
    ]
    (folder / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Wrong answers ------------------------------------------------------------------------------------


@adversary("blank")
def no_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """Nothing at all."""
    del problem, rng
    yield truth[:0]


@adversary("everything")
def all_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """One position every quarter of a spacing: no column is missed."""
    del rng
    yield _grid(truth.shape, max(problem.prior.scale_px / 4, 1.0))


@adversary("square grid of the right count")
def square_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """A square grid with the true number of positions, independent of the image."""
    del problem, rng
    yield _grid(truth.shape, math.sqrt(math.prod(truth.shape) / max(len(truth), 1)))


@adversary("random positions")
def random_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """The true number of positions at random places."""
    del problem
    yield _points(rng.uniform(-0.5, np.array(truth.shape) - 0.5, (len(truth), 2)), truth.shape)


@adversary("right lattice, shifted")
def shifted_points(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """All columns displaced by half a cell, along each edge and along both."""
    del rng
    first, second = np.array(problem.prior.lattice_px or np.eye(2) * problem.prior.scale_px) / 2
    for shift in (first, second, first + second):
        yield _points(truth.yx + shift, truth.shape)


@adversary("lattice of another crystal")
def other_crystal(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
    """Columns of another crystal along [001] at this pixel size."""
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


def _stretched(error: float) -> Answers:
    def stretched(problem: Problem, truth: Points, rng: np.random.Generator) -> Iterator[Points]:
        """The columns predicted with a pixel size wrong by this share: a stretched lattice."""
        del problem, rng
        middle = (np.array(truth.shape) - 1) / 2
        yield _points(middle + (1 + error) * (truth.yx - middle), truth.shape)

    return stretched


for _error in ERRORS:
    adversary(f"pixel size wrong by {100 * _error:.0f} %")(_stretched(_error))


def _grid(shape: tuple[int, int], distance: float) -> Points:
    """A centred square grid of positions with this spacing [px]."""
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
