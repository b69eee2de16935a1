"""Graphs from texts that declare weights without writing them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx.parser
from onnx import helper, numpy_helper

from optc.frontend.onnx import load_model
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes

if TYPE_CHECKING:
    from optc.ir import Graph


def filled_graph(text: str, seed: int = 5) -> Graph:
    """Like `graph_from_text`; what is declared but not computed becomes a seeded constant.

    Types of all values are inferred, as they are in a pipeline. Elements are quarters between -2
    and 2, no zeros: sums of few products are exact in float32.
    """
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'
    model = onnx.parser.parse_model(text)
    graph = model.graph
    computed = {name for node in graph.node for name in node.output}
    rng = np.random.default_rng(seed)
    for info in [item for item in graph.value_info if item.name not in computed]:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        numbers = rng.integers(1, 9, shape) * rng.choice([-0.25, 0.25], shape)
        graph.initializer.append(numpy_helper.from_array(numbers.astype(dtype), info.name))
        graph.value_info.remove(info)
    loaded = load_model(model)
    InferShapes().apply(loaded, PassContext())
    return loaded
