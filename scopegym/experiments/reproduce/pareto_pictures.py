"""The pictures of the reproduction ``pareto``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.artifacts import Array, Points
from scopegym.experiments.pictures import Axis, grey_levels
from scopegym.experiments.reproduce.base import write
from scopegym.experiments.reproduce.pareto_sweep import (
    DISTANCES,
    GRID,
    JUDGED,
    KNOWN,
    MULTISLICE,
    PAPER,
    SPECIES,
    TUNED_AT,
    Oracle,
    Sweep,
)
from scopegym.metrics import match_points
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import registry as terms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows chosen over weights, by image and by what was varied.
Courses = Mapping[str, Mapping[str, Sequence[int]]]
#: Colours that all kinds of colour vision tell apart (Okabe and Ito, 2008).
BLUE, VERMILION, AMBER, GREEN, SKY = "#0072b2", "#d55e00", "#e69f00", "#009e73", "#56b4e9"
GREY = "#8c8c8c"
#: Side of the part of an image that is shown, and length of the bar in it [nm].
SHOWN_NM, BAR_NM = 3.0, 1.0
#: Names of the two distances, and their marks, nested so that both are seen on one point.
TITLES = {"euclidean": "Euclidean", "chebyshev": "Chebyshev"}
MARKS = {"euclidean": ("D", 110), "chebyshev": ("s", 230)}
#: Thresholds that an axis labels.
THRESHOLDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def _legend(figure: Any, axes: Axes, columns: int) -> None:
    """One legend for all panels, below them."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)


def draw_fronts(path: Path, whole: Mapping[str, Sweep], part: Mapping[str, Sweep]) -> None:
    """Spacing over count error of all answers, coloured by F1: a row per oracle."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(whole), 7.2), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(whole), squeeze=False, sharex=True, sharey=True)
    for row, sweeps in zip(panels, (whole, part), strict=True):
        for axes, (name, sweep) in zip(row, sweeps.items(), strict=True):
            dots = _front(axes, sweep)
            axes.set_title(name if sweeps is whole else "", size=10)
    x, y = (Axis.of_term(terms[name]) for name in PAPER.weights)
    for axes, what in zip(panels[:, 0], ("all columns", f"{SPECIES} alone"), strict=True):
        axes.set_yticks(*y.ticks)
        axes.set_ylabel(f"{what}\nspacing error ER (share of those found)")
    for axes in panels[-1]:
        axes.set_xticks(*x.ticks, size=8)
        axes.set_xlabel("count error |QC| (share of those expected)", size=9)
    figure.colorbar(dots, ax=panels, label="F1 with the oracle's truth", pad=0.01, aspect=40)
    _legend(figure, panels[0, 0], 3)
    write(figure, path)


def _front(axes: Axes, sweep: Sweep) -> Any:
    """Answers, front and choices of one sweep; the worst lie on top, so that nothing hides them."""
    x, y = np.sqrt(sweep.objectives).T
    order = np.argsort(-sweep.f1)
    shades: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1}
    dots = axes.scatter(x[order], y[order], s=16, c=sweep.f1[order], lw=0, **shades)
    front = list(sweep.front)
    axes.plot(x[front], y[front], ".-", color=VERMILION, lw=1.2, ms=6, label="front")
    for distance in DISTANCES:
        (marker, size), row = MARKS[distance], sweep.nearest(distance)
        label = f"nearest to the ideal, {TITLES[distance]}"
        axes.scatter(x[row], y[row], s=size, marker=marker, fc="none", ec="k", lw=1.2, label=label)
    axes.set(xlim=(-0.07, 1.05), ylim=(-0.07, 1.05))
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    return dots


def draw_choices(path: Path, sweeps: Mapping[str, Sweep]) -> None:
    """What the choices find, over the middle of each image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(sweeps), 4.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(sweeps), squeeze=False)[0]
    for axes, (name, sweep) in zip(panels, sweeps.items(), strict=True):
        row = sweep.nearest("euclidean")
        _matched(axes, sweep.points(row), sweep.oracle)
        other = sweep.points(sweep.nearest("chebyshev"))
        axes.plot(*other.yx.T[::-1], ".", color=GREEN, ms=4, label="Chebyshev")
        _crop(axes, sweep.found.micrograph)
        axes.set_title(f"{name}\nF1 {sweep.f1[row]:.3f}, best {sweep.f1.max():.3f}", size=10)
    _legend(figure, panels[0], 4)
    write(figure, path)


def _crop(axes: Axes, micrograph: Micrograph) -> None:
    """The middle of an image, with a bar of a known length."""
    from matplotlib.patches import Rectangle

    size = micrograph.pixel_size_nm
    assert size is not None
    axes.imshow(grey_levels(micrograph.data), cmap="gray", interpolation="nearest")
    half, bar = SHOWN_NM / size / 2, BAR_NM / size
    y, x = ((length - 1) / 2 for length in micrograph.shape)
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    axes.set_axis_off()
    unit, left, low = half / 20, x - half, y + half
    box = Rectangle((left, low), bar + 2 * unit, -3.6 * unit, color="k", lw=0, zorder=4)
    axes.add_patch(box)
    line = Rectangle((left + unit, low - unit), bar, 0.5 * unit, color="w", lw=0, zorder=5)
    axes.add_patch(line)
    at = (left + unit + bar / 2, low - 1.3 * unit)
    axes.text(*at, f"{BAR_NM:g} nm", size=9, color="w", ha="center", va="bottom", zorder=5)


def _matched(axes: Axes, points: Points, asked: Oracle) -> None:
    """Rings around what is right, crosses on what is false, squares where a column is missed, as
    F1 counts them: not within half a spacing of the border."""
    spacing = asked.prior.scale_px
    right = match_points(points, asked.truth, spacing / 4)
    false = np.setdiff1d(np.flatnonzero(points.inner(spacing / 2)), right.found)
    missed = np.setdiff1d(np.flatnonzero(asked.truth.inner(spacing / 2)), right.true)
    kinds: tuple[tuple[str, Array, dict[str, Any]], ...] = (
        ("right (Euclidean)", points.yx[right.found], {"marker": "o", "mec": AMBER, "ms": 9}),
        ("false", points.yx[false], {"marker": "x", "mec": VERMILION, "ms": 8, "mew": 2}),
        ("missed", asked.truth.yx[missed], {"marker": "s", "mec": SKY, "ms": 9, "mew": 1.6}),
    )
    for label, yx, style in kinds:
        axes.plot(*yx.T[::-1], ls="", mfc="none", label=label, **style)


def draw_weights(
    path: Path,
    sweeps: Mapping[str, Sweep],
    weights: Array,
    chosen: Courses,
    titles: Mapping[Any, str],
    label: str,
) -> None:
    """F1, number and parameters of the choice over weights: a column per title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(titles) + 2, 8), dpi=120, layout="constrained")
    panels = figure.subplots(4, len(titles), sharex=True, sharey="row", squeeze=False)
    for (name, sweep), style in zip(sweeps.items(), _styles(sweeps), strict=True):
        for column, key in zip(panels.T, titles, strict=True):
            for axes, values in zip(column, _course(sweep, chosen[name][key]), strict=True):
                axes.plot(weights, values, label=name, drawstyle="steps-mid", **style)
    for axes, title in zip(panels[0], titles.values(), strict=True):
        axes.set_title(title, size=10)
    labels = ("F1", "found / true", "threshold", "overlap")
    for axes, of in zip(panels[:, 0], labels, strict=True):
        axes.set_ylabel(of)
    _weight_axes(panels, weights, label)
    _legend(figure, panels[0, 0], 4 if len(titles) > 2 else 3)
    write(figure, path)


def _course(sweep: Sweep, rows: Sequence[int]) -> tuple[Array, ...]:
    """F1, share of the columns, threshold and overlap of these rows."""
    of = (
        sweep.share,
        lambda r: sweep.parameter(r, "threshold"),
        lambda r: sweep.parameter(r, "overlap"),
    )
    return (sweep.f1[list(rows)], *(np.array([f(row) for row in rows]) for f in of))


def _styles(sweeps: Mapping[str, Sweep]) -> list[dict[str, Any]]:
    """Multislice images dashed, noise levels from dark to light."""
    from matplotlib import colormaps

    own = dict(zip(MULTISLICE, ("k", VERMILION), strict=True))
    levels = [name for name in sweeps if name not in own]
    shades = colormaps["viridis"](np.linspace(0, 0.92, len(levels)))
    colours = {**own, **dict(zip(levels, shades, strict=True))}
    return [{"color": colours[n], "lw": 1.6, "ls": "--" if n in own else "-"} for n in sweeps]


def _weight_axes(panels: Any, weights: Array, label: str) -> None:
    """The range that is judged, weights as ratios, thresholds on a logarithmic axis."""
    ticks = [t for t in (1 / 16, 1 / 4, 1, 4, 16) if weights[0] <= t <= weights[-1]]
    for axes in panels[2]:
        low, high = axes.get_ylim()
        axes.set_yscale("log")
        seen = [t for t in THRESHOLDS if low <= t <= high]
        axes.set_yticks(seen, [f"{t:g}" for t in seen])
    for axes in np.ravel(panels):
        axes.axvspan(1 / JUDGED, JUDGED, color="#f1f1f1", lw=0, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"1:{1 / t:g}" if t < 1 else f"{t:g}:1" for t in ticks])
        axes.minorticks_off()
    for axes in panels[-1]:
        axes.set_xlabel(label)


def draw_noise(
    path: Path, sweeps: Mapping[float, Sweep], chosen: Mapping[float, int], kept: int
) -> None:
    """F1, count, parameters and fronts over noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.6), dpi=120, layout="constrained")
    (quality, count), (parameters, objectives) = figure.subplots(2, 2)
    levels, each, rows = list(sweeps), list(sweeps.values()), list(chosen.values())
    broad = {"color": GREY, "lw": 5, "alpha": 0.5}
    quality.plot(levels, [s.f1.max() for s in each], label="best of the grid", **broad)
    count.axhline(1, label="truth", **broad)
    for axes, of in ((quality, lambda s, row: s.f1[row]), (count, Sweep.share)):
        tuned = [of(s, row) for s, row in zip(each, rows, strict=True)]
        same = [of(s, kept) for s in each]
        axes.plot(levels, tuned, "o-", color=BLUE, label="chosen at each level")
        axes.plot(levels, same, "s--", color=VERMILION, label=f"chosen at {TUNED_AT:g} and kept")
        axes.legend(frameon=False, loc="lower left")
    quality.set(ylabel="F1", ylim=(0, 1.05))
    count.set(ylabel="columns found / true", ylim=(0, None))
    _parameters(parameters, sweeps, rows)
    _noise_fronts(objectives, sweeps, chosen)
    for axes in (quality, count, parameters):
        axes.set_xlabel("noise (standard deviation / range of the clean image)")
    write(figure, path)


def _parameters(axes: Axes, sweeps: Mapping[float, Sweep], rows: Sequence[int]) -> None:
    """Where in the grid's range each parameter of the choice lies; bars span those that give the
    same columns."""
    tuned = [name for name, values in GRID.items() if len(values) > 1]
    styles = zip("oDs^", (BLUE, AMBER, GREEN, VERMILION), strict=True)
    for number, (name, (marker, colour)) in enumerate(zip(tuned, styles, strict=False)):
        label = f"{name} {min(GRID[name]):g} to {max(GRID[name]):g}"
        levels = np.array(list(sweeps)) + 0.012 * (number - 1)
        for at, (sweep, row) in enumerate(zip(sweeps.values(), rows, strict=True)):
            alike = [_place(name, sweep.parameter(twin, name)) for twin in sweep.twins(row)]
            axes.plot([levels[at]] * 2, [min(alike), max(alike)], color=colour, lw=3, alpha=0.35)
        places = [
            _place(name, s.parameter(r, name)) for s, r in zip(sweeps.values(), rows, strict=True)
        ]
        axes.plot(levels, places, f"{marker}-", color=colour, label=label, ms=5, lw=1)
    axes.set(
        ylabel="chosen, in the grid's range", ylim=(-0.05, 1.4), yticks=(0, 0.25, 0.5, 0.75, 1)
    )
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")


def _place(name: str, value: float) -> float:
    """Where a value lies in the grid's range, 0..1, on the parameter's own scale."""
    space: Any = KNOWN[name].space
    low, here, high = map(space.to_unit, (min(GRID[name]), value, max(GRID[name])))
    return float((here - low) / (high - low))


def _noise_fronts(axes: Axes, sweeps: Mapping[float, Sweep], chosen: Mapping[float, int]) -> None:
    """The front of each level, from dark to light, and the choice."""
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.92, len(sweeps)))
    for (level, sweep), shade in zip(sweeps.items(), shades, strict=True):
        places = np.sqrt(sweep.objectives)
        front = places[list(sweep.front)]
        axes.plot(*front.T, "o-", color=shade, ms=5, label=f"noise {level:g}")
        axes.plot(*places[chosen[level]], "D", mfc="none", mec="k", ms=9)
    axes.plot([], [], "D", mfc="none", mec="k", ms=9, label="chosen")
    x, y = (Axis.of_term(terms[name]) for name in PAPER.weights)
    axes.set_xticks(*x.ticks)
    axes.set_yticks(*y.ticks)
    axes.set(xlabel="count error |QC|", ylabel="spacing error ER")
    most = max(0.3, *(np.sqrt(s.objectives[list(s.front)]).max() for s in sweeps.values()))
    axes.set(xlim=(-0.02, 1.1 * most), ylim=(-0.02, 1.1 * most))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def draw_hacks(
    path: Path,
    micrograph: Micrograph,
    given: Mapping[str, Points],
    rows: Mapping[str, Mapping[str, float]],
) -> None:
    """Each answer over the image, and below what is said of it."""
    from matplotlib.figure import Figure

    says = {"two objectives": VERMILION, "four terms": BLUE, "F1": GREY}
    figure = Figure(figsize=(3 * len(given) + 0.8, 4.7), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(given), height_ratios=(3, 1))
    for (above, below), (name, points) in zip(panels.T, given.items(), strict=True):
        above.plot(*points.yx.T[::-1], "o", ms=8, mfc="none", mec=AMBER, mew=1.4)
        _crop(above, micrograph)
        above.set_title(name, size=11)
        values = [rows[name][key] for key in ("two_objectives", "four_terms", "f1")]
        bars = below.barh(range(len(says)), values, color=list(says.values()))
        below.bar_label(bars, [f"{value:.2f}" for value in values], padding=3)
        below.set_yticks(range(len(says)), says if name == "truth" else [""] * len(says))
        below.set(xlim=(0, 1.2), xticks=(0, 0.5, 1))
        below.invert_yaxis()
        below.spines[["top", "right"]].set_visible(False)
    write(figure, path)
