"""Makes the models of tests/models/quantized: a small network, quantized by other tools.

usage: python tests/models/quantize_with_peers.py FOLDER     (needs onnx, onnxruntime, nncf)

Weights are random and seeded, so the files are free to use. Tools write their own names and
versions into them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

# A convolution with padding, a depthwise one, a residual connection, pooling, a Concat, attention
# between activations, a normalization and a classifier.
SOURCE = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,10] y)
<int64[3] tokens = {1, 16, 16}, float eighth = {0.25}>
{
  c1 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1, b1)
  r1 = Relu (c1)
  c2 = Conv <group = 8, pads = [1, 1, 1, 1]> (r1, w2, b2)
  r2 = Relu (c2)
  c3 = Conv (r2, w3, b3)
  a1 = Add (c3, r1)
  r3 = Relu (a1)
  p1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r3)
  p2 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (r3)
  cat = Concat <axis = 1> (p1, p2)
  flat = Reshape (cat, tokens)
  n1 = LayerNormalization <axis = -1> (flat, g1, g2)
  q = MatMul (n1, wq)
  k = MatMul (n1, wk)
  v = MatMul (n1, wv)
  kt = Transpose <perm = [0, 2, 1]> (k)
  qk = MatMul (q, kt)
  scaled = Mul (qk, eighth)
  prob = Softmax <axis = -1> (scaled)
  att = MatMul (prob, v)
  a2 = Add (att, flat)
  s = Sigmoid (a2)
  m = ReduceMean <axes = [1], keepdims = 0> (s)
  y = Gemm <transB = 1> (m, wy, by)
}
"""
SHAPES = {
    "w1": (8, 3, 3, 3),
    "b1": (8,),
    "w2": (8, 1, 3, 3),
    "b2": (8,),
    "w3": (8, 8, 1, 1),
    "b3": (8,),
    "g1": (16,),
    "g2": (16,),
    "wq": (16, 16),
    "wk": (16, 16),
    "wv": (16, 16),
    "wy": (10, 16),
    "by": (10,),
}


def source() -> onnx.ModelProto:
    """The network with its weights."""
    model = onnx.parser.parse_model(SOURCE)
    draw = np.random.default_rng(11)
    for name, shape in SHAPES.items():
        scale = 0.1 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5
        weights = (draw.standard_normal(shape) * scale).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def samples() -> Iterator[dict[str, Any]]:
    """Inputs to calibrate on."""
    draw = np.random.default_rng(12)
    for _ in range(16):
        yield {"x": draw.standard_normal((1, 3, 16, 16)).astype(np.float32)}


def with_onnxruntime(model: Path, folder: Path) -> None:
    """QDQ and QOperator, static and dynamic."""
    tool = importlib.import_module("onnxruntime.quantization")

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc, name-defined]  # no types here
        def __init__(self) -> None:
            self._left = samples()

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    for name, form, activation in (
        ("onnxruntime_qdq", "QDQ", "QUInt8"),
        ("onnxruntime_qdq_s8", "QDQ", "QInt8"),
        ("onnxruntime_qoperator", "QOperator", "QUInt8"),
    ):
        tool.quantize_static(
            str(model),
            str(folder / f"{name}.onnx"),
            Reader(),
            quant_format=getattr(tool.QuantFormat, form),
            activation_type=getattr(tool.QuantType, activation),
            weight_type=tool.QuantType.QInt8,
            per_channel=True,
        )
    tool.quantize_dynamic(
        str(model), str(folder / "onnxruntime_dynamic.onnx"), weight_type=tool.QuantType.QInt8
    )


def with_nncf(model: Path, folder: Path) -> None:
    """NNCF on ONNX, for convolutional networks and for transformers."""
    nncf = importlib.import_module("nncf")
    data = nncf.Dataset(list(samples()))
    for name, kind in (("nncf", None), ("nncf_transformer", nncf.ModelType.TRANSFORMER)):
        made = nncf.quantize(onnx.load(model), data, model_type=kind, subset_size=16)
        onnx.save(made, folder / f"{name}.onnx")


def main(folder: Path) -> None:
    """Make all of them."""
    folder.mkdir(exist_ok=True)
    model = folder / "source.onnx"
    onnx.save(source(), model)
    for make in (with_onnxruntime, with_nncf):
        try:
            make(model, folder)
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)  # noqa: T201 a script


if __name__ == "__main__":
    main(Path(sys.argv[1]))
