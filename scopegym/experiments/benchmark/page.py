"""The page of a benchmark, which needs no network, and its tables for a README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scopegym.experiments.benchmark import charts
from scopegym.experiments.benchmark.regimes import COLD, EXPERT

#: Explanations of the regimes.
ABOUT = {
    "A": "Every agent searches every image separately, all with the same number of executions.",
    "B": "Learned once: a single episode of the policy per image, and one workflow for all images, "
    "tuned on other images. For comparison: a long search of every image.",
    "C": "The policy or a search (warm) continues from the policy's proposal, with the budget of "
    "A. For comparison: the same searches from the expert's workflow, as in A (cold, dashed).",
}


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Write the page of a benchmark: one HTML file that needs no network."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scopegym.experiments", "."),
        autoescape=True,  # a file's name may hold code
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(
        environment.get_template("benchmark.html").render(_content(result)), encoding="utf-8"
    )


def write_leaderboard(result: Mapping[str, Any], path: Path) -> None:
    """Write the tables of all regimes as Markdown."""
    measure = result["settings"]["measure"]
    parts = []
    for regime, found in result["regimes"].items():
        head = [cell for cell, _ in _head(measure, EXPERT in found["agents"])]
        rows = [head, ["---", *["---:"] * (len(head) - 1)]]
        rows += [_cells(name, found["agents"][name], measure) for name in _order(found["agents"])]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join([f"**{regime}: {found['title']}**", "", *lines]))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def summary(result: Mapping[str, Any]) -> list[str]:
    """A summary of the benchmark, line by line."""
    measure, said = result["settings"]["measure"], []
    for regime, found in result["regimes"].items():
        said.append(f"{regime}, {found['title']}:")
        for name in _order(found["agents"]):
            figures = found["agents"][name]
            truth = "" if figures["truth"] is None else f", {measure} {_interval(figures['truth'])}"
            said.append(
                f"  {name}: score {_interval(figures['score'])}{truth}; "
                f"{_number(figures['executions'], '.1f')} executions, "
                f"{_number(figures['seconds']['total'], '.3g')} s."
            )
    said += [f"{'Passed' if v['passed'] else 'FAILED'}: {v['text']}" for v in result["verdict"]]
    return [*said, *(f"Note: {note}" for note in result["notes"])]


def _order(agents: Mapping[str, Any]) -> list[str]:
    """Agents, the best first: by truth if known, otherwise by score."""
    judged = "truth" if any(a["truth"] is not None for a in agents.values()) else "score"
    return sorted(
        agents,
        key=lambda name: (-agents[name][judged]["value"], -agents[name]["score"]["value"]),
    )


def _head(measure: str | None, compared: bool) -> list[tuple[str, str]]:
    """Columns of a table and their explanations."""
    share = "95 % interval over images and seeds"
    columns = [
        ("agent", ""),
        ("score", f"Interquartile mean of the score of the chosen workflow, with its {share}."),
    ]
    if measure is not None:
        columns.append((measure, f"Interquartile mean of the agreement with the truth; {share}."))
    if compared:
        about = "Probability that a run scores higher than the expert's workflow on the same image."
        columns.append(("P(better than expert)", about))
    return [
        *columns,
        ("executions", "Operator executions per image, before cache hits."),
        ("seconds (overhead)", "Seconds per image; in brackets the part of the agent itself."),
        ("hypervolume", "Mean hypervolume of goodness dominated by the front of an image."),
    ]


def _cells(name: str, figures: Mapping[str, Any], measure: str | None) -> list[str]:
    """A row of a table. Without an expert it has no comparison."""
    cells = [name, _interval(figures["score"])]
    if measure is not None:
        cells.append(_interval(figures["truth"]))
    if name == EXPERT:
        cells.append("")
    elif EXPERT in figures["better_than"]:
        cells.append(_number(figures["better_than"][EXPERT]["score"]["value"], ".2f"))
    seconds = figures["seconds"]
    return [
        *cells,
        _number(figures["executions"], ".1f"),
        f"{_seconds(seconds['total'])} ({_seconds(seconds['overhead'])})",
        f"{figures['hypervolume']['value']:.3f}",
    ]


def _interval(figure: Mapping[str, float] | None) -> str:
    return "" if figure is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**figure)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _seconds(value: float | None) -> str:
    return _number(value, ".2f" if value is None or value >= 0.1 else ".3f")


def _content(result: Mapping[str, Any]) -> dict[str, Any]:
    settings = result["settings"]
    colour = charts.colours(settings["agents"])
    return {
        "result": result,
        "settings": settings,
        "headline": _headline(result),
        "runs": sum(
            figures["runs"]
            for found in result["regimes"].values()
            for name, figures in found["agents"].items()
            if not name.endswith(COLD)
        ),
        "sections": [
            _section(regime, found, settings["measure"], colour)
            for regime, found in result["regimes"].items()
        ],
    }


def _headline(result: Mapping[str, Any]) -> str:
    settings, passed = result["settings"], sum(line["passed"] for line in result["verdict"])
    kind = "simulated" if settings["simulated"] else "given"
    return (
        f"{len(settings['agents'])} agents on {len(settings['images'])} {kind} images: "
        f"{passed} of {len(result['verdict'])} statements hold"
    )


def _section(
    regime: str, found: Mapping[str, Any], measure: str | None, colour: Mapping[str, int]
) -> dict[str, Any]:
    agents, curves = found["agents"], found["curves"]
    judged = {"truth": measure} if found["profile"].keys() >= {"truth"} and measure else {}
    titles = {"score": "score", **judged}
    order = _order(agents)
    return {
        "regime": regime,
        "title": found["title"],
        "about": ABOUT[regime],
        "head": _head(measure, EXPERT in agents),
        "rows": [(charts.base(name), _cells(name, agents[name], measure)) for name in order],
        "colour": colour,
        "legend": [(name, colour.get(charts.base(name), 2)) for name in agents],
        "curves": [
            charts.curves_chart(curves, axis, column, f"{title} of the choice", colour)
            for axis in curves
            for column, title in titles.items()
        ],
        "profiles": [charts.profiles(found["profile"], c, t, colour) for c, t in titles.items()],
        "intervals": [
            charts.intervals(agents, column, title, colour) for column, title in titles.items()
        ],
        "times": charts.times({name: agents[name] for name in order}),
        "improvements": _improvements(agents, order),
        "break_even": found.get("text", ""),
    }


def _improvements(agents: Mapping[str, Any], order: list[str]) -> list[tuple[str, list[str]]]:
    """Rows of the table of probabilities of improvement, by the score."""
    return [
        (
            one,
            [
                "" if one == other else f"{agents[one]['better_than'][other]['score']['value']:.2f}"
                for other in order
            ],
        )
        for one in order
    ]
