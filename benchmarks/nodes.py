"""Operations before and after, next to onnxslim and onnxsim on the same files, with errors.

usage: python benchmarks/nodes.py [--models FOLDER] [--peers VENV] [MODEL…]

Constants do not count. The error is the largest relative rms error of any output against the source
on seeded inputs, in onnxruntime without graph optimization.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from compile import choose, count

import optc
from optc.numerics.compare import compare_outputs
from optc.numerics.evaluate import open_session
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import InputHints, synthetic_inputs, workable_sizes
from optc.numerics.tolerance import Tolerance


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="*")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    tools = ["onnxslim", "onnxsim"] if options.peers else []
    print("| model | source | optc | " + " | ".join(tools) + " | error of each |")
    print("|---" * (4 + len(tools)) + "|")
    for name, path in choose(options.models, options.model).items():
        with tempfile.TemporaryDirectory() as folder:
            made = {"optc": Path(folder) / "optc.onnx"}
            graph = optc.load_model(path)
            optc.save_model(optc.run_passes(graph, "fp32").graph, made["optc"])
            for tool in tools:
                made[tool] = Path(folder) / f"{tool}.onnx"
                command = [options.peers / "bin" / tool, path, made[tool]]
                subprocess.run(command, capture_output=True, check=False)
            counts = [str(count(p)) if p.exists() else "failed" for p in made.values()]
            errors = [f"{error(graph, path, p):.1e}" for p in made.values() if p.exists()]
            print(f"| {name} | {count(path)} | {' | '.join(counts)} | {', '.join(errors)} |")


def error(graph: optc.Graph, source: Path, result: Path) -> float:
    """Largest relative rms error of any output on seeded inputs."""
    types = required_inputs(graph)
    hints = InputHints(limits=index_limits(graph))
    base = open_session(source, optimize="none", threads=2)
    other = open_session(result, optimize="none", threads=2)
    sizes = workable_sizes(base, types, hints=hints)
    found = [
        output.relative
        for feeds in synthetic_inputs(types, samples=2, hints=hints, sizes=sizes)
        for output in compare_outputs(base.run(feeds), other.run(feeds), Tolerance()).outputs
    ]
    return max(found, default=0.0)


if __name__ == "__main__":
    main()
