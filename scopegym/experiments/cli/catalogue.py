"""The command ``list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scopegym.experiments.cli.options import Json, Plugins
from scopegym.experiments.console import show
from scopegym.registry import load_plugins


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

    load_plugins(plugin or ())
    rows = catalogue(kind)
    show({kind: rows}, _table(rows), as_json)


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
