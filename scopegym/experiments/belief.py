"""One verdict for every command: whether to believe a result and its premise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scopegym.envs.problem import Problem
from scopegym.rewards.base import Score
from scopegym.sample import Expectation

Belief = Literal["ok", "doubtful", "wrong-premise"]
#: With a reward that is not the task's own, at least one claim is violated strongly below this.
HALF = 0.5


@dataclass(frozen=True)
class Verdict:
    """``ok``; ``doubtful``, for these reasons; or ``wrong-premise``: the image contradicts what is
    said of it, so that the score means little."""

    belief: Belief = "ok"
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The entries of ``result.json``."""
        return {"verdict": self.belief, "reasons": list(self.reasons)}


def verdict(
    problem: Problem, score: Score, expectation: Expectation, further: Sequence[str] = ()
) -> Verdict:
    """The verdict on a result with this score. ``further`` are reasons to doubt it."""
    doubts = [*further]
    least = trusted(problem)
    if score.value < least:
        worst = min(problem.reward.goodnesses(score.terms).items(), key=lambda each: each[1])[0]
        doubts.append(
            f"The score is {score.value:.2f}, below {least:.2f}; the worst term is {worst} "
            f"({score.terms[worst]:.2f})."
        )
    calibration = expectation.calibration
    if calibration is not None and calibration.premise == "unknown":
        doubts.append(calibration.message)
    if expectation.contradictions:
        return Verdict("wrong-premise", (*expectation.contradictions, *doubts))
    return Verdict("doubtful" if doubts else "ok", tuple(doubts))


def trusted(problem: Problem) -> float:
    """The least score of a result to rely on."""
    return problem.task.trusted if problem.reward == problem.task.reward else HALF
