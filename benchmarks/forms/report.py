"""Writes what `run` and `options` measured as Markdown.

usage: python -m benchmarks.forms.report FORMS.json… [--options OPTIONS.json] > FILE
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("forms", nargs="+", type=Path)
    parser.add_argument("--options", nargs="*", type=Path, default=[])
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "onnx"))
    print(f"Machine: {arguments.machine}. One thread, fp32, CPU time; {packages}.")
    cases = _joined(arguments.forms)
    for group in sorted({row["group"] for row in cases.values()}):
        print(f"\n## {group}\n")
        for key in dict.fromkeys(row["case"] for row in cases.values() if row["group"] == group):
            _case(key, {r["runtime"]: r for r in cases.values() if r["case"] == key})
    models = _joined(arguments.options)
    if models:
        print("\n## Optimizations and options of ONNX Runtime\n")
        print("Time with the option over time by default.\n")
        for name, found in models.items():
            _options(name, found)


def _joined(paths: list[Path]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for path in paths:
        joined |= json.loads(path.read_text(encoding="utf-8"))
    return joined


def _case(name: str, rows: dict[str, dict[str, Any]]) -> None:
    print(f"### {name}\n\n| form | " + " | ".join(f"{r} | executed" for r in rows) + " |")
    print("|---" * (1 + 2 * len(rows)) + "|")
    forms = dict.fromkeys(form for row in rows.values() for form in row["forms"])
    for form in forms:
        cells = [form.replace("|", "\\|")]
        for row in rows.values():
            cells += _cells(row["forms"].get(form), row["tolerance"])
        print("| " + " | ".join(cells) + " |")
    print()


def _cells(found: dict[str, Any] | None, tolerance: float) -> list[str]:
    if found is None:
        return ["", ""]
    if "fails" in found:
        return ["fails", ""]
    time = f"{found['microseconds']:.0f} µs, " if found["value"] == 1.0 else ""
    ratio = f"{time}{found['value']:.2f}"
    if found["low"] and found["value"] != 1.0:
        ratio += f" [{found['low']:.2f}, {found['high']:.2f}]"
    return [ratio + (" other result" if found["error"] > tolerance else ""), found["executed"]]


def _options(name: str, found: dict[str, Any]) -> None:
    print(f"### {name}\n\n| option | ratio |\n|---|---|")
    for option, row in found.items():
        if option != "executed":
            low, high = row["low"] or 0.0, row["high"] or 0.0
            print(f"| {option} | {row['value']:.3f} [{low:.3f}, {high:.3f}] |")
    print()


if __name__ == "__main__":
    main()
