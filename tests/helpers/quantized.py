"""Models of one product between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optc.numerics.evaluate import open_session

if TYPE_CHECKING:
    import numpy.typing as npt

ACTIVATION = np.float32(2.0**-10)
WEIGHT = np.float32(2.0**-8)
STEP = float(ACTIVATION) * float(WEIGHT)
"""One step of the sums: a power of two, so that sums come back from the floats exactly."""


@dataclass(frozen=True)
class Case:
    """One product.

    Attributes:
        op: ``Conv``, ``MatMul`` or ``Gemm``.
        data: shape of the activations.
        weights: shape of the weights.
        zero: zero point of the activations.
        signed: whether activations are s8.
        attributes: of the operator.
    """

    op: str
    data: tuple[int, ...]
    weights: tuple[int, ...]
    zero: int = 0
    signed: bool = False
    attributes: tuple[tuple[str, Any], ...] = ()

    @property
    def axis(self) -> int:
        """The axis of the outputs in the weights."""
        by_row = self.op == "Conv" or dict(self.attributes).get("transB")
        return 0 if by_row else len(self.weights) - 1

    def full(self) -> npt.NDArray[np.int8]:
        """Mostly large weights of both signs, so that many sums saturate."""
        found = np.random.default_rng(1).integers(-128, 128, self.weights).astype(np.int8)
        found[np.abs(found.astype(int)) < 60] = 100
        return found

    def feed(self) -> npt.NDArray[np.float32]:
        """Mostly large activations, each a whole number of steps."""
        found = np.random.default_rng(2).integers(0, 256, self.data)
        found[found < 90] = 255
        whole = found - (128 if self.signed else 0) - self.zero
        return (whole * ACTIVATION).astype(np.float32)

    def model(self, weights: npt.NDArray[np.int8], *, suffix: str = "") -> onnx.ModelProto:
        """The product of quantized activations ``x`` and weights, as floats ``y``."""
        kind = np.int8 if self.signed else np.uint8
        scales = np.full(weights.shape[self.axis], WEIGHT)
        constants = {
            "xs": ACTIVATION,
            "xz": kind(self.zero),
            "w": weights,
            "ws": scales,
            "wz": np.zeros(scales.shape, np.int8),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xf"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=self.axis),
            helper.make_node(
                self.op, ["xf", "wf"], ["y"], name=f"product{suffix}", **dict(self.attributes)
            ),
        ]
        graph = helper.make_graph(
            nodes,
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.data)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _conv(channels: int, outputs: int, size: int, group: int = 1, **others: Any) -> Case:
    settings = {"group": group, "pads": [size // 2] * 4, **others}
    return Case(
        "Conv",
        (1, channels, 9, 9),
        (outputs, channels // group, size, size),
        attributes=tuple(settings.items()),
    )


CASES = (
    Case("MatMul", (1, 64), (64, 33)),
    Case("MatMul", (2, 5, 33), (33, 16), zero=117),
    Case("MatMul", (7, 64), (64, 16), zero=-11, signed=True),
    Case("Gemm", (5, 64), (16, 64), zero=117, attributes=(("transB", 1),)),
    _conv(3, 8, 3),
    _conv(5, 7, 3, strides=[2, 2]),
    _conv(16, 16, 3, dilations=[2, 2]),
    _conv(8, 16, 1),
    _conv(8, 8, 3, group=2),
    _conv(15, 15, 3, group=3),
    _conv(8, 16, 3, group=8),
    _conv(16, 16, 3, group=16),
)
"""Products of all layouts, depthwise ones last."""


def written_sums(case: Case, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """The exact sums: float32 holds them, so products are computed as they are written."""
    session = open_session(case.model(weights).SerializeToString(), optimize="none")
    (found,) = session.run({"x": case.feed()}).values()
    sums: npt.NDArray[np.float64] = np.rint(np.asarray(found, np.float64) / STEP)
    return sums
