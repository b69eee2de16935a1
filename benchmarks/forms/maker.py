"""Builds small ONNX models in a line per operation."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attribute = int | float | str | Sequence[int] | Sequence[float]

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


class Maker:
    """A model being made: ``g.Relu(x)`` appends a node and returns the name of its output.

    Weights are drawn from the seed that their key gives, so that all forms of an idea share them.
    """

    def __init__(self, opset: int = 18) -> None:
        self.opset = opset
        self.feeds: dict[str, np.ndarray] = {}
        self.dynamic: dict[str, Sequence[int | str]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = 0

    def needs(self, opset: int) -> None:
        """Raise the opset to what an operation asks for."""
        self.opset = max(self.opset, opset)

    def input(self, name: str, value: np.ndarray, shape: Sequence[int | str] | None = None) -> str:
        """An input of the model, with the value that it gets; `shape` where some are symbols."""
        self.feeds[name] = value
        self.dynamic[name] = shape or value.shape
        return name

    def draw(self, name: str, *shape: int) -> str:
        """An input of normally distributed numbers."""
        return self.input(name, random(name, shape))

    def weight(self, key: str, *shape: int, scale: float | None = None) -> str:
        """A constant drawn from the seed of its key; by default of the size that keeps variance."""
        if scale is None:
            fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
            scale = 1.0 / np.sqrt(max(fan, 1))
        return self.constant(random(key, shape) * np.float32(scale))

    def constant(self, value: object, dtype: str = "float32") -> str:
        """A constant."""
        array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype)
        name = self._name("c")
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """A constant list of int64."""
        return self.constant(np.asarray(values, np.int64))

    def node(
        self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Attribute
    ) -> str | list[str]:
        """Append a node; the name of its output, or the names of several."""
        names = [self._name(op) for _ in range(outputs)]
        self._nodes.append(
            helper.make_node(op, inputs, names, names[0], domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def __getattr__(self, op: str) -> Callable[..., str]:
        if not op[0].isupper():
            raise AttributeError(op)
        return lambda *inputs, **more: self.node(op, *inputs, **more)  # type: ignore[return-value]

    def ms(self, op: str, *inputs: str, **more: Attribute) -> str:
        """A node of ``com.microsoft``."""
        return self.node(op, *inputs, domain="com.microsoft", **more)  # type: ignore[arg-type, return-value]

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The finished model; its outputs are `outputs`."""
        inputs = [
            helper.make_tensor_value_info(n, _TYPES[str(v.dtype)], self.dynamic[n])
            for n, v in self.feeds.items()
        ]
        results = [onnx.ValueInfoProto(name=n) for n in outputs]
        for result in results:
            result.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self._nodes, "g", inputs, results, self._constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def random(key: str, shape: Sequence[int]) -> np.ndarray:
    """Normal numbers of the seed that the key gives."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    return generator.standard_normal(tuple(shape), dtype=np.float32)
