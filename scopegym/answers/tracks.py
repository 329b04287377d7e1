"""Tracks as answers: the position of every identity in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.answers.base import (
    COLOURS,
    SIDE,
    Finding,
    Kind,
    View,
    adversary,
    answer_kind,
    decades,
    seam,
)
from scopegym.artifacts import Array, State, Tracks
from scopegym.frozen import FrozenDict
from scopegym.metrics import identity_f1
from scopegym.prior import Prior

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem


@answer_kind
class TracksKind(Kind[Tracks]):
    """Identities, drawn as paths."""

    artifact = Tracks
    files = ("tracks.parquet",)
    statistic_names = ("count", "length")

    def measure(self, truth: Tracks) -> str:
        del truth
        return "IDF1"

    def agreement(self, truth: Tracks, found: Tracks, prior: Prior) -> float:
        """IDF1 within half the characteristic length."""
        return identity_f1(found.rows, truth.rows, prior.scale_px / 2)

    def finding(self, answer: Tracks, problem: Problem) -> Finding:
        identities, lives = np.unique(answer.rows[:, 0], return_counts=True)
        frames = len(np.unique(answer.rows[:, 1]))
        life = float(lives.mean()) if len(lives) else 0.0
        numbers = {"tracks": len(identities), "frames": frames, "mean_life": life}
        return Finding(
            len(identities),
            problem.task.nouns.counted,
            f"in {frames} frames",
            f"seen in {life:.1f} frames on average",
            expected=problem.prior.count,
            numbers=FrozenDict(numbers),
        )

    def write(self, answer: Tracks, state: State, size_nm: float | None, folder: Path) -> None:
        """``tracks.parquet``: ``track,frame,y_px,x_px``, and ``y_nm,x_nm`` if the pixel size is
        known."""
        import pandas as pd

        del state
        track, frame, y, x = answer.rows.T
        columns = {"track": track.astype(int), "frame": frame.astype(int), "y_px": y, "x_px": x}
        if size_nm is not None:
            columns |= {"y_nm": y * size_nm, "x_nm": x * size_nm}
        pd.DataFrame(columns).to_parquet(folder / "tracks.parquet", index=False)

    def draw(self, answer: Tracks, axes: Any, prior: Prior, zoom: float) -> None:
        """Every path in its own colour, with a dot at its last position."""
        from matplotlib.collections import LineCollection

        del prior, zoom
        paths = list(_paths(answer))
        colours = [COLOURS[i % len(COLOURS)] for i in range(len(paths))]
        width = 1.5
        lines = LineCollection(paths, colors=colours, linewidths=width)
        lines.set_path_effects(seam(width))
        axes.add_collection(lines)
        ends = np.array([path[-1] for path in paths]).reshape(-1, 2)
        axes.scatter(ends[:, 0], ends[:, 1], s=12, c=colours, edgecolors="k", linewidths=0.5)

    def statistics(self, answer: Tracks, prior: Prior) -> Array:
        del prior
        count = len(np.unique(answer.rows[:, 0]))
        return np.array([decades(count / 1000), len(answer.rows) / max(count, 1) / 100])

    def thumbnail(self, answer: Tracks, view: View) -> Array:
        top, left, height, width = view
        at = ((answer.rows[:, 2:] - (top, left) + 0.5) * SIDE / (height, width)).astype(np.intp)
        seen = at[((at >= 0) & (at < SIDE)).all(axis=1)]
        picture = np.zeros((SIDE, SIDE), np.uint8)
        picture[tuple(seen.T)] = 255
        return picture


def _paths(answer: Tracks) -> Iterator[Array]:
    """Positions (x, y) ``[M, 2]`` [px] of every identity in order of time."""
    rows = answer.rows[np.lexsort((answer.rows[:, 1], answer.rows[:, 0]))]
    starts = np.flatnonzero(np.diff(rows[:, 0])) + 1
    for part in np.split(rows, starts):
        if len(part):
            yield part[:, :1:-1]


# Wrong answers ------------------------------------------------------------------------------------


@adversary("blank")
def no_tracks(problem: Problem, truth: Tracks, rng: np.random.Generator) -> Iterator[Tracks]:
    """Nothing at all."""
    del problem, rng
    yield Tracks(truth.rows[:0], truth.shape)


@adversary("every place a track")
def broken_tracks(problem: Problem, truth: Tracks, rng: np.random.Generator) -> Iterator[Tracks]:
    """The true positions with a new identity in every frame."""
    del problem, rng
    yield _renamed(truth, np.arange(len(truth.rows)))


@adversary("one track")
def joined_tracks(problem: Problem, truth: Tracks, rng: np.random.Generator) -> Iterator[Tracks]:
    """The true positions with one identity for all."""
    del problem, rng
    yield _renamed(truth, np.zeros(len(truth.rows)))


@adversary("identities exchanged")
def exchanged_tracks(problem: Problem, truth: Tracks, rng: np.random.Generator) -> Iterator[Tracks]:
    """The true positions with the identities of every frame permuted."""
    del problem
    names = truth.rows[:, 0].copy()
    for frame in np.unique(truth.rows[:, 1]):
        here = truth.rows[:, 1] == frame
        names[here] = rng.permutation(names[here])
    yield _renamed(truth, names)


@adversary("right paths, shifted")
def shifted_tracks(problem: Problem, truth: Tracks, rng: np.random.Generator) -> Iterator[Tracks]:
    """Every path displaced by the characteristic length."""
    del rng
    shift = np.array([0, 0, 1, 1]) * problem.prior.scale_px
    yield Tracks(truth.rows + shift, truth.shape)


def _renamed(truth: Tracks, names: Array) -> Tracks:
    rows = truth.rows.copy()
    rows[:, 0] = names
    return Tracks(rows, truth.shape)
