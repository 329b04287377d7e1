"""Pages from templates: one HTML file each, which needs no network."""

from __future__ import annotations

from typing import Any


def render(template: str, content: dict[str, Any]) -> str:
    """A page of this package as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scopegym.experiments", "."),
        autoescape=True,  # names and metadata of files are not to be trusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)
