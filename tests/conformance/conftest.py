"""Prints how many conformance cases went which way."""

import json
from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in _properties(report):
                if name == "conformance":
                    outcome = json.loads(value)
                    counts.setdefault(outcome["pipeline"], Counter()).update(outcome["counts"])
    if counts:
        terminalreporter.section("conformance")
    for pipeline in sorted(counts):
        ways = counts[pipeline]
        parts = ", ".join(f"{ways[how]} {how}" for how in sorted(ways))
        terminalreporter.write_line(f"{pipeline}: {ways.total()} cases: {parts}")


def _properties(report: Any) -> list[tuple[str, Any]]:
    return getattr(report, "user_properties", []) if getattr(report, "when", "") == "call" else []
