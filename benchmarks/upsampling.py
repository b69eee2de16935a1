"""Heads of two transposed convolutions, with `merge-upsampling` and without it.

usage: python benchmarks/upsampling.py [--seconds 2] [--out FILE.md]

A head is a convolution of 3x3, then a transposed convolution, a Relu, and another one, whose blocks
lie side by side. Each is compiled by the presets fp32 and int8, with the pass and without (see
`step_gain`). The column of zeros is what the pass limits, here to 1000: multiplications by zero for
each element between the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from int8 import default_target
from onnx import TensorProto, helper, numpy_helper
from step_gain import COLUMNS, step_gain

from optc.versions import library_version

RESULTS = Path(__file__).with_name("results")
_STEP: Final = "merge-upsampling"
_ANY: Final = {"zeros": 1000}
HEADS: Final = (
    # channels, channels between, results, size, block of the first, block of the second
    (24, 24, 1, 120, 2, 2),
    (64, 64, 1, 80, 2, 2),
    (24, 24, 2, 120, 2, 2),
    (24, 24, 4, 120, 2, 2),
    (64, 64, 4, 56, 2, 2),
    (64, 32, 8, 56, 2, 2),
    (32, 32, 1, 60, 2, 4),
    (32, 32, 1, 60, 4, 2),
)


def main() -> None:
    """Measure all heads and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "upsampling.md")
    asked = parser.parse_args()
    versions = ", ".join(f"{n} {library_version(n)}" for n in ("onnxruntime", "openvino"))
    lines = [
        "# Two transposed convolutions in a row",
        "",
        f"{versions}, target {default_target()}. Speed with `{_STEP}` against without, CPU time of",
        "one thread, both in turns. `python benchmarks/upsampling.py`",
        "",
        "| head | zeros | fp32 onnxruntime | int8 onnxruntime | fp32 openvino | int8 openvino |",
        "|---|---|---|---|---|---|",
    ]
    for head in HEADS:
        inputs, inner, results, size, first, second = head
        title = f"{inputs}→{inner}→{results}, {size}x{size}, blocks {first} and {second}"
        zeros = results * second**2 * (first**2 - 1)
        model = _model(*head)
        cells = [step_gain(model, _STEP, *column, asked.seconds, _ANY) for column in COLUMNS]
        lines.append(f"| {title} | {zeros} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _model(
    inputs: int, inner: int, results: int, size: int, first: int, second: int
) -> onnx.ModelProto:
    draw = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = draw.standard_normal(shape) / np.sqrt(shape[0] * 2)
        return numpy_helper.from_array(array.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "a", "ab"], ["u"], strides=[first] * 2),
        helper.make_node("Relu", ["u"], ["v"]),
        helper.make_node("ConvTranspose", ["v", "b", "bb"], ["y"], strides=[second] * 2),
    ]
    weights = [
        weight("k", inputs, inputs, 3, 3),
        weight("kb", inputs),
        weight("a", inputs, inner, first, first),
        weight("ab", inner),
        weight("b", inner, results, second, second),
        weight("bb", results),
    ]
    whole = size * first * second
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, results, whole, whole])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


if __name__ == "__main__":
    main()
