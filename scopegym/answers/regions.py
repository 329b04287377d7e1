"""Maps as answers: every pixel has a label, or belongs to a region or the background."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.answers.base import (
    COLOURS,
    ERRORS,
    SIDE,
    Answers,
    Finding,
    Kind,
    View,
    adversary,
    answer_kind,
    counted,
    data_url,
    decades,
    seam,
)
from scopegym.answers.points import write_points
from scopegym.artifacts import Array, Labels, Points, State
from scopegym.frozen import FrozenDict
from scopegym.metrics import label_accuracy, mask_overlap
from scopegym.operators.label_maps import connected_regions
from scopegym.operators.regions import regions
from scopegym.prior import Prior

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem

#: Opacity of a pattern's colour: the lattice below stays visible.
TINT = 0.3
#: A map on the page is reduced to this longer side [px]: boundaries are no finer.
PAGE_PX = 400
#: Squares along the side of a chequerboard.
SQUARES = 4


@answer_kind
class LabelsKind(Kind[Labels]):
    """A map of patterns, or of regions on a background."""

    artifact = Labels
    files = ("labels.tif", "mask.tif", "points.csv")
    statistic_names = ("classes", "largest", "borders")
    script = """{
  async prepare(layer) {
    const map = Object.assign(new Image(), {src: layer.map});
    await map.decode();
    /* The map in colours, and the edges between its pixels as a path in pixels of the map. */
    const {naturalWidth: width, naturalHeight: height} = map, sheet = document.createElement("canvas"), edges = new Path2D();
    Object.assign(sheet, {width, height});
    const context = sheet.getContext("2d", {willReadFrequently: true});
    context.drawImage(map, 0, 0);
    const pixels = context.getImageData(0, 0, width, height), labels = Array.from({length: width * height}, (_, i) => pixels.data[4 * i]);
    labels.forEach((label, i) => {
      const y = Math.floor(i / width), x = i % width, colour = parseInt(layer.colours[label % layer.colours.length].slice(1), 16);
      pixels.data.set([colour >> 16, colour >> 8 & 255, colour & 255], 4 * i);
      if (x && label !== labels[i - 1]) { edges.moveTo(x, y); edges.lineTo(x, y + 1); }
      if (y && label !== labels[i - width]) { edges.moveTo(x, y); edges.lineTo(x + 1, y); }
    });
    context.putImageData(pixels, 0, 0);
    Object.assign(layer, {sheet, edges});
  },
  paint(context, layer, scale) {
    if (!layer.sheet) return;
    const {sheet, edges} = layer, across = scale * W / sheet.width, down = scale * H / sheet.height;
    context.save();
    context.setTransform(across, 0, 0, down, -view.x * scale, -view.y * scale);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = layer.tint;
    context.drawImage(sheet, 0, 0);
    context.globalAlpha = 1;
    context.lineCap = "square";
    for (const [colour, line] of [["#0007", 2.7 * ratio()], ["#fff", 1.5 * ratio()]]) {
      context.strokeStyle = colour;
      context.lineWidth = line / Math.sqrt(across * down);
      context.stroke(edges);
    }
    context.restore();
  },
  key(layer) {
    return layer.shares.map((share, label) => [
      layer.colours[label % layer.colours.length],
      `${layer.names[label] || `pattern ${label}`}: ${(100 * share).toFixed(1)} %`,
    ]);
  },
}"""  # noqa: E501 - lines of the page's script

    def measure(self, truth: Labels) -> str:
        return "accuracy" if truth.background is None else "IoU"

    def agreement(self, truth: Labels, found: Labels, prior: Prior) -> float:
        """The share of right pixels, or intersection over union where there is a background."""
        del prior
        judge = label_accuracy if truth.background is None else mask_overlap
        return judge(found, truth)

    def wrong_below(self, truth: Labels) -> float:
        """With a background: 1/3, which is an F1 of 1/2. Otherwise: half-way between 1 and the
        share of the largest label, which a uniform map reaches."""
        if truth.background is not None:
            return 1 / 3
        largest = np.unique(truth.map, return_counts=True)[1].max() / truth.map.size
        return float(1 + largest) / 2

    def finding(self, answer: Labels, problem: Problem) -> Finding:
        if answer.background is not None:
            return _on_background(answer, problem.task.nouns.region)
        patterns = by_area(answer.map)
        shares = area_shares(patterns)
        connected = int(connected_regions(patterns).max()) + 1
        where = f"in {counted(connected, 'regions')}"
        detail = f"{' / '.join(f'{100 * share:.0f} %' for share in shares)} of the area"
        numbers = {"patterns": len(shares), "regions": connected, "area_shares": shares}
        return Finding(len(shares), "patterns", where, detail, numbers=FrozenDict(numbers))

    def write(self, answer: Labels, state: State, size_nm: float | None, folder: Path) -> None:
        """Write ``labels.tif``, or ``mask.tif`` if there is a background.

        ``labels.tif`` holds the pattern of every pixel, numbered from 0 by area. ``mask.tif`` holds
        0 for background and the number of the region elsewhere; the points behind it are in
        ``points.csv``. Both are uint16 and have the image's size.
        """
        import tifffile

        settings: dict[str, Any] = {}
        if size_nm is not None:
            per_cm = 1e7 / size_nm
            settings = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
        masked = answer.background is not None
        name = "mask.tif" if masked else "labels.tif"
        numbers = region_numbers(answer) if masked else by_area(answer.map)
        tifffile.imwrite(folder / name, numbers, compression="zlib", **settings)
        points = state.get(Points)
        if masked and points is not None:
            write_points(points, size_nm, folder, {"class": points.classes})

    def draw(self, answer: Labels, axes: Any, prior: Prior, zoom: float) -> None:
        """Every pattern except the background in its colour, with lines along boundaries."""
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgba

        del prior, zoom
        patterns = shown(answer)
        colours = np.array([to_rgba(colour, TINT) for colour in COLOURS])
        colours[0, 3] *= answer.background is None
        axes.imshow(colours[patterns % len(COLOURS)], interpolation="nearest")
        width = 1.5
        edges = list(boundaries(patterns))
        lines = LineCollection(edges, colors="white", linewidths=width, capstyle="projecting")
        lines.set_path_effects(seam(width))
        axes.add_collection(lines)

    def layer(self, answer: Labels, problem: Problem) -> dict[str, Any]:
        import cv2

        patterns = shown(answer)
        zoom = min(1.0, PAGE_PX / max(patterns.shape))
        rows, columns = (_nearest(n, max(1, round(zoom * n))) for n in patterns.shape)
        small = np.minimum(patterns[np.ix_(rows, columns)], 255).astype(np.uint8)
        _, png = cv2.imencode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        nouns = problem.task.nouns
        return {
            "map": data_url(png.tobytes()),
            "shares": area_shares(patterns),
            "names": [] if answer.background is None else [nouns.outside, nouns.inside],
            "colours": COLOURS,
            "tint": TINT,
        }

    def statistics(self, answer: Labels, prior: Prior) -> Array:
        del prior
        _, areas = np.unique(answer.map, return_counts=True)
        borders = [float((np.diff(answer.map, axis=axis) != 0).mean()) for axis in (0, 1)]
        share = areas.max() / answer.map.size
        return np.array([len(areas) / 5, share, decades(np.mean(borders))])

    def thumbnail(self, answer: Labels, view: View) -> Array:
        top, left, height, width = view
        rows = top + (np.arange(SIDE) * height) // SIDE
        columns = left + (np.arange(SIDE) * width) // SIDE
        lowest, highest = int(answer.map.min()), int(answer.map.max())
        part = answer.map[rows[:, None], columns[None, :]].astype(np.int64) - lowest
        return (part * 255 // max(highest - lowest, 1)).astype(np.uint8)


def _on_background(answer: Labels, noun: str) -> Finding:
    """Number of regions on a background, and their share of the field."""
    numbers = region_numbers(answer)
    count, share = int(numbers.max()), float(np.mean(numbers > 0))
    detail = f"{100 * share:.1f} % of the area"
    plain = FrozenDict({"regions": count, "area_fraction": share})
    return Finding(count, noun, detail=detail, numbers=plain)


def region_numbers(answer: Labels) -> Array:
    """The connected regions of labels on a background, from 1 by area, uint16 ``[H, W]``; 0 on the
    background."""
    return regions(answer.map != answer.background).map.astype(np.uint16)


def by_area(labels: Array) -> Array:
    """Labels ``[H, W]`` renumbered from 0 without gaps, the largest area first, uint16."""
    _, inverse, area = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(area), np.uint16)
    rank[np.argsort(-area, kind="stable")] = np.arange(len(area))
    return rank[inverse.reshape(labels.shape)]


def shown(answer: Labels) -> Array:
    """The numbers to draw, uint16 ``[H, W]``: patterns by area; or 1 in regions and 0 elsewhere."""
    if answer.background is None:
        return by_area(answer.map)
    return (answer.map != answer.background).astype(np.uint16)


def area_shares(patterns: Array) -> list[float]:
    """Share of the area of each pattern from 0."""
    shares: list[float] = (np.bincount(patterns.ravel()) / patterns.size).tolist()
    return shares


def boundaries(patterns: Array) -> Array:
    """Edges between pixels ``[H, W]`` of different patterns: ends (x, y) ``[N, 2, 2]`` [px]."""
    y, x = np.nonzero(patterns[1:] != patterns[:-1])
    level = np.stack([[x - 0.5, x + 0.5], [y + 0.5, y + 0.5]])
    y, x = np.nonzero(patterns[:, 1:] != patterns[:, :-1])
    upright = np.stack([[x + 0.5, x + 0.5], [y - 0.5, y + 0.5]])
    return np.concatenate([level, upright], axis=2).transpose(2, 1, 0)


def _nearest(length: int, count: int) -> Array:
    """Which of ``length`` pixels are nearest to the centres of ``count`` larger pixels."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.intp)


# Wrong answers ------------------------------------------------------------------------------------


@adversary("blank")
def no_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """No region, or one region that covers the whole image."""
    del problem, rng
    yield _like(truth, np.full(truth.map.shape, truth.background or 0))


@adversary("everything")
def all_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """With a background, one region over the whole image; otherwise one region per spacing."""
    del rng
    if truth.background is not None:
        yield _like(truth, np.full(truth.map.shape, truth.background + 1))
    else:
        rows, columns = _blocks(truth, problem.prior.scale_px)
        yield _like(truth, rows * (columns.max() + 1) + columns)


@adversary("chequerboard")
def chequered_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """Squares with the true number of labels; with a background, squares of the true area."""
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
    """One disk of the true area at a random place: the most compact shape."""
    del problem
    background = 0 if truth.background is None else truth.background
    away = np.hypot(*(n - rng.uniform(0, n.max()) for n in np.indices(truth.map.shape)))
    pixels = int(np.count_nonzero(truth.map != background))
    disk = away <= np.sort(away, axis=None)[max(pixels, 1) - 1]
    yield _like(truth, np.where(disk, background + 1, background))


@adversary("random regions")
def random_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """Random labels with the true shares, independent for every square of one spacing."""
    rows, columns = _blocks(truth, problem.prior.scale_px)
    drawn = rng.choice(truth.map.ravel(), size=(rows.max() + 1, columns.max() + 1))
    yield _like(truth, drawn[rows, columns])


@adversary("right regions, shifted")
def shifted_labels(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
    """The true map displaced by a quarter of the field, with periodic boundaries."""
    del problem, rng
    quarter = np.array(truth.map.shape) // 4
    for shift in ((quarter[0], 0), (0, quarter[1]), tuple(quarter)):
        yield _like(truth, np.roll(truth.map, shift, (0, 1)))


def _stretched(error: float) -> Answers:
    def stretched(problem: Problem, truth: Labels, rng: np.random.Generator) -> Iterator[Labels]:
        """The true map with its scale changed by this share about a corner."""
        del problem, rng
        rows, columns = ((np.arange(n) / (1 + error)).astype(int) for n in truth.map.shape)
        yield _like(truth, truth.map[np.ix_(rows, columns)])

    return stretched


for _error in ERRORS:
    adversary(f"pixel size wrong by {100 * _error:.0f} %")(_stretched(_error))


def _blocks(truth: Labels, side: float) -> tuple[Array, Array]:
    """Row and column ``[H, W]`` of the square of this side [px] that contains each pixel."""
    rows, columns = (np.indices(truth.map.shape) // max(side, 1.0)).astype(int)
    return rows, columns


def _like(truth: Labels, numbers: Array) -> Labels:
    return Labels(numbers, background=truth.background)
