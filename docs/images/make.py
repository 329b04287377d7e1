"""Make the pictures of the documentation: ``python docs/images/make.py [DATA]``.

DATA is the folder of the published images; without it the pictures of real images stay as they are.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

import scopegym
from scopegym.agents.policy import SHIPPED, Policy
from scopegym.artifacts import Points
from scopegym.datasets.bundled import bundled
from scopegym.envs.problem import Problem
from scopegym.experiments.belief import verdict
from scopegym.experiments.pictures import write_overlay
from scopegym.experiments.reproduce.base import reproduce
from scopegym.sample import Sample

HERE = Path(__file__).parent


def half_size(source: Path, target: Path, factor: int = 2) -> None:
    """Write the picture at half its size, or as much smaller as ``factor`` says."""
    with Image.open(source) as picture:
        few_colours(picture.convert("RGB").reduce(factor)).save(target, optimize=True)


def few_colours(picture: Image.Image) -> Image.Image:
    """The picture in 64 colours, rare ones among them: sharp enough, and small in the history."""
    return picture.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def symmetry() -> None:
    """The pictures of docs/symmetry.md: those of ``scopegym reproduce symmetry``."""
    photographs = {"phases.png", "grains.png", "precipitate.png"}
    with tempfile.TemporaryDirectory() as folder:
        plain = reproduce("symmetry", folder)
        for picture in (claim["picture"] for claim in plain["claims"]):
            factor = 2 if picture in photographs else 1
            half_size(Path(folder) / picture, HERE / f"symmetry-{picture}", factor)


def disorder(data: str = "") -> None:
    """The pictures of docs/disorder.md: those of ``scopegym reproduce disorder``."""
    if data:
        os.environ["SCOPEGYM_DATA"] = data
    with tempfile.TemporaryDirectory() as folder:
        plain = reproduce("disorder", folder)
        for picture in (claim["picture"] for claim in plain["claims"]):
            factor = 1 if picture == "front.png" else 2
            half_size(Path(folder) / picture, HERE / f"disorder-{picture}", factor)


def training() -> None:
    """The course of the shipped policy's training, and an episode as the environment shows it."""
    import gymnasium
    import numpy as np
    from matplotlib.figure import Figure

    names, *lines = (SHIPPED / "atoms" / "training.csv").read_text(encoding="utf-8").splitlines()
    rows = np.array([[float(x or "nan") for x in line.split(",")] for line in lines])
    course = dict(zip(names.split(","), rows.T, strict=True))
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(course["executed"], course["truth"], "o-", label="F1", color="#0072b2")
    axes.plot(course["executed"], course["score"], "s-", label="score", color="#d55e00")
    axes.set(xlabel="operator executions", ylabel="mean over validation images", ylim=(0.5, 1))
    axes.legend(frameon=False)
    figure.savefig(HERE / "train-course.png", dpi=100)

    policy = Policy.shipped("atoms")
    env = gymnasium.make("scopegym/AtomFinding-v0", render_mode="rgb_array")
    env.reset(options={"image": policy.task.sample(np.random.default_rng(3))})
    base = env.unwrapped
    while not base.episode.ended:
        env.step(int(np.argmax(policy.probabilities(base.episode))))
    few_colours(Image.fromarray(env.render())).save(HERE / "train-episode.png", optimize=True)


def real(data: Path) -> None:
    """What the shipped policy finds on published images that it never saw."""
    from matplotlib.figure import Figure

    policy = Policy.shipped("atoms")
    atoms = data / "atom_finding"
    shown = (
        ("YBa2Cu3O7", atoms / "scilink_ybco_haadf" / "YBCO_tem.tif", {"crystal": "YBa2Cu3O7"}),
        ("BaTiO3", atoms / "baghizadeh_batio3" / "BTO_crystal_1.dm4", {"crystal": "BaTiO3"}),
        (
            "MoS2",
            next((atoms / "scilink_mos2_haadf").glob("*.npy")),
            {"estimate": True},
        ),
        (
            "Pt atoms on carbon",
            sorted((atoms / "acstem_pt_single_atoms" / "tif_data").glob("*.tif"))[0],
            {"estimate": True},
        ),
    )
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (name, file, known) in zip(figure.subplots(1, 4), shown, strict=True):
        micrograph = scopegym.load(file)
        expectation = Sample(**known, calibration="report").expect(micrograph)
        problem = Problem(micrograph, expectation.prior, policy.task)
        trial = policy.propose(problem)
        said = verdict(problem, trial.score, expectation).belief
        middle = [n // 2 for n in micrograph.shape]
        top, left = (max(0, n - 90) for n in middle)
        part = problem.source.pixels[top : top + 180, left : left + 180]
        yx = problem.run(trial.workflow).need(Points).yx - (top, left)
        seen = yx[((yx >= 0) & (yx < part.shape)).all(axis=1)]
        axes.imshow(part, cmap="gray", vmin=0, vmax=1)
        axes.plot(seen[:, 1], seen[:, 0], "o", ms=5, mfc="none", mec="#ffb000", mew=0.8)
        axes.set(xlim=(-0.5, part.shape[1] - 0.5), ylim=(part.shape[0] - 0.5, -0.5))
        axes.set_title(f"{name}: {trial.score.value:.2f}, {said}", fontsize=10)
        axes.set_axis_off()
    figure.savefig(HERE / "train-real.png", dpi=160)
    half_size(HERE / "train-real.png", HERE / "train-real.png")


def windows() -> None:
    """The maps of docs/windows.md: a random search in every window of a fading image."""
    from scopegym.datasets.simulate import simulate_gradient
    from scopegym.envs.problem import registry as tasks
    from scopegym.experiments.maps import write_maps
    from scopegym.experiments.windows import solve_windows
    from scopegym.sample.crystal import Crystal

    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    micrograph = simulate_gradient(projection, noise=0.1, seed=1)
    expectation = Sample(crystal="YBa2Cu3O7").expect(micrograph)
    problem = Problem(micrograph, expectation.prior, tasks["atoms"])
    result = solve_windows(problem, expectation, 128, agent="random", budget=60)
    write_maps(result, HERE / "windows.png")
    half_size(HERE / "windows.png", HERE / "windows.png", 1)


def pareto() -> None:
    """The pictures of docs/pareto.md."""
    with tempfile.TemporaryDirectory() as folder:
        reproduce("pareto", folder)
        for name in ("fronts", "hacks"):
            half_size(Path(folder) / f"{name}.png", HERE / f"pareto-{name}.png", 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "overlay.png"
        result = scopegym.solve(bundled("ybco_100_poisson"), crystal="YBa2Cu3O7", budget=60)
        write_overlay(result, overlay)
        half_size(overlay, HERE / "demo.png")
    symmetry()
    disorder(*sys.argv[1:2])
    pareto()
    windows()
    training()
    for folder in sys.argv[1:]:
        real(Path(folder))


if __name__ == "__main__":
    main()
