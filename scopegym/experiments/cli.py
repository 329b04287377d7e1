"""The command line. Bad input is one sentence and exit code 2; everything else is elsewhere."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scopegym import __version__
from scopegym.errors import ScopegymError, one_line
from scopegym.experiments.console import ClosedPipe, answer, json_alone, printable, tell
from scopegym.experiments.interrupt import INTERRUPTED, Stopped, on_interrupt
from scopegym.workers import stopping_on_sigterm

#: Exit code when the reader of standard output has gone, as other commands have it.
CLOSED_PIPE = 141
#: What is said after Ctrl-C by commands that keep nothing.
STOPPED = "Stopped before the command was done."
#: Set to anything, faults show their traceback.
TRACEBACK = "SCOPEGYM_TRACEBACK"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Image analysis in microscopy as an optimisation problem with a physical answer.",
)

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The micrograph to analyse.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="A file with operators or rewards of yours."),
]
PixelSize = Annotated[
    str | None,
    typer.Option(metavar="LENGTH", help="Pixel size with unit, such as '35.2 pm'."),
]
CrystalName = Annotated[
    str | None,
    typer.Option("--crystal", metavar="NAME|CIF", help="The crystal (scopegym list crystals)."),
]
Zone = Annotated[str, typer.Option(metavar="U,V,W", help="Its zone axis.")]
Density = Annotated[float | None, typer.Option(metavar="N", help="Columns per square nanometre.")]
Spacing = Annotated[
    str | None,
    typer.Option(metavar="LENGTH", help="Nearest-neighbour spacing, '0.28 nm' or '8 px'."),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Take spacing and count from the image itself.")
]
Contrast = Annotated[
    Literal["bright", "dark"], typer.Option(help="Columns are bright (HAADF) or dark.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Processes to work in; as many as cores if not given."),
]
BackendName = Annotated[
    Literal["ray", "processes", "serial"],
    typer.Option("--backend", help="Ray actors, plain subprocesses, or this process alone."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Join the Ray cluster there instead of starting one."),
]
Gpus = Annotated[float, typer.Option(min=0, max=64, help="GPUs per worker, perhaps a part.")]
Device = Annotated[str, typer.Option(help="Where heavy operators run: cpu, cuda or cuda:N.")]
Frame = Annotated[
    int | None, typer.Option(metavar="N", help="The frame to take from a stack, from 0.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")]
AgentName = Annotated[str, typer.Option("--agent", help="Search strategy (scopegym list agents).")]
Executions = Annotated[
    int, typer.Option("--budget", min=1, max=1_000_000, help="Operator executions to spend.")
]
# scikit-learn takes no larger seeds.
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the search.")]
PickName = Annotated[
    Literal["value", "euclidean", "chebyshev"],
    typer.Option("--pick", help="How to choose from the front."),
]


@app.command()
def demo(
    out: Out = Path("scopegym-demo"),
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Solve the bundled YBa2Cu3O7 image: needs no argument and no network."""
    from scopegym.datasets.bundled import bundled
    from scopegym.envs import registry as tasks
    from scopegym.envs.problem import Problem
    from scopegym.experiments.expectations import expect

    micrograph = bundled("ybco_100_poisson")
    expectation = expect(micrograph, sample="YBa2Cu3O7", zone=(1, 0, 0))
    problem = Problem(micrograph, expectation.prior, tasks["atoms"])
    _solve(problem, expectation, agent, budget, seed, "value", out, as_json)


@app.command()
def solve(
    image: Image,
    task: Annotated[str, typer.Option(help="What to look for (scopegym list tasks).")] = "atoms",
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    calibration: Annotated[
        Literal["check", "trust"],
        typer.Option(help="Check the pixel size against the lattice, or trust it."),
    ] = "check",
    contrast: Contrast = "bright",
    frame: Frame = None,
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    pick: PickName = "value",
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE.py:]TERM", help="A further reward term, perhaps from a file of yours."
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Search every square of this side by itself; merge the points.",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PX", help="From window to window; half a window if not given."
        ),
    ] = None,
    workers: Workers = None,
    backend: BackendName = "ray",
    plugin: Plugins = None,
    device: Device = "cpu",
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Search the workflow whose result fits best what physics says of IMAGE.

    With windows the budget is that of each of them.
    """
    from scopegym.device import check, using
    from scopegym.envs import registry as tasks
    from scopegym.envs.problem import Problem
    from scopegym.experiments.expectations import expect

    _load_plugins(plugin)
    judged_by = _reward(tasks[task].reward, reward)
    micrograph = _load(image, pixel_size, frame)
    expectation = expect(
        micrograph,
        sample=crystal,
        zone=zone,
        density_per_nm2=density,
        spacing=spacing,
        estimate=estimate,
        calibration=calibration,
        contrast=contrast,
        counted="count" in judged_by.needs,
    )
    problem = Problem(micrograph, expectation.prior, tasks[task], judged_by)
    if window is None:
        if stride is not None:
            raise ScopegymError("A stride goes with windows: give --window too.")
        with using(check(device)):
            _solve(problem, expectation, agent, budget, seed, pick, out, as_json)
        return
    files = [Path(term.rpartition(":")[0]) for term in reward or () if ":" in term]
    settings = {
        "agent": agent,
        "budget": budget,
        "seed": seed,
        "pick": pick,
        "workers": workers or os.cpu_count() or 1,
        "backend": backend,
        "device": check(device),
        "plugins": (*(plugin or ()), *files),
    }
    _solve_windows(problem, expectation, window, stride, settings, out, as_json)


@app.command()
def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to train for.")],
    out: Annotated[Path, typer.Option(metavar="POLICY", help="Folder for the policy.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER", help="Train on these images instead of simulated ones; repeatable."
        ),
    ] = None,
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "bright",
    steps: Annotated[int | None, typer.Option(min=1, help="Micro-steps to train for.")] = None,
    validation: Annotated[
        int | None, typer.Option(min=1, help="Simulated images to validate on.")
    ] = None,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    gpus: Gpus = 0.0,
    device: Device = "cpu",
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in POLICY.")
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Train a policy that writes workflows at once, on simulated images or on yours."""
    from scopegym.device import check
    from scopegym.envs import registry as tasks
    from scopegym.experiments.train import Settings, kept
    from scopegym.experiments.train import train as carry_out

    _load_plugins(plugin)
    chosen = tasks[task]
    settings = Settings.of(task, steps=steps, validation=validation)
    problems = None
    if images:
        known = _known(crystal, zone, density, spacing, estimate, pixel_size, contrast)
        problems = _problems(images, known, chosen)
    if ray_address is None:  # on a cluster it is the workers that need it
        check(device)
    _start_ray(backend, ray_address)
    start = time.perf_counter()
    with (
        on_interrupt(lambda: kept(out)),
        _training(settings.steps, f"{task}, seed {seed}") as (on_update, on_validation),
    ):
        policy = carry_out(
            task,
            out,
            problems=problems,
            settings=settings,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            seed=seed,
            device=device,
            gpus=gpus,
            plugins=tuple(plugin or ()),
            resume=resume,
            on_update=on_update,
            on_validation=on_validation,
        )
    reached = policy.spec["validation"]
    truth = "" if reached["truth"] is None else f", agreement with the truth {reached['truth']:.3f}"
    lines = [
        f"Best of {settings.steps:,} steps: score {reached['score']:.3f}{truth}, "
        f"{reached['executions']:.1f} operator executions per image, on {reached['images']} "
        f"images; {time.perf_counter() - start:.0f} s.",
        f"Policy: {out}",
    ]
    _print({"task": task, "validation": reached, "out": str(out)}, lines, as_json)


@app.command()
def apply(
    policy: Annotated[
        str, typer.Argument(metavar="POLICY", help="A policy's folder, or a task's own policy.")
    ],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns, stacks.")
    ],
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "bright",
    refine: Annotated[
        int, typer.Option(min=0, help="Further workflows to try around each proposal.")
    ] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    gpus: Gpus = 0.0,
    device: Device = "cpu",
    seed: Seed = 0,
    plugin: Plugins = None,
    out: Out = Path("applied"),
    as_json: Json = False,
) -> None:
    """Analyse many images with a learned policy; run it again to go on where it stopped."""
    from scopegym.agents.policy import Policy
    from scopegym.device import check
    from scopegym.experiments.apply import Job, summary
    from scopegym.experiments.apply import apply as carry_out
    from scopegym.experiments.collection import files
    from scopegym.registry import read_plugins

    _load_plugins(plugin)
    known = _known(crystal, zone, density, spacing, estimate, pixel_size, contrast)
    folder = _policy_folder(policy)
    if ray_address is None:  # on a cluster it is the workers that need it
        check(device)
    job = Job(Policy.load(folder), known, refine, seed, read_plugins(plugin or ()), device)
    meant = files(images)
    _start_ray(backend, ray_address)
    title = f"{folder.name} on {len(meant)} images"
    with _resumable("results", out), _progress(len(meant), title, "images") as advance:
        ran = carry_out(
            job,
            meant,
            out,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            gpus=gpus,
            on_result=lambda result, total: advance(1, result.score, total),
        )
    done = {**summary(out), "failed": dict(ran.failed), "kept": list(ran.kept)}
    lines = [
        f"{done['images']} images: {done['ok']} ok, {done['doubtful']} doubtful, "
        f"{len(ran.failed)} failed; mean score {done['score']:.3f}.",
        *(f"Failed: {name}: {reason}" for name, reason in ran.failed.items()),
        *(f"Kept: '{path}' holds files that scopegym did not write." for path in ran.kept),
        f"Results: {out / 'results.parquet'}",
    ]
    _print({**done, "out": str(out)}, lines, as_json)
    if ran.failed:
        raise typer.Exit(1)


@app.command()
def benchmark(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to look for.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")],
    agents: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Who takes part (scopegym list agents)."),
    ] = None,
    regimes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="A: search each image; B: what is learned once; C: search from a proposal.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER", help="Take these images instead of simulated ones; repeatable."
        ),
    ] = None,
    problems: Annotated[int, typer.Option(min=1, help="How many images to simulate.")] = 20,
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "bright",
    seeds: Annotated[int, typer.Option(min=1, help="Searches by each agent on an image.")] = 10,
    budget: Executions = 60,
    policy: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="The policy of ppo, if not the task's own."),
    ] = None,
    training_images: Annotated[
        int, typer.Option(min=1, help="Images that regime B tunes one workflow to.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first search.")] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Hold agents against each other on the same images; run it again to go on where it stopped."""
    from scopegym.experiments.benchmark import benchmark as carry_out
    from scopegym.experiments.benchmark.page import summary
    from scopegym.experiments.benchmark.setting import Given
    from scopegym.experiments.collection import files

    _load_plugins(plugin)
    given = None
    if images:
        known = _known(crystal, zone, density, spacing, estimate, pixel_size, contrast)
        given = Given.of(files(images).items(), known)
    _start_ray(backend, ray_address)
    with _resumable("runs", out), _progress(0, f"benchmark of {task}", "runs") as advance:
        done = carry_out(
            task,
            out,
            names=_listed(agents),
            regimes=_listed(regimes),
            given=given,
            problems=problems,
            seeds=seeds,
            budget=budget,
            policy=None if policy is None else _policy_folder(policy),
            training=training_images,
            seed=seed,
            plugins=tuple(plugin or ()),
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            on_work=lambda _, total, score: advance(1, score, total),
        )
    _print(done, [*summary(done), f"Report: {out / 'report.html'}"], as_json)


@app.command()
def run(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A recipe (.yaml), or a table of recipes and images (.csv)."
        ),
    ],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Images to run a recipe on.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the recorded score; exit 1 if it differs.")
    ] = False,
    pixel_size: PixelSize = None,
    frame: Frame = None,
    plugin: Plugins = None,
    out: Out = Path("replayed"),
    as_json: Json = False,
) -> None:
    """Replay a recipe on images, or a table of recipes on theirs, without any search."""
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, to_json, write_answer
    from scopegym.experiments.replay import replay
    from scopegym.workflow import Recipe

    _load_plugins(plugin)
    meant = _replays(recipe, images or [])
    outputs = [Output(out if len(meant) == 1 else out / name, "run") for *_, name in meant]
    for output in outputs:
        output.claim(result_files())
    replays = [
        replay(Recipe.read(file), _load(image, pixel_size, frame), stated)
        for file, image, stated, _ in meant
    ]
    for output, done in zip(outputs, replays, strict=True):
        with output.writing() as scratch:
            write_answer(done, scratch)
            (scratch / "result.json").write_text(to_json(done.to_dict()), encoding="utf-8")
    rows = [done.to_dict() for done in replays]
    lines = [
        f"{done.problem.micrograph.name}: {done.found.text}, score {done.trial.score.value:.3f}"
        + (f" ({'as' if done.agrees else 'NOT as'} recorded)" if check else "")
        for done in replays
    ]
    _print({"recipe": str(recipe), "images": rows}, [*lines, f"Results: {out}"], as_json)
    if check and not all(done.agrees for done in replays):
        raise typer.Exit(1)


@app.command()
def audit(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Whose reward (or for which task).")],
    out: Out,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.py:]NAME",
            help="A reward term, added to the task's reward; or a Reward, in its place.",
        ),
    ] = None,
    problems: Annotated[
        int, typer.Option(min=2, help="Simulated problems to examine; their truth is known.")
    ] = 60,
    workflows: Annotated[
        int, typer.Option(min=2, help="Random workflows to try on each problem.")
    ] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of problems and workflows.")] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Ask of a reward whether it goes with the truth, and whether it can be fooled.

    Exits 1 when the reward does not pass.
    """
    from scopegym.experiments.audit import audit as examine
    from scopegym.experiments.audit.run import summary

    _load_plugins(plugin)
    judged, files = _audited(task, reward)
    with _progress(problems, f"audit of {judged.name}", "problems") as advance:
        plain = examine(
            task,
            out,
            reward=judged,
            problems=problems,
            workflows=workflows,
            seed=seed,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            plugins=[*(plugin or ()), *files],
            on_problem=lambda one: advance(1, one.honest.value),
        )
    _print({**plain, "out": str(out)}, [*summary(plain), f"Report: {out / 'report.html'}"], as_json)
    if not plain["passed"]:
        raise typer.Exit(1)


@app.command()
def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to reproduce: symmetry, disorder or pareto.")
    ],
    out: Out = Path("reproduced"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated images.")] = 0,
    as_json: Json = False,
) -> None:
    """Show again what a paper shows: its demonstrations on simulated images, with figures."""
    from scopegym.experiments.reproduce.base import reproduce, summary

    done = reproduce(name, out, seed)
    _print({**done, "out": str(out)}, [*summary(done), f"Results: {out}"], as_json)


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="operators, rewards, tasks, agents, datasets or crystals"
        ),
    ],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show what there is: operators, rewards, tasks, agents, datasets, crystals."""
    from scopegym.experiments.catalogue import catalogue

    _load_plugins(plugin)
    rows = catalogue(kind)
    _print({kind: rows}, _table(rows), as_json)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"scopegym {__version__}")
        raise typer.Exit


def _load_plugins(files: list[Path] | None) -> None:
    from scopegym.registry import load_plugins

    load_plugins(files or ())


def _load(path: Path, pixel_size: str | None, frame: int | None) -> Any:
    from scopegym.micrograph import load

    micrograph = load(path, pixel_size)
    if frame is None:
        return micrograph
    return micrograph.frame(frame)


def _reward(reward: Any, added: list[str] | None) -> Any:
    """The reward with the terms that were asked for, each ``TERM`` or ``FILE.py:TERM``."""
    from scopegym.registry import load_plugin

    for entry in added or ():
        file, _, term = entry.rpartition(":")
        if file:
            load_plugin(file)
        reward = reward.plus(term)
    return reward


def _audited(task: str, entry: str | None) -> tuple[Any, list[Path]]:
    """The reward to audit, and the files that it comes from."""
    from scopegym.envs.problem import registry as tasks
    from scopegym.registry import load_plugin
    from scopegym.rewards.base import Reward

    reward = tasks[task].reward
    if entry is None:
        return reward, []
    path, _, name = entry.rpartition(":")
    module = load_plugin(path) if path else None
    named = getattr(module, name, None)
    return named if isinstance(named, Reward) else reward.plus(name), [Path(path)] if path else []


def _known(
    crystal: str | None,
    zone: str,
    density: float | None,
    spacing: str | None,
    estimate: bool,
    pixel_size: str | None,
    contrast: str,
) -> Any:
    """What is said of many images together; the crystal is read here, once."""
    from scopegym.crystal import crystal as find
    from scopegym.experiments.collection import Known

    given = density is not None or spacing is not None
    if (crystal is not None) + given + estimate != 1:
        raise ScopegymError(
            "Say what to expect in exactly one way: a crystal, density and spacing, or estimate."
        )
    expected = {
        "sample": None if crystal is None else find(crystal),
        "zone": zone,
        "density_per_nm2": density,
        "spacing": spacing,
        "estimate": estimate,
        "contrast": contrast,
        "calibration": "report",
    }
    return Known(pixel_size, expected)


def _problems(images: list[str], known: Any, task: Any) -> list[Any]:
    """The problems of a user's images, all of them in memory."""
    from scopegym.experiments.collection import files

    return [
        known.problem(micrograph, task, task.reward)[0]
        for path in files(images).values()
        for micrograph in known.images(path)
    ]


def _replays(recipe: Path, images: list[str]) -> list[tuple[Path, Path, float | None, str]]:
    """Recipe, image, the score that a table states, and the name that results go under."""
    from scopegym.experiments.collection import files
    from scopegym.experiments.replay import read_table

    if recipe.suffix.casefold() != ".csv":
        if not images:
            raise ScopegymError("Give the images to run the recipe on.")
        return [(recipe, image, None, name) for name, image in files(images).items()]
    if images:
        raise ScopegymError(f"The table '{recipe}' names its images; give no others.")
    return [(row.recipe, row.image, row.score, row.recipe.stem) for row in read_table(recipe)]


def _listed(text: str | None) -> list[str] | None:
    """The names in a list with commas; None where nothing is named."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    return names or None


def _policy_folder(policy: str) -> Path:
    """A folder, or the policy that comes with scopegym for the task of this name."""
    from scopegym.agents.policy import SHIPPED

    folder = SHIPPED / policy
    return folder if not Path(policy).exists() and folder.is_dir() else Path(policy)


def _start_ray(backend: str, address: str | None) -> None:
    from scopegym.workers import start_ray

    if address is not None:
        if backend != "ray":
            raise ScopegymError(f"A Ray address goes with the backend ray, not {backend}.")
        start_ray(address)


def _solve(
    problem: Any,
    expectation: Any,
    agent: str,
    budget: int,
    seed: int,
    pick: Any,
    out: Path,
    as_json: bool,
) -> None:
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, write_result
    from scopegym.experiments.solve import search

    problem.check()
    Output(out, "solve").claim(result_files())
    with _progress(budget, f"{agent} on {problem.micrograph.name}", "executions") as advance:

        def on_trial(trial: Any) -> None:
            advance(trial.executions, trial.score.value)

        result = search(problem, expectation, agent, budget, seed, pick, on_trial)
    write_result(result, out)
    _print({**result.to_dict(), "out": str(out)}, _summary(result, out), as_json)


def _solve_windows(
    problem: Any,
    expectation: Any,
    window: int,
    stride: int | None,
    settings: dict[str, Any],
    out: Path,
    as_json: bool,
) -> None:
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, write_result
    from scopegym.experiments.windows import solve_windows, tiled

    problem.check()
    count = len(tiled(problem, window, stride))
    Output(out, "solve").claim(result_files())
    title = f"{settings['agent']} on {problem.micrograph.name}"
    with _progress(count, title, "windows") as advance:

        def on_window(solved: Any) -> None:
            advance(1, 0.0 if solved.trial is None else solved.trial.score.value)

        result = solve_windows(
            problem, expectation, window, stride, **settings, on_window=on_window
        )
    write_result(result, out)
    _print({**result.to_dict(), "out": str(out)}, _summary(result, out), as_json)


def _summary(result: Any, out: Path) -> list[str]:
    found, score = result.found, result.chosen.score
    more = found.detail if found.expected is None else f"{found.expected:.0f} expected"
    terms = ", ".join(f"{name} {value:.3f}" for name, value in score.terms.items())
    timing = result.timing
    return [
        f"{found.text} found in {result.problem.micrograph.name}; {more}; spacing "
        f"{result.problem.prior.scale_px:.1f} px.",
        f"Score {score.value:.3f} ({terms}).",
        f"Workflow: {result.way}",
        f"{result.evaluations} workflows in {result.seconds:.1f} s: operators "
        f"{timing['operators_s']:.1f} s, reward {timing['reward_s']:.1f} s, search "
        f"{timing['search_s']:.1f} s.",
        *(f"Note: {warning}" for warning in result.warnings),
        f"Report: {out / 'report.html'}",
    ]


@contextmanager
def _resumable(what: str, out: Path) -> Iterator[None]:
    """Say, when the command is interrupted, that what is done is kept and how to go on."""
    text = f"Stopped; finished {what} are kept in '{out}', and the same command does the others."
    with on_interrupt(text):
        yield


@contextmanager
def _progress(total: int, title: str, unit: str) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal (standard error), silence elsewhere. Takes how much was done,
    what score it reached, and how much there is where that was not known before."""
    with _bar("{task.completed}/{task.total} " + unit + ", best {task.fields[best]:.3f}") as bar:
        row = bar.add_task(title, total=total, best=0.0)
        best = 0.0

        def advance(done: int, score: float, total: int | None = None) -> None:
            nonlocal best
            best = max(best, score)
            bar.update(row, advance=done, best=best, total=total)

        yield advance


@contextmanager
def _training(total: int, title: str) -> Iterator[tuple[Callable[..., None], Callable[..., None]]]:
    """A progress bar for a training: what to call after an update and after a validation."""
    text = (
        "{task.completed}/{task.total} steps, {task.fields[speed]:.0f}/s, reward "
        "{task.fields[reward]:.3f}, validation {task.fields[reached]}"
    )
    with _bar(text) as bar:
        row = bar.add_task(title, total=total, speed=0.0, reward=0.0, reached="-")

        def on_update(steps: int, reward: float) -> None:
            elapsed = bar.tasks[row].elapsed or 1.0
            bar.update(row, completed=steps, reward=reward, speed=steps / elapsed)

        def on_validation(reached: Any) -> None:
            truth = "" if reached.truth is None else f" (truth {reached.truth:.3f})"
            bar.update(row, reached=f"{reached.score:.3f}{truth}")

        yield on_update, on_validation


@contextmanager
def _bar(text: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(text),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as indented text, which stays readable at any width."""
    lines = []
    for row in rows:
        lines.append(f"{row['name']}: {row.get('about', '')}")
        for key, value in row.items():
            if key in ("name", "about"):
                continue
            if isinstance(value, dict):
                lines += [f"    {name}: {text}" for name, text in value.items()]
            else:
                text = ", ".join(map(str, value)) if isinstance(value, list) else value
                lines.append(f"  {key}: {text}")
    return lines


def _print(plain: dict[str, Any], lines: list[str], as_json: bool) -> None:
    from scopegym.experiments.outputs import to_json

    answer(to_json(plain) if as_json else "\n".join(lines) + "\n")


def main() -> None:
    """Entry point: bad input is one sentence and exit code 2, a fault of scopegym itself one
    sentence and 1, an interruption 130 or 143; with ``--json`` each is an object, too."""
    as_json = "--json" in sys.argv
    printable(sys.stdout)
    with json_alone() if as_json else nullcontext():
        code, message = _carried_out()
        if message:
            tell(message if code > 2 else f"Error: {message}")
            if as_json:
                with suppress(ClosedPipe):
                    _print({"error": message}, [], as_json=True)
    sys.exit(code)


def _carried_out() -> tuple[int, str]:
    """Exit code and message of the command that was asked for."""
    try:
        with stopping_on_sigterm(), on_interrupt(STOPPED):
            code = app(standalone_mode=False) or 0
        # Typer itself turns Ctrl-C into this code.
        return code, STOPPED if code == INTERRUPTED else ""
    except (ScopegymError, typer.TyperException) as error:
        return 2, one_line(getattr(error, "format_message", error.__str__)())
    except Stopped as stop:
        return stop.code, str(stop)
    except ClosedPipe:
        return CLOSED_PIPE, ""
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return 1, _fault(error)


def _fault(error: Exception) -> str:
    """A fault of the program as one sentence, with the way to report it."""
    what = one_line(f"{type(error).__name__}: {error}", 300).rstrip(" .:")
    return (
        f"scopegym {__version__} has a fault ({what}); please report it with this command, the "
        f"file it read and the traceback that it shows after 'export {TRACEBACK}=1'."
    )


if __name__ == "__main__":
    main()
