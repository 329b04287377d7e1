"""The results of a benchmark: tables, statistics, verdict, page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scopegym.agents.base import registry as agents
from scopegym.agents.policy import Policy
from scopegym.answers import described
from scopegym.experiments.benchmark.page import write_leaderboard, write_page
from scopegym.experiments.benchmark.regimes import (
    COLD,
    EXPERT,
    MOST_SEEDS,
    POLICY,
    REFERENCE,
    REGIMES,
    Unit,
    tunable,
)
from scopegym.experiments.benchmark.searches import Point
from scopegym.experiments.benchmark.setting import Setting
from scopegym.experiments.benchmark.standings import DRAWS, LEVEL, Standings, rows
from scopegym.experiments.benchmark.verdict import break_even_points, lines, training_cost
from scopegym.experiments.benchmark.workflows import write_workflows
from scopegym.experiments.folders import Output
from scopegym.experiments.outputs import to_json
from scopegym.workflow import versions

RESULT = "benchmark.json"
#: Further packages whose version can change a search.
SEARCHING = ("scikit-optimize", "scikit-learn", "optuna", "botorch")


def summarise(
    setting: Setting,
    output: Output,
    work: Sequence[Unit],
    records: Sequence[Mapping[str, Any]],
    chosen: Sequence[str],
    workers: int,
) -> dict[str, Any]:
    """Write all results for the records of ``work``; returns the content of ``benchmark.json``."""
    wanted = [regime for regime in REGIMES if any(unit.regime == regime for unit in work)]
    table, curves = rows(records, setting.held_out), _curves(records)
    order = _ordered([*dict.fromkeys(unit.agent for unit in work)], chosen)
    drawn = curves[curves["regime"] != "B"]  # most of its runs are a single trial
    regimes = {
        regime: Standings(
            _of(regime, table, chosen, setting.seed),
            _of(regime, drawn, chosen, setting.seed),
            order,
            setting.seed,
        )
        for regime in wanted
    }
    result = _result(setting, regimes, records, chosen, workers)
    with output.writing(more=True) as scratch:
        _named(table, setting).to_parquet(scratch / "runs.parquet", index=False)
        _named(curves, setting).to_parquet(scratch / "curves.parquet", index=False)
        write_page(result, scratch / "report.html")
        write_leaderboard(result, scratch / "leaderboard.md")
        (scratch / RESULT).write_text(to_json(result), encoding="utf-8")
    write_workflows(setting, records, output)
    return result


def _ordered(found: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Agents in the order asked for, then their variants in regimes B and C."""
    made = [name for name in found if name not in chosen]
    return (*chosen, *made, *(f"{name}{COLD}" for name in chosen))


def _of(regime: str, table: pd.DataFrame, chosen: Sequence[str], seed: int) -> pd.DataFrame:
    """The rows of a regime. C also has the same searches of A, for comparison."""
    mine = table[table["regime"] == regime]
    if regime != "C":
        return mine
    compared = [name for name in chosen if name != POLICY and agents[name].chance]
    same = (table["agent"].isin(compared)) & (table["seed"] < seed + MOST_SEEDS["C"])
    cold = table[(table["regime"] == "A") & same]
    return pd.concat([mine, cold.assign(agent=cold["agent"] + COLD)], ignore_index=True)


def _curves(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = ["regime", "agent", "image", "seed"]
    table = [
        (*(record[name] for name in names), number, *point)
        for record in records
        for number, point in enumerate(record.get("curve", ()), 1)
    ]
    frame = pd.DataFrame(table, columns=[*names, "trial", *Point._fields])
    return frame.astype({"truth": float})


def _named(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The table with names of images in place of their numbers."""
    return table.assign(image=[setting.names[int(number)] for number in table["image"]])


def _result(
    setting: Setting,
    regimes: Mapping[str, Standings],
    records: Sequence[Mapping[str, Any]],
    chosen: Sequence[str],
    workers: int,
) -> dict[str, Any]:
    policy = setting.load_policy()
    found = {
        regime: {"title": REGIMES[regime], **standings.to_dict()}
        for regime, standings in regimes.items()
    }
    paid: dict[str, Any] = {}
    if "B" in found and policy is not None and setting.policy is not None:
        paid = break_even_points(found["B"], training_cost(policy, setting.policy.path))
        found["B"] |= paid
    called = _measure(setting)
    verdict = lines(setting.task, regimes, paid, setting.budget, called or "truth")
    return {
        "task": setting.task_name,
        "passed": all(line.passed for line in verdict),
        "verdict": [line.to_dict() for line in verdict],
        "settings": {
            "agents": list(chosen),
            "regimes": list(regimes),
            "budget": setting.budget,
            "seeds": {
                r: int(standings.own(r)["seed"].nunique()) for r, standings in regimes.items()
            },
            "seed": setting.seed,
            "reward": setting.task.reward.name,
            "measure": called,
            "images": list(setting.names),
            "simulated": setting.given is None,
            "tuning_images": setting.tuning_images,
            "policy": None if policy is None else policy.spec["sha256"],
            "intervals": {"level": LEVEL, "draws": DRAWS, "over": "images and seeds"},
        },
        "machine": {**_machine(), "workers": workers},
        "versions": {**versions(), **_searching()},
        "regimes": found,
        "failures": [
            {**{name: record[name] for name in Unit._fields}, "reason": record["error"]}
            for record in records
            if "error" in record
        ],
        "notes": list(_notes(setting, regimes, chosen, policy)),
    }


def _measure(setting: Setting) -> str | None:
    """The name of the agreement with the truth; None if no image has a truth."""
    for index in range(len(setting.names)):
        known = setting.problem(index).micrograph.truth
        if known is not None:
            return described(known).measure(known)
    return None


def _notes(
    setting: Setting,
    regimes: Mapping[str, Standings],
    chosen: Sequence[str],
    policy: Policy | None,
) -> Iterator[str]:
    """Notes for the reader."""
    if any((s.runs["failure"] != "").any() for s in regimes.values()):
        yield "A failed run counts with a score and a truth of 0."
    if not any("truth" in standings.columns for standings in regimes.values()):
        yield "The truth of these images is not known, so only scores are compared."
    if policy is not None and policy.reward.name != setting.task.reward.name:
        yield (
            f"The policy was trained on the reward {policy.reward.name}. All agents are scored "
            f"with {setting.task.reward.name}."
        )
    if "B" in regimes:
        left = [name for name in chosen if name != EXPERT and name not in tunable(chosen)]
        if left:
            yield (
                f"{' and '.join(left)} cannot tune a workflow in B, because an episode has one "
                "image."
            )
        yield (
            f"In B a workflow is tuned on {setting.tuning_images} images with {setting.budget} "
            f"evaluations; {REFERENCE} has {setting.budget} evaluations per image."
        )


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "cpu": _cpu(), "system": platform.system()}


def _cpu() -> str:
    """The processor's name."""
    try:
        lines_of = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines_of if line.startswith("model name"))
    return next(named, platform.machine())


def _searching() -> dict[str, str]:
    found = {}
    for name in SEARCHING:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
