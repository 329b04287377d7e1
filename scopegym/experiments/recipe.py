"""The recipe of a result: its workflow, and what it was made for."""

from __future__ import annotations

from typing import Any

from scopegym.envs.problem import Problem, Trial


def recipe(problem: Problem, chosen: Trial, **recorded: Any) -> str:
    """The chosen workflow as recipe text, with what it was made for, what it scored, and further
    entries."""
    micrograph = problem.micrograph
    return chosen.workflow.to_yaml(
        prior=problem.prior,
        task=problem.task.name,
        reward=problem.reward.to_dict(),
        image={
            "name": micrograph.name,
            "sha256": micrograph.sha256,
            "shape": list(micrograph.shape),
            "pixel_size_nm": micrograph.pixel_size_nm,
            **({"frame": frame} if (frame := micrograph.metadata.get("frame")) is not None else {}),
        },
        score={
            "value": chosen.score.value,
            "terms": dict(chosen.score.terms),
        },
        **recorded,
    )
