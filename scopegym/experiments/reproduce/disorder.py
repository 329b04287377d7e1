"""Paper 000, second half: figure 4, disordered regions, on simulated material."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scopegym.artifacts import Array, Labels, Points, State
from scopegym.crystal import crystal
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem, Trial
from scopegym.experiments.expectations import expect
from scopegym.experiments.reproduce.base import Claim, reproduction, write
from scopegym.experiments.solve import solve
from scopegym.metrics import mask_overlap, match_points
from scopegym.micrograph import Micrograph, load
from scopegym.rewards.disorder import disordered
from scopegym.workflow import Step, Workflow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Folder of published data, and where the real image lies in it; without it that part is left out.
DATA, REAL = "SCOPEGYM_DATA", "atom_finding/scilink_ybco_haadf/YBCO_tem.tif"
#: Colours that all kinds of colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
#: Thresholds and covariances that the front is drawn from.
THRESHOLDS = (1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)
COVARIANCES = ("diag", "full", "tied")
#: Side of the simulated field [px].
SIZE = 384


@reproduction
def disorder(out: Path, seed: int) -> list[Claim]:
    """Disordered regions by Gaussian mixtures of atoms (paper 000, figure 4).

    Sub-lattices; two orientations of Ba; the front of compactness and perimeter; the map. With the
    environment variable SCOPEGYM_DATA naming a folder of published data, the real image too.
    """
    claims = [sublattices(out), orientations(out), *regions(out, seed)]
    image = Path(os.environ.get(DATA, "")) / REAL
    return [*claims, *([real(out, image, seed)] if image.is_file() else [])]


def problem_of(micrograph: Micrograph) -> Problem:
    """The task on an image of YBa2Cu3O7 along [100]."""
    prior = expect(micrograph, sample="YBa2Cu3O7", calibration="report").prior
    return Problem(micrograph, prior, tasks["disorder"])


# --- A, B: classes of columns ---------------------------------------------------------------------


def classified(problem: Problem) -> State:
    """The state after the expert's first classification, by brightness."""
    return problem.run(Workflow(tasks["disorder"].expert.steps[:6]))


def told_apart(found: Points, micrograph: Micrograph, kinds: Array, spacing: float) -> float:
    """Share of the true columns whose class is mostly of their kind."""
    assert isinstance(micrograph.truth, Points)
    pairs = match_points(found, micrograph.truth, spacing / 4, 10)
    classes, truth = found.classes[pairs.found], kinds[pairs.true]
    right = sum(np.unique(truth[classes == c], return_counts=True)[1].max() for c in set(classes))
    return float(right / len(truth))


def sublattices(out: Path) -> Claim:
    """Figure 4(A): four clusters of patches around all columns."""
    micrograph = bundled("ybco_100")
    problem = problem_of(micrograph)
    points = classified(problem).points
    assert points is not None
    kinds = np.array(micrograph.metadata["species"])
    right = told_apart(points, micrograph, kinds, problem.prior.scale_px)
    draw(out / "sublattices.png", micrograph, [("four classes of columns", points)])
    return Claim(
        "sub-lattices",
        "Four clusters of patches around columns are the sub-lattices (figure 4A).",
        "at least 0.97 of the columns are in a class that is mostly of their species",
        right >= 0.97,
        {"right": right, "columns": len(points)},
        "sublattices.png",
        "Planes and chains of copper look alike at this dose: which of them the fourth class takes "
        "depends on the image.",
    )


def orientations(out: Path) -> Claim:
    """Figure 4(B): the neighbourhoods of Ba come in two orientations."""
    micrograph = bundled("ybco_100")
    problem = problem_of(micrograph)
    expert = tasks["disorder"].expert
    points = problem.run(Workflow(expert.steps[:10])).points
    assert points is not None and isinstance(micrograph.truth, Points)
    assert problem.prior.lattice_px is not None
    period = abs(problem.prior.lattice_px[0][0])
    upper = (micrograph.truth.yx[:, 0] / period) % 1 < 0.5
    right = told_apart(points, micrograph, upper, problem.prior.scale_px)
    draw(out / "orientations.png", micrograph, [("two classes of Ba", points)])
    return Claim(
        "orientations",
        "Two clusters of patches around Ba are its two orientations (figure 4B).",
        "at least 0.97 of the Ba columns are in the class of their orientation",
        right >= 0.97,
        {"right": right, "columns": len(points)},
        "orientations.png",
    )


# --- C to F: outliers, front, map -----------------------------------------------------------------


def variants() -> list[Workflow]:
    """The expert's workflow with other thresholds and covariances."""
    steps = tasks["disorder"].expert.steps
    return [
        Workflow(
            (
                *steps[:9],
                Step("gmm_points", {"classes": 2, "covariance": covariance}),
                Step("likelihood_outliers", {"threshold": threshold}),
                *steps[11:],
            )
        )
        for covariance, threshold in product(COVARIANCES, THRESHOLDS)
    ]


def regions(out: Path, seed: int) -> list[Claim]:
    """Figure 4(C) to (F): which threshold and covariance, and the map that they give."""
    projection = crystal("YBa2Cu3O7").project((1, 0, 0))
    micrograph = simulate_disorder(projection, (SIZE, SIZE), fraction=0.2, noise=0.05, seed=seed)
    problem = problem_of(micrograph)
    trials = [trial for trial in map(problem.evaluate, variants()) if trial.failure is None]
    best = max(trials, key=lambda trial: trial.score.value)
    states = {id(trial): problem.run(trial.workflow) for trial in trials}
    overlaps = np.array([overlap(states[id(trial)], micrograph) for trial in trials])
    found = overlap(states[id(best)], micrograph)
    front = undominated(trials)
    draw_front(out / "front.png", trials, front, best, overlaps)
    state = states[id(best)]
    assert state.points is not None and state.labels is not None
    assert isinstance(micrograph.truth, Labels)
    panels: list[tuple[str, Points | Labels | None]] = [
        ("truth", micrograph.truth),
        ("Ba: ordered amber, outliers red", state.points),
        (f"map, {100 * found:.0f} % overlap", state.labels),
    ]
    draw(out / "map.png", micrograph, panels)
    return [
        Claim(
            "front",
            "Compactness and perimeter conflict: none gets better without the other getting worse "
            "(figure 4D).",
            "the front of the two objectives holds at least two workflows that find something",
            len(front) >= 2,
            {"workflows": len(trials), "on the front": len(front)},
            "front.png",
            "The two objectives alone are met best by finding nearly nothing; evidence that the "
            "lattice is lost chooses between the workflows here.",
        ),
        Claim(
            "map",
            "The chosen threshold and covariance show where the crystal is disordered (figure 4F).",
            "intersection over union of map and truth is at least 0.6, and at most 0.05 below the "
            "best of all workflows here",
            found >= 0.6 and overlaps.max() - found <= 0.05,
            {"overlap": found, "best overlap": float(overlaps.max()), "chosen": str(best.workflow)},
            "map.png",
        ),
    ]


def overlap(state: State, micrograph: Micrograph) -> float:
    """Intersection over union of found and true regions."""
    assert state.labels is not None and isinstance(micrograph.truth, Labels)
    return mask_overlap(state.labels, micrograph.truth)


def undominated(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that find something and that no other beats in both objectives."""
    terms = np.array([[t.score.terms["compactness"], -t.score.terms["perimeter"]] for t in trials])
    something = terms[:, 1] < 0
    beaten = [
        bool((something & (terms >= row).all(axis=1) & (terms > row).any(axis=1)).any())
        for row in terms
    ]
    rows = zip(trials, beaten, something, strict=True)
    return [trial for trial, lost, found in rows if found and not lost]


def real(out: Path, path: Path, seed: int) -> Claim:
    """The published image: as grown, so that little disorder is expected."""
    micrograph = load(path)
    result = solve(micrograph, "disorder", prior=problem_of(micrograph).prior, seed=seed)
    share = float(disordered(result.labels).mean())
    draw(out / "real.png", micrograph, [("", None), (result.found.text, result.labels)])
    return Claim(
        "real image",
        "The workflow runs on a published image of YBa2Cu3O7.",
        "there is an answer; no truth is known",
        True,
        {"disordered": share, "score": result.chosen.score.value},
        "real.png",
    )


# --- pictures -------------------------------------------------------------------------------------


def draw(
    path: Path, micrograph: Micrograph, panels: Sequence[tuple[str, Points | Labels | None]]
) -> None:
    """The image under points in the colours of their classes, or under regions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 4.4), dpi=120, layout="constrained")
    low, high = np.percentile(micrograph.data, (0.5, 99.5))
    for axes, (title, what) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(micrograph.data, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        if isinstance(what, Points):
            _dots(axes, what)
        elif what is not None:
            shown = np.where(disordered(what), 1.0, np.nan)
            axes.imshow(shown, cmap="autumn", alpha=0.4, vmin=0, vmax=2, interpolation="nearest")
        axes.set_title(title, size=10)
        axes.set_axis_off()
    write(figure, path)


def _dots(axes: Axes, points: Points) -> None:
    colours = np.array([*COLOURS, "#d55e00"])  # the last is that of class -1
    y, x = points.yx.T
    axes.scatter(x, y, s=14, c=colours[points.classes % len(colours)], lw=0)


def draw_front(
    path: Path, trials: Sequence[Trial], front: Sequence[Trial], best: Trial, overlaps: Array
) -> None:
    """Compactness over perimeter, coloured by the overlap with the truth."""
    from matplotlib.figure import Figure

    def places(chosen: Sequence[Trial]) -> tuple[list[float], list[float]]:
        terms = [trial.score.terms for trial in chosen]
        return [t["perimeter"] for t in terms], [t["compactness"] for t in terms]

    figure = Figure(figsize=(5.4, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    dots = axes.scatter(*places(trials), c=overlaps, s=28, cmap="viridis", vmin=0, vmax=1, lw=0)
    axes.scatter(*places(front), s=60, fc="none", ec="#0072b2", label="front")
    axes.scatter(*places([best]), s=110, fc="none", ec="#d55e00", marker="s", label="chosen")
    figure.colorbar(dots, label="overlap with the truth")
    axes.set(xlabel="perimeter (sides of the image)", ylabel="compactness")
    axes.legend(frameon=False)
    write(figure, path)
