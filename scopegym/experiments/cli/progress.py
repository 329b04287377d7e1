"""What a command shows while it works, and what it says when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scopegym.experiments.interrupt import on_interrupt


@contextmanager
def resumable(what: str, out: Path) -> Iterator[None]:
    """Say, when the command is interrupted, that what is done is kept and how to go on."""
    text = f"Stopped; finished {what} are kept in '{out}', and the same command does the others."
    with on_interrupt(text):
        yield


@contextmanager
def progress(total: int, title: str, unit: str) -> Iterator[Callable[..., None]]:
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
def training(total: int, title: str) -> Iterator[tuple[Callable[..., None], Callable[..., None]]]:
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
