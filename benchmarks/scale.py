"""How compile time grows with the graph: load, preset fp32 with verification of the IR, emit.

usage: python benchmarks/scale.py [SIZE…]        default 1000 10000 100000

One process per size and shape; prints wall seconds, peak memory, and the ratio to the size before.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx
from generate import SHAPES


def main() -> None:
    """Measure every shape and size, each in a process of its own."""
    if sys.argv[1:2] == ["one"]:
        one(Path(sys.argv[2]))
        return
    sizes = [int(word) for word in sys.argv[1:]] or [1_000, 10_000, 100_000]
    print("| graph | operations | wall s | peak MB | ratio to the size before |")
    print("|---|---|---|---|---|")
    for shape, make in SHAPES.items():
        before = None
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                onnx.save(make(size), path)
                command = [sys.executable, __file__, "one", str(path)]
                wall, peak = map(float, subprocess.check_output(command, text=True).split())
            ratio = f"{wall / before:.1f}" if before else ""
            print(f"| {shape} | {size} | {wall:.2f} | {peak:.0f} | {ratio} |", flush=True)
            before = wall


def one(path: Path) -> None:
    """Load, optimize and emit one model; print seconds and peak megabytes."""
    import optc

    start = time.perf_counter()
    run = optc.run_passes(optc.load_model(path), "fp32")
    optc.save_model(run.graph, path.with_suffix(".out.onnx"))
    wall = time.perf_counter() - start
    print(wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for step in run.steps:
        print(f"{step.name:20s} {step.seconds:.2f} {step.nodes_after}", file=sys.stderr)


if __name__ == "__main__":
    main()
