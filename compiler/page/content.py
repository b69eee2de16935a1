"""What the tables of the page say, from report.json: rows of plain data with texts as shown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from optc.page.graphs import rows_by_name, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_KINDS: Final = {"int8": "INT8", "bf16": "BF16", "fp32": "FP32", "other": "other"}
_PLACES: Final = 12
_REASONS: Final = 40
_REFUSALS: Final = 500
_LEAST: Final = 0.05  # microseconds: what is shown as 0.0 is no gain


def figures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the top: title, value, note."""
    operations, predicted = report["operations"], report["predicted"]
    before, after = _times(report)
    sizes = ", ".join(f"{name} = {size}" for name, size in predicted["sizes"].items())
    uncounted = predicted["gain"]["uncounted"]
    notes = [f"one core{f', {sizes}' if sizes else ''}"]
    if before > 0:
        notes.insert(0, _saved(before, after))
    if uncounted:
        notes.append(f"{uncounted} rewrites are not counted: sizes are not known")
    kinds = _kinds(report)
    shares = [f"{count} {_KINDS[kind]}" for kind, count in kinds.items() if count]
    return [
        {
            "title": "Operations",
            "value": f"{operations['source']:,} → {operations['result']:,}",
            "note": f"{len(operations['source_by_type'])} → {len(operations['result_by_type'])} "
            "operators",
        },
        {
            "title": "Predicted time of one run",
            "value": f"{_time(before)} → {_time(after)}" if before > 0 else "not known",
            "note": "; ".join(notes),
        },
        *_weights(report.get("constant_bytes")),
        {"title": "Precision", "value": shares[0] if shares else "none", "note": _rest(shares)},
        _verification(report["verification"]),
    ]


def _weights(found: Mapping[str, int] | None) -> list[dict[str, str]]:
    """Bytes of the constants, where the report has them."""
    if found is None:
        return []
    before, after = (f"{found[key] / 1e6:,.2f}\N{NO-BREAK SPACE}MB" for key in ("source", "result"))
    return [{"title": "Constants", "value": f"{before} → {after}", "note": "weights and tables"}]


def _rest(shares: Sequence[str]) -> str:
    return ", ".join(shares[1:]) if len(shares) > 1 else "all operations"


def _verification(found: Mapping[str, Any]) -> dict[str, str]:
    title = "Compared with the source"
    if not found.get("verified"):
        return {"title": title, "value": "not verified", "note": "verification was switched off"}
    goals = found["goals"]
    missed = [goal["metric"] for goal in goals if not goal["met"]]
    told = [
        f"{goal['metric']} {goal['limit']:g}: {'met' if goal['met'] else 'MISSED'}"
        for goal in goals
    ]
    count = found["samples"]
    samples = f"{count} sample{'s' if count != 1 else ''} of {found['data']}"
    value = f"goal missed: {', '.join(missed)}" if missed else "agrees"
    return {"title": title, "value": value, "note": "; ".join([samples, *told])}


def fleet(reports: Iterable[Mapping[str, Any]], here: str) -> list[dict[str, object]]:
    """One row per target that was compiled together."""
    rows: list[dict[str, object]] = []
    for report in reports:
        before, after = _times(report)
        kinds = [f"{count} {_KINDS[kind]}" for kind, count in _kinds(report).items() if count]
        rows.append(
            {
                "target": report["target"],
                "here": report["target"] == here,
                "before": _time(before) if before > 0 else "not known",
                "after": _time(after) if before > 0 else "not known",
                "saved": f"{(before - after) / before:.1%}" if before > 0 else "",
                "operations": f"{report['operations']['result']:,}",
                "precision": ", ".join(kinds),
            }
        )
    return rows


def _times(report: Mapping[str, Any]) -> tuple[float, float]:
    """Predicted microseconds before and after."""
    after = float(report["predicted"]["microseconds"])
    return after + float(report["predicted"]["gain"]["microseconds"]), after


def _time(microseconds: float) -> str:
    if microseconds >= 1000:
        return f"{microseconds / 1000:,.2f}\N{NO-BREAK SPACE}ms"
    return f"{microseconds:.1f}\N{NO-BREAK SPACE}µs"


def _saved(before: float, after: float) -> str:
    share = (before - after) / before
    return f"{abs(share):.1%} {'saved' if share >= 0 else 'more'}"


def _kind(precision: str) -> str:
    return precision if precision in _KINDS else "other"


def _kinds(report: Mapping[str, Any]) -> dict[str, int]:
    found = dict.fromkeys(_KINDS, 0)
    for counts in report["precision"].values():
        for precision, count in counts.items():
            found[_kind(precision)] += count
    return found


def operators(report: Mapping[str, Any]) -> dict[str, object]:
    """The statistics table: operators by precision, the most frequent first, with totals."""
    source, table = report["operations"]["source_by_type"], report["precision"]
    rows = []
    for op in sorted({*source, *table}, key=lambda op: (-sum(table.get(op, {}).values()), op)):
        counts: Counter[str] = Counter()
        for precision, count in table.get(op, {}).items():
            counts[_kind(precision)] += count
        rows.append(
            {
                "op": shorten(op),
                "counts": [counts[kind] for kind in _KINDS],
                "total": counts.total(),
                "source": source.get(op, 0),
            }
        )
    kinds = _kinds(report)
    totals = {
        "counts": list(kinds.values()),
        "total": sum(kinds.values()),
        "source": sum(source.values()),
    }
    titles = [{"css": kind, "title": title} for kind, title in _KINDS.items()]
    return {"kinds": titles, "operators": rows, "totals": totals}


def passes(report: Mapping[str, Any]) -> list[dict[str, object]]:
    """The steps that changed something."""
    rows: list[dict[str, object]] = []
    for number, step in enumerate(report["passes"], 1):
        if not step.get("changed"):
            continue
        gain = step["gain"]["microseconds"] if step["gain"] else 0.0
        rows.append(
            {
                "number": number,
                "name": step["pass"],
                "rules": list(step["counts"].items()),
                "before": step["nodes"][0],
                "after": step["nodes"][1],
                "gain": _gain(gain),
                "refused": sum(not refusal["near_miss"] for refusal in step["refusals"]),
            }
        )
    return rows


def _gain(microseconds: float) -> str:
    if abs(microseconds) < _LEAST:
        return ""
    return f"{'-' if microseconds < 0 else ''}{_time(abs(microseconds))}"


def idle(report: Mapping[str, Any]) -> list[str]:
    """Passes that ran, and never changed anything."""
    ran = [step for step in report["passes"] if "skipped" not in step]
    busy = {step["pass"] for step in ran if step["changed"]}
    return list(dict.fromkeys(step["pass"] for step in ran if step["pass"] not in busy))


def skipped(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Steps that did not run, and why."""
    steps = (step for step in report["passes"] if "skipped" in step)
    return [{"name": step["pass"], "why": step["skipped"]} for step in steps]


def misses(report: Mapping[str, Any]) -> list[dict[str, object]]:
    """Near misses by idea; operations with the row that a link leads to."""
    after = rows_by_name(report["nodes"])
    before = rows_by_name(report.get("source", {}).get("nodes", ()))
    families: dict[str, list[Mapping[str, Any]]] = {}
    for item in report["near_misses"]:
        families.setdefault(item["family"], []).append(item)
    return [
        {
            "name": name,
            "passes": list(dict.fromkeys(p for item in items for p in item["passes"])),
            "misses": [_miss(item, before, after) for item in _by_count(items)[:_REASONS]],
            "more": max(0, len(items) - _REASONS),
        }
        for name, items in families.items()
    ]


def _by_count(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(items, key=lambda item: -len(item["places"]))


def _miss(
    item: Mapping[str, Any], before: Mapping[str, list[int]], after: Mapping[str, list[int]]
) -> dict[str, object]:
    places = item["places"]
    return {
        "count": len(places),
        "reason": item["reason"],
        "alike": any(place["reason"] != item["reason"] for place in places),
        "places": [_place(place["node"], before, after) for place in places[:_PLACES]],
        "more": max(0, len(places) - _PLACES),
    }


def _place(
    name: str, before: Mapping[str, list[int]], after: Mapping[str, list[int]]
) -> dict[str, object]:
    side = "after" if name in after else "before"
    rows = (after if name in after else before).get(name)
    return {"name": shorten(name), "side": side, "row": rows[0] if rows else None}


def refusals(report: Mapping[str, Any]) -> dict[str, object]:
    """Every refusal of every pass, nearest misses left out, as far as there is room."""
    found = [
        {
            "pass": step["pass"],
            "rule": refusal["rule"],
            "node": shorten(refusal["node"]),
            "reason": refusal["reason"],
        }
        for step in report["passes"]
        for refusal in step.get("refusals", ())
        if not refusal["near_miss"]
    ]
    return {"refusals": found[:_REFUSALS], "refusal_count": len(found)}
