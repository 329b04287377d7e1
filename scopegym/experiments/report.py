"""Pictures of a result, and its report: one page that needs no network."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scopegym.agents.base import Pick
from scopegym.artifacts import Points, State
from scopegym.envs.problem import Trial
from scopegym.experiments.outputs import recipe
from scopegym.experiments.solve import Result
from scopegym.prior import Prior
from scopegym.rewards.base import Direction, Term
from scopegym.space import Scale
from scopegym.workflow import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Grey levels: these percentiles become black and white, so that a few hot pixels hide nothing.
CONTRAST_PERCENTILES = (0.5, 99.5)
#: Radius of a ring in spacings: outside the column, and short of half-way to its neighbour.
RING = 0.36
#: An overlay is enlarged by the whole number that makes its longer side at least this [px].
OVERLAY_PX = 900
#: The page's image is reduced to this longer side [px]; larger ones would make the page heavy.
PAGE_IMAGE_PX = 1600
#: Positions that one page holds, 5.4 bytes each; the trials of lowest value go without beyond it.
MOST_POSITIONS = 300_000
#: Colours that all kinds of colour vision tell apart (Okabe and Ito, 2008).
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#8c8c8c"
#: The rings: amber is far from every grey, for all kinds of colour vision.
AMBER = "#ffb000"
#: Distances from the ideal, in shares of a term's range, that an axis labels.
TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
#: What a task counts.
NOUNS = {"atoms": "columns", "disorder": "columns", "speckle": "speckles"}
#: Ways to pick from a front: name in print, and matplotlib marker.
PICKS: dict[Pick, tuple[str, str]] = {
    "value": ("best value", "^"),
    "euclidean": ("nearest to ideal, Euclidean", "D"),
    "chebyshev": ("nearest to ideal, Chebyshev", "s"),
}
#: Where a figure of the prior came from, in words.
SOURCES = {
    "crystal": "from the crystal",
    "given": "given by the user",
    "estimated": "estimated from this image",
}


def write_overlay(result: Result, path: str | Path) -> None:
    """Write the image with what the chosen workflow found as PNG."""
    draw_overlay(result).savefig(path, format="png", metadata={"Software": None})


def write_front(result: Result, path: str | Path) -> None:
    """Write the Pareto front as PNG."""
    draw_front(result).savefig(path, format="png", metadata={"Software": None})


def draw_overlay(result: Result) -> Figure:
    """Draw the image with a ring around every position, and a scale bar if the scale is known.

    The picture is the image enlarged by a whole number, so every pixel of it can be seen.
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
    points = result.state.points
    # Further kinds (labels, instances, tracks) are drawn here, and in `layer` for the page.
    if points is not None:
        _draw_rings(axes, points, result.problem.prior, zoom)
    if result.problem.micrograph.pixel_size_nm is not None:
        _draw_scale_bar(axes, grey.shape, zoom, result.problem.micrograph.pixel_size_nm)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    return figure


def _draw_rings(axes: Axes, points: Points, prior: Prior, zoom: int) -> None:
    from matplotlib.collections import EllipseCollection
    from matplotlib.patheffects import Normal, Stroke

    diameter = np.full(len(points), 2 * RING * prior.scale_px)
    # A seventh of the ring's radius [px], between a hairline and a bold line; 0.72 points a pixel.
    width = min(max(RING * prior.scale_px * zoom / 7, 1.1), 2.5) * 0.72
    rings = EllipseCollection(
        diameter,
        diameter,
        np.zeros(len(points)),
        units="xy",
        offsets=points.yx[:, ::-1],
        transOffset=axes.transData,
        facecolors="none",
        edgecolors=AMBER,
        linewidths=width,
    )
    # A dark seam keeps the ring visible where the image is white.
    rings.set_path_effects([Stroke(linewidth=width + 0.9, foreground="#0007"), Normal()])
    axes.add_collection(rings)


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

    With more than two terms a trial of the front may look beaten here: it wins in another term.
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

    Places go with the square root of the distance from the ideal, which spreads out what is good:
    an error of 0.01 lies a tenth of the axis away from 0.
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


def write_report(result: Result, path: str | Path) -> None:
    """Write the report: one HTML file that loads nothing from anywhere."""
    Path(path).write_text(render_report(result), encoding="utf-8")


def render_report(result: Result) -> str:
    """The report as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scopegym.experiments", "."),
        autoescape=True,  # names and metadata of files are not to be trusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_content(result))


@dataclass(frozen=True, eq=False)
class Entry:
    """A trial that the page shows in full: one of the front, or the chosen one."""

    number: int
    trial: Trial
    #: What it is: ``chosen``, and the names of ``PICKS``.
    marks: tuple[str, ...]
    count: int
    layer: dict[str, Any] | None


def entries(result: Result) -> list[Entry]:
    """The trials to show in full, by number of evaluation."""
    numbers = {id(trial): number for number, trial in enumerate(result.trials, 1)}
    trials = {id(trial): trial for trial in (*result.front, result.chosen)}
    left = MOST_POSITIONS
    found = []
    for trial in sorted(trials.values(), key=lambda t: (t is not result.chosen, -t.score.value)):
        state = result.problem.run(trial.workflow)
        count = 0 if state.points is None else len(state.points)
        drawn = layer(state) if count <= left else None
        left -= count if drawn else 0
        found.append(Entry(numbers[id(trial)], trial, _marks(result, trial), count, drawn))
    return sorted(found, key=lambda entry: entry.number)


def _marks(result: Result, trial: Trial) -> tuple[str, ...]:
    chosen = ("chosen",) if trial is result.chosen else ()
    best = (name for pick, (name, _) in PICKS.items() if result.front.best(pick) is trial)
    return (*chosen, *best)


def layer(state: State) -> dict[str, Any] | None:
    """What the page draws over its image, as plain values; None where it has no picture for it.

    Further kinds (labels, instances, tracks) come here, with a function of the same name as their
    ``kind`` in the page's script.
    """
    if state.points is None:
        return None
    # Shares of the field in 16 bits, y and x in turn: a hundredth of a pixel in 512.
    shares = np.clip((state.points.yx + 0.5) / state.points.shape, 0, 1)
    packed = np.round(shares * 65535).astype("<u2").tobytes()
    return {"kind": "points", "yx": base64.b64encode(packed).decode("ascii")}


def _content(result: Result) -> dict[str, Any]:
    shown = entries(result)
    chosen = next(entry for entry in shown if entry.trial is result.chosen)
    problem = result.problem
    noun = NOUNS.get(problem.task.name, "points")
    return {
        "result": result,
        "noun": noun,
        "headline": headline(result, chosen.count),
        "expected": expected_text(problem.prior, problem.micrograph.data.shape),
        "spacing": f"{problem.prior.scale_px:.3g} px",
        "notes": _notes(result),
        "prior": prior_rows(problem.prior, problem.micrograph.pixel_size_nm, noun),
        "entries": shown,
        "chosen": chosen,
        "recipes": {e.number: recipe(replace(result, chosen=e.trial)) for e in shown},
        "steps": {e.number: [_step(result, step) for step in e.trial.workflow] for e in shown},
        "terms": [_term(term, result) for term in problem.reward.terms],
        "axes": [axis.name for axis in telling_axes(result)],
        "timing": _timing(result.timing),
        "image_png": _png(grey_levels(problem.micrograph.data)),
        "command": f"scopegym run workflow.yaml {_image_argument(result)} --check",
        "data": _data(result, shown, chosen),
    }


def _data(result: Result, shown: list[Entry], chosen: Entry) -> dict[str, Any]:
    """What the page's script reads."""
    axes = [Axis.of_term(term) for term in result.problem.reward.terms] + [VALUE]
    return {
        "shape": result.problem.micrograph.data.shape,
        "pixel_size_nm": result.problem.micrograph.pixel_size_nm,
        "ring_px": RING * result.problem.prior.scale_px,
        "noun": NOUNS.get(result.problem.task.name, "points"),
        "axes": [axis.to_dict() for axis in axes],
        "trials": [_row(trial) for trial in result.trials],
        "entries": [
            {"number": e.number, "marks": e.marks, "count": e.count, "layer": e.layer}
            for e in shown
        ],
        "chosen": chosen.number,
    }


def _row(trial: Trial) -> list[float] | None:
    if trial.failure is not None:
        return None
    return [round(value, 5) for value in (*trial.score.terms.values(), trial.score.value)]


def headline(result: Result, count: int) -> str:
    """The result in one sentence."""
    noun = NOUNS.get(result.problem.task.name, "points")
    expected = expected_text(result.problem.prior, result.problem.micrograph.data.shape)
    parts = [f"{count:,} {noun} found in {result.problem.micrograph.name or 'the image'}"]
    parts += [f"expected {expected}"] if expected else []
    return "; ".join([*parts, f"score {result.chosen.score.value:.2f}"])


def expected_text(prior: Prior, shape: tuple[int, ...]) -> str:
    """The expected count and half a row per axis, as the border may cut a lattice anywhere."""
    if prior.count is None:
        return ""
    border = 0.5 * prior.count * prior.scale_px * sum(1 / length for length in shape)
    return f"{prior.count:,.0f} ± {border:,.0f}"


def _notes(result: Result) -> list[tuple[str, str]]:
    """Kind and text of what to tell the user: the verdict on the scale, then the warnings."""
    calibration = result.calibration
    if calibration is not None:
        kind = "good" if calibration.status == "agrees" else "warning"
        notes = [(kind, calibration.message)]
    elif result.problem.micrograph.pixel_size_nm is None:
        notes = [("plain", "The pixel size is unknown, so all lengths are in pixels.")]
    else:
        notes = [("plain", "The pixel size was not checked against the image's own lattice.")]
    said = {text for _, text in notes}
    return notes + [("warning", text) for text in result.warnings if text not in said]


def prior_rows(prior: Prior, pixel_size_nm: float | None, noun: str) -> list[tuple[str, str, str]]:
    """What was expected: name, figure, and where it came from."""
    rows = [("scale_px", "Spacing", lengths(prior.scale_px, pixel_size_nm))]
    if prior.count is not None:
        rows.append(("count", f"{noun.capitalize()} in the field", f"{prior.count:,.1f}"))
    if prior.neighbour_sums_px:
        sums = ", ".join(dict.fromkeys(f"{px:.1f}" for px in sorted(prior.neighbour_sums_px)))
        rows.append(("neighbour_sums_px", "Distances to four neighbours, summed [px]", sums))
    if prior.lattice_px is not None:
        vectors = ", ".join(f"({y:.2f},\u00a0{x:.2f})" for y, x in prior.lattice_px)
        rows.append(("lattice_px", "Lattice vectors (y, x) [px]", vectors))
    return [(name, text, _source(prior, key)) for key, name, text in rows]


def _source(prior: Prior, key: str) -> str:
    source = prior.sources.get(key, "")
    return SOURCES.get(source, source or "source not stated")


def lengths(px: float, pixel_size_nm: float | None) -> str:
    """A length in pixels, and as a true length where the scale is known."""
    text = f"{px:.3g} px"
    return text if pixel_size_nm is None else f"{text} = {length_name(px * pixel_size_nm)}"


def _step(result: Result, step: Step) -> dict[str, Any]:
    prior, operator = result.problem.prior, step.operator
    pixels = operator.in_pixels(step.params, prior)
    size = result.problem.micrograph.pixel_size_nm
    rows = []
    for name, value in step.params.items():
        space = operator.parameters[name].space
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        unit = {"spacing": "× spacing"}.get(space.unit, space.unit)
        length = lengths(pixels[name], size) if isinstance(space, Scale) else ""
        rows.append((name, f"{text} {unit}".strip(), length))
    return {"name": step.op, "about": sentence(operator.__doc__), "rows": rows}


def _term(term: Term, result: Result) -> dict[str, Any]:
    value = result.chosen.score.terms[term.name]
    return {
        "name": term.name,
        "about": sentence(term.__doc__),
        "direction": term.direction,
        "bounds": "{:g} to {:g}".format(*term.bounds),
        "weight": result.problem.reward.weights[term.name],
        "value": value,
        "goodness": term.goodness(value),
    }


def sentence(docstring: str) -> str:
    """The first paragraph of a docstring on one line, without its markup."""
    return " ".join(docstring.split("\n\n")[0].replace("``", "").split())


def _timing(timing: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the total for each entry in seconds."""
    spent = {k.removesuffix("_s"): v for k, v in timing.items() if k.endswith("_s")}
    total = sum(spent.values()) or 1.0
    return [(name, seconds, seconds / total) for name, seconds in spent.items()]


def _image_argument(result: Result) -> str:
    """The image's name as a shell takes it; a made-up image has no file to name."""
    micrograph = result.problem.micrograph
    return shlex.quote(micrograph.name) if "file_sha256" in micrograph.metadata else "IMAGE"


def _png(grey: NDArray[np.uint8]) -> str:
    """The image as a data URL, reduced if it is large."""
    import cv2

    height, width = grey.shape
    zoom = PAGE_IMAGE_PX / max(height, width)
    if zoom < 1:
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
