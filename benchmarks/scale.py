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


def main() -> None:
    """Measure every shape and size, each in a process of its own."""
    if sys.argv[1:2] == ["one"]:
        one(Path(sys.argv[2]))
        return
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    sizes = [int(word) for word in sys.argv[1:]] or [1_000, 10_000, 100_000]
    print("| graph | operations | wall s | peak MB | ratio to the size before |")
    print("|---|---|---|---|---|")
    for shape in ("deep", "wide", "shared"):
        before = None
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                # This process stays small: a child counts its parent's peak as its own.
                own = [sys.executable, __file__]
                subprocess.run([*own, "make", shape, str(size), str(path)], check=True)
                out = subprocess.check_output([*own, "one", str(path)], text=True)
                wall, peak = map(float, out.split())
            ratio = f"{wall / before:.1f}" if before else ""
            print(f"| {shape} | {size} | {wall:.2f} | {peak:.0f} | {ratio} |", flush=True)
            before = wall


def make(shape: str, size: int, path: Path) -> None:
    """Generate a model."""
    import onnx
    from generate import SHAPES

    onnx.save(SHAPES[shape](size), path)


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
