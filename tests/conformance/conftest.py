"""Prints how many conformance cases went which way."""

import json
from collections import Counter
from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in _properties(report):
                if name == "conformance":
                    outcome = json.loads(value)
                    pipeline = counts.setdefault(outcome["pipeline"], Counter())
                    pipeline.update(outcome["counts"])
    if counts:
        terminalreporter.section("conformance")
    for pipeline, count in sorted(counts.items()):
        parts = ", ".join(f"{count[how]} {how}" for how in sorted(count))
        terminalreporter.write_line(f"{pipeline}: {count.total()} cases: {parts}")


def _properties(report: Any) -> list[tuple[str, Any]]:
    return getattr(report, "user_properties", []) if getattr(report, "when", "") == "call" else []
