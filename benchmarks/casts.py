"""Bytes that are converted between fp32 and bf16: minimum cut against TensorFlow's painting.

usage: python benchmarks/casts.py [--target NAME] MODEL.onnx…

Each model goes through the preset bf16 for OpenVINO. Three placements are compared, under the same
lists: painting; the cut with every allowed operation fixed in bf16, as painting has them; and the
cut as it is by default, where an allowed operation stays fp32 when its conversions cost more than
it saves. Ranges of values are not looked at. `clean` says that in the final graph no value is
converted twice to one type, and none there and back. Exit code 1 when the cut converts more.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optc
from optc.recipe import resolve_pipeline
from optc.targets.precision_lists import shipped_precision_lists

if TYPE_CHECKING:
    from optc.rewrite.trace import StepRecord


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="+", type=Path)
    parser.add_argument("--target", default="sapphirerapids")
    options = parser.parse_args()
    print(
        "| model | operations | bf16 | painting: Casts, kB | cut: Casts, kB | ratio "
        "| default: bf16, Casts, kB | clean | seconds |"
    )
    print("|---" * 9 + "|")
    fewer = total = worse = 0
    for path in options.model:
        row, by_painting, by_cut = measure(path, options.target)
        print(row, flush=True)
        total += 1
        fewer += by_cut < by_painting
        worse += by_cut > by_painting
    print(f"\n{fewer} of {total} models convert fewer bytes by the cut, {worse} more.")
    sys.exit(1 if worse else 0)


def measure(path: Path, target: str) -> tuple[str, float, float]:
    """The row of a model, and the bytes that painting and the cut convert with the same lists."""
    graph = optc.load_model(path)
    painted, _ = run(graph, target, {"placement": "paint", "allow": allowed()})
    fixed, _ = run(graph, target, {"allow": allowed()})
    start = time.perf_counter()
    usual, result = run(graph, target, {})
    seconds = time.perf_counter() - start
    ratio = fixed["converted_bytes"] / max(painted["converted_bytes"], 1)
    row = [
        path.stem,
        f"{usual['bf16'] + usual['fp32']:g}",
        f"{fixed['bf16']:g}",
        f"{painted['conversions']:g}, {painted['converted_bytes'] / 1e3:.1f}",
        f"{fixed['conversions']:g}, {fixed['converted_bytes'] / 1e3:.1f}",
        f"{ratio:.2f}",
        f"{usual['bf16']:g}, {usual['conversions']:g}, {usual['converted_bytes'] / 1e3:.1f}",
        "yes" if is_clean(result) else "NO",
        f"{seconds:.1f}",
    ]
    return f"| {' | '.join(row)} |", painted["converted_bytes"], fixed["converted_bytes"]


def allowed() -> list[str]:
    """The operators of the class allow."""
    known = shipped_precision_lists("bf16").by_op
    return sorted(op for op, entry in known.items() if entry.op_class == "allow")


def run(
    graph: optc.Graph, target: str, options: dict[str, object]
) -> tuple[dict[str, float], optc.Graph]:
    """Figures of `cast-bf16` with these options at the end of preset fp32, and the result."""
    steps: list[object] = [step.name for step in resolve_pipeline("fp32")]
    steps.append({"cast-bf16": options})
    made = optc.run_passes(graph, steps, target=target, runtime="openvino")
    return dict(_step(made.steps).figures), made.graph


def _step(steps: tuple[StepRecord, ...]) -> StepRecord:
    return next(step for step in steps if step.name == "cast-bf16")


def is_clean(graph: optc.Graph) -> bool:
    """Whether no value is converted twice to one type, or there and back."""
    for nested in graph.walk():
        seen = set()
        for node in nested.ordered():
            source = nested.operand(node, 0)
            if not node.is_op("Cast") or source is None:
                continue
            types = tuple(str(value.type).split("[")[0] for value in (source, node.output))
            if set(types) != {"f32", "bf16"}:
                continue
            maker = source.node
            there = nested.operand(maker, 0) if maker.is_op("Cast") else None
            back = there is not None and str(there.type).split("[")[0] == types[1]
            if back or (source, types[1]) in seen:
                return False
            seen.add((source, types[1]))
    return True


if __name__ == "__main__":
    main()
