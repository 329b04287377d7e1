"""Statistics over the runs of all agents, with uncertainties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from scopegym.aggregates import (
    Interval,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from scopegym.artifacts import Array

#: Bootstrap draws for an interval, and for each point of a curve's band.
DRAWS, BAND_DRAWS = 2000, 200
LEVEL = 0.95
#: Thresholds of profiles, and number of points of a curve.
THRESHOLDS = np.linspace(0, 1, 101)
POINTS = 40
SPLIT = ("operators", "reward", "overhead")
#: Columns of every table of runs, even of one without results.
COLUMNS = (
    *("regime", "agent", "image", "seed", "score", "truth", "executions", "evaluations"),
    *("failed_workflows", *(f"seconds_{part}" for part in SPLIT), "hypervolume", "failure"),
)

Statistic = Callable[..., float]


def rows(records: Sequence[Mapping[str, Any]], held_out: Sequence[int]) -> pd.DataFrame:
    """One row for every run. Failed runs have a score of 0."""
    table = []
    for record in records:
        shared = {name: record[name] for name in ("regime", "agent", "seed")}
        for run in record.get("runs", ()):
            seconds = {f"seconds_{name}": run["seconds"][name] for name in SPLIT}
            kept = {k: v for k, v in run.items() if k not in ("seconds", "terms", "workflow")}
            table.append({**shared, **kept, **seconds, **run["terms"], "failure": ""})
        if "error" in record:
            images = held_out if record["image"] is None else [record["image"]]
            worst = {"score": 0.0, "hypervolume": 0.0, "failure": record["error"]}
            table += [{**shared, "image": image, **worst} for image in images]
    found = pd.DataFrame(table)
    frame = found.reindex(columns=[*dict.fromkeys([*COLUMNS, *found.columns])])
    frame["truth"] = frame["truth"].astype(float)
    known = frame.groupby("image")["truth"].transform(lambda truths: truths.notna().any())
    frame.loc[(frame["failure"] != "") & known, "truth"] = 0.0
    return frame.sort_values(["regime", "agent", "image", "seed"], ignore_index=True)


@dataclass(frozen=True, eq=False)
class Standings:
    """Comparison of the agents of one regime on the same images.

    Intervals are over images and seeds: they cover other images. Bands of curves are over seeds
    only, because all agents have the same images.
    """

    runs: pd.DataFrame
    #: Points of the searches by agent, image and seed.
    curves: pd.DataFrame
    order: tuple[str, ...]
    seed: int = 0
    _values: dict[tuple[str, str], Array] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """The agents with runs, in the order asked for."""
        return tuple(name for name in self.order if (self.runs["agent"] == name).any())

    def own(self, regime: str) -> pd.DataFrame:
        """The runs of this regime, without those of another one for comparison."""
        return self.runs[self.runs["regime"] == regime]

    def values(self, agent: str, column: str) -> Array:
        """Values of a column ``[seeds, images]``; for the truth, only images that have one."""
        if (agent, column) not in self._values:
            mine = self.runs[self.runs["agent"] == agent]
            table = mine.pivot(index="seed", columns="image", values=column).astype(float)
            self._values[agent, column] = table.dropna(axis="columns", how="any").to_numpy()
        return self._values[agent, column]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns for the comparison: the score, and the truth if any image has one."""
        return ("score", "truth") if self.runs["truth"].notna().any() else ("score",)

    def interval(self, statistic: Statistic, *arrays: Array) -> Interval:
        """A statistic of ``[seeds, images]`` with its interval over images and seeds."""
        rng = np.random.default_rng(self.seed)
        return stratified_bootstrap(
            *arrays, statistic=statistic, rng=rng, draws=DRAWS, level=LEVEL, over="images"
        )

    def band(self, values: Array) -> Interval:
        """The interquartile mean of ``[seeds, images]`` with its interval over seeds."""
        rng = np.random.default_rng(self.seed)
        return stratified_bootstrap(
            values, statistic=interquartile_mean, rng=rng, draws=BAND_DRAWS, level=LEVEL
        )

    def difference(self, one: str, other: str, column: str) -> Interval:
        """The difference of two agents' interquartile means on the same images."""
        return self.interval(
            lambda a, b: interquartile_mean(a) - interquartile_mean(b),
            self.values(one, column),
            self.values(other, column),
        )

    def gain(self, one: str, other: str, column: str) -> float:
        """The difference of two agents' means. Unlike interquartile means, they show failures on a
        few images."""
        return float(self.values(one, column).mean() - self.values(other, column).mean())

    def to_dict(self) -> dict[str, Any]:
        """Statistics of every agent, profiles and curves."""
        return {
            "agents": {name: self._agent(name) for name in self.agents},
            "profile": {
                "thresholds": THRESHOLDS.round(6).tolist(),
                **{c: {a: self._profile(a, c) for a in self.agents} for c in self.columns},
            },
            "curves": {} if self.curves.empty else self._curves(),
        }

    def _agent(self, name: str) -> dict[str, Any]:
        mine = self.runs[self.runs["agent"] == name]
        done = mine[mine["failure"] == ""]
        figures: dict[str, Any] = {"score": None, "truth": None}
        for column in self.columns:
            values = self.values(name, column)
            figures[column] = {
                **plain(self.interval(interquartile_mean, values)),
                "mean": float(values.mean()),
            }
        seconds = {part: _mean(done[f"seconds_{part}"]) for part in SPLIT}
        total = None if None in seconds.values() else sum(v or 0.0 for v in seconds.values())
        return {
            **figures,
            "runs": len(mine),
            "failed": len(mine) - len(done),
            "executions": _mean(done["executions"]),
            "evaluations": _mean(done["evaluations"]),
            "seconds": {**seconds, "total": total},
            "hypervolume": plain(self.interval(_average, self.values(name, "hypervolume"))),
            "better_than": {
                other: {c: self._improvement(name, other, c) for c in self.columns}
                for other in self.agents
                if other != name
            },
        }

    def _improvement(self, one: str, other: str, column: str) -> dict[str, float]:
        """Probability that a run of one agent is better than one of the other."""
        if self.agents.index(one) > self.agents.index(other):
            value, high, low = (1 - p for p in self._likelihoods[other, one, column])
            return plain(Interval(value, low, high))
        return plain(self._likelihoods[one, other, column])

    @cached_property
    def _likelihoods(self) -> dict[tuple[str, str, str], Interval]:
        return {
            (one, other, column): self.interval(
                probability_of_improvement, self.values(one, column), self.values(other, column)
            )
            for one, other in combinations(self.agents, 2)
            for column in self.columns
        }

    def _profile(self, agent: str, column: str) -> list[float]:
        return performance_profile(self.values(agent, column), THRESHOLDS).round(6).tolist()

    # Anytime curves ------------------------------------------------------------------------------

    def _curves(self) -> dict[str, Any]:
        """Interquartile means of the runs over executions and over seconds."""
        curves = self.curves.assign(seconds=self.curves[[*SPLIT]].sum(axis=1))
        first, last = max(curves["seconds"].min(), 1e-3), max(curves["seconds"].max(), 2e-3)
        along = {
            "executions": np.unique(np.linspace(1, curves["executions"].max(), POINTS).round()),
            "seconds": np.geomspace(first, last, POINTS),
        }
        return {
            axis: {
                "at": at.round(6).tolist(),
                **{
                    column: {a: self._curve(curves, a, axis, at, column) for a in self.agents}
                    for column in self.columns
                },
            }
            for axis, at in along.items()
        }

    def _curve(
        self, curves: pd.DataFrame, agent: str, axis: str, at: Array, column: str
    ) -> dict[str, list[float]]:
        """Interquartile mean and interval at each point of an axis."""
        runs = self.runs[self.runs["agent"] == agent]
        if column == "truth":
            runs = runs[runs["truth"].notna()]
        mine = curves[curves["agent"] == agent]
        steps = {
            key: standing(run[axis].to_numpy(), run[column].to_numpy(), at)
            for key, run in mine.groupby(["seed", "image"])
        }
        nothing = np.zeros(len(at))  # a failed run
        found = [
            self.band(values)
            for values in np.array(
                [
                    [steps.get((seed, image), nothing) for image in sorted(set(runs["image"]))]
                    for seed in sorted(set(runs["seed"]))
                ]
            ).transpose(2, 0, 1)
        ]
        return {name: [round(getattr(f, name), 6) for f in found] for name in Interval._fields}


def standing(spent: Array, value: Array, at: Array) -> Array:
    """The value of a run at these costs: 0 before its first trial, the last value after its end."""
    index = np.searchsorted(spent, at, side="right")
    return np.concatenate([[0.0], value])[index]


def plain(interval: Interval) -> dict[str, float]:
    """An interval as plain values."""
    return dict(interval._asdict())


def _average(values: Array) -> float:
    return float(np.mean(values))


def _mean(column: Any) -> float | None:
    """The mean of the known values; None if there are none."""
    return float(column.mean()) if column.notna().any() else None
