"""The command line. Bad input is one sentence and exit code 2; each command has its file."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from scopegym.errors import ScopegymError, one_line
from scopegym.experiments.cli.apply import apply
from scopegym.experiments.cli.audit import audit
from scopegym.experiments.cli.benchmark import benchmark
from scopegym.experiments.cli.catalogue import list_
from scopegym.experiments.cli.identify import identify
from scopegym.experiments.cli.reproduce import reproduce
from scopegym.experiments.cli.run import run
from scopegym.experiments.cli.solve import demo, solve
from scopegym.experiments.cli.train import train
from scopegym.experiments.console import ClosedPipe, json_alone, printable, show, tell
from scopegym.experiments.interrupt import INTERRUPTED, Stopped, on_interrupt
from scopegym.version import __version__
from scopegym.workers import stopping_on_sigterm

#: Exit code when the reader of standard output has gone, as other commands have it.
CLOSED_PIPE = 141
#: What is said after Ctrl-C by commands that keep nothing.
STOPPED = "Stopped before the command was done."
#: Set to anything, faults show their traceback.
TRACEBACK = "SCOPEGYM_TRACEBACK"
#: Errors of a file that the user names, not faults of the program.
UNREADABLE = {errno.EACCES, errno.ENAMETOOLONG, errno.EPERM}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the image-analysis workflow whose result best fits the physics of the sample.",
)
for command in (demo, solve, train, apply, benchmark, run, audit, identify, reproduce):
    app.command()(command)
app.command("list")(list_)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"scopegym {__version__}")
        raise typer.Exit


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
                    show({"error": message}, [], as_json=True)
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
        if isinstance(error, OSError) and error.filename and error.errno in UNREADABLE:
            return 2, f"Cannot open '{one_line(str(error.filename))}': {error.strerror}."
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
