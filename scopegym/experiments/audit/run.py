"""The audit of a reward: its agreement with the truth, where it fails, and what can fool it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.artifacts import Array
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.audit.examine import TOLD, Attack, Examined, Examiner, Job, Judged
from scopegym.experiments.audit.hostile import probe
from scopegym.experiments.folders import Output
from scopegym.experiments.outputs import to_json
from scopegym.experiments.verdict import Line
from scopegym.registry import PluginFile, read_plugins
from scopegym.rewards.base import Reward
from scopegym.version import __version__
from scopegym.workers import Backend, WorkerDied, map_unordered
from scopegym.workers.pool import CALL_SECONDS, EXECUTION_SECONDS

#: Files of an audit.
FILES = ("audit.json", "audit.md", "workflows.parquet", "attacks.parquet", "report.html")
#: Problems examined, and random workflows tried on each of them.
PROBLEMS, WORKFLOWS = 60, 60
#: Groups of equal size that the problems are divided into by their noise.
LEVELS = 4
#: Share of the problems on which an adversary may score more than allowed, as for the regret. Some
#: fields hold only a few columns, so that random positions are nearly right.
EXEMPT = 0.1


@dataclass(frozen=True)
class Standard:
    """The thresholds of an audit.

    ``tau``: Kendall's rank correlation with the truth over random workflows, median over problems.
    ``regret_median`` and ``regret_90``: by how much the truth of the workflow with the highest
    reward falls short of the best, median and 90th percentile over problems. ``margin``: by how
    much the true answer's score exceeds that of every wrong one, except on a share of ``EXEMPT`` of
    the problems.
    ``seconds``: the 95th percentile of the cost of one evaluation.
    """

    tau: float = 0.75
    regret_median: float = 0.01
    regret_90: float = 0.03
    margin: float = 0.4
    seconds: float = 1.0


STANDARD = Standard()


def audit(
    task: str,
    out: str | Path,
    *,
    reward: Reward | None = None,
    problems: int = PROBLEMS,
    workflows: int = WORKFLOWS,
    seed: int = 0,
    workers: int = 2,
    backend: Backend = "ray",
    plugins: Sequence[Path | PluginFile] = (),
    on_problem: Callable[[Examined], None] | None = None,
) -> dict[str, Any]:
    """Audit a task's reward, or another one for this task, and write the results.

    Problems are drawn from the task's sampler, which knows the truth. Files:

    - ``audit.json``: the returned values,
    - ``workflows.parquet`` and ``attacks.parquet``: a row per answer,
    - ``audit.md``: the verdict as a table,
    - ``report.html``: all results, with pictures of the worst cases.

    Raises ScopegymError on bad input.
    """
    from scopegym.experiments.audit.page import write_page

    job = Job(task, reward or tasks[task].reward, workflows, seed, read_plugins(plugins))
    output = Output(Path(out), "audit")
    output.claim(FILES)
    lines = probe(job)
    examined: list[Examined] = []
    if all(line.passed for line in lines):  # else figures mean nothing
        examined = sorted(_spread(job, problems, workers, backend, on_problem), key=_index)
    plain = {**_heading(job, len(examined)), **figures(job.reward, examined)}
    verdict = [*judgements(plain), *lines] if examined else lines
    plain |= {
        "passed": all(line.passed for line in verdict),
        "verdict": [line.to_dict() for line in verdict],
    }
    with output.writing() as scratch:
        (scratch / "audit.json").write_text(to_json(plain), encoding="utf-8")
        (scratch / "audit.md").write_text(markdown(plain), encoding="utf-8")
        write_tables(examined, scratch)
        write_page(job, plain, examined, scratch / "report.html")
    return plain


def _index(one: Examined) -> int:
    return one.index


def _spread(
    job: Job,
    problems: int,
    workers: int,
    backend: Backend,
    on_problem: Callable[[Examined], None] | None,
) -> Iterator[Examined]:
    waiting = deque((index,) for index in range(problems))
    workers = min(workers, problems)
    limit = max(CALL_SECONDS, EXECUTION_SECONDS * job.workflows)
    for (index,), future in map_unordered(
        waiting, "examine", workers, backend, Examiner, job, plugins=job.plugins, seconds=limit
    ):
        try:
            found: Examined = future.result()
        except WorkerDied as death:
            raise ScopegymError(f"Problem {index} ends its worker: {death}.") from None
        if on_problem is not None:
            on_problem(found)
        yield found


def _heading(job: Job, problems: int) -> dict[str, Any]:
    return {
        "task": job.task,
        "reward": job.reward.to_dict(),
        "problems": problems,
        "workflows": job.workflows,
        "seed": job.seed,
        "scopegym": __version__,
        "standard": asdict(STANDARD),
    }


# --- figures --------------------------------------------------------------------------------------


def figures(reward: Reward, examined: Sequence[Examined]) -> dict[str, Any]:
    """All statistics of an audit as plain values; empty if no problem was examined."""
    if not examined:
        return {}
    return {
        "overall": agreement_of(examined, _value),
        "noise_levels": [*by_noise(examined)],
        "terms": [*by_term(reward, examined)],
        "adversaries": margins(examined, _value),
        "cost": cost(examined),
    }


def _value(judged: Judged) -> float:
    return judged.value


Value = Callable[[Judged], float]


def agreement_of(examined: Sequence[Examined], value: Value) -> dict[str, float | None]:
    """Rank correlation of a value with the truth, and regret, over these problems."""
    from scipy.stats import kendalltau, spearmanr

    pairs = [_pairs(one, value) for one in examined]
    # If all workflows are equally right, there is no order to compare.
    told = [(v, t) for v, t in pairs if np.ptp(t) > 0]
    taus = [kendalltau(v, t).statistic if np.ptp(v) > 0 else 0.0 for v, t in told]
    rhos = [spearmanr(v, t).statistic if np.ptp(v) > 0 else 0.0 for v, t in told]
    chosen = np.array([(v.max(), t[v.argmax()], t.max()) for v, t in pairs])
    regret = chosen[:, 2] - chosen[:, 1]
    return {
        "kendall": _median(taus),
        "spearman": _median(rhos),
        "regret_median": float(np.median(regret)),
        "regret_90": float(np.percentile(regret, 90)),
        "regret_most": float(regret.max()),
        "chosen_value": float(chosen[:, 0].mean()),
        "chosen_truth": float(chosen[:, 1].mean()),
        "honest_value": float(np.mean([one.honest.value for one in examined])),
    }


def _pairs(one: Examined, value: Value) -> tuple[Array, Array]:
    """Value and truth of every workflow tried ``[N]``."""
    return (
        np.array([value(judged) for judged in one.tried]),
        np.array([judged.truth for judged in one.tried]),
    )


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def by_noise(examined: Sequence[Examined]) -> Iterator[dict[str, Any]]:
    """The same statistics for groups of similar noise, in ascending order."""
    known = [(one.noise, one.index, one) for one in examined if one.noise is not None]
    ranked = [one for _, _, one in sorted(known, key=lambda row: row[:2])]
    size = -(-len(ranked) // LEVELS)
    for start in range(0, len(ranked), max(size, 1)):
        group = ranked[start : start + size]
        yield {
            "noise": [group[0].noise, group[-1].noise],
            "problems": len(group),
            **agreement_of(group, _value),
        }


def by_term(reward: Reward, examined: Sequence[Examined]) -> Iterator[dict[str, Any]]:
    """Agreement of each term alone with the truth, and of the reward without this term."""
    names = list(reward.weights)
    for name in names:
        alone = agreement_of(examined, partial(_term, name))
        entry: dict[str, Any] = {
            "term": name,
            "weight": reward.weights[name],
            "kendall": alone["kendall"],
            "spearman": alone["spearman"],
        }
        if len(names) > 1:
            rest = {term: w for term, w in reward.weights.items() if term != name}
            without = Reward(f"{reward.name} without {name}", rest, reward.scalarisation)

            value = partial(_combined, without)
            lost = margins(examined, value)
            judged = [row for row in lost if row["judged"]]
            worst = min(judged, key=lambda row: row["margin"]) if judged else None
            entry["without"] = {
                **{key: agreement_of(examined, value)[key] for key in ("kendall", "regret_90")},
                "margin": None if worst is None else worst["margin"],
                "adversary": None if worst is None else worst["adversary"],
            }
        yield entry


def _term(name: str, judged: Judged) -> float:
    return judged.terms[name]


def _combined(reward: Reward, judged: Judged) -> float:
    return reward.combine(judged.terms)


def margins(examined: Sequence[Examined], value: Value) -> list[dict[str, Any]]:
    """The score of the true answer minus that of each adversary's best wrong answer."""
    found: dict[str, list[tuple[float, int]]] = {}
    right: dict[str, int] = {}
    for one in examined:
        for name, attack in strongest(one.attacks, value).items():
            right.setdefault(name, 0)
            if attack is None:
                right[name] += 1
            else:
                margin = value(one.honest) - value(attack.judged)
                found.setdefault(name, []).append((margin, one.index))
    return [
        {
            "adversary": name,
            "judged": name not in TOLD,
            "problems": len(rows),
            "mostly_right": right[name],
            "margin": float(np.percentile([margin for margin, _ in rows], 100 * EXEMPT)),
            "median": float(np.median([margin for margin, _ in rows])),
            "least": min(rows)[0],
            "worst": min(rows)[1],
        }
        for name, rows in found.items()
    ]


def strongest(attacks: Iterable[Attack], value: Value) -> dict[str, Attack | None]:
    """The wrong answer of highest value of each adversary; None if all its answers were right."""
    best: dict[str, Attack | None] = {}
    for attack in attacks:
        former = best.setdefault(attack.name, None)
        if attack.wrong and (former is None or value(attack.judged) > value(former.judged)):
            best[attack.name] = attack
    return best


def cost(examined: Sequence[Examined]) -> dict[str, float]:
    """Seconds of one evaluation, and the share of the reward in the time of workflow and reward."""
    spent = np.array([judged.seconds for one in examined for judged in one.tried])
    operators, reward = spent.T
    return {
        "median_s": float(np.median(reward)),
        "percentile_95_s": float(np.percentile(reward, 95)),
        "share": float(reward.sum() / max(spent.sum(), 1e-9)),
        "operators_median_s": float(np.median(operators)),
    }


# --- verdict --------------------------------------------------------------------------------------


def judgements(plain: dict[str, Any]) -> Iterator[Line]:
    """The lines of the verdict on the statistics."""
    overall, spent = plain["overall"], plain["cost"]
    tau = overall["kendall"]
    yield Line(
        "rank correlation",
        tau is not None and tau >= STANDARD.tau,
        tau,
        STANDARD.tau,
        "Kendall's tau of reward and truth over random workflows, median over the problems.",
    )
    for key, share in (("regret_median", "median"), ("regret_90", "90th percentile")):
        threshold = getattr(STANDARD, key)
        yield Line(
            f"regret, {share}",
            overall[key] <= threshold,
            overall[key],
            threshold,
            "Truth of the best workflow minus truth of the one with the highest reward.",
        )
    for row in (row for row in plain["adversaries"] if row["judged"]):
        yield Line(
            f"beats: {row['adversary']}",
            row["margin"] >= STANDARD.margin,
            row["margin"],
            STANDARD.margin,
            f"True answer's score minus the wrong one's, on all but {100 * EXEMPT:.0f} % of "
            f"{row['problems']} problems; median {row['median']:.2f}, least {row['least']:.2f}.",
        )
    yield Line(
        "cost per evaluation",
        spent["percentile_95_s"] <= STANDARD.seconds,
        spent["percentile_95_s"],
        STANDARD.seconds,
        f"95th percentile [s]; median {1e3 * spent['median_s']:.1f} ms, "
        f"{100 * spent['share']:.0f} % of the time of workflow and reward together.",
    )


def summary(plain: dict[str, Any]) -> list[str]:
    """The verdict, line by line."""
    lines = [
        f"{'pass' if line['passed'] else 'FAIL'}  {line['name']}{_figure(line)}: {line['text']}"
        for line in plain["verdict"]
    ]
    if not plain["problems"]:
        lines.append(
            "No problem was examined: statistics of a reward that breaks its contract mean nothing."
        )
    verdict = "passes" if plain["passed"] else "does NOT pass"
    return [*lines, f"{plain['reward']['name']} {verdict} its audit for {plain['task']}."]


def _figure(line: dict[str, Any]) -> str:
    if line["value"] is None:
        return ""
    return f" {line['value']:.3f} ({line['threshold']:g} wanted)"


def markdown(plain: dict[str, Any]) -> str:
    """The verdict as a table of Markdown."""
    rows = ["| | | wanted | |", "|---|---|---|---|"]
    for line in plain["verdict"]:
        value, wanted = (
            "" if line[key] is None else f"{line[key]:.3g}" for key in ("value", "threshold")
        )
        rows.append(
            f"| {line['name']} | {value} | {wanted} | {'pass' if line['passed'] else '**fail**'} |"
        )
    return "\n".join(rows) + "\n"


def write_tables(examined: Sequence[Examined], folder: Path) -> None:
    """Write ``workflows.parquet`` and ``attacks.parquet``, with a row for every answer."""
    import pandas as pd

    def row(one: Examined, judged: Judged) -> dict[str, Any]:
        return {
            "problem": one.index,
            "image": one.name,
            "noise": one.noise,
            "value": judged.value,
            "truth": judged.truth,
            **judged.terms,
            "workflow": None if judged.workflow is None else str(judged.workflow),
        }

    tried = [row(one, judged) for one in examined for judged in one.tried]
    attacks = [
        {"adversary": attack.name, "wrong": attack.wrong, **row(one, attack.judged)}
        for one in examined
        for attack in one.attacks
    ]
    for name, rows in (("workflows", tried), ("attacks", attacks)):
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet", index=False)
