"""The panel's figures as a page: ratios, the best correct peer, means, what falls short.

Pure functions of what `panel.py` records: by model and runtime, what each tool made and how it did.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SHORT = 0.98
"""A result slower than this, in units of the source model's speed, is flagged."""
OWN = "optc"
SOURCE = "source"

Record = dict[str, Any]
"""One model in one runtime."""


@dataclass(frozen=True)
class Row:
    """One model in one runtime.

    Attributes:
        model: its name.
        record: what was measured.
    """

    model: str
    record: Record

    def ratio(self, tool: str) -> float | None:
        """Speed of a tool's result in units of the source's; None when it was not measured."""
        speedup = self._found(tool).get("speedup")
        return None if speedup is None else float(speedup["value"])

    def correct(self, tool: str) -> bool:
        """Whether the result of a tool was measured and computes what the source does."""
        return self.ratio(tool) is not None and bool(self._found(tool).get("correct"))

    def error(self, tool: str) -> str:
        """Why there is no figure, or why the result is wrong; empty when all is well."""
        found = self._found(tool)
        made = self.record.get("made", {}).get(tool, {})
        wrong = "" if found.get("correct", True) else f"wrong: {found.get('reason', '')}"
        return str(made.get("error") or found.get("error") or wrong)

    def best_peer(self) -> str | None:
        """The peer with the fastest correct result."""
        peers = [t for t in self.record.get("variants", {}) if t not in (OWN, SOURCE)]
        return max((t for t in peers if self.correct(t)), key=self._speed, default=None)

    def against(self, tool: str) -> Record | None:
        """Speed of optc's result in units of that of another tool."""
        found: Record | None = self._found(tool).get("optc_speedup")
        return found

    @property
    def short(self) -> bool:
        """Whether optc's result is slower than the source model by more than noise allows."""
        own = self.ratio(OWN)
        return own is not None and own < SHORT

    def _found(self, tool: str) -> Record:
        found: Record = self.record.get("variants", {}).get(tool, {})
        return found

    def _speed(self, tool: str) -> float:
        return self.ratio(tool) or 0.0


def rows_of(models: Mapping[str, Mapping[str, Record]], runtime: str) -> list[Row]:
    """The models that were measured in a runtime, in the order of their names."""
    return [Row(name, own[runtime]) for name, own in sorted(models.items()) if runtime in own]


def geometric_mean(values: Iterable[float]) -> float | None:
    """None without values."""
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else None


def mean_of(rows: Sequence[Row], tool: str) -> tuple[float | None, float | None, int]:
    """Geometric means of a tool and of optc on the models where both are correct; how many."""
    both = [row for row in rows if row.correct(tool) and row.correct(OWN)]
    means = [geometric_mean(row.ratio(t) or 0.0 for row in both) for t in (tool, OWN)]
    return means[0], means[1], len(both)


def page(content: Mapping[str, Any]) -> str:
    """The whole page as markdown."""
    context, models = content["context"], content["models"]
    lines = ["# Panel: optc against its peers", ""]
    lines += [f"- {key}: {value}" for key, value in context.items()]
    lines += ["", *_LEGEND]
    for runtime in sorted({name for own in models.values() for name in own}):
        rows = rows_of(models, runtime)
        tools = tools_of(rows)
        lines += ["", f"## {runtime}", "", *_table(rows, tools), ""]
        lines += [*_means(rows, tools), "", *_short(rows), *_troubles(rows, tools)]
        lines += [*_cost(rows, tools)]
    return "\n".join(lines).rstrip() + "\n"


_LEGEND = (
    "Ratios are time of the source model over time of the variant, both in that runtime: above 1,",
    "the variant is faster. Brackets hold the 99 % interval where there are enough blocks. "
    "✗: outputs",
    f"differ from the source model by more than its tolerance. ▼: optc below {SHORT}. —: the tool",
    "does not know such a model. *failed*: see below the table.",
)


def tools_of(rows: Sequence[Row]) -> list[str]:
    """The tools in these rows but the source; optc first, the others in the order of calls."""
    found: dict[str, None] = {}
    for row in rows:
        found |= dict.fromkeys([*row.record.get("made", {}), *row.record.get("variants", {})])
    found.pop(SOURCE, None)
    return sorted(found, key=lambda tool: tool != OWN)


def _table(rows: Sequence[Row], tools: Sequence[str]) -> Iterator[str]:
    heads = ["model", "source ms", *tools, "best correct peer", "optc against it"]
    yield _line(heads)
    yield "|---" * len(heads) + "|"
    for row in rows:
        source = row.record.get("variants", {}).get(SOURCE, {}).get("cpu_seconds")
        took = f"{source['median'] * 1e3:.3g}" if source else "*failed*"
        peer = row.best_peer()
        versus = row.against(peer) if peer is not None else None
        cells = [_cell(row, tool) for tool in tools]
        yield _line([row.model, took, *cells, peer or "", interval(versus) if versus else ""])


def _cell(row: Row, tool: str) -> str:
    record = row.record.get("variants", {}).get(tool, {})
    if "speedup" not in record:
        return "*failed*" if row.error(tool) else "—"
    mark = "" if row.correct(tool) else "✗ "
    flag = " ▼" if tool == OWN and row.short else ""
    return f"{mark}{interval(record['speedup'])}{flag}"


def interval(ratio: Mapping[str, Any]) -> str:
    """A ratio with its interval, where it has one."""
    if ratio.get("low") is None:
        return f"{ratio['value']:.2f}"
    return f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _means(rows: Sequence[Row], tools: Sequence[str]) -> Iterator[str]:
    yield _line(["geometric mean over models where both are correct", "tool", "optc", "models"])
    yield "|---|---|---|---|"
    for tool in tools:
        own, other, count = mean_of(rows, tool)
        if own is not None and other is not None:
            yield _line([tool, f"{own:.3f}", f"{other:.3f}", str(count)])
    against = [
        float(versus["value"])
        for row in rows
        if row.correct(OWN) and (peer := row.best_peer()) and (versus := row.against(peer))
    ]
    if (mean := geometric_mean(against)) is not None:
        yield _line(["optc against the best correct peer", "", f"{mean:.3f}", str(len(against))])


def _short(rows: Sequence[Row]) -> Iterator[str]:
    found = [f"{row.model} {row.ratio(OWN):.2f}" for row in rows if row.short]
    yield f"optc below {SHORT} of the source: {', '.join(found) or 'none'}."
    yield ""


def _troubles(rows: Sequence[Row], tools: Sequence[str]) -> Iterator[str]:
    found = [
        f"- {row.model}, {tool}: {error}"
        for row in rows
        for tool in (SOURCE, *tools)
        if (error := row.error(tool))
    ]
    found += [f"- {row.model}: {row.record['error']}" for row in rows if row.record.get("error")]
    if found:
        yield from ("Failed or wrong:", "", *found, "")


def _cost(rows: Sequence[Row], tools: Sequence[str]) -> Iterator[str]:
    yield _line(["making it", "seconds, median", "seconds, most", "MB, median", "MB, most"])
    yield "|---|---|---|---|---|"
    for tool in tools:
        made = [row.record["made"][tool] for row in rows if tool in row.record.get("made", {})]
        if made:
            seconds, peaks = ([float(m[key]) for m in made] for key in ("seconds", "peak_mb"))
            middle = (f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}")
            yield _line([tool, *middle, f"{statistics.median(peaks):.0f}", f"{max(peaks):.0f}"])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
