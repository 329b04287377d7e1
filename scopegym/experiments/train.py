"""Train a workflow-building agent and keep the best policy it reaches."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.agents.policy import BUNDLE, SPEC, WEIGHTS, Policy, describe
from scopegym.answers import agreement
from scopegym.artifacts import Array
from scopegym.cache import Cache
from scopegym.envs.actions import BINS
from scopegym.envs.episode import Episode
from scopegym.envs.observation import Observer
from scopegym.envs.problem import Problem, Task
from scopegym.envs.problem import registry as tasks
from scopegym.envs.workflow_env import WorkflowEnv
from scopegym.errors import ScopegymError
from scopegym.experiments.folders import Output
from scopegym.experiments.interrupt import INTERRUPTIONS
from scopegym.experiments.outputs import to_json
from scopegym.plain import Number, Record, Text, Whole, checked, read_bytes
from scopegym.registry import PluginFile, read_plugins
from scopegym.workers import Backend

#: Stream of random numbers of the validation images, the same for every seed of a training.
VALIDATION = 2026
#: What a checkpoint holds beside weights, and how large it may be [bytes].
ENTRIES = Record(
    {
        "policy": Record({}),
        "optimizer": Record({}),
        "mean": Record({}),
        "steps": Whole(0, 10**12),
        "executions": Whole(0, 10**12),
        "seconds": Number(0, 1e12),
        "rows": Text(10**8),
        "task": Text(),
        "operators": Text(10**7),
    }
)
LARGEST_CHECKPOINT = 2**28
#: Learning rate and entropy bonus end at this share of where they begin.
LAST = 0.05
CHECKPOINT, LOG = "checkpoint.pt", "training.csv"
#: How much of the running mean of the weights an update leaves: the policy that is validated and
#: kept is the mean over about ten updates, which jumps less than the weights themselves.
INERTIA = 0.9
#: Share of a user's images that is kept for validation.
HELD_OUT = 0.2


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training: see ``training/default.yaml``."""

    steps: int
    environments: int
    fragment: int
    batch: int
    epochs: int
    learning_rate: float
    entropy: float
    discount: float
    trace: float
    clip: float
    pool: int
    renewal: float
    validation: int
    evaluate_every: int

    @classmethod
    def of(cls, task: str, **overrides: Any) -> Settings:
        """Those of a task, from its YAML file, with what is not None overridden."""
        import yaml

        folder = Path(__file__).parent / "training"
        values: dict[str, Any] = {}
        for file in (folder / "default.yaml", folder / f"{task}.yaml"):
            if file.is_file():
                values |= yaml.safe_load(file.read_text(encoding="utf-8"))
        values |= {name: value for name, value in overrides.items() if value is not None}
        for entry in fields(cls):
            if not values[entry.name] >= 0:
                raise ScopegymError(f"{entry.name} must not be negative, not {values[entry.name]}.")
        return cls(**values)


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


def train(
    task: str,
    out: str | Path,
    *,
    problems: Sequence[Problem] | None = None,
    settings: Settings | None = None,
    workers: int = 2,
    backend: Backend = "ray",
    seed: int = 0,
    device: str = "cpu",
    gpus: float = 0.0,
    plugins: Sequence[Path | PluginFile] = (),
    resume: bool = False,
    on_validation: Callable[[Validation], None] | None = None,
    on_update: Callable[[int, float], None] | None = None,
) -> Policy:
    """Train a policy with masked PPO and write its bundle, checkpoint and log into ``out``.

    Trains on simulated images of the task, or on ``problems``, of which a fifth is kept for
    validation. The bundle in ``out`` is always the best so far by validation score. ``resume`` goes
    on from the checkpoint in ``out``; an interrupted training leaves one. Raises ScopegymError on
    bad input.
    """
    import torch

    from scopegym.agents.learning.host import EnvSpec
    from scopegym.agents.learning.network import POLICY_ARGUMENTS
    from scopegym.agents.learning.ppo import FragmentPPO
    from scopegym.agents.learning.vec_env import RayVecEnv

    out = Path(out)
    output = Output(out, "train")
    checkpoint = _read_checkpoint(out / CHECKPOINT) if resume else None
    if resume:
        output.adopt(CHECKPOINT)
    output.claim([SPEC, WEIGHTS, CHECKPOINT, LOG])
    settings = Settings.of(task) if settings is None else settings
    training, validation = _split(tasks[task], problems, settings, seed)
    arguments = {"images": training, "device": device}
    spec = EnvSpec(task, arguments, read_plugins(plugins), settings.pool, settings.renewal)
    env = RayVecEnv(spec, workers, settings.environments, seed=seed, backend=backend, num_gpus=gpus)
    try:
        # Twice the threads save a sixth of the time on an idle machine, and on a busy one they wait
        # for each other most of it.
        torch.set_num_threads(1)
        # A training shorter than one round of fragments plays shorter ones.
        fragment = max(2, min(settings.fragment, settings.steps // env.num_envs))
        model = FragmentPPO(
            "MultiInputPolicy",
            env,
            n_steps=fragment,
            batch_size=_batch(fragment * env.num_envs, settings.batch),
            n_epochs=settings.epochs,
            learning_rate=_falling(settings.learning_rate),
            gamma=settings.discount,
            gae_lambda=settings.trace,
            clip_range=settings.clip,
            ent_coef=settings.entropy,
            policy_kwargs=POLICY_ARGUMENTS,
            tensorboard_log=str(out / "tensorboard"),
            device="cpu",
            seed=seed,
        )
        course = _Course(
            output=output,
            settings=settings,
            validation=validation,
            spec=_spec(tasks[task], training, validation, settings, seed),
            on_validation=on_validation,
            on_update=on_update,
        )
        if checkpoint is not None:
            course.restore(model, checkpoint)
        try:
            model.learn(
                max(0, settings.steps - model.num_timesteps),
                callback=course.callback(),
                tb_log_name="ppo",
                reset_num_timesteps=checkpoint is None,
            )
        except INTERRUPTIONS:
            course.keep(model)
            raise
        course.close(model)
    finally:
        env.close()
    return Policy.load(out)


def _split(
    task: Task, problems: Sequence[Problem] | None, settings: Settings, seed: int
) -> tuple[list[Problem] | None, list[Problem]]:
    """Training problems (None: simulated ones) and those for validation, sharing one cache."""
    if problems is None:
        drawn = [
            task.sample(np.random.default_rng([VALIDATION, i])) for i in range(settings.validation)
        ]
        return None, _sharing(drawn)
    if not problems:
        raise ScopegymError("There is no image to train on.")
    order = np.random.default_rng(seed).permutation(len(problems))
    held_out = max(1, round(HELD_OUT * len(problems)))
    # A single image can only validate itself.
    training = order[held_out:] if len(problems) > 1 else order
    return [problems[i] for i in training], _sharing([problems[i] for i in order[:held_out]])


def _sharing(problems: list[Problem]) -> list[Problem]:
    cache = Cache()
    return [replace(problem, cache=cache) for problem in problems]


def _batch(rollout: int, wanted: int) -> int:
    """The size nearest to ``wanted`` by which a rollout can be divided."""
    sizes = [size for size in range(1, rollout + 1) if rollout % size == 0]
    return min(sizes, key=lambda size: abs(size - wanted))


def _falling(first: float) -> Callable[[float], float]:
    """A linear schedule from ``first`` to its ``LAST`` share, as stable-baselines3 asks for it."""
    return lambda left: first * max(left, LAST)


def _spec(
    task: Task,
    training: list[Problem] | None,
    validation: list[Problem],
    settings: Settings,
    seed: int,
) -> dict[str, Any]:
    """What a bundle says of itself, before its validation."""
    from scopegym.workflow import versions

    rules = WorkflowEnv(task).rules
    observer = Observer(rules, task.reward)
    # Simulated validation images are drawn as those for training are.
    known = [Episode.start(problem, rules) for problem in training or validation]
    seen = np.array([observer.features(episode)[observer.of_problem] for episode in known])
    images = f"{len(training)} images of the user" if training else f"simulated by {task.name}"
    return {
        "policy": BUNDLE,
        "task": task.name,
        "operators": describe(rules),
        "bins": BINS,
        "horizon": rules.horizon,
        "features": list(observer.names),
        "reward": task.reward.to_dict(),
        "domain": {
            "low": [round(float(x), 4) for x in seen.min(axis=0)],
            "high": [round(float(x), 4) for x in seen.max(axis=0)],
        },
        "training": {
            "images": images,
            "seed": seed,
            "settings": asdict(settings),
        },
        "made_with": versions(),
    }


class _Course:
    """Watches a training: validates, keeps the best policy, writes log and checkpoints."""

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
        """What stable-baselines3 calls after every rollout."""
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
        # Squared: in the second half it is a hundredth of score that tells good from better, and
        # the bonus of a dozen micro-steps must not outweigh it.
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
        """Judge and keep what the last update gave."""
        if self.validated != model.num_timesteps:
            self._average(model)
            self.validate(model)

    def validate(self, model: Any) -> None:
        """Judge the mean of the last weights; write log and checkpoint, and the best bundle."""
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
        """The first files replace those of a former training, unless this one goes on with it."""
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
                "seed": self.spec["training"]["seed"],
            },
            path,
        )

    def restore(self, model: Any, checkpoint: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped. Raises ScopegymError when it is of something else."""
        mine = self.spec["task"], to_json(self.spec["operators"])
        theirs = checkpoint["task"], to_json(json.loads(checkpoint["operators"]))
        if mine != theirs:
            raise ScopegymError(
                f"The checkpoint in '{self.output.folder}' is of task {theirs[0]} with other "
                f"operators than task {mine[0]} has now; begin anew without --resume."
            )
        try:
            model.policy.load_state_dict(checkpoint["policy"])
            model.policy.optimizer.load_state_dict(checkpoint["optimizer"])
            self.weights = _same_shapes(checkpoint["mean"], model)
            self.rows = [Validation(**row) for row in json.loads(checkpoint["rows"])]
        except Exception as error:  # whatever torch makes of tensors that do not fit
            raise ScopegymError(
                f"The checkpoint in '{self.output.folder}' does not fit this training ({error}); "
                "begin anew without --resume."
            ) from None
        model.num_timesteps, model.executions = checkpoint["steps"], checkpoint["executions"]
        self.seconds_before = checkpoint["seconds"]
        self.begun = True
        # An interrupted training may have gone on after its last validation.
        self.validated = self.rows[-1].steps if self.rows else -1


def _same_shapes(mean: Mapping[str, Any], model: Any) -> dict[str, Array]:
    """The kept mean of the weights. Raises ValueError unless it is one of the model's."""
    from scopegym.agents.learning.network import weights_of

    now = weights_of(model.policy)
    found = {name: np.array(mean[name].numpy(), np.float32) for name in now}
    for name, weight in found.items():
        if weight.shape != now[name].shape or not np.isfinite(weight).all():
            raise ValueError(f"its mean of {name} is of another shape or not finite")
    return found


def kept(out: Path) -> str:
    """What an interrupted training left in a folder, and how to go on."""
    try:
        steps = _read_checkpoint(out / CHECKPOINT)["steps"]
    except ScopegymError:
        return f"Stopped before the first update; there is no checkpoint in '{out}'."
    return (
        f"Stopped; the checkpoint in '{out}' has {steps:,} steps, and the same command with "
        "--resume goes on from there."
    )


def _mean_return(model: Any) -> float:
    returns = [earned for earned, _ in getattr(model, "episodes", [])]
    return float(np.mean(returns)) if returns else 0.0


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import torch

    if not path.is_file():
        raise ScopegymError(f"There is no '{path}' to go on from; begin without --resume.")
    content = read_bytes(path, LARGEST_CHECKPOINT, "The checkpoint")
    try:
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        checked(ENTRIES, checkpoint, "The content")
        json.loads(checkpoint["operators"])
    except Exception as error:  # torch raises whatever a damaged archive happens to cause
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ScopegymError(f"'{path}' is no checkpoint of a training: {reason}.") from None
    return checkpoint
