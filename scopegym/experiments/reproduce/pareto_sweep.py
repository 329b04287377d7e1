"""Images, what is asked of them, and a dense sweep of a blob detector's parameters over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np

from scopegym.agents.base import Front
from scopegym.answers import agreement
from scopegym.artifacts import Array, Points, State
from scopegym.cache import Cache, using
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Trial
from scopegym.micrograph import Micrograph
from scopegym.operators import registry as operators
from scopegym.prior import Prior
from scopegym.rewards.base import Reward, Score
from scopegym.sample.crystal import crystal
from scopegym.sample.projection import Projection
from scopegym.workflow import Step, Workflow

#: The two objectives, joined as the paper does: by the distance to where both are 0.
PAPER = Reward("paper-000", {"count_error": 1, "spacing_error": 1}, "euclidean")
#: What the package puts in their place, of the claims that such a sweep can weigh against each
#: other: four that must all hold.
FOUR = Reward(
    "four-terms",
    {"count_error": 1, "spacing_error": 1, "spacing_excess": 1, "image_evidence": 1},
    "product",
)
Distance = Literal["euclidean", "chebyshev"]
DISTANCES: tuple[Distance, ...] = ("euclidean", "chebyshev")
#: What is tuned, and its parameters.
LOG = "laplacian_of_gaussian"
KNOWN = operators[LOG].parameters
Grid = Mapping[str, Sequence[float]]
#: Values of each parameter; the paper prints none. Threshold and overlap, which it tunes, run over
#: the operator's whole range: thresholds in steps of 8 %, for at heavy noise steps of 27 % pass by
#: the right count. Scales [spacings] are those of a narrow and of a broad column.
GRID: Grid = {
    "min_sigma": (0.1, 0.15, 0.2, 0.25),
    "max_sigma": (0.3,),
    "threshold": KNOWN["threshold"].space.bins(60),
    "overlap": KNOWN["overlap"].space.bins(6),
}
#: The second oracle's sublattice: the heaviest atoms.
SPECIES = "Ba"
#: Standard deviations of Gaussian noise, in units of the clean image's range (paper: 0 to 1).
NOISE = (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)
#: The level at which the parameters were chosen that are then kept for comparison.
TUNED_AT = 0.1
#: Simulated fields: side [px] and pixel size [nm]. They hold about 350 columns.
SIDE, PIXEL_NM = 256, 0.02
#: Weights from 1:4 to 4:1 are judged, from 1:16 to 16:1 looked at, in this many steps per doubling.
JUDGED, LOOKED_AT, STEPS = 4, 16, 4
#: A change of F1 that counts as none, and what a choice may lose against the best of the grid.
SAME, REGRET = 0.01, 0.02
#: Half a period along b. Half of the whole cell would put Cu on Y, and Ba almost on Cu.
HALF_A_CELL = (0.0, 0.5)


# --- images and oracles ---------------------------------------------------------------------------

#: The bundled images by what they are called here.
MULTISLICE = {
    "multislice, noise-free": "ybco_100",
    "multislice, 1.4 counts/px": "ybco_100_poisson",
}


def simulated(level: float) -> str:
    """What the simulated image with this noise is called."""
    return f"simulated, noise {level:g}"


#: The images that are drawn.
SHOWN = (*MULTISLICE, simulated(0.2), simulated(0.6))


def ybco() -> Projection:
    """YBa2Cu3O7 along [100], as in all images here."""
    return crystal("YBa2Cu3O7").project((1, 0, 0))


def simulate(level: float, seed: int) -> Micrograph:
    """A simulated image with this noise."""
    return simulate_crystal(ybco(), (SIDE, SIDE), PIXEL_NM, noise=level, seed=seed)


def images(seed: int) -> dict[str, Micrograph]:
    """All images by name."""
    return {
        **{name: bundled(file) for name, file in MULTISLICE.items()},
        **{simulated(level): simulate(level, seed) for level in NOISE},
    }


@dataclass(frozen=True)
class Oracle:
    """Reference prior and ground truth of some columns."""

    prior: Prior
    truth: Points


def oracle(micrograph: Micrograph, species: str | None = None) -> Oracle:
    """The oracle of all columns, or of one sublattice: its own density and distances."""
    projection, truth = ybco(), micrograph.truth
    assert isinstance(truth, Points)
    if species is not None:
        truth = truth[species_of(micrograph) == species]
        chosen = np.array(projection.labels) == species
        projection = replace(
            projection,
            columns=projection.columns[chosen],
            weights=projection.weights[chosen],
            labels=(species,) * int(chosen.sum()),
        )
    shape = (micrograph.shape[0], micrograph.shape[1])
    return Oracle(projection.prior(shape, pixel_size_nm=micrograph.pixel_size_nm), truth)


def species_of(micrograph: Micrograph) -> Array:
    """The species of each true column ``[N]``: as recorded, or by how bright it was drawn."""
    recorded = micrograph.metadata.get("species")
    if recorded is not None:
        return np.array(recorded)
    projection, truth = ybco(), micrograph.truth
    assert isinstance(truth, Points)
    nearest = np.abs(truth.strength[:, None] - projection.weights).argmin(axis=1)
    return np.array(projection.labels)[nearest]


# --- the sweep ------------------------------------------------------------------------------------


def workflows(grid: Grid = GRID) -> tuple[Workflow, ...]:
    """LoG with every combination of parameters."""
    return tuple(
        Workflow((Step(LOG, dict(zip(grid, row, strict=True))),)) for row in product(*grid.values())
    )


@dataclass(frozen=True)
class Detections:
    """What each workflow found on an image; equal answers are one object."""

    micrograph: Micrograph
    workflows: tuple[Workflow, ...]
    states: tuple[State, ...]

    def judged(self, species: str | None = None) -> Sweep:
        """Every answer's score by the four terms and its F1, each computed once."""
        asked = oracle(self.micrograph, species)
        judged: dict[int, tuple[Score, float]] = {}
        with using(Cache()):
            for state in self.states:
                if id(state) not in judged:
                    f1 = agreement(asked.truth, state.need(Points), asked.prior)
                    judged[id(state)] = (FOUR(state, asked.prior), f1)
        scores, f1s = zip(*(judged[id(state)] for state in self.states), strict=True)
        trials = (Trial(w, s, 1, 0.0, 0.0) for w, s in zip(self.workflows, scores, strict=True))
        return Sweep(self, asked, tuple(trials), np.array(f1s))


def detect(micrograph: Micrograph, grid: Grid = GRID) -> Detections:
    """Carry out the grid: scale space and maxima are computed once per pair of scales.

    Scales are multiples of the spacing of all columns, whichever of them an oracle asks for.
    """
    cache, prior, tried = Cache(), oracle(micrograph).prior, workflows(grid)
    known: dict[bytes, State] = {}
    states = []
    for workflow in tried:
        state = workflow.run(micrograph, prior, cache=cache)
        states.append(known.setdefault(state.need(Points).yx.tobytes(), state))
    return Detections(micrograph, tried, tuple(states))


@dataclass(frozen=True, eq=False)
class Sweep:
    """The grid on one image in the eyes of one oracle: ``trials`` and their ``f1`` ``[N]``."""

    found: Detections
    oracle: Oracle
    trials: tuple[Trial, ...]
    f1: Array

    def points(self, row: int) -> Points:
        """What the workflow in this row found."""
        return self.found.states[row].need(Points)

    def parameter(self, row: int, name: str) -> float:
        """A parameter of the workflow in this row."""
        return float(self.trials[row].workflow.steps[0].params[name])

    def share(self, row: int) -> float:
        """Columns found over true columns, half a spacing and more from the border."""
        margin = self.oracle.prior.scale_px / 2
        true = np.count_nonzero(self.oracle.truth.inner(margin))
        return float(np.count_nonzero(self.points(row).inner(margin)) / true)

    def twins(self, row: int) -> list[int]:
        """Rows that give the same columns, this one included."""
        states = self.found.states
        return [other for other in range(len(states)) if states[other] is states[row]]

    def gaps(self, reward: Reward) -> Array:
        """Distance from the ideal in each term, 0..1 ``[N, T]``."""
        return np.array(
            [[1 - g for g in reward.goodnesses(t.score.terms).values()] for t in self.trials]
        )

    @cached_property
    def objectives(self) -> Array:
        """Count and spacing error ``[N, 2]``."""
        return self.gaps(PAPER)

    @cached_property
    def front(self) -> tuple[int, ...]:
        """Rows that no other row beats in both objectives, by rising count error; of equals the
        first."""
        return self.front_of(range(len(self.trials)))

    def front_of(self, rows: Iterable[int]) -> tuple[int, ...]:
        """The front of some rows alone."""
        row_of = {id(self.trials[row]): row for row in rows}
        kept = Front(PAPER, (self.trials[row] for row in row_of.values()))
        return tuple(sorted((row_of[id(t)] for t in kept), key=lambda row: self.objectives[row, 0]))

    @cached_property
    def widest_front(self) -> int:
        """The most answers on a front of threshold and overlap alone, scales given."""
        scales: dict[tuple[float, float], list[int]] = {}
        for row in range(len(self.trials)):
            pair = (self.parameter(row, "min_sigma"), self.parameter(row, "max_sigma"))
            scales.setdefault(pair, []).append(row)
        return max(len(self.front_of(rows)) for rows in scales.values())

    def nearest(self, distance: Distance, weights: Sequence[float] = (1, 1)) -> int:
        """The row on the front nearest to the ideal point, with each objective's distance
        multiplied by its weight."""
        gaps = self.objectives[list(self.front)] * np.array(weights)
        far = np.hypot(*gaps.T) if distance == "euclidean" else gaps.max(axis=1)
        return self.front[int(far.argmin())]

    def best(self, weights: Array | None = None) -> Array:
        """The rows ``[M]`` that the four terms put first, with their goodnesses to the
        power of weights ``[M, T]``; all 1 unless given."""
        gaps = self.gaps(FOUR)
        powers = np.ones((1, gaps.shape[1])) if weights is None else weights
        # A goodness of 0 spoils a product at any weight; its logarithm must stay finite for that.
        rows: Array = (powers @ np.log(np.maximum(1 - gaps, 1e-12)).T).argmax(axis=1)
        return rows

    def to_dict(self, row: int) -> dict[str, Any]:
        """A choice in plain values."""
        score = self.trials[row].score
        return {
            **{name: self.parameter(row, name) for name in GRID},
            **{name: score.terms[name] for name in PAPER.weights},
            "columns": len(self.points(row)),
            "found_over_true": self.share(row),
            "f1": float(self.f1[row]),
            "parameter_sets_alike": len(self.twins(row)),
        }
