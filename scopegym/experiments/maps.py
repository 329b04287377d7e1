"""Maps of scores, operators and parameters over a grid of windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scopegym.answers.base import COLOURS as PATTERNS
from scopegym.artifacts import Array
from scopegym.experiments.pictures import grey_levels
from scopegym.experiments.windows import Windowed
from scopegym.micrograph import NORMALIZED_PERCENTILES
from scopegym.space import Choice
from scopegym.workflow import Workflow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour map of numbers, ordered for all types of colour vision.
COLOURS = "cividis"
#: Maps beside each other in the picture, the width of each, and the height of its title [inches].
ABREAST, WIDTH, TITLE = 4, 2.6, 0.7


@dataclass(frozen=True, eq=False)
class Map:
    """One figure per window ``values`` ``[rows, columns]``, NaN where there is none. Where
    ``names`` are given, the values are numbers of names."""

    title: str
    values: Array
    names: tuple[str, ...] = ()
    logarithmic: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))

    def text(self, value: float) -> str:
        """A value in print."""
        if math.isnan(value):
            return "not used"
        return self.names[int(value)] if self.names else f"{value:.3g}"

    @property
    def key(self) -> list[str]:
        """What the colours mean, in a line of text or a few."""
        if self.names:
            return [f"{number}: {name}" for number, name in enumerate(self.names, 1)]
        low, high = self.bounds
        return [f"{low:.3g} to {high:.3g}"]

    def colour(self, value: float) -> str:
        """The colour of a value, fully transparent where there is none."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        if math.isnan(value):
            return "#00000000"
        if self.names:
            return PATTERNS[int(value) % len(PATTERNS)]
        scale = math.log if self.logarithmic else float
        low, high, at = (scale(v) for v in (*self.bounds, value))
        return str(to_hex(colormaps[COLOURS]((at - low) / ((high - low) or 1.0))))


def maps(result: Windowed) -> list[Map]:
    """The score, the contrast that each window is normalised by, and what is not the same in all
    windows: the operators of a slot, and numbers among the parameters, the most used first."""
    workflows = [None if s.trial is None else s.trial.workflow for s in result.windows]
    scores = [math.nan if s.trial is None else s.trial.score.value for s in result.windows]
    numbers = sorted(_parameters(workflows), key=lambda one: int(np.isnan(one.values).sum()))
    drawn = [
        Map("score", np.array(scores)),
        Map("range of grey levels", _contrasts(result), logarithmic=True),
        *_operators(result, workflows),
        *numbers,
    ]
    return [replace(one, values=one.values.reshape(result.grid.counts)) for one in drawn]


def _contrasts(result: Windowed) -> Array:
    """Range of grey levels that each window's parameters refer to, in that of the whole image."""
    data = result.problem.micrograph.data

    def contrast(pixels: Array) -> float:
        low, high = np.percentile(pixels, NORMALIZED_PERCENTILES)
        return float(high - low) or math.nan  # a constant window has no result either

    parts = [contrast(window.of(data)) for window in result.grid]
    return np.array(parts) / contrast(data)


def _operators(result: Windowed, workflows: list[Workflow | None]) -> Iterator[Map]:
    for slot in result.problem.task.grammar.slots:
        used = [
            None if workflow is None else _used(workflow, slot.operators) for workflow in workflows
        ]
        names = tuple(sorted({text for text in used if text is not None}))
        if len(names) > 1:
            numbers = [math.nan if text is None else names.index(text) for text in used]
            yield Map(slot.name, np.array(numbers), names)


def _used(workflow: Workflow, operators: tuple[str, ...]) -> str:
    return " + ".join(step.op for step in workflow if step.op in operators) or "none"


def _parameters(workflows: list[Workflow | None]) -> Iterator[Map]:
    steps = [{step.op: step for step in workflow or ()} for workflow in workflows]
    for op, operator in {
        op: step.operator for by_op in steps for op, step in by_op.items()
    }.items():
        for name, parameter in operator.parameters.items():
            space = parameter.space
            if isinstance(space, Choice):
                continue
            values = np.array([s[op].params[name] if op in s else math.nan for s in steps], float)
            if np.nanmin(values) < np.nanmax(values):
                unit = {"spacing": " × spacing", "": ""}.get(space.unit, f" [{space.unit}]")
                yield Map(f"{op}.{name}{unit}", values, logarithmic=getattr(space, "log", False))


def write_maps(result: Windowed, path: str | Path) -> None:
    """Write the image with the seams between the windows, and the maps, as PNG."""
    draw_maps(result).savefig(path, format="png", metadata={"Software": None})


def draw_maps(result: Windowed) -> Figure:
    """Draw the image with the seams between the windows, and the maps."""
    from matplotlib.figure import Figure

    drawn = maps(result)
    columns = min(ABREAST, 1 + len(drawn))
    rows = math.ceil((1 + len(drawn)) / columns)
    height, width = result.grid.shape
    size = (columns * WIDTH, rows * (TITLE + WIDTH * height / width))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    _draw_image(result, places[0])
    for one, axes in zip(drawn, places[1:], strict=False):
        _draw_map(one, axes)
    return figure


def _draw_image(result: Windowed, axes: Axes) -> None:
    axes.imshow(grey_levels(result.problem.micrograph.data), cmap="gray")
    for seams, line in zip(result.grid.seams, (axes.axhline, axes.axvline), strict=True):
        for seam in seams:
            line(seam, color="w", lw=0.8)
    axes.set_title(f"{len(result.windows)} windows of {result.grid.size} px", fontsize=9)


def _draw_map(one: Map, axes: Axes) -> None:
    from matplotlib.colors import to_rgba

    colours = [[to_rgba(one.colour(value)) for value in row] for row in one.values]
    axes.imshow(colours, interpolation="nearest")
    if max(one.values.shape) <= 10:  # larger grids leave no room for text
        for (row, column), value in np.ndenumerate(one.values):
            text = str(int(value) + 1) if one.names else one.text(value)
            if not math.isnan(value):
                light = sum(to_rgba(one.colour(value))[:3]) > 1.5
                axes.text(
                    column,
                    row,
                    text,
                    size=6.5,
                    ha="center",
                    va="center",
                    color="k" if light else "w",
                )
    axes.set_title("\n".join([one.title, *one.key]), fontsize=8)
