from __future__ import annotations

import math

from optc.page.chart import sqnr_chart


def rows(*values: object) -> list[dict[str, object]]:
    return [
        {"name": f"n{i}", "op": "Conv", "precision": "int8"} | ({} if v is None else {"sqnr": v})
        for i, v in enumerate(values)
    ]


def test_only_rows_with_a_finite_figure_have_a_bar() -> None:
    chart = sqnr_chart(rows(None, 30.0, "?", math.nan, math.inf, 12, None))
    assert chart is not None
    assert [(bar.row, bar.value) for bar in chart.bars] == [(1, "30"), (5, "12")]
    assert [bar.row for bar in chart.worst] == [5, 1]
    assert (chart.least, chart.most) == ("12", "30")
    assert sqnr_chart(rows(None, math.nan)) is None


def test_bars_stand_on_zero_and_inside_the_box() -> None:
    chart = sqnr_chart(rows(41.5, -7.25, 0.0, 18.0))
    assert chart is not None
    zero = next(line["y"] for line in chart.lines if line["value"] == 0)
    up, down, flat, middle = chart.bars
    assert math.isclose(up.y + up.height, zero, abs_tol=0.02)
    assert down.y == zero == flat.y
    assert middle.y > up.y
    assert math.isclose((zero - up.y) / (zero - middle.y), 41.5 / 18, rel_tol=1e-3)
    for bar in chart.bars:
        assert 0 <= bar.y <= bar.y + bar.height <= chart.height
        assert chart.left <= bar.x <= bar.x + bar.width <= chart.width
    assert [line["value"] for line in chart.lines] == [-10, 0, 10, 20, 30, 40, 50]


def test_of_very_many_the_lowest_are_shown() -> None:
    chart = sqnr_chart(rows(*range(3000)))
    assert chart is not None
    assert (len(chart.bars), chart.left_out) == (1500, 1500)
    assert {float(bar.value) for bar in chart.bars} == {float(f"{n:.3g}") for n in range(1500)}
    assert chart.bars[-1].x + chart.bars[-1].width <= chart.width
