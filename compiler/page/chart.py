"""The chart of signal-to-noise ratios: one bar for each layer that has one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from optc.page.graphs import shorten, sqnr_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH: Final = 1200
_HEIGHT: Final = 240
_LEFT: Final = 36
_ROOM: Final = 12  # above the highest and below the lowest line
_STEPS: Final = 6
_BARS: Final = 1500
_WORST: Final = 10


@dataclass(frozen=True)
class Bar:
    """A layer.

    Attributes:
        row: its row in the report.
        name: its name.
        op: its operator.
        precision: what it computes in.
        value: its ratio in dB, as text.
        css: class for its colour.
        x: left edge.
        y: upper edge.
        width: width.
        height: height.
    """

    row: int
    name: str
    op: str
    precision: str
    value: str
    css: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """The chart, in units of its view box.

    Attributes:
        bars: in the order of execution.
        worst: the lowest ones, lowest first.
        lines: values on the axis with their place.
        least: lowest ratio, as text.
        most: highest ratio, as text.
        left_out: layers with higher ratios that have no bar.
        width: of the view box.
        height: of the view box.
        left: where bars begin.
    """

    bars: tuple[Bar, ...]
    worst: tuple[Bar, ...]
    lines: tuple[dict[str, float], ...]
    least: str
    most: str
    left_out: int = 0
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT


def sqnr_chart(nodes: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The chart of the rows that have a ratio, see `sqnr_of`; None when there is none."""
    known = ((number, sqnr_of(row)) for number, row in enumerate(nodes))
    figures = {number: ratio for number, ratio in known if ratio is not None}
    if not figures:
        return None
    ranked = sorted(figures, key=lambda number: (figures[number], number))
    shown = sorted(ranked[:_BARS])
    lines = _axis([figures[number] for number in shown])
    low, high = lines[0], lines[-1]
    scale = (_HEIGHT - 2 * _ROOM) / (high - low)
    pitch = min(28.0, (_WIDTH - _LEFT) / len(shown))

    def place(value: float) -> float:
        return round(_ROOM + (high - value) * scale, 2)

    bars = {
        number: Bar(
            number,
            shorten(nodes[number]["name"]),
            shorten(nodes[number]["op"]),
            shorten(nodes[number]["precision"]),
            f"{figures[number]:.3g}",
            _css(nodes[number]["precision"]),
            round(_LEFT + index * pitch + pitch * 0.1, 2),
            place(max(figures[number], 0.0)),
            round(pitch * 0.8, 2),
            max(1.0, round(abs(figures[number]) * scale, 2)),
        )
        for index, number in enumerate(shown)
    }
    return Chart(
        tuple(bars.values()),
        tuple(bars[number] for number in ranked[:_WORST]),
        tuple({"value": value, "y": place(value)} for value in lines),
        f"{figures[ranked[0]]:.3g}",
        f"{figures[ranked[-1]]:.3g}",
        len(ranked) - len(shown),
    )


def _axis(values: Iterable[float]) -> list[int]:
    """Round numbers from below the least to above the greatest value, zero among them."""
    known = [0.0, *values]
    step = next(s for s in (5, 10, 20, 50, 100, 10**9) if max(known) - min(known) <= s * _STEPS)
    first, last = math.floor(min(known) / step), math.ceil(max(known) / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _css(precision: str) -> str:
    return precision if precision in ("int8", "bf16", "fp32") else "other"
