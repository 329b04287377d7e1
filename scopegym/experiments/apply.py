"""Apply a policy to many images, over many processes, so that a run can be killed and continued."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scopegym import device as devices
from scopegym.agents.base import Budget
from scopegym.agents.policy import SPEC, Policy
from scopegym.agents.ppo import guided
from scopegym.artifacts import digest
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.experiments.collection import Known
from scopegym.experiments.expectations import Expectation
from scopegym.experiments.findings import found
from scopegym.experiments.outputs import recipe, staged, to_json, write_answer
from scopegym.experiments.solve import soundest
from scopegym.micrograph import Micrograph
from scopegym.registry import load_plugins
from scopegym.workers import Backend, WorkerDied, one_thread, spread
from scopegym.workflow import Workflow

RESULT, RUN, TABLE = "result.json", "apply.json", "results.parquet"
#: Features named in a verdict.
NAMED = 3


@dataclass(frozen=True)
class Job:
    """What is done to every image. It travels to the workers, and ``key`` tells two runs apart."""

    policy: Path
    known: Known
    refine: int = 0
    seed: int = 0
    plugins: tuple[Path, ...] = ()
    #: Where heavy operators run; the results are the same within 1e-4.
    device: str = "cpu"

    @property
    def key(self) -> str:
        """What results depend on beside the image."""
        spec = (self.policy / SPEC).read_text(encoding="utf-8")
        known = sorted(self.known.expected.items())
        return digest(spec, repr((known, self.known.pixel_size, self.refine, self.seed)))


@dataclass(frozen=True)
class Applied:
    """The result of one image or frame: its row of the table and the files to write; or why there
    is none."""

    image: str
    frame: int
    score: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str = ""


class Applier:
    """Applies a policy; lives in a worker."""

    def __init__(self, job: Job) -> None:
        one_thread()
        load_plugins(job.plugins)
        self.job = job
        self.policy = Policy.load(job.policy)

    def apply(self, name: str, path: Path) -> list[Applied]:
        """The results of an image, or of every frame of a stack."""
        try:
            stamp = _stamp(path)
            images = self.job.known.images(path)
        except (ScopegymError, OSError) as error:
            return [Applied(name, 0, error=str(error))]
        applied = []
        for frame, micrograph in enumerate(images):
            identity = {"image": name, "frame": frame, "frames": len(images), "file": stamp}
            try:
                with devices.using(self.job.device):
                    score, files = self._results(micrograph, identity)
                applied.append(Applied(name, frame, score, files))
            except Exception as error:  # one bad image must not end a run over thousands
                kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
                applied.append(Applied(name, frame, error=f"{kind}{error}"))
        return applied

    def _results(
        self, micrograph: Micrograph, identity: dict[str, Any]
    ) -> tuple[float, dict[str, bytes]]:
        policy = self.policy
        problem, expectation = self.job.known.problem(micrograph, policy.task, policy.reward)
        trial = self._chosen(problem)
        if trial.failure is not None:
            raise ScopegymError(f"The policy's workflow fails: {trial.failure}.")
        state = problem.run(trial.workflow)
        answer = state.get(problem.task.answer)
        reasons = doubts(policy, problem, expectation, trial)
        row = {
            **identity,
            "task": problem.task.name,
            "sha256": micrograph.sha256,
            "verdict": "doubtful" if reasons else "ok",
            "reasons": reasons,
            "score": {"value": trial.score.value, "terms": dict(trial.score.terms)},
            "found": dict(found(answer, problem).numbers),
            "operator_executions": trial.executions,
            "workflow": trial.workflow.to_dict(),
            "prior": problem.prior.to_dict(),
            "notes": list(expectation.warnings),
        }
        with tempfile.TemporaryDirectory() as scratch:
            if answer is not None:
                size = micrograph.pixel_size_nm
                write_answer(answer, state.points, size, Path(scratch))
            files = {file.name: file.read_bytes() for file in Path(scratch).iterdir()}
        files["workflow.yaml"] = recipe(problem, trial).encode()
        files[RESULT] = to_json(row).encode()
        return trial.score.value, files

    def _chosen(self, problem: Problem) -> Trial:
        """The policy's proposal, or the best of it and ``refine`` workflows around it."""
        proposal = self.policy.propose(problem)
        if not self.job.refine:
            return proposal
        # The image's own number makes the result independent of who works on it and when.
        rng = np.random.default_rng([self.job.seed, int(problem.micrograph.key[:12], 16)])
        unlimited = Budget(problem, 2**31)
        tried = [proposal]
        for trial in islice(guided(self.policy, problem, unlimited, rng), 1, self.job.refine + 1):
            completed = problem.task.completed(trial.workflow)
            tried.append(problem.evaluate(problem.essential(completed)))
        best = max(tried, key=lambda trial: trial.score.value)
        spent = sum(trial.executions for trial in tried)
        return replace(soundest(tried, best, proposal.workflow), executions=spent)


def doubts(policy: Policy, problem: Problem, expectation: Expectation, trial: Trial) -> list[str]:
    """Why a result should be looked at twice; empty where nothing speaks against it."""
    reasons = []
    least = policy.spec["validation"].get("low_score", 0.0)
    if trial.score.value < least:
        reasons.append(
            f"score {trial.score.value:.2f}, below the {least:.2f} that 95 % of the validation "
            "images reach"
        )
    calibration = expectation.calibration
    if calibration is not None and calibration.status in ("contradicted", "unmeasurable"):
        reasons.append(calibration.message.rstrip("."))
    strange = policy.strangeness(problem)
    if strange:
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        reasons.append(f"unlike the training images in {', '.join(strange[:NAMED])}{more}")
    return reasons


def apply(
    job: Job,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    workers: int = 2,
    backend: Backend = "ray",
    gpus: float = 0.0,
    on_image: Callable[[Sequence[Applied]], None] | None = None,
) -> dict[str, str]:
    """Apply a policy to image files and write one folder of results for each, and a table of all.

    What ``out`` holds already of the same run is kept, and is in the table. Returns why images
    failed, by name. Raises ScopegymError when ``out`` belongs to another run.
    """
    out = Path(out)
    Policy.load(job.policy)  # refused here rather than by every worker
    _claim(job, out)
    waiting = deque((name, path) for name, path in images.items() if not _done(out, name, path))
    # One image is done here before another process has started.
    backend = backend if len(waiting) > 1 else "serial"
    failed: dict[str, str] = {}
    for name, applied in _spread(job, waiting, workers, backend, gpus):
        # What is left of a former state of the file, or of a stack cut short by a kill.
        shutil.rmtree(out / name, ignore_errors=True)
        for result in applied:
            if result.error:
                label = name if len(applied) == 1 else f"{name}[{result.frame}]"
                failed[label] = result.error
            else:
                _write(result, out)
        if on_image is not None:
            on_image(applied)
    write_summary(out)
    return failed


def _spread(
    job: Job,
    waiting: deque[tuple[str, Path]],
    workers: int,
    backend: Backend,
    gpus: float,
) -> Iterator[tuple[str, list[Applied]]]:
    """Results as they come; of an image that ends its workers, that it does."""
    workers = min(workers, len(waiting))
    for (name, _), future in spread(waiting, "apply", workers, backend, Applier, job, gpus=gpus):
        try:
            yield name, future.result()
        except WorkerDied as death:
            yield name, [Applied(name, 0, error=f"It ended its worker: {death}.")]


def _write(result: Applied, out: Path) -> None:
    """Write the files of a result; the frames of a stack after the first go into sub-folders."""
    folder = out / result.image
    with staged(folder / f"{result.frame:04d}" if result.frame else folder) as scratch:
        for file, content in result.files.items():
            (scratch / file).write_bytes(content)


def _stamp(path: Path) -> list[int]:
    """Size [bytes] and time of change [ns] of a file: a changed image is done anew."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row


def _rows(out: Path, name: str) -> list[dict[str, Any]]:
    """The results of an image or of a stack's frames that are there, in order."""
    read = (_read(file) for file in (out / name).rglob(RESULT))
    return sorted((row for row in read if row is not None), key=lambda row: row["frame"])


def _done(out: Path, name: str, path: Path) -> bool:
    rows = _rows(out, name)
    if not rows or not path.exists():
        return False
    return len(rows) == rows[0]["frames"] and rows[0]["file"] == _stamp(path)


def _claim(job: Job, out: Path) -> None:
    """Mark a folder as this run's. Raises ScopegymError when it is another one's."""
    former = _read(out / RUN)
    if former is not None and former.get("key") != job.key:
        raise ScopegymError(
            f"'{out}' holds results of another policy or with other settings; give another folder."
        )
    with staged(out) as scratch:
        (scratch / RUN).write_text(
            to_json({"key": job.key, "refine": job.refine, "seed": job.seed}), encoding="utf-8"
        )


def write_summary(out: Path) -> None:
    """``results.parquet``: one row for every image and frame that has a result, by name."""
    import pandas as pd

    names = sorted(folder.name for folder in out.iterdir() if folder.is_dir())
    rows = [_flat(row) for name in names for row in _rows(out, name)]
    with staged(out) as scratch:
        pd.DataFrame(rows).to_parquet(scratch / TABLE, index=False)


def summary(out: Path) -> dict[str, Any]:
    """How many images have results, of which verdict, and their mean score."""
    import pandas as pd

    table = pd.read_parquet(out / TABLE)
    verdicts = table["verdict"].value_counts() if len(table) else {}
    return {
        "images": len(table),
        "ok": int(verdicts.get("ok", 0)),
        "doubtful": int(verdicts.get("doubtful", 0)),
        "score": float(table["score"].mean()) if len(table) else 0.0,
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A result as one row of a table."""
    return {
        "image": row["image"],
        "frame": row["frame"],
        "sha256": row["sha256"],
        "verdict": row["verdict"],
        "reasons": "; ".join(row["reasons"]),
        "score": row["score"]["value"],
        **row["score"]["terms"],
        **{name: value for name, value in row["found"].items() if not isinstance(value, list)},
        "expected": row["prior"]["count"],
        "spacing_px": row["prior"]["scale_px"],
        "operator_executions": row["operator_executions"],
        "workflow": str(Workflow.from_dict(row["workflow"])),
    }
