"""Generated models: a transformer with external weights, and graphs of any size and shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLOAT = TensorProto.FLOAT


def transformer(path: Path, layers: int = 14, width: int = 768) -> Path:
    """A BERT-like encoder with random weights, about 28 MB a layer, saved as external data."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        data = rng.standard_normal(shape, dtype=np.float32) * 0.02
        weights.append(numpy_helper.from_array(data, name))
        return name

    def node(op: str, inputs: list[str], out: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [out], out, **attributes))
        return out

    def linear(x: str, name: str, a: int, b: int) -> str:
        y = node("MatMul", [x, weight(f"{name}.w", a, b)], f"{name}.mm")
        return node("Add", [y, weight(f"{name}.b", b)], f"{name}.add")

    weights.append(numpy_helper.from_array(np.array([0, 0, 12, width // 12]), "heads"))
    weights.append(numpy_helper.from_array(np.array([0, 0, width]), "merged"))
    weights.append(numpy_helper.from_array(np.float32(0.125), "scale"))
    x = "x"
    for i in range(layers):
        p = f"l{i}"
        q, k, v = (linear(x, f"{p}.{name}", width, width) for name in "qkv")
        split = {
            s: node(
                "Transpose", [node("Reshape", [t, "heads"], f"{p}.{s}r")], f"{p}.{s}t", perm=perm
            )
            for s, t, perm in (
                ("q", q, [0, 2, 1, 3]),
                ("k", k, [0, 2, 3, 1]),
                ("v", v, [0, 2, 1, 3]),
            )
        }
        scores = node(
            "Mul", [node("MatMul", [split["q"], split["k"]], f"{p}.qk"), "scale"], f"{p}.s"
        )
        context = node(
            "MatMul", [node("Softmax", [scores], f"{p}.p", axis=-1), split["v"]], f"{p}.c"
        )
        back = node("Transpose", [context], f"{p}.ct", perm=[0, 2, 1, 3])
        out = linear(node("Reshape", [back, "merged"], f"{p}.cr"), f"{p}.o", width, width)
        x = node("Add", [x, out], f"{p}.r1")
        hidden = node("Relu", [linear(x, f"{p}.f1", width, 4 * width)], f"{p}.g")
        x = node("Add", [x, linear(hidden, f"{p}.f2", 4 * width, width)], f"{p}.r2")
    shape = ["batch", "seq", width]
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(x, FLOAT, shape)],
        weights,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="model.data")
    return path


def deep(count: int) -> onnx.ModelProto:
    """A chain of `count` operations: Relu and Add of one of a few constants in turn."""
    nodes, previous = [], "x"
    for i in range(count):
        inputs = [previous, f"c{i % 7}"] if i % 2 else [previous]
        nodes.append(helper.make_node("Add" if i % 2 else "Relu", inputs, [f"v{i}"], f"n{i}"))
        previous = f"v{i}"
    return _model(nodes, previous, 7)


def wide(count: int) -> onnx.ModelProto:
    """Half of `count` branches from one input, summed up again by a chain."""
    branches = count // 2
    nodes = [
        helper.make_node("Mul", ["x", f"c{i % 7}"], [f"b{i}"], f"m{i}") for i in range(branches)
    ]
    previous = "b0"
    for i in range(1, branches):
        nodes.append(helper.make_node("Add", [previous, f"b{i}"], [f"s{i}"], f"a{i}"))
        previous = f"s{i}"
    return _model(nodes, previous, 7)


def shared(count: int) -> onnx.ModelProto:
    """Many constants with equal contents, every one of them used by many operations."""
    nodes, previous = [], "x"
    for i in range(count):
        op = ("Add", "Mul", "Sub", "Max")[i % 4]
        inputs = [previous, f"c{(i * 7919) % (count // 10 + 1)}"]
        nodes.append(helper.make_node(op, inputs, [f"v{i}"], f"n{i}"))
        if i % 3 == 2:
            nodes.append(helper.make_node("Tanh", [f"v{i}"], [f"t{i}"], f"tanh{i}"))
        previous = f"t{i}" if i % 3 == 2 else f"v{i}"
    return _model(nodes[:count], nodes[count - 1].output[0], count // 10 + 1)


SHAPES: dict[str, Callable[[int], onnx.ModelProto]] = {"deep": deep, "wide": wide, "shared": shared}


def _model(nodes: list[onnx.NodeProto], output: str, constants: int) -> onnx.ModelProto:
    weights = [
        numpy_helper.from_array(np.full(8, 1 + (i % 5) / 8, np.float32), f"c{i}")
        for i in range(constants)
    ]
    graph = helper.make_graph(
        nodes,
        "generated",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 8])],
        [helper.make_tensor_value_info(output, FLOAT, ["n", 8])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
