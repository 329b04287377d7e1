"""The pictures of the reproduction of symmetry descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scopegym.artifacts import Array, Labels
from scopegym.experiments.reproduce.base import write
from scopegym.experiments.reproduce.plane_groups import (
    DESCRIPTORS,
    PATTERSON,
    SYMMETRIC,
    Signature,
    Table,
    translation_map,
)
from scopegym.micrograph import Micrograph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of labels that all kinds of colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")


def draw_images(path: Path, panels: Sequence[tuple[str, Labels | None]], image: Micrograph) -> None:
    """The image in every panel, under its labels where there are any."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(panels), 3.4), dpi=120, layout="constrained")
    low, high = np.percentile(image.data, (0.5, 99.5))
    for axes, (title, labels) in zip(
        np.ravel(figure.subplots(1, len(panels))), panels, strict=True
    ):
        axes.imshow(image.data, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        if labels is not None:
            _paint(axes, labels)
        axes.set_title(title, size=10)
        axes.set_axis_off()
    write(figure, path)


def _paint(axes: Axes, labels: Labels) -> None:
    from matplotlib.colors import ListedColormap

    most = len(COLOURS) - 0.5
    cmap = ListedColormap(COLOURS)
    axes.imshow(labels.map, cmap=cmap, vmin=-0.5, vmax=most, alpha=0.5, interpolation="nearest")


def draw_separability(path: Path, raw: tuple[Array, Array], pca: tuple[Array, Array]) -> None:
    """Fisher's ratio over variance, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(*raw, s=16, color=COLOURS[0], lw=0, alpha=0.7, label="translation scores")
    axes.scatter(*pca, s=40, color=COLOURS[1], marker="D", lw=0, label="PCA features")
    axes.set(xscale="log", yscale="log", xlabel="variance", ylabel="Fisher separability")
    axes.legend(frameon=False)
    write(figure, path)


def draw_maps(path: Path, members: Sequence[str], seed: int) -> None:
    """The scores of all shifts of one pattern per group."""
    from matplotlib.figure import Figure

    columns = min(9, len(members))
    rows = -(-len(members) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.6 * rows), dpi=120, layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in panels:
        axes.set_axis_off()
    for axes, group in zip(panels, members, strict=False):
        shifts, values = translation_map(group, seed)
        reach = int(np.abs(shifts).max())
        square = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
        square[tuple((shifts + reach).T)] = values
        axes.imshow(square, cmap="viridis")
        axes.set_title(f"{group}: {PATTERSON[group]}", size=8)
    write(figure, path)


def draw_scores(path: Path, found: Sequence[Signature]) -> None:
    """The scores of all operations: those that a group has filled, the others open."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    colours = dict(zip(found[0].scores, (*COLOURS, "k"), strict=True))
    for x, one in enumerate(found):
        for at, (name, value) in enumerate(one.scores.items()):
            face = colours[name] if name in one.has else "none"
            axes.scatter(x + 0.14 * (at - 2), value, s=18, fc=face, ec=colours[name], lw=0.9)
    for name, colour in colours.items():
        label = name if isinstance(name, str) else f"turn {name}°"
        axes.scatter([], [], s=18, fc=colour, ec=colour, label=label)
    axes.scatter([], [], s=18, fc="none", ec="k", label="not in the group")
    axes.axhline(SYMMETRIC, color="k", lw=0.6, ls=":")
    axes.set_xticks(range(len(found)), [one.group for one in found], rotation=60)
    axes.set_ylabel("pooled score")
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    write(figure, path)


def draw_tables(path: Path, found: Sequence[Table]) -> None:
    """A matrix of accuracies per descriptor; frames hold the groups of one Patterson symmetry."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(DESCRIPTORS), 3.7), dpi=120, layout="constrained")
    panels = np.ravel(figure.subplots(1, len(found)))
    for axes, table in zip(panels, found, strict=True):
        shown = axes.imshow(table.accuracy, cmap="viridis", vmin=0.5, vmax=1)
        axes.set_title(table.descriptor, size=10)
        axes.set_xticks(range(len(table.groups)), table.groups, rotation=90, size=7)
        axes.set_yticks(range(len(table.groups)), table.groups, size=7)
        _frame(axes, [PATTERSON[group] for group in table.groups])
    figure.colorbar(shown, ax=panels, label="share of right pixels", shrink=0.75, pad=0.01)
    write(figure, path)


def _frame(axes: Axes, symmetry: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    starts = [i for i, name in enumerate(symmetry) if i == 0 or symmetry[i - 1] != name]
    for start, end in zip(starts, [*starts[1:], len(symmetry)], strict=True):
        side = end - start
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, side, side, fill=False, ec="#d55e00", lw=1.2))
