"""The fp32 twin of whole models in bf16 next to OpenVINO, which computes them in bf16.

usage: python benchmarks/twins.py [--samples N] MODEL.onnx…

On a CPU with AVX-512. Only products (Conv, ConvTranspose, MatMul, Gemm) are in bf16, so that every
rounding is one of its own: there both sides do the same, but for the order in which kernels add up.
Columns are rms errors, relative to the output: that of the twin and of OpenVINO against the source,
of both against each other, and of the twin against itself where its float32 sums have another
order: the twin, which is an fp32 graph, in OpenVINO's fp32 kernels. Two numbers between which a sum
lies so close that its order decides are a unit in the last place of bf16 apart, and every layer
behind adds to that; so in deep models the last column says what agreement there can be.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import optc
from optc.emit.onnx import save_model
from optc.ir import TensorType
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.numerics.evaluate import open_session
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import InputHints, synthetic_inputs, workable_sizes
from optc.numerics.twin import computing, twin
from optc.numerics.values import float_tensors
from optc.targets.precision_lists import shipped_precision_lists
from optc.twins import open_twin, plain

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.numerics.values import Feeds

PRODUCTS: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=3)
    options = parser.parse_args()
    print("| model | products | twin, source | OpenVINO, source | OpenVINO, twin | twin, twin |")
    print("|---" * 6 + "|")
    for path in options.model:
        print(measure(path, options.samples), flush=True)


def measure(path: Path, samples: int) -> str:
    """The row of a model."""
    source = open_session(path, threads=0)
    graph = optc.load_model(path)
    limits = index_limits(graph)
    types, hints = required_inputs(graph), InputHints(limits=limits)
    sizes = workable_sizes(source, types, hints=hints, seed=0)
    (first,) = synthetic_inputs(types, seed=0, samples=1, hints=hints, sizes=sizes)
    shapes = {name: list(np.shape(np.asarray(value))) for name, value in first.items()}
    hints = InputHints(limits=limits, shapes=shapes)
    feeds = synthetic_inputs(types, seed=0, samples=samples, hints=hints, sizes=sizes)
    lowered = lower(graph, first)
    with tempfile.TemporaryDirectory() as folder:
        runners = [source, open_twin(lowered), *in_openvino(lowered, Path(folder))]
        found = [[outputs(runner, sample) for runner in runners] for sample in feeds]
    pairs = ((1, 0), (2, 0), (2, 1), (3, 1))
    errors = [max(relative(sample[a], sample[b]) for sample in found) for a, b in pairs]
    products = sum(1 for _ in computing(lowered))
    return f"| {path.stem} | {products} | {' | '.join(f'{error:.1e}' for error in errors)} |"


def lower(graph: Graph, feeds: Feeds) -> Graph:
    """The graph with its products in bf16, for inputs of these sizes."""
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.name in feeds:
            shape = np.shape(np.asarray(feeds[value.name]))
            graph.set_type(value, TensorType(value.type.dtype, shape))
    others = sorted(set(shipped_precision_lists("bf16").by_op) - set(PRODUCTS))
    steps: list[Any] = ["infer-shapes", {"cast-bf16": {"deny": others, "ranges": False}}]
    return optc.run_passes(graph, steps, target="sapphirerapids", runtime="openvino").graph


def in_openvino(lowered: Graph, folder: Path) -> list[Any]:
    """OpenVINO on the graph, and on its fp32 twin."""
    options = LaunchOptions.default("openvino")
    told = {**options.properties, "INFERENCE_PRECISION_HINT": "f32"}
    options = options.model_copy(update={"properties": told})
    found = []
    for name, graph in (("bf16", lowered), ("twin", plain(twin(lowered)))):
        save_model(graph, folder / f"{name}.onnx")
        found.append(open_engine(folder / f"{name}.onnx", options))
    return found


def outputs(runner: Any, feeds: Feeds) -> np.ndarray[Any, Any]:
    """All floating-point outputs in one row."""
    arrays = dict(float_tensors(runner.run(feeds)))
    return np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])


def relative(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Rms difference, relative to the second."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


if __name__ == "__main__":
    main()
