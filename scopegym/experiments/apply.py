"""Apply a policy to many images in many processes. A killed run can be continued."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scopegym import device as devices
from scopegym.agents.base import Budget
from scopegym.agents.policy import Policy
from scopegym.agents.ppo import guided
from scopegym.artifacts import digest
from scopegym.envs.problem import Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.experiments.belief import verdict
from scopegym.experiments.collection import images_in, problem_of
from scopegym.experiments.findings import found
from scopegym.experiments.folders import Output, commit, manifest_of, retire
from scopegym.experiments.outputs import to_json
from scopegym.experiments.recipe import recipe
from scopegym.experiments.solve import break_ties
from scopegym.micrograph import Micrograph
from scopegym.registry import PluginFile
from scopegym.sample import Sample
from scopegym.workers import Backend, Parcel, WorkerDied, map_unordered, one_thread
from scopegym.workers.pool import CALL_SECONDS
from scopegym.workflow import Workflow, versions

RESULT, TABLE = "result.json", "results.parquet"
#: Most features named in a verdict.
NAMED = 3


@dataclass(frozen=True)
class Job:
    """The settings for every image, which are sent to the workers."""

    policy: Policy
    sample: Sample
    refine: int = 0
    seed: int = 0
    plugins: tuple[PluginFile, ...] = ()
    #: Device of heavy operators; results agree within 1e-4.
    device: str = "cpu"

    @property
    def run(self) -> dict[str, Any]:
        """The settings that, beside the image, determine results, as plain values."""
        return {
            "policy": self.policy.key,
            **self.sample.to_dict(),
            "refine": self.refine,
            "seed": self.seed,
            "device": self.device,
            "plugins": {plugin.module: digest(plugin.source) for plugin in self.plugins},
            "versions": versions(),
        }


@dataclass(frozen=True)
class Applied:
    """The result of one image, or of one of the ``frames`` of a stack: its score and the files to
    write; or the reason of a failure."""

    image: str
    frame: int = 0
    frames: int = 1
    score: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str = ""

    @property
    def label(self) -> str:
        """The name of the image, with the number of the frame."""
        return self.image if self.frames == 1 else f"{self.image}[{self.frame}]"


class Applier:
    """Applies a policy, in a worker."""

    def __init__(self, job: Job) -> None:
        one_thread()
        self.job = job
        self.opened: tuple[Parcel, Stamp] | None = None
        self.images: Sequence[Micrograph] = ()

    def apply(self, name: str, file: Parcel, frame: int, stamp: Stamp) -> Applied:
        """The result of an image or of one frame of a stack, which stays open for the next one."""
        frames = 1
        try:
            if (file, stamp) != self.opened:
                with file.local() as path:
                    images = images_in(path, self.job.sample)
                    # A private copy of the file is gone when the next frame is asked for.
                    self.images = images if path == file.path else [*images]
                self.opened = file, stamp
            frames = len(self.images)
            identity = {"image": name, "frame": frame, "frames": frames, "file": stamp}
            with devices.using(self.job.device):
                score, files = self._results(self.images[frame], identity)
        except Exception as error:  # one bad image must not end a run over many
            kind = "" if isinstance(error, ScopegymError | OSError) else f"{type(error).__name__}: "
            return Applied(name, frame, frames, error=f"{kind}{error}")
        return Applied(name, frame, frames, score, files)

    def _results(
        self, micrograph: Micrograph, identity: dict[str, Any]
    ) -> tuple[float, dict[str, bytes]]:
        policy = self.job.policy
        problem, expectation = problem_of(micrograph, self.job.sample, policy.task, policy.reward)
        trial, doubts = self._chosen(problem), []
        if trial.failure is not None:
            doubts = [f"The policy's workflow fails ({trial.failure}); this is the expert's."]
            trial = problem.evaluate(problem.task.expert)
        if trial.failure is not None:
            raise ScopegymError(f"The expert's workflow fails, too: {trial.failure}.")
        state = problem.run(trial.workflow)
        answer = state.get(problem.task.answer)
        unlike = unlike_training(policy, problem)
        row = {
            **identity,
            "task": problem.task.name,
            "sha256": micrograph.sha256,
            **verdict(problem, trial.score, expectation, doubts).to_dict(),
            "score": {"value": trial.score.value, "terms": dict(trial.score.terms)},
            "answer": dict(found(answer, problem).numbers),
            "operator_executions": trial.executions,
            "workflow": trial.workflow.to_dict(),
            "prior": problem.prior.to_dict(),
            "notes": [*expectation.warnings, *unlike],
        }
        with tempfile.TemporaryDirectory() as scratch:
            if answer is not None:
                problem.task.kind.write(answer, state, micrograph.pixel_size_nm, Path(scratch))
            files = {file.name: file.read_bytes() for file in Path(scratch).iterdir()}
        files["workflow.yaml"] = recipe(problem, trial).encode()
        files[RESULT] = to_json(row).encode()
        return trial.score.value, files

    def _chosen(self, problem: Problem) -> Trial:
        """The policy's proposal, or the best of it and ``refine`` workflows around it."""
        if not self.job.refine:
            return self.job.policy.propose(problem)
        # The image's own number makes the result independent of who works on it and when.
        rng = np.random.default_rng([self.job.seed, int(problem.micrograph.key[:12], 16)])
        search = guided(self.job.policy, problem, Budget(problem, 2**31), rng)
        proposal, *others = islice(search, self.job.refine + 1)
        tried = [trial for trial in (proposal, *others) if trial.failure is None]
        if not tried:
            return proposal
        best = max(tried, key=lambda trial: trial.score.value)
        spent = sum(trial.executions for trial in (proposal, *others))
        kept = break_ties(tried, best, proposal.workflow, problem.task.tie)
        return replace(kept, executions=spent)


def unlike_training(policy: Policy, problem: Problem) -> list[str]:
    """A note on the features of an image that no training image had. They are no reason to doubt a
    result: the score judges it, and less noise than in training does no harm."""
    beyond = policy.out_of_domain_features(problem)
    if not beyond:
        return []
    more = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
    return [f"Unlike the training images in {', '.join(beyond[:NAMED])}{more}."]


def apply(
    job: Job,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    workers: int = 2,
    backend: Backend = "ray",
    gpus: float = 0.0,
    seconds: float = CALL_SECONDS,
    on_result: Callable[[Applied, int], None] | None = None,
) -> Applications:
    """Apply a policy to image files and write one folder of results for each, and a table of all.

    A stack has one folder per frame, numbered from ``0000``. Results of the same run in ``out`` are
    kept and included in the table. A worker that needs more than ``seconds`` for an image is
    replaced. ``on_result`` is called with every result and the total number. Raises ScopegymError
    when ``out`` belongs to another run, and when results would replace files of another origin.
    """
    output = Output(Path(out), "apply", job.run)
    output.claim([TABLE], folders=images)
    waiting = deque(task for name, path in images.items() for task in _missing(output, name, path))
    # One image is done here before another process has started.
    backend = backend if len(waiting) > 1 else "serial"
    failed: dict[str, str] = {}
    kept: list[Path | None] = []
    begun: set[str] = set()
    total = len(waiting)
    workers = min(workers, len(waiting))
    calls = map_unordered(
        waiting,
        "apply",
        workers,
        backend,
        Applier,
        job,
        plugins=job.plugins,
        gpus=gpus,
        seconds=seconds,
    )
    for (name, file, frame, stamp), future in calls:
        try:
            result: Applied = future.result()
        except WorkerDied as death:
            result = Applied(name, frame, error=f"Its worker process failed: {death}.")
        except ScopegymError as error:  # a file that does not reach the worker
            result = Applied(name, frame, error=str(error))
        if result.error:
            failed[result.label] = result.error
        else:
            if name not in begun:
                kept.append(_make_room(result, output))
                begun.add(name)
            kept.append(_write(result, output))
        if frame == 0:
            more = [(name, file, later, stamp) for later in range(1, result.frames)]
            waiting.extend(more)
            total += len(more)
        if on_result is not None:
            on_result(result, total)
    write_summary(output)
    return Applications(failed, tuple(str(path) for path in kept if path is not None))


@dataclass(frozen=True)
class Applications:
    """Summary of a run over many images: reasons of images that ``failed``, by name, and the new
    paths of former results that were changed by somebody and therefore ``kept``."""

    failed: Mapping[str, str]
    kept: tuple[str, ...] = ()


#: Name of the image, its file, the frame, and the file's stamp.
Stamp = tuple[str | int, ...]
Task = tuple[str, Parcel, int, Stamp]


def _missing(output: Output, name: str, path: Path) -> list[Task]:
    """The frames of an image without a result for its current file. If no frame has one, only the
    first, because the number of frames is not known yet."""
    file = Parcel(path)
    try:
        stamp = file_stamp(path)
    except OSError:
        return [(name, file, 0, ())]  # the attempt says what is wrong
    rows = _rows(output, name)
    for row in rows[:1]:
        _refuse_another(row, name, path, output)
    done = {row["frame"]: row for row in rows if _is_of(row, path, stamp)}
    frames = next(iter(done.values()))["frames"] if done else 1
    return [(name, file, frame, stamp) for frame in range(frames) if frame not in done]


def _make_room(result: Applied, output: Output) -> Path | None:
    """Remove results of a former version of an image file, and make the folder for the frames of a
    stack. Returns the new path of results that had to be kept."""
    folder = output.folder / result.image
    stamp = json.loads(result.files[RESULT])["file"]
    outdated = any(row["file"] != stamp for row in _rows(output, result.image))
    as_stack = folder.is_dir() and not (folder / RESULT).exists()
    other_kind = folder.exists() and as_stack != (result.frames > 1)
    kept = retire(folder, output) if outdated or other_kind else None
    if result.frames > 1 and not folder.exists():
        commit(folder, {}, output)
    return kept


def _write(result: Applied, output: Output) -> Path | None:
    """Write the files of a result. Returns the new path of a former result that had to be kept."""
    folder = output.folder / result.image
    place = folder / f"{result.frame:04d}" if result.frames > 1 else folder
    return commit(place, result.files, output)


def file_stamp(path: Path) -> Stamp:
    """Path, size [bytes] and time of change [ns] of a file: a changed image is done anew."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _is_of(row: Mapping[str, Any], path: Path, stamp: Stamp) -> bool:
    """Whether a result is of a file as it is now; one that was moved is known by its content."""
    if tuple(row["file"]) == stamp:
        return True
    return row["file"][0] != stamp[0] and row["sha256"] == _sha256(path)


def _refuse_another(row: Mapping[str, Any], name: str, path: Path, output: Output) -> None:
    """Raise ScopegymError when a result is of another file of the same name."""
    if row["file"][0] != str(path.resolve()) and row["sha256"] != _sha256(path):
        raise ScopegymError(
            f"'{output.folder / name}' is the result of another image of that name, "
            f"'{row['file'][0]}'; give another folder."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _rows(output: Output, name: str) -> list[dict[str, Any]]:
    """The existing results of an image or of a stack's frames, in order."""
    folder = output.folder / name
    numbered = folder.glob("[0-9]*") if folder.is_dir() else ()
    read = (_row(place, output) for place in (folder, *numbered))
    # A former result that was kept under another name is not this image's any more.
    rows = (row for row in read if row is not None and row["image"] == name)
    return sorted(rows, key=lambda row: row["frame"])


def _row(folder: Path, output: Output) -> dict[str, Any] | None:
    """The result in a folder of this run, None without a complete one."""
    manifest = manifest_of(folder, output)
    if manifest is None or not manifest.wrote(folder / RESULT):
        return None
    if not all((folder / name).is_file() for name in manifest.files):
        return None
    row: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return row


def write_summary(output: Output) -> None:
    """``results.parquet``: one row for every image and frame that has a result, by name."""
    import pandas as pd

    names = sorted(folder.name for folder in output.folder.iterdir() if folder.is_dir())
    rows = [_flat(row) for name in names for row in _rows(output, name)]
    with output.writing() as scratch:
        pd.DataFrame(rows).to_parquet(scratch / TABLE, index=False)


def summary(out: Path) -> dict[str, Any]:
    """Number of images with results, by verdict, and their mean score."""
    import pandas as pd

    table = pd.read_parquet(out / TABLE)
    verdicts = table["verdict"].value_counts() if len(table) else {}
    return {
        "images": len(table),
        "ok": int(verdicts.get("ok", 0)),
        "doubtful": int(verdicts.get("doubtful", 0)),
        "wrong-premise": int(verdicts.get("wrong-premise", 0)),
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
        **{name: value for name, value in row["answer"].items() if not isinstance(value, list)},
        "expected": row["prior"]["count"],
        "spacing_px": row["prior"]["scale_px"],
        "operator_executions": row["operator_executions"],
        "workflow": str(Workflow.from_dict(row["workflow"])),
    }
