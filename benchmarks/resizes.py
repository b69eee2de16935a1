"""A Resize between quantized convolutions in ONNX Runtime, as one and as doublings.

usage: python benchmarks/resizes.py [--seconds 2] [--out FILE.md]

An image goes through a convolution, and a smaller copy of it through another one and a Resize; both
are joined and go through a third. All of it is on bytes. `lower-operators` writes the Resize as
doublings between Reshapes. The model as it was and the result take turns, on one thread, as CPU
time; their outputs have to be equal to the bit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import optc
from optc.emit.onnx import save_model
from optc.evidence.bench_latency import Effort, measure_latency
from optc.evidence.bench_models import resting
from optc.evidence.bench_stats import speedup
from optc.evidence.subject import find_subject
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.passes import LowerOperators
from optc.passes.base import PassContext
from optc.passes.forms import DOUBLINGS, ONNX
from optc.passes.lower_operators import LowerOperatorsOptions
from optc.versions import library_version

RESULTS = Path(__file__).with_name("results")
CASES: Final = ((24, 120, 2), (24, 120, 4), (24, 120, 8), (64, 80, 2), (128, 40, 2), (256, 20, 2))
_STEP: Final = np.float32(0.05)


def main() -> None:
    """Measure all sizes and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "resizes.md")
    asked = parser.parse_args()
    lines = [
        "# A Resize of bytes between convolutions",
        "",
        f"onnxruntime {library_version('onnxruntime')}. Speed of doublings between Reshapes",
        "against one Resize, of the whole small model, CPU time of one thread, both in turns.",
        "`python benchmarks/resizes.py`",
        "",
        "| channels | size of the result | enlarged | speed |",
        "|---|---|---|---|",
    ]
    for channels, size, times in CASES:
        ratio = _ratio(channels, size, times, asked.seconds)
        lines.append(f"| {channels} | {size}x{size} | {times} times | {ratio} |")
        print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _ratio(channels: int, size: int, times: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory(prefix="optc-resizes-") as name:
        before, after = Path(name) / "before.onnx", Path(name) / "after.onnx"
        onnx.save(_Model(channels).build(size, times), before)
        graph = optc.load_model(before)
        forms = LowerOperatorsOptions(forms={"Resize": (DOUBLINGS, ONNX)})
        assert LowerOperators(forms).apply(graph, PassContext()).changed
        save_model(graph, after)
        draw = np.random.default_rng(1)
        feeds = [{"x": draw.standard_normal((1, channels, size, size)).astype(np.float32)}]
        options = LaunchOptions.default("onnxruntime")
        results = [open_engine(path, options).run(feeds[0])["y"] for path in (before, after)]
        np.testing.assert_array_equal(*results)
        subjects = [find_subject(path, label=path.stem) for path in (before, after)]
        blocks = measure_latency([resting(s) for s in subjects], feeds, effort=Effort(seconds))
    found = speedup(*([block.cpu[i] for block in blocks] for i in range(2)))
    interval = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{interval}"


class _Model:
    """Makes a quantized model."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._draw = np.random.default_rng(0)

    def build(self, size: int, times: int) -> onnx.ModelProto:
        """An image of this size, and a copy that is so many times as small."""
        wide = self._convolved(self._quantized("x"), self._channels, self._channels)
        pool = {"kernel_shape": [times] * 2, "strides": [times] * 2}
        narrow = self._quantized(self._node("MaxPool", wide, **pool))
        narrow = self._convolved(narrow, self._channels, self._channels)
        scales = self._constant(np.array([1, 1, times, times], np.float32))
        how = {"mode": "nearest", "nearest_mode": "floor"}
        how["coordinate_transformation_mode"] = "asymmetric"
        narrow = self._quantized(self._node("Resize", narrow, "", scales, **how))
        both = self._quantized(self._node("Concat", wide, narrow, axis=1))
        self._convolved(both, 2 * self._channels, 16)
        self._nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self._nodes,
            "resize",
            [_image("x", self._channels, size)],
            [_image("y", 16, size)],
            self._weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def _node(self, op: str, *operands: str, **attributes: Any) -> str:
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, operands, [name], **attributes))
        return name

    def _constant(self, array: Any) -> str:
        name = f"c{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _quantized(self, value: str) -> str:
        step, zero = self._constant(_STEP), self._constant(np.uint8(0))
        return self._node(
            "DequantizeLinear", self._node("QuantizeLinear", value, step, zero), step, zero
        )

    def _convolved(self, value: str, inputs: int, outputs: int) -> str:
        scale = np.float32(1 / (73 * 3 * np.sqrt(inputs)))  # the rms of the integers is 73
        integers = self._draw.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)
        operands = (self._constant(integers), self._constant(scale), self._constant(np.int8(0)))
        weight = self._node("DequantizeLinear", *operands)
        made = self._node("Conv", value, weight, pads=[1] * 4)
        return self._quantized(self._node("Relu", made))


def _image(name: str, channels: int, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, size, size])


if __name__ == "__main__":
    main()
