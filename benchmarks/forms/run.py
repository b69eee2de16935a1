"""In which form does each runtime run an idea fastest?

usage: python -m benchmarks.forms.run [--runtime NAME] [--only TEXT] [--json FILE]

Every form of a case is opened single threaded in fp32; forms take turns; the ratio is time of the
form over time of the first form, with the interval of `optc.evidence.bench_stats`. A form whose
outputs differ from the first form's is marked; one that does not load is given with the reason.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .registry import CASES
from .runtimes import RUNTIMES, executed, open_model
from .timing import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .case import Case


def main() -> None:
    """Measure the chosen cases and print one line per form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES)
    parser.add_argument("--only", default="", help="regular expression of group/name")
    parser.add_argument("--budget", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text(encoding="utf-8"))
    for runtime in [options.runtime] if options.runtime else RUNTIMES:
        for case in CASES:
            if re.search(options.only, f"{case.group}/{case.name}"):
                row = measure(case, runtime, options.budget)
                rows[f"{case.group}/{case.name}/{runtime}"] = row
                report(row)
                if options.json:
                    text = json.dumps(rows, indent=1, ensure_ascii=False)
                    options.json.write_text(text + "\n", encoding="utf-8")


def measure(case: Case, runtime: str, budget: float) -> dict[str, Any]:
    """All forms of a case in a runtime."""
    openers, row = {}, {}
    wanted: Sequence[np.ndarray] | None = None
    for form in case.forms:
        keys = case.keys.get(form, {})
        if keys and runtime == "openvino":
            continue
        try:
            model, maker = case.make(form)
            opener = partial(open_model, model.SerializeToString(), maker.feeds, runtime, keys)
            found = [np.array(value) for value in opener()()]
            ran = executed(model.SerializeToString(), runtime, keys)
        except Exception as error:  # whatever a runtime raises is the finding
            row[form] = {"fails": " ".join(str(error).split())[-300:]}
            continue
        wanted = found if wanted is None else wanted
        row[form] = {"error": _error(wanted, found), "executed": ran}
        openers[form] = opener
    if openers:
        for form, (seconds, ratio) in compare(openers, budget).items():
            row[form] |= {"microseconds": round(seconds * 1e6, 1), **ratio.to_dict()}
    return {
        "group": case.group,
        "case": case.name,
        "runtime": runtime,
        "forms": row,
        "tolerance": case.tolerance,
    }


def _error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    errors = [0.0]
    for a, b in zip(wanted, found, strict=True):
        if a.shape != b.shape:
            return float("inf")
        scale = float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) or 1.0
        errors.append(float(np.max(np.abs(a - b), initial=0.0)) / scale)
    return max(errors)


def report(row: dict[str, Any]) -> None:
    """Print the forms of a case."""
    print(f"\n{row['group']}/{row['case']} [{row['runtime']}]", flush=True)
    for form, found in row["forms"].items():
        if "fails" in found:
            print(f"  {form:34} FAILS {found['fails'][:150]}", flush=True)
            continue
        bad = f" DIFFERS {found['error']:.1e}" if found["error"] > row["tolerance"] else ""
        low, high = found["low"] or 0.0, found["high"] or 0.0
        print(
            f"  {form:34} {found['microseconds']:9.0f} µs {found['value']:6.3f}"
            f" [{low:.3f}, {high:.3f}]{bad}  {found['executed'][:160]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
