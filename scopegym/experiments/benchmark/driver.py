"""Run a benchmark in many processes. A killed benchmark can be continued."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scopegym.agents.base import check_budget
from scopegym.agents.base import registry as agents
from scopegym.agents.policy import SHIPPED, SPEC, WEIGHTS, Policy
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError, unknown
from scopegym.experiments.benchmark.regimes import POLICY, REGIMES, Runner, Unit, units
from scopegym.experiments.benchmark.results import summarise
from scopegym.experiments.benchmark.setting import Setting, UserImages
from scopegym.experiments.folders import Output
from scopegym.experiments.outputs import to_json
from scopegym.registry import PluginFile, read_plugins
from scopegym.workers import Backend, Parcel, WorkerDied, map_unordered
from scopegym.workers.pool import CALL_SECONDS, EXECUTION_SECONDS

CLAIM, RUNS = "setting.json", "runs"
#: Agents that take part unless others are named; ``ppo`` too where a policy is shipped.
DEFAULT_AGENTS = ("expert", "random", "bayes", "evolution", "tree")


def benchmark(
    task: str,
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    regimes: Sequence[str] | None = None,
    given: UserImages | None = None,
    problems: int = 20,
    seeds: int = 10,
    budget: int = 60,
    policy: Path | None = None,
    training: int = 10,
    seed: int = 0,
    plugins: Sequence[Path | PluginFile] = (),
    workers: int = 2,
    backend: Backend = "ray",
    on_work: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Compare agents on the same problems and write the result into a folder.

    ``names`` are the agents. ``regimes`` are A (search of every image), B (learned once) and C
    (search from a policy's proposal); by default all if ``ppo`` takes part. Problems are simulated
    unless images are ``given``. ``on_work`` is called with the number of finished units, the total,
    and the last score. Results of the same setting in ``out`` are kept, also when agents, seeds or
    regimes are new. Returns the content of ``benchmark.json``. Raises ScopegymError on bad input.
    """
    out = Path(out)
    chosen = tuple(dict.fromkeys(names or _default_agents(task, policy)))
    wanted = tuple(dict.fromkeys(regimes or (REGIMES if POLICY in chosen else ("A",))))
    folder = _policy_folder(task, chosen, policy)
    setting = Setting(
        task_name=tasks[task].name,
        budget=budget,
        simulated=problems,
        seed=seed,
        training=training,
        policy=None if folder is None else Parcel(folder, (SPEC, WEIGHTS)),
        given=given,
        plugins=read_plugins(plugins),
    )
    _check(setting, chosen, wanted, seeds)
    output = _claim(setting, out)
    runs = Output(out / RUNS, "benchmark", setting.run)
    runs.claim()
    work = units(setting, chosen, wanted, seeds)
    waiting = deque(unit for unit in work if not _done(out, unit))
    finished = len(work) - len(waiting)
    for unit, record in _carried_out(setting, chosen, waiting, workers, backend):
        with runs.writing(more=True) as scratch:
            (scratch / unit.file).write_text(to_json(record), encoding="utf-8")
        finished += 1
        if on_work is not None:
            scores = [run["score"] for run in record.get("runs", ())]
            on_work(finished, len(work), max(scores, default=0.0))
    read = (_read(out / RUNS / unit.file) for unit in work)
    records = [content for content in read if content is not None]
    return summarise(setting, output, work, records, chosen, workers)


def _default_agents(task: str, policy: Path | None) -> tuple[str, ...]:
    shipped = policy is not None or (SHIPPED / tasks[task].name / SPEC).is_file()
    return (*DEFAULT_AGENTS, *([POLICY] if shipped else []))


def _policy_folder(task: str, chosen: Sequence[str], policy: Path | None) -> Path | None:
    if POLICY not in chosen:
        if policy is not None:
            raise ScopegymError(f"A policy takes part as agent {POLICY}: name it among the agents.")
        return None
    if policy is None:
        Policy.shipped(task)
        return SHIPPED / task
    return policy


def _check(setting: Setting, chosen: Sequence[str], wanted: Sequence[str], seeds: int) -> None:
    """Raise ScopegymError for settings that every worker would refuse."""
    for name in chosen:
        agents[name]
    for regime in wanted:
        if regime not in REGIMES:
            raise unknown("regime", regime, REGIMES)
    if POLICY not in chosen and {"B", "C"} & {*wanted}:
        raise ScopegymError(
            f"Regimes B and C need a policy: add {POLICY} to the agents, or choose regime A alone."
        )
    for what, count in (
        ("seed", seeds),
        ("problem", len(setting.names)),
        ("image to tune to", setting.training),
    ):
        if count < 1:
            raise ScopegymError(f"A benchmark needs at least one {what}, not {count}.")
    if "B" in wanted and setting.tuning_images < 1:
        raise ScopegymError(
            "Regime B tunes a workflow on some images and tests it on others: give at least two "
            "images, or leave B out."
        )
    check_budget(setting.task, setting.budget)
    setting.load_policy()
    for name in chosen:  # an agent may need a package that is not there
        if name != POLICY:
            next(agents[name].search(setting.tuning_problem(0), setting.budget, 0), None)
    if setting.given is not None:
        for index in range(len(setting.names)):
            setting.problem(index).check()


def _claim(setting: Setting, out: Path) -> Output:
    """Mark a folder as this benchmark's. Raises ScopegymError when it is another one's.

    The policy is no part of the run: it may take part later than the searchers.
    """
    output = Output(out, "benchmark", setting.run)
    output.claim()
    former = (_read(out / CLAIM) or {}).get("policy")
    if None not in (former, setting.policy_key) and former != setting.policy_key:
        raise ScopegymError(f"'{out}' holds a benchmark of another policy; give another folder.")
    with output.writing(more=True) as scratch:
        content = {"task": setting.task_name, "policy": setting.policy_key or former}
        (scratch / CLAIM).write_text(to_json(content), encoding="utf-8")
    return output


def _carried_out(
    setting: Setting,
    chosen: tuple[str, ...],
    waiting: deque[Unit],
    workers: int,
    backend: Backend,
) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """Records as they come; of a unit that ends its workers, that it does."""
    backend = backend if len(waiting) > 1 else "serial"
    workers = min(workers, len(waiting))
    # One workflow is tuned to all tuning images together.
    executions = setting.budget * max(1, setting.tuning_images)
    limit = max(CALL_SECONDS, EXECUTION_SECONDS * executions)
    for unit, future in map_unordered(
        waiting, "run", workers, backend, Runner, setting, chosen,
        plugins=setting.plugins, seconds=limit,
    ):  # fmt: skip
        try:
            yield unit, future.result()
        except WorkerDied as death:
            yield unit, {**unit._asdict(), "error": f"Its worker process failed: {death}."}


def _done(out: Path, unit: Unit) -> bool:
    """Whether a unit has its result; what failed is tried again."""
    record = _read(out / RUNS / unit.file)
    return record is not None and "error" not in record


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content
