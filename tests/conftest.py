"""What all tests need. Options and fixtures for golden files are those of `optc.pytest_plugin`."""

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from optc.numerics.backends import import_openvino


def pytest_configure(config: pytest.Config) -> None:
    # What a test compiles must not come from what another one, or the user, has compiled.
    os.environ["OPTC_CACHE_DIR"] = "off"
    with suppress(ImportError):
        import_openvino()  # before any test does: a plain import sends a usage report
    # A shell starts what runs in its background deaf to these, and so are the processes that tests
    # start and interrupt.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many conformance cases went which way; reports of other processes count as well."""
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
