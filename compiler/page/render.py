"""Renders report.html. The bytes depend on the reports, the launch files and nothing else.

The page is one file: style and scripts stand in it, and its policy lets it load nothing. Texts of a
model go through the template's escaping, or as JSON to a script that treats them as text.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.page.chart import sqnr_chart
from optc.page.content import figures, fleet, idle, misses, operators, passes, refusals, skipped
from optc.page.graphs import LIMIT_ROWS, as_script, fits, graph_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2

_ASSETS: Final = Path(__file__).parent / "assets"
_SCRIPTS: Final = ("layout.js", "view.js", "page.js")


def page_of(folder: Path, reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of a target.

    Args:
        folder: ``OUT/<target>``, for its launch folder.
        reports: content of report.json by target, this one and those compiled with it.
    """
    advice, options = (_read(folder / "launch" / name) for name in ("ADVICE.md", "runtime.json"))
    return render_page(reports[folder.name], advice, options, fleet_of=list(reports.values()))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def render_page(
    report: Mapping[str, Any],
    advice: str = "",
    options: str = "",
    *,
    fleet_of: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of a report.

    Args:
        report: content of report.json.
        advice: launch advice, Markdown.
        options: content of runtime.json.
        fleet_of: the reports of all targets, to compare predictions; this one among them.
    """
    import yaml

    script, style = _text(*_SCRIPTS), _text("page.css")
    chart = sqnr_chart(report["nodes"])
    recipe = yaml.safe_dump(
        report.get("recipe", {}),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return _template().render(
        name=report["name"],
        target=report["target"],
        runtime=report["runtime"],
        opset=report["opset"],
        sections=_sections(chart is not None),
        figures=figures(report),
        warnings=report["warnings"],
        fleet=fleet(fleet_of, report["target"]),
        chart=chart,
        idle=idle(report),
        skipped=skipped(report),
        passes=passes(report),
        families=misses(report),
        advice=_markdown(advice),
        options=options,
        recipe=recipe,
        style=_markup(style),
        style_hash=_source_hash(style),
        script=_markup(script),
        script_hash=_source_hash(script),
        data=_markup(as_script(graph_data(report))),
        **_graph(report),
        **operators(report),
        **refusals(report),
    )


def _sections(with_chart: bool) -> list[tuple[str, str]]:
    found = [("graph", "Graph"), ("precision", "Precision"), ("accuracy", "Accuracy")]
    found += [("passes", "Passes"), ("not-done", "Not done"), ("launch", "Launch")]
    return [item for item in [*found, ("recipe", "Recipe")] if with_chart or item[0] != "accuracy"]


def _graph(report: Mapping[str, Any]) -> dict[str, object]:
    """Which graphs are shown, and why one is not."""
    found = {"before": report.get("source", {}).get("nodes"), "after": report["nodes"]}
    if "ends" not in report:
        found = {}
    views = [(side, f"{len(rows):,} operations") for side, rows in found.items() if fits(rows)]
    notes = [
        f"The graph {side} has {len(rows):,} operations: more than the {LIMIT_ROWS:,} that are "
        "drawn. graph.txt has all of the result."
        for side, rows in found.items()
        if rows and not fits(rows)
    ]
    modes = [side for side, _ in views] + (["both"] if len(views) > 1 else [])
    return {"views": views, "graph_notes": notes, "has_graph": bool(views), "modes": modes}


def _markdown(text: str) -> object:
    """Markdown as HTML; HTML in it is text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return _markup(parser.render(text))


def _markup(text: str) -> object:
    from markupsafe import Markup

    return Markup(text)  # our own files, or escaped already


@cache
def _text(*names: str) -> str:
    return "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in names)


def _source_hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    return environment.get_template("report.html.j2")
