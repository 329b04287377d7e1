"""The command ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scopegym.errors import ScopegymError
from scopegym.experiments.cli.inputs import kept_lines, load_plugins
from scopegym.experiments.cli.options import Frame, Json, Out, PixelSize, Plugins
from scopegym.experiments.console import show


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
    """Replay a recipe on images, or a table of recipes, without a search."""
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, to_json, write_answer
    from scopegym.experiments.replay import replay
    from scopegym.experiments.solving import opened
    from scopegym.workflow import Recipe

    load_plugins(plugin)
    meant = _replays(recipe, images or [])
    outputs = [Output(out if len(meant) == 1 else out / name, "run") for *_, name in meant]
    for output in outputs:
        output.claim(result_files())
    replays = [
        replay(Recipe.read(file), opened(image, pixel_size, frame), stated)
        for file, image, stated, _ in meant
    ]
    for output, done in zip(outputs, replays, strict=True):
        with output.writing() as scratch:
            write_answer(done, scratch)
            (scratch / "result.json").write_text(to_json(done.to_dict()), encoding="utf-8")
    rows = [done.to_dict() for done in replays]
    lines = [
        f"{done.problem.micrograph.name}: {done.found.text}, score {done.trial.score.value:.3f}, "
        f"{done.verdict.belief}"
        + (f" ({'as' if done.agrees else 'NOT as'} recorded)" if check else "")
        for done in replays
    ]
    kept = [str(path) for output in outputs for path in output.kept]
    lines += [*kept_lines(kept), f"Results: {out}"]
    show({"recipe": str(recipe), "images": rows, "kept": kept}, lines, as_json)
    if check and not all(done.agrees for done in replays):
        raise typer.Exit(1)


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
