"""The graphs of a report as the page's script reads them: columns, and each text only once.

Rows are operations, in the report's order. A graph input that feeds an operation is a negative
number: -1 is the first. What has no bound in a model has one here, so that the page has:
`LIMIT_ROWS` operations for each graph, and `LIMIT_TEXT` characters for a name.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LIMIT_ROWS: Final = 10_000
LIMIT_TEXT: Final = 240
LIMIT_LIST: Final = 200

_SQNR: Final = ("sqnr", "sqnr_db", "sqnr_db_after")
_TOLD: Final = frozenset(
    ("name", "op", "precision", "reason", "made_by", "sources", "type", "inputs", "inside")
)  # shown in their own way
_FACTS: Final = {
    "form": "Written as",
    "kernel": "Kernel",
    "isa": "Instruction set",
    "expected": "Computed in",
    "obstacle": "Why",
}


def shorten(text: str) -> str:
    """A text of at most `LIMIT_TEXT` characters; of a longer one the middle is left out."""
    if len(text) <= LIMIT_TEXT:
        return text
    half = LIMIT_TEXT // 2
    return f"{text[: half - 1]}…{text[-half:]}"


class _Strings:
    """Texts by number, each once, in order of first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: object) -> int | None:
        """The number of a text; None for nothing."""
        return None if text is None else self.number(str(text))

    def number(self, text: str) -> int:
        return self._numbers.setdefault(shorten(text), len(self._numbers))

    def all(self) -> list[str]:
        return list(self._numbers)


def graph_data(report: Mapping[str, Any]) -> dict[str, object]:
    """Both graphs of a report; ``before`` or ``after`` is None when there is none, or too much."""
    strings = _Strings()
    source, rows = report.get("source", {}), report.get("nodes", [])
    before, after = fits(source.get("nodes")), fits(rows) and "ends" in report
    places = rows_by_name(source["nodes"]) if before else {}
    results = rows_by_name(rows) if after else {}
    return {
        "before": _columns(strings, source["nodes"], source) if before else None,
        "after": {**_columns(strings, rows, report["ends"]), **_provenance(strings, rows, places)}
        if after
        else None,
        "missed": [_missed(strings, item, places, results) for item in report["near_misses"]],
        "strings": strings.all(),
    }


def fits(rows: Sequence[object] | None) -> bool:
    """Whether there are rows, and not too many to draw."""
    return rows is not None and 0 < len(rows) <= LIMIT_ROWS


def as_script(data: Mapping[str, object]) -> str:
    """JSON that can stand inside a script element: it holds no markup and only ASCII."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def rows_by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Rows of each name: names need not be unique."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row["name"], []).append(number)
    return found


def _columns(
    strings: _Strings, rows: Sequence[Mapping[str, Any]], ends: Mapping[str, Any]
) -> dict[str, object]:
    """What both graphs have."""
    inputs = {name: -1 - number for number, name in enumerate(ends["inputs"])}
    feeds = [[inputs[f] if isinstance(f, str) else f for f in row["inputs"]] for row in rows]
    return {
        **{key: [strings(r[key]) for r in rows] for key in ("op", "name", "type", "precision")},
        "inputs": feeds,
        "inside": {
            number: [row["inside"][0], strings(row["inside"][1])]
            for number, row in enumerate(rows)
            if "inside" in row
        },
        "ends": {
            "inputs": [[strings(name), strings(kind)] for name, kind in ends["inputs"].items()],
            "outputs": [
                [strings(name), strings(end["type"]), inputs.get(end["from"], end["from"])]
                for name, end in ends["outputs"].items()
            ],
        },
    }


def _provenance(
    strings: _Strings, rows: Sequence[Mapping[str, Any]], places: Mapping[str, list[int]]
) -> dict[str, object]:
    """What only the result has: reasons, kernels, makers, sources."""
    facts: dict[int, dict[str, int]] = {}
    sources: dict[int, list[object]] = {}
    for number, row in enumerate(rows):
        found = {title: strings.number(row[key]) for key, title in _FACTS.items() if row.get(key)}
        found |= {title: strings.number(text) for title, text in _figures(row)}
        if found:
            facts[number] = found
        if row.get("sources"):
            listed = sources[number] = []
            for name in row["sources"][:LIMIT_LIST]:
                listed += places.get(name) or [[strings(name)]]
    made = {
        n: [strings(p) for p in row["made_by"]] for n, row in enumerate(rows) if "made_by" in row
    }
    reasons = [strings(row["reason"]) for row in rows]
    return {"reason": reasons, "facts": facts, "sources": sources, "made": made}


def sqnr_of(row: Mapping[str, Any]) -> float | None:
    """The signal-to-noise ratio of an operation in dB, where the report has a finite one."""
    found = (row.get(key) for key in _SQNR)
    known = (v for v in found if isinstance(v, int | float) and math.isfinite(v))
    return next(known, None)


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Numbers that stand beside the reason of a decision."""
    ratio = sqnr_of(row)
    if ratio is not None:
        yield "SQNR", f"{ratio:.3g} dB"
    for key, value in row.items():
        if key not in _TOLD and key not in _SQNR and isinstance(value, int | float):
            yield key.replace("_", " ").capitalize(), f"{value:g}"


def _missed(
    strings: _Strings,
    item: Mapping[str, Any],
    before: Mapping[str, list[int]],
    after: Mapping[str, list[int]],
) -> list[object]:
    """Idea, reason, and the rows of both graphs that it was missed at."""
    sources = {name for place in item["places"] for name in place["sources"]}
    nodes = {place["node"] for place in item["places"]}
    rows = {
        "before": sorted(row for name in sources for row in before.get(name, ())),
        "after": sorted(row for name in nodes for row in after.get(name, ())),
    }
    return [strings(item["family"]), strings(item["reason"]), rows]
