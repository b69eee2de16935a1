"""Float32 weights that lie in an ONNX model in half the bits, and are computed with as float32.

    y = op(x, w)    becomes    y = op(x, Cast(w16))    w16 = w in bfloat16 or float16

A runtime computes the Cast once, when it loads the model: the file is smaller, nothing is faster or
slower. Source: ONNX operator Cast (bfloat16 from opset 13 on).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optc.errors import CapabilityError
from optc.ir import Attr, AttrKind, DType, Tensor, TensorType, clone
from optc.ir.nodes import Origin

if TYPE_CHECKING:
    from optc.ir import Graph, Value

_BF16_CAST = 13


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether weights of this shape are worth storing in fewer bits: not a bias, not a scale."""
    return sum(size > 1 for size in shape) >= 2


def narrowed(array: Any, dtype: DType) -> Any:
    """The numbers rounded to nearest even; None where that would make one of them infinite."""
    with np.errstate(over="ignore"):
        found = array.astype(dtype.numpy)
    return found if np.array_equal(np.isfinite(found), np.isfinite(array)) else None


def store_weights(graph: Graph, dtype: DType) -> Graph:
    """A copy of a root graph with its float32 matrices and kernels stored in `dtype`.

    Vectors (biases, scales) stay as they are, and so do constants with numbers that `dtype` does
    not hold, such as masks of -3.4e38 in float16.

    Raises:
        CapabilityError: ``opset-too-low``: the opset of the graph has no Cast from bfloat16.
        ModelError: external data of the source cannot be read.
    """
    if dtype is DType.BF16 and graph.opset < _BF16_CAST:
        raise CapabilityError(
            "opset-too-low",
            f"weights cannot be stored in bf16 at opset {graph.opset}: Cast has bfloat16 from "
            f"opset {_BF16_CAST} on",
            hint=f"write `emit: {{opset: {_BF16_CAST}}}` or higher, or `weights: f16`",
        )
    made = clone(graph)
    for nested in made.walk():
        for value in [*nested.constants()]:
            _store(nested, value, dtype)
    return made


def _store(graph: Graph, value: Value, dtype: DType) -> None:
    tensor = value.constant
    if tensor is None or tensor.dtype is not DType.F32 or not is_matrix(tensor.shape):
        return
    numbers = narrowed(tensor.numpy(), dtype)
    if numbers is None:
        return
    name, node = value.name, value.node
    origin = Origin("weights", (node.source_origin(),))
    graph.rename(value, graph.fresh_name(f"{name}/f32"))
    small = graph.add_constant(
        Tensor.from_numpy(numbers, dtype), graph.fresh_name(f"{name}/{dtype.value}"), node.origin
    )
    small.node.doc, small.node.metadata = node.doc, node.metadata
    cast = graph.add(
        "Cast",
        [small],
        outputs=[name],
        attributes={"to": Attr(AttrKind.INT, DType.F32.onnx)},
        types=[TensorType(DType.F32, tensor.shape)],
        origin=origin,
    )
    graph.replace_uses(value, cast.output)
    graph.remove(node)
