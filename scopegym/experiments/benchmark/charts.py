"""Charts of a benchmark as plain numbers: positions of lines, points and labels [px]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from scopegym.artifacts import Array
from scopegym.experiments.benchmark.regimes import (
    COLD,
    EXPERT,
    POLICY,
    REFERENCE,
    TUNED,
    WARM,
)
from scopegym.experiments.benchmark.standings import SPLIT

#: Size of a chart with lines, and of a row in a chart with one row per agent [px].
WIDTH, HEIGHT, ROW = 560, 330, 30
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
#: Widths of the names and of the values of rows [px].
NAMES, FIGURES, TOTALS = 150, 168, 72
#: Number of colours in the page's style. The expert is grey, number 0; the policy is number 1.
COLOURS = 8
#: Least range of values of a chart. A smaller one would enlarge noise.
LEAST_SPAN = 0.05


class Axis(NamedTuple):
    """An axis: title, labelled values, and the position of a value [px]."""

    title: str
    ticks: list[tuple[float, str]]
    place: Callable[[Any], Any]


def colours(agents: Sequence[str]) -> dict[str, int]:
    """The colour's number of each agent, the same in all regimes."""
    others = [name for name in agents if name not in (EXPERT, POLICY)]
    numbered = {EXPERT: 0, POLICY: 1}
    return numbered | {name: 2 + i % (COLOURS - 2) for i, name in enumerate(others)}


def base(agent: str) -> str:
    """The agent behind an entry of a regime."""
    if agent == REFERENCE:
        return "bayes"
    return agent.removeprefix(TUNED).removesuffix(WARM).removesuffix(COLD)


def curves_chart(
    curves: Mapping[str, Any], axis: str, column: str, title: str, colour: Mapping[str, int]
) -> dict[str, Any]:
    """Anytime curves with bands over executions or seconds. ``title`` names the values."""
    at, lines = np.array(curves[axis]["at"]), curves[axis][column]
    final = [line["value"][-1] for line in lines.values()]
    span = max(1.6 * (max(final) - min(final)), LEAST_SPAN)
    low = max(0.0, math.floor(20 * (max(final) - span)) / 20)
    high = min(1.0, math.ceil(20 * max(max(line["high"]) for line in lines.values())) / 20)
    y = vertical(title, low, high)
    x = seconds(at) if axis == "seconds" else horizontal(at, "operator executions")
    series = [
        {
            "name": name,
            "colour": colour.get(base(name), 2),
            "dashed": name.endswith(COLD),
            "line": path(*stairs(x.place(at), y.place(np.array(line["value"])))),
            "band": band(x.place(at), *(y.place(np.array(line[end])) for end in ("low", "high"))),
            "text": f"{name}: {line['value'][-1]:.3f} at the end",
        }
        for name, line in lines.items()
    ]
    return chart(x, y, series)


def profiles(
    profile: Mapping[str, Any], column: str, title: str, colour: Mapping[str, int]
) -> dict[str, Any]:
    """Performance profiles: the share of runs above each threshold."""
    at, lines = np.array(profile["thresholds"]), profile[column]
    # Begins where the first agent has lost a tenth of its runs: below, all are near 1.
    leaving = [at[np.searchsorted(-np.array(shares), -0.9)] for shares in lines.values()]
    low = min(math.floor(10 * min(leaving)) / 10, 0.9)
    shown = at >= low - 1e-9
    x, y = horizontal(at[shown], f"{title} above"), vertical("share of runs", 0.0, 1.0)
    series = [
        {
            "name": name,
            "colour": colour.get(base(name), 2),
            "dashed": False,
            "line": path(x.place(at[shown]), y.place(np.array(shares)[shown])),
            "band": "",
            "text": name,
        }
        for name, shares in lines.items()
    ]
    return chart(x, y, series)


def chart(x: Axis, y: Axis, series: list[dict[str, Any]]) -> dict[str, Any]:
    """A line chart."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "frame": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "x": {"title": x.title, "ticks": [(round(x.place(v), 1), text) for v, text in x.ticks]},
        "y": {"title": y.title, "ticks": [(round(y.place(v), 1), text) for v, text in y.ticks]},
        "series": series,
    }


def path(x: Array, y: Array) -> str:
    """A line through points as an SVG path."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def stairs(x: Array, y: Array) -> tuple[Array, Array]:
    """The corners of a step function."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def band(x: Array, low: Array, high: Array) -> str:
    """The area between two step functions."""
    (along_x, under), (_, over) = stairs(x, low), stairs(x, high)
    return path(np.concatenate([along_x, along_x[::-1]]), np.concatenate([under, over[::-1]])) + "Z"


def vertical(title: str, low: float, high: float) -> Axis:
    """A vertical axis."""
    height = HEIGHT - TOP - BOTTOM
    return Axis(
        title, ticks(low, high), lambda v: TOP + height * (1 - (v - low) / ((high - low) or 1.0))
    )


def horizontal(at: Array, title: str) -> Axis:
    """A horizontal axis, linear."""
    low, high = float(at.min()), float(at.max())
    width = WIDTH - LEFT - RIGHT
    return Axis(title, ticks(low, high), lambda v: LEFT + width * (v - low) / ((high - low) or 1.0))


def seconds(at: Array) -> Axis:
    """A horizontal axis of seconds, logarithmic."""
    low, high = np.log(at.min()), np.log(at.max())
    width = WIDTH - LEFT - RIGHT
    steps = [m * 10.0**p for p in range(-4, 6) for m in (1, 2, 5)]
    shown = [s for s in steps if at.min() <= s <= at.max()]
    if len(shown) > 7:
        shown = [s for s in shown if f"{s:e}"[0] == "1"]
    return Axis(
        "seconds",
        [(s, f"{s:g}") for s in shown],
        lambda v: LEFT + width * (np.log(v) - low) / ((high - low) or 1.0),
    )


def ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Round values in a range, and their labels."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10) if span / (s * power) <= most)
    first = math.ceil(low / step - 1e-9)
    values = [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{value:g}") for value in values]


# --- one row per agent ----------------------------------------------------------------------------


def intervals(
    agents: Mapping[str, Any], column: str, title: str, colour: Mapping[str, int]
) -> dict[str, Any]:
    """Interquartile means with intervals, one row per agent, the best first."""
    known = {n: f[column] for n, f in agents.items() if f[column] is not None}
    order = sorted(known, key=lambda name: -known[name]["value"])
    span = max(max(f["high"] for f in known.values()) - min(f["low"] for f in known.values()), 0.01)
    low = max(0.0, min(f["low"] for f in known.values()) - 0.05 * span)
    high = min(1.0, max(f["high"] for f in known.values()) + 0.05 * span)
    place = _along_rows(low, high, FIGURES)
    rows = [
        {
            "name": name,
            "colour": colour.get(base(name), 2),
            "y": TOP + ROW * (i + 0.5),
            **{end: round(place(known[name][end]), 1) for end in ("value", "low", "high")},
            "text": "{value:.3f} [{low:.3f}, {high:.3f}]".format(**known[name]),
        }
        for i, name in enumerate(order)
    ]
    marks = [(round(place(v), 1), text) for v, text in ticks(low, high, 5)]
    return _rows(rows, title, marks, FIGURES)


def times(agents: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds per image, one row per agent, divided into operators, reward and overhead."""
    known = {n: f["seconds"] for n, f in agents.items() if f["seconds"]["total"] is not None}
    high = max((f["total"] for f in known.values()), default=1.0) or 1.0
    place = _along_rows(0.0, high, TOTALS)
    rows = []
    for i, (name, found) in enumerate(known.items()):
        ends = np.cumsum([0.0, *(found[part] for part in SPLIT)])
        rows.append(
            {
                "name": name,
                "y": TOP + ROW * (i + 0.5),
                "parts": [
                    (number, round(place(a), 1), round(place(b) - place(a), 1))
                    for number, (a, b) in enumerate(pairwise(ends))
                ],
                "text": f"{found['total']:.3g} s",
            }
        )
    marks = [(round(place(v), 1), text) for v, text in ticks(0, high, 5)]
    return _rows(rows, "seconds per image", marks, TOTALS)


def _along_rows(low: float, high: float, figures: int) -> Callable[[float], float]:
    """Positions of values between names on the left and numbers on the right."""
    width = WIDTH - NAMES - figures
    return lambda value: NAMES + width * (value - low) / ((high - low) or 1.0)


def _rows(
    rows: list[dict[str, Any]], title: str, marks: list[tuple[float, str]], figures: int
) -> dict[str, Any]:
    bottom = TOP + ROW * len(rows)
    return {
        "width": WIDTH,
        "height": bottom + BOTTOM,
        "frame": (NAMES, TOP, WIDTH - figures, bottom),
        "title": title,
        "ticks": marks,
        "rows": rows,
    }
