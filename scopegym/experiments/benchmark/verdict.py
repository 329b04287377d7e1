"""The verdict of a benchmark, line by line, and the break-even of a training."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scopegym.agents.policy import Policy
from scopegym.aggregates import interquartile_mean
from scopegym.envs.problem import Task
from scopegym.errors import one_line
from scopegym.experiments.benchmark.regimes import EXPERT, POLICY, REFERENCE, TUNED
from scopegym.experiments.benchmark.standings import Standings
from scopegym.experiments.training.checkpoint import LOG
from scopegym.experiments.verdict import Line

#: Images of one session at the microscope. A training should pay within a session.
SESSION = 100


@dataclass(frozen=True)
class Cost:
    """The cost of a training: wall-clock seconds and operator executions, None if not recorded.
    ``source`` names the record."""

    seconds: float | None
    executions: float | None
    steps: int | None
    source: str


def training_cost(policy: Policy, folder: Path) -> Cost:
    """The cost of the whole training from its log, or, from the spec, the cost up to the best
    weights."""
    try:
        with (folder / LOG).open(encoding="utf-8", newline="") as lines:
            last = [*csv.DictReader(lines)][-1]
        return Cost(float(last["seconds"]), float(last["executed"]), int(float(last["steps"])), LOG)
    except (OSError, LookupError, ValueError):
        reached = policy.spec["validation"]
        source = "spec.json, up to the best weights"
        return Cost(reached.get("seconds"), reached.get("executed"), reached.get("steps"), source)


def break_even(training: float | None, search: float | None, policy: float | None) -> float | None:
    """Number of images after which a training costs less than a search of every image.

    All costs have the same unit; ``search`` and ``policy`` are per image. None if there is no such
    number, or if a cost is unknown.
    """
    if training is None or search is None or policy is None or search <= policy:
        return None
    return training / (search - policy)


def break_even_points(amortised: Mapping[str, Any], cost: Cost) -> dict[str, Any]:
    """The break-even of regime B, in seconds and in operator executions."""
    search, policy = (amortised["agents"].get(name) for name in (REFERENCE, POLICY))
    if search is None or policy is None:
        return {}
    found = {
        "seconds": break_even(cost.seconds, search["seconds"]["total"], policy["seconds"]["total"]),
        "executions": break_even(cost.executions, search["executions"], policy["executions"]),
    }
    timed = None not in (search["seconds"]["total"], policy["seconds"]["total"])
    return {"training": asdict(cost), "break_even": found, "text": _said(found, cost, timed)}


def _said(found: Mapping[str, float | None], cost: Cost, timed: bool) -> str:
    if cost.seconds is None:
        return "The policy does not record the time of its training, so no break-even is known."
    if not timed:
        return "No run gives the time of an episode or of a search, so no break-even is known."
    if found["seconds"] is None:
        return "The training never pays: an episode takes at least as much time as a search."
    executions = found["executions"]
    more = "" if executions is None else f"; by operator executions, after {executions:,.0f}"
    return (
        f"The training of {cost.seconds:,.0f} s pays after {found['seconds']:,.0f} images{more}. "
        "These are wall-clock seconds on all its cores; a search has one core."
    )


# --- lines ---------------------------------------------------------------------------------------


def lines(
    task: Task,
    regimes: Mapping[str, Standings],
    paid: Mapping[str, Any],
    evaluations: int,
    measure: str,
) -> list[Line]:
    """The whole verdict. Differences up to twice the task's tie are allowed, because each of the
    two values is uncertain by one tie."""
    allowed = 2 * task.tie
    found = [_finished(regimes)]
    if "A" in regimes:
        found += _not_fooled(regimes["A"], measure, allowed)
    if "B" in regimes and {POLICY, REFERENCE} <= {*regimes["B"].agents}:
        found += _amortised(regimes["B"], paid, evaluations, measure, allowed)
        found.append(_few(regimes["B"], task.few))
    return found


def _finished(regimes: Mapping[str, Standings]) -> Line:
    own = [standings.own(regime) for regime, standings in regimes.items()]
    failed = sum(int((runs["failure"] != "").sum()) for runs in own)
    total = sum(map(len, own))
    text = f"{total - failed:,} of {total:,} runs finished."
    if failed:
        reasons = Counter(reason for runs in own for reason in runs["failure"] if reason)
        (reason, _), *_ = reasons.most_common(1)
        text += f" Most often: {one_line(str(reason), 200)}"
    return Line("every run finished", not failed, float(failed), 0.0, text)


def _not_fooled(search: Standings, measure: str, allowed: float) -> Iterator[Line]:
    """Fails for a searcher with a higher score and a lower truth than the expert."""
    if "truth" not in search.columns or EXPERT not in search.agents:
        return
    for name in search.agents:
        if name != EXPERT:
            score, truth = (search.gain(name, EXPERT, c) for c in ("score", "truth"))
            yield Line(
                f"{name} does not fool the reward",
                not (score > 0 and truth < -allowed),
                truth,
                -allowed,
                f"Compared with the expert, the mean score of {name} changes by {score:+.3f} and "
                f"its mean {measure} by {truth:+.3f}. If the score is higher, {measure} may "
                f"fall by {allowed:g}.",
            )


def _few(learned: Standings, few: int) -> Line:
    """Fails for a policy that needs as many executions as a search."""
    spent = learned.runs.loc[learned.runs["agent"] == POLICY, "executions"].dropna()
    most = float(spent.max()) if len(spent) else None
    return Line(
        "the policy runs few operators",
        most is not None and most <= few,
        most,
        few,
        f"At most {0 if most is None else most:.0f} operator executions for an image; "
        f"{few} are allowed.",
    )


def _amortised(
    learned: Standings, paid: Mapping[str, Any], evaluations: int, measure: str, allowed: float
) -> Iterator[Line]:
    """A policy's episode compared with a long search of every image and with a tuned workflow."""
    against = f"bayes with {evaluations} evaluations per image"
    if "truth" in learned.columns:
        value, low, high = learned.difference(POLICY, REFERENCE, "truth")
        yield Line(
            "the policy agrees with the truth as well as a long search",
            value >= 0,
            value,
            0.0,
            f"Interquartile mean {measure} of the policy minus that of {against}: {value:+.4f} "
            f"[{low:+.4f}, {high:+.4f}]; at least 0 is wanted.",
        )
    value, low, high = learned.difference(POLICY, REFERENCE, "score")
    yield Line(
        "the policy scores as high as a long search",
        value >= -allowed,
        value,
        -allowed,
        f"Interquartile mean score of the policy minus that of {against}: {value:+.4f} "
        f"[{low:+.4f}, {high:+.4f}]; at least {-allowed:g} is wanted.",
    )
    yield from _beats_tuned(learned, measure)
    images = paid["break_even"]["seconds"]
    yield Line(
        "the training pays",
        images is not None and images < SESSION,
        images,
        SESSION,
        f"{paid['text']} A session gives {SESSION} images.",
    )


def _beats_tuned(learned: Standings, measure: str) -> Iterator[Line]:
    """Whether the policy is better than the best of the workflows tuned to many images, by truth
    or by score; the best is chosen by the same figure."""
    tuned = [name for name in learned.agents if name.startswith(TUNED)]
    if not tuned:
        return
    said, lowest = [], []
    for column, called in (("truth", measure), ("score", "score")):
        if column in learned.columns:
            values = {name: interquartile_mean(learned.values(name, column)) for name in tuned}
            best = max(tuned, key=values.__getitem__)
            value, low, high = learned.difference(POLICY, best, column)
            tells = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            said.append(
                f"{called} {value:+.4f} [{low:+.4f}, {high:+.4f}] compared with {best} ({tells})"
            )
            lowest.append(low)
    yield Line(
        "the policy beats one workflow for all images",
        max(lowest) > 0,
        max(lowest),
        0.0,
        f"Difference of interquartile means: {'; '.join(said)}. One interval has to lie above 0.",
    )
