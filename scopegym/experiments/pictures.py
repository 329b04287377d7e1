"""Pictures of a result: the image with its answer, and the Pareto front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scopegym.agents.base import Pick
from scopegym.envs.problem import Trial
from scopegym.experiments.solve import Result
from scopegym.rewards.base import Direction, Term

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Percentiles that become black and white; they exclude a few hot pixels.
CONTRAST_PERCENTILES = (0.5, 99.5)
#: An overlay is enlarged by the whole number that makes its longer side at least this [px].
OVERLAY_PX = 900
#: Colours that are distinct for all types of colour vision (Okabe and Ito, 2008).
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#8c8c8c"
#: Distances from the ideal, in shares of a term's range, that an axis labels.
TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Ways to pick from a front: name in print, and matplotlib marker.
PICKS: dict[Pick, tuple[str, str]] = {
    "value": ("best value", "^"),
    "euclidean": ("nearest to ideal, Euclidean", "D"),
    "chebyshev": ("nearest to ideal, Chebyshev", "s"),
}


def write_overlay(result: Result, path: str | Path) -> None:
    """Write the image with the answer of the chosen workflow as PNG."""
    draw_overlay(result).savefig(path, format="png", metadata={"Software": None})


def write_front(result: Result, path: str | Path) -> None:
    """Write the Pareto front as PNG."""
    draw_front(result).savefig(path, format="png", metadata={"Software": None})


def draw_overlay(result: Result) -> Figure:
    """Draw the answer over the image, with a scale bar if the scale is known.

    The image is enlarged by an integer factor, so every pixel is visible.
    """
    from matplotlib.figure import Figure

    grey = grey_levels(result.problem.micrograph.data)
    height, width = grey.shape
    zoom = math.ceil(OVERLAY_PX / max(height, width))
    dpi = 100
    figure = Figure(figsize=(width * zoom / dpi, height * zoom / dpi), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    result.problem.task.kind.draw(result.answer, axes, result.problem.prior, zoom)
    if result.problem.micrograph.pixel_size_nm is not None:
        _draw_scale_bar(axes, grey.shape, zoom, result.problem.micrograph.pixel_size_nm)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    return figure


def _draw_scale_bar(axes: Axes, shape: tuple[int, int], zoom: int, pixel_size_nm: float) -> None:
    from matplotlib.patches import Rectangle

    height, width = shape
    nm = nice_length(0.25 * width * pixel_size_nm)
    bar, unit = nm / pixel_size_nm, max(shape) / 100
    box = Rectangle((unit, height - 7 * unit), bar + 3 * unit, 6 * unit, color="#000a", lw=0)
    axes.add_patch(box)
    axes.add_patch(Rectangle((2.5 * unit, height - 2.7 * unit), bar, 0.7 * unit, color="w", lw=0))
    axes.text(
        2.5 * unit + bar / 2,
        height - 3.2 * unit,
        length_name(nm),
        color="white",
        ha="center",
        va="bottom",
        fontsize=1.6 * unit * zoom,
    )


def draw_front(result: Result) -> Figure:
    """Draw all trials and the Pareto front in the two terms that conflict most.

    With more than two terms a trial of the front can look dominated here: it is better in another.
    """
    from matplotlib.figure import Figure

    x, y = telling_axes(result)
    figure = Figure(figsize=(7, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    tried = [trial for trial in result.trials if trial.failure is None]
    axes.scatter(*_places(tried, x, y), s=22, color=GREY, alpha=0.35, lw=0, label="trials")
    front = list(result.front)
    axes.scatter(*_places(front, x, y), s=42, color=BLUE, ec="w", lw=0.8, label="Pareto front")
    chosen = _places([result.chosen], x, y)
    label = f"chosen by {result.pick}"
    axes.scatter(*chosen, s=70, color=VERMILION, ec="w", lw=0.8, zorder=3, label=label)
    for number, (pick, (name, marker)) in enumerate(PICKS.items()):
        place = _places([result.front.best(pick)], x, y)
        size = 190 + 90 * number  # nested, so that picks that coincide can all be seen
        axes.scatter(*place, s=size, marker=marker, fc="none", ec="k", lw=1.1, label=name)
    axes.scatter(x.place(x.best), y.place(y.best), s=130, marker="*", color="k", label="ideal")
    _label_axes(axes, x, y)
    axes.set_title(f"{len(front)} of {len(result.trials)} trials on the front", size=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelspacing=1.2)
    return figure


def _label_axes(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xticks(*x.ticks)
    axes.set_yticks(*y.ticks)
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel(x.title)
    axes.set_ylabel(y.title)
    axes.grid(color="#e4e4e4", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _places(trials: list[Trial], x: Axis, y: Axis) -> tuple[list[float], list[float]]:
    return [x.of(trial) for trial in trials], [y.of(trial) for trial in trials]


@dataclass(frozen=True)
class Axis:
    """A term, or the value, as the axis of a plot.

    Positions are proportional to the square root of the distance from the ideal, which enlarges the
    range of good trials: an error of 0.01 lies a tenth of the axis from 0.
    """

    name: str
    direction: Direction
    low: float
    high: float

    @classmethod
    def of_term(cls, term: Term) -> Axis:
        """The axis of a reward term."""
        return cls(term.name, term.direction, *term.bounds)

    @property
    def best(self) -> float:
        """The ideal end."""
        return self.low if self.direction == "minimize" else self.high

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def title(self) -> str:
        """The name in words, and which way is better."""
        return f"{self.label} ({'smaller' if self.direction == 'minimize' else 'larger'} is better)"

    def place(self, value: float) -> float:
        """Where a value lies between the low end, 0, and the high end, 1."""
        gap = math.sqrt(abs(value - self.best) / (self.high - self.low))
        return gap if self.direction == "minimize" else 1 - gap

    def of(self, trial: Trial) -> float:
        """Where a trial lies."""
        value = trial.score.value if self.name == VALUE.name else trial.score.terms[self.name]
        return self.place(value)

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Places and labels of the ticks."""
        sign = 1 if self.direction == "minimize" else -1
        values = [self.best + sign * tick * (self.high - self.low) for tick in TICKS]
        return [self.place(value) for value in values], [f"{value:.4g}" for value in values]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the page's script."""
        places, texts = self.ticks
        return {
            "name": self.name,
            "title": self.title,
            "minimize": self.direction == "minimize",
            "low": self.low,
            "high": self.high,
            "ticks": list(zip(places, texts, strict=True)),
        }


#: The one value of a score as an axis.
VALUE = Axis("value", "maximize", 0.0, 1.0)


def telling_axes(result: Result) -> tuple[Axis, Axis]:
    """The two terms that conflict most along the front, in the reward's order.

    These are the two whose places have the smallest covariance, counted from the worst to the best
    end: where one gains, the other loses. Terms that only rise and fall together would show a line
    and no choice. A reward of one term is shown against the value.
    """
    axes = [Axis.of_term(term) for term in result.problem.reward.terms]
    if len(axes) == 1:
        return axes[0], VALUE
    trials = list(result.front) if len(result.front) > 1 else list(result.trials)
    gaps = np.array([[abs(axis.of(t) - axis.place(axis.best)) for t in trials] for axis in axes])
    gaps -= gaps.mean(axis=1, keepdims=True)
    pairs = combinations(range(len(axes)), 2)
    first, second = min(pairs, key=lambda pair: float(gaps[pair[0]] @ gaps[pair[1]]))
    return axes[first], axes[second]


def grey_levels(data: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image as grey levels 0..255 between two percentiles, or its extremes if those agree."""
    low, high = np.percentile(data, CONTRAST_PERCENTILES)
    if not high > low:
        low, high = float(data.min()), float(data.max())
    share = (data - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def nice_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, ... that does not exceed ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)


def length_name(nm: float) -> str:
    """A length with the unit in which it is a handy number."""
    for factor, unit in ((1e6, "mm"), (1e3, "µm"), (1.0, "nm")):
        if nm >= factor:
            return f"{nm / factor:.3g} {unit}"
    return f"{nm * 1e3:.3g} pm"
