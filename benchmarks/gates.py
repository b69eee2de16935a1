"""Squeeze-and-excitation with a shortcut, with `common-factors` and without it.

usage: python benchmarks/gates.py [--seconds 2] [--out FILE.md]

What a pointwise convolution gives is multiplied by gates of its channels, which follow from their
means, and added to the product; a convolution of 3x3 is behind. That is RSEFPN of PP-OCR. Each size
is compiled by the presets fp32 and int8, with the pass and without (see `step_gain`).
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
CASES: Final = ((24, 120), (96, 120), (96, 60), (256, 28), (512, 14))
"""Channels, and rows and columns."""
_STEP: Final = "common-factors"


def main() -> None:
    """Measure all sizes and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "gates.md")
    asked = parser.parse_args()
    versions = ", ".join(f"{n} {library_version(n)}" for n in ("onnxruntime", "openvino"))
    lines = [
        "# Gates of channels with a shortcut",
        "",
        f"{versions}, target {default_target()}. Speed with `{_STEP}` against without, CPU time of",
        "one thread, both in turns. `python benchmarks/gates.py`",
        "",
        "| channels | size | " + " | ".join(" ".join(column) for column in COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for channels, size in CASES:
        model = _model(channels, size)
        cells = [step_gain(model, _STEP, *column, asked.seconds) for column in COLUMNS]
        lines.append(f"| {channels} | {size}x{size} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _model(channels: int, size: int) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    inner = channels // 4

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:], dtype=float))
        return numpy_helper.from_array(array.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["mean"]),
        helper.make_node("Conv", ["mean", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("Conv", ["r", "d"], ["t"]),
        helper.make_node("HardSigmoid", ["t"], ["gate"], alpha=0.2, beta=0.5),
        helper.make_node("Mul", ["c", "gate"], ["product"]),
        helper.make_node("Add", ["c", "product"], ["sum"]),
        helper.make_node("Conv", ["sum", "e"], ["y"], pads=[1] * 4),
    ]
    weights = [
        weight("a", channels, channels, 1, 1),
        weight("b", inner, channels, 1, 1),
        weight("d", channels, inner, 1, 1),
        weight("e", 24, channels, 3, 3),
    ]
    graph = helper.make_graph(
        nodes,
        "gates",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 24, size, size])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


if __name__ == "__main__":
    main()
