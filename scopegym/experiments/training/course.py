"""The course of a training: validations, the best policy, log and checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.agents.policy import Policy
from scopegym.answers import agreement
from scopegym.artifacts import Array
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.experiments.folders import Output
from scopegym.experiments.outputs import to_json
from scopegym.experiments.training.checkpoint import CHECKPOINT, LOG
from scopegym.experiments.training.settings import Settings

#: Final learning rate and entropy bonus, as a share of the first.
LAST = 0.05

#: Weight of the former running mean of the weights in an update. The mean over about ten updates is
#: validated and kept, because it varies less than the weights.
INERTIA = 0.9


@dataclass(frozen=True)
class Validation:
    """A policy's single episodes on the validation images, averaged.

    ``truth`` is the agreement with the truth (F1 for points), None where there is none; it is never
    used to choose. ``low_score`` is the fifth percentile of the scores.
    """

    score: float
    low_score: float
    truth: float | None
    executions: float
    steps: int
    executed: int
    seconds: float
    steps_per_second: float
    training_return: float


def validate(policy: Policy, problems: Sequence[Problem]) -> dict[str, Array]:
    """Score, agreement with the truth (NaN without) and operator executions of one episode per
    problem, each ``[N]``."""
    rows = []
    for problem in problems:
        trial = policy.propose(problem)
        answer = problem.run(trial.workflow).get(problem.task.answer)
        truth = agreement(problem.micrograph.truth, answer, problem.prior)
        rows.append((trial.score.value, truth, trial.executions))
    score, truth, executions = np.array(rows, dtype=np.float64).T
    return {"score": score, "truth": truth, "executions": executions}


class Course:
    """Monitors a training: validates, keeps the best policy, writes log and checkpoints."""

    def __init__(
        self,
        output: Output,
        settings: Settings,
        validation: list[Problem],
        spec: dict[str, Any],
        on_validation: Callable[[Validation], None] | None,
        on_update: Callable[[int, float], None] | None,
    ) -> None:
        self.output, self.settings, self.spec = output, settings, spec
        self.validation = validation
        self.on_validation, self.on_update = on_validation, on_update
        self.rows: list[Validation] = []
        self.begun = False
        self.weights: dict[str, Array] = {}
        self.updates, self.saved = 0, 0
        self.validated = -1
        self.seconds_before = 0.0
        self.began = time.perf_counter()

    def callback(self) -> Any:
        """The callback of stable-baselines3 after every rollout."""
        from stable_baselines3.common.callbacks import BaseCallback

        course = self

        class Watch(BaseCallback):
            def _on_step(self) -> bool:
                course.update(self.model)
                return True

        return Watch()

    def update(self, model: Any) -> None:
        """After a rollout, before the network learns from it."""
        self.updates += 1
        self._average(model)
        left = max(1 - model.num_timesteps / self.settings.steps, LAST)
        # Squared: in the second half, workflows differ by a hundredth of score, and the bonus of a
        # dozen micro-steps must be smaller than that.
        model.ent_coef = self.settings.entropy * left**2
        if self.on_update is not None and model.episodes:
            self.on_update(model.num_timesteps, _mean_return(model))
        if self.updates % self.settings.evaluate_every == 0:
            self.validate(model)

    def _average(self, model: Any) -> None:
        from scopegym.agents.learning.network import weights_of

        now = weights_of(model.policy)
        for name, former in self.weights.items():
            now[name] = INERTIA * former + (1 - INERTIA) * now[name]
        self.weights = now

    def keep(self, model: Any) -> None:
        """Write the checkpoint and the log of an interrupted training, without a validation."""
        if self.weights and self.updates > self.saved:
            with self._writing() as scratch:
                (scratch / LOG).write_text(self._log(), encoding="utf-8")
                self._save_checkpoint(model, scratch / CHECKPOINT)

    def close(self, model: Any) -> None:
        """Validate the result of the last update and keep it if it is the best."""
        if self.validated != model.num_timesteps:
            self._average(model)
            self.validate(model)

    def validate(self, model: Any) -> None:
        """Validate the mean of the last weights; write log and checkpoint, and the best bundle."""
        self.validated = model.num_timesteps
        policy = Policy(self.spec, self.weights)
        reached = validate(policy, self.validation)
        truth = reached["truth"]
        seconds = self._seconds
        row = Validation(
            score=float(reached["score"].mean()),
            low_score=float(np.percentile(reached["score"], 5)),
            truth=None if np.isnan(truth).any() else float(truth.mean()),
            executions=float(reached["executions"].mean()),
            steps=model.num_timesteps,
            executed=model.executions,
            seconds=round(seconds, 1),
            steps_per_second=model.num_timesteps / max(seconds, 1e-9),
            training_return=_mean_return(model),
        )
        for name in ("score", "truth", "executions"):
            if getattr(row, name) is not None:
                model.logger.record(f"validation/{name}", getattr(row, name))
        model.logger.record("rollout/return", row.training_return)
        model.logger.record("time/operator_executions", row.executed)
        best = all(row.score > former.score for former in self.rows)
        self.rows.append(row)
        with self._writing() as scratch:
            if best:
                self._bundle(policy, row).save(scratch)
            (scratch / LOG).write_text(self._log(), encoding="utf-8")
            self._save_checkpoint(model, scratch / CHECKPOINT)
        self.saved = self.updates
        if self.on_validation is not None:
            self.on_validation(row)

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        """The first files replace those of a former training, unless this one continues it."""
        with self.output.writing(more=self.begun) as scratch:
            yield scratch
        self.begun = True

    @property
    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.began

    def _bundle(self, policy: Policy, row: Validation) -> Policy:
        spec = {**self.spec, "validation": {"images": len(self.validation), **asdict(row)}}
        return Policy(spec, policy.weights)

    def _log(self) -> str:
        names = [entry.name for entry in fields(Validation)]
        lines = [",".join(names)]
        for row in self.rows:
            values = (getattr(row, name) for name in names)
            lines.append(",".join("" if v is None else f"{v:.6g}" for v in values))
        return "\n".join(lines) + "\n"

    def _save_checkpoint(self, model: Any, path: Path) -> None:
        """Numbers and tensors only: reading them back runs no code."""
        import torch

        torch.save(
            {
                "policy": model.policy.state_dict(),
                "optimizer": model.policy.optimizer.state_dict(),
                "steps": model.num_timesteps,
                "executions": model.executions,
                "mean": {name: torch.as_tensor(w) for name, w in self.weights.items()},
                "seconds": self._seconds,
                "rows": json.dumps([asdict(row) for row in self.rows]),
                "task": self.spec["task"],
                "operators": json.dumps(self.spec["operators"]),
                "slots": json.dumps(self.spec["slots"]),
                "seed": self.spec["training"]["seed"],
            },
            path,
        )

    def restore(self, model: Any, checkpoint: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ScopegymError when it belongs to another training."""
        task, *entries = self.spec["task"], self.spec["operators"], self.spec["slots"]
        theirs = [json.loads(checkpoint[name]) for name in ("operators", "slots")]
        if task != checkpoint["task"] or to_json(entries) != to_json(theirs):
            raise ScopegymError(
                f"The checkpoint in '{self.output.folder}' is of task {checkpoint['task']} with "
                f"other operators or slots than task {task} has now; start again without --resume."
            )
        try:
            model.policy.load_state_dict(checkpoint["policy"])
            model.policy.optimizer.load_state_dict(checkpoint["optimizer"])
            self.weights = _same_shapes(checkpoint["mean"], model)
            self.rows = [Validation(**row) for row in json.loads(checkpoint["rows"])]
        except Exception as error:  # whatever torch makes of tensors that do not fit
            raise ScopegymError(
                f"The checkpoint in '{self.output.folder}' does not fit this training ({error}); "
                "start again without --resume."
            ) from None
        model.num_timesteps, model.executions = checkpoint["steps"], checkpoint["executions"]
        self.seconds_before = checkpoint["seconds"]
        self.begun = True
        # An interrupted training may have gone on after its last validation.
        self.validated = self.rows[-1].steps if self.rows else -1


def _same_shapes(mean: Mapping[str, Any], model: Any) -> dict[str, Array]:
    """The running mean of the weights. Raises ValueError if it does not fit the model."""
    from scopegym.agents.learning.network import weights_of

    now = weights_of(model.policy)
    found = {name: np.array(mean[name].numpy(), np.float32) for name in now}
    for name, weight in found.items():
        if weight.shape != now[name].shape or not np.isfinite(weight).all():
            raise ValueError(f"its mean of {name} is of another shape or not finite")
    return found


def _mean_return(model: Any) -> float:
    returns = [earned for earned, _ in getattr(model, "episodes", [])]
    return float(np.mean(returns)) if returns else 0.0
