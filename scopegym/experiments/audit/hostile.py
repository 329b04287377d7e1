"""Checks of a reward's behaviour.

A reward must end, be finite, leave its input unchanged, be deterministic, distinguish answers, and
not read the truth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Any

from scopegym.artifacts import Artifact, State, array_digest, digest
from scopegym.cache import using
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.experiments.audit.adversaries import against
from scopegym.experiments.audit.examine import Job, true_answer, wrong_answers
from scopegym.experiments.verdict import Line
from scopegym.limits import LimitExceededError, Limits, limited
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.rewards.base import Term

#: Number of problems on which the contract of a reward is checked.
PROBED = 3
#: Limits of one call of one term.
LIMITS = Limits(seconds=5.0)


#: Questions about every term, and the answer if all is well.
ASKED = {
    "ends in time": f"No call took longer than {LIMITS.seconds:g} s.",
    "raises nothing": "No call raised an error.",
    "does not read the truth": "No term looked at the truth.",
    "does not mutate its input": "No term mutated what it was given.",
    "is deterministic": "The same answer had the same value twice.",
    "is finite": "No true answer got NaN or an infinite value.",
    "is not constant": "Every term tells some answers apart.",
}


class _Watch:
    """True while access to the truth is monitored, and whether it happened."""

    armed = False
    asked = False


class Watched(Micrograph):
    """A micrograph that records access to its truth."""

    def __getattribute__(self, name: str) -> Any:
        if name == "truth" and _Watch.armed:
            _Watch.asked = True
        return super().__getattribute__(name)


class Misbehaved(Exception):  # noqa: N818 - an outcome, not a mistake of ours
    """A call of a term failed: the question, and the reason."""

    def __init__(self, question: str, how: str) -> None:
        super().__init__(how)
        self.question = question


def probe(job: Job) -> list[Line]:
    """One line per question, over all terms of the reward and a few problems."""
    problems = [watched(job.problem(index)) for index in range(PROBED)]
    cases = [(p, list(states(job, p, index))) for index, p in enumerate(problems)]
    found: dict[str, str] = {}
    for term in job.reward.terms:
        try:
            for question, how in _complaints(term, cases):
                found.setdefault(question, f"{term.name} {how}")
        except Misbehaved as outcome:
            found.setdefault(outcome.question, f"{term.name} {outcome}")
    return [
        Line(question, question not in found, None, None, found.get(question, fine))
        for question, fine in ASKED.items()
    ]


def watched(problem: Problem) -> Problem:
    """The problem with a micrograph that records access to its truth."""
    m = problem.micrograph
    image = Watched(m.data, m.pixel_size_nm, m.name, m.metadata, m.truth)
    return replace(problem, micrograph=image)


def states(job: Job, problem: Problem, index: int) -> Iterator[State]:
    """The state of the true answer, of the expert's workflow, and of wrong answers."""
    start = State.start(problem.source)
    yield start.with_artifact(true_answer(problem))
    yield problem.run(problem.task.expert)
    for entry in against(problem, true_answer(problem)):
        for answer in wrong_answers(job, problem, index, entry.name):
            yield start.with_artifact(answer)


def _complaints(
    term: Term, cases: Sequence[tuple[Problem, Sequence[State]]]
) -> Iterator[tuple[str, str]]:
    """Faults of a term's values. Raises Misbehaved if a call fails."""
    values = []
    for problem, answers in cases:
        for number, state in enumerate(answers):
            given = arguments(term, state, problem.prior)
            if given is None:
                continue
            value, again = (call(term, problem, given) for _ in range(2))
            values.append(value)
            if value != again and not (math.isnan(value) and math.isnan(again)):
                yield "is deterministic", f"gives {value:g} and then {again:g} for the same answer."
            if number == 0 and not math.isfinite(value):
                yield (
                    "is finite",
                    f"gives {value} for the true answer of {problem.micrograph.name}.",
                )
    finite = [value for value in values if math.isfinite(value)]
    if not finite or max(finite) - min(finite) < 1e-9:
        said = f"{finite[0]:g}" if finite else "nothing finite"
        yield "is not constant", f"is constant: {said} for all {len(values)} answers."


def arguments(term: Term, state: State, prior: Prior) -> list[Any] | None:
    """The inputs of a term, None if one is missing."""
    given = [prior if kind is Prior else state.get(kind) for kind in term.inputs]
    return None if any(one is None or getattr(one, "empty", False) for one in given) else given


def call(term: Term, problem: Problem, given: Sequence[Any]) -> float:
    """The value of one call. Raises Misbehaved if the term asks for the truth of the problem,
    exceeds a limit, fails, or changes its inputs."""
    before = _fingerprint(given)
    start = time.perf_counter()
    failure = None
    _Watch.armed, _Watch.asked = True, False
    try:
        with using(problem.cache), limited(LIMITS):
            value = float(term.function(*given))
    except Exception as error:
        failure = _failure(error)
    finally:
        _Watch.armed = False
    if _Watch.asked:
        raise Misbehaved("does not read the truth", "reads the truth of the image.")
    if failure is not None:
        raise failure
    if time.perf_counter() - start > LIMITS.seconds:  # it had caught the alarm itself
        raise _slow(time.perf_counter() - start)
    if _fingerprint(given) != before:
        raise Misbehaved("does not mutate its input", "mutates its input.")
    return value


def _failure(error: Exception) -> Misbehaved:
    """The fault that an error of a call shows."""
    if isinstance(error, LimitExceededError):
        return _slow(LIMITS.seconds)
    if isinstance(error, MemoryError):
        return Misbehaved("ends in time", "takes more memory than it may.")
    if isinstance(error, FrozenInstanceError) or "read-only" in str(error):
        return Misbehaved("does not mutate its input", f"mutates its input: {_said(error)}.")
    return Misbehaved("raises nothing", f"raises {_said(error)}.")


def _slow(seconds: float) -> Misbehaved:
    return Misbehaved("ends in time", f"takes longer than {seconds:.3g} s for one answer.")


def _said(error: Exception) -> str:
    kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
    return f"{kind}{error}".rstrip(".")


def _fingerprint(given: Sequence[Any]) -> str:
    """Hash of the content of a term's inputs, not of their keys."""
    parts: list[str] = []
    for one in given:
        content = vars(one) if isinstance(one, Artifact) else {"prior": repr(one)}
        for name, value in sorted(content.items()):
            if name not in ("key", "derivation"):
                parts.append(array_digest(value) if hasattr(value, "dtype") else repr(value))
    return digest(*parts)
