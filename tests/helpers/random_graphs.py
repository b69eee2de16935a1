"""Random valid graphs of the forms that passes look for, with decoys.

Every value has a static shape. Constants are shared at random, any value may be a graph output,
and some nodes compute on constants only. Numbers stay around 1, so that results compare well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from optc.ir import DType, Graph, Tensor, TensorType
from optc.rewrite.driver import to_attr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optc.ir import Value

OPSET = 17


class Sampler:
    """Draws one graph."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.graph = Graph("random", {"": OPSET})
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.floats: list[Value] = []
        self.constants: dict[tuple[int, ...], list[Value]] = {}
        self.count = 0

    def pick(self, items: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(items))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def shape(self, value: Value) -> tuple[int, ...]:
        assert isinstance(value.type, TensorType)
        assert value.type.shape is not None
        return tuple(int(dim) for dim in value.type.shape if isinstance(dim, int))

    def constant(self, shape: tuple[int, ...], *, positive: bool = False) -> Value:
        known = self.constants.setdefault(shape, [])
        if known and self.flag():
            found: Value = self.pick(known)
            return found
        array = self.rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if not positive and self.flag():
            array = -array
        value = self.graph.add_constant(Tensor.from_numpy(array), self.name("c"))
        if not positive:
            known.append(value)
        return value

    def integers(self, items: list[int]) -> Value:
        return self.graph.add_constant(Tensor.from_numpy(np.array(items, np.int64)), self.name("i"))

    def add(
        self,
        op_type: str,
        operands: Sequence[Value | None],
        shape: tuple[int, ...],
        dtype: DType = DType.F32,
        **attributes: Any,
    ) -> Value:
        name = self.name(op_type.lower())
        node = self.graph.add(
            op_type,
            operands,
            outputs=[name],
            name="" if self.pick([0, 0, 0, 1]) else f"/{name}",
            attributes={key: to_attr(item) for key, item in attributes.items()},
            types=[TensorType(dtype, shape)],
        )
        if dtype is DType.F32:
            self.floats.append(node.output)
        return node.output

    # ---- one operation each, on a value ----

    def unary(self, x: Value) -> Value:
        op = self.pick(["Relu", "Neg", "Identity", "Tanh", "Sigmoid", "Dropout", "Abs"])
        return self.add(op, [x], self.shape(x))

    def affine(self, x: Value) -> Value:
        shape = self.shape(x)
        forms = [(), (1,), shape]
        if len(shape) == 4:
            forms += [(shape[1], 1, 1), (1, shape[1], 1, 1), (shape[3],)]
            # Where the first dimension is 1 this makes the result larger than the operand.
            forms += [(2, *shape[1:])] if shape[0] in (1, 2) else []
        c = self.constant(self.pick([f for f in forms if len(f) <= max(len(shape), 1)]))
        op = self.pick(["Mul", "Add", "Sub", "Div"])
        operands = [c, x] if op != "Div" and self.flag() else [x, c]
        return self.add(op, operands, np.broadcast_shapes(shape, self.shape(c)))

    def binary(self, x: Value) -> Value:
        others = [v for v in self.floats if self.shape(v) == self.shape(x)]
        op = self.pick(["Add", "Mul", "Max", "Sub"])
        scaled = self.add("Tanh", [self.pick(others)], self.shape(x))
        return self.add(op, [x, scaled], self.shape(x))

    def conv(self, x: Value) -> Value:
        n, c, h, w = self.shape(x)
        k, group = self.pick([1, 3]), self.pick([g for g in (1, c) if c % g == 0])
        pad = self.pick([0, k // 2]) if min(h, w) >= k else k // 2
        out = group * self.pick([1, 2])
        operands: list[Value | None] = [x, self.constant((out, c // group, k, k))]
        if self.flag():
            operands.append(self.constant((out,)))
        new = (n, out, h + 2 * pad - k + 1, w + 2 * pad - k + 1)
        made = self.add("Conv", operands, new, group=group, pads=[pad] * 4, kernel_shape=[k, k])
        return self.scaled(made, c // group * k * k)

    def conv_transpose(self, x: Value) -> Value:
        n, c, h, w = self.shape(x)
        group = self.pick([g for g in (1, c) if c % g == 0])
        per = self.pick([1, 2])
        operands: list[Value | None] = [x, self.constant((c, per, 2, 2))]
        if self.flag():
            operands.append(self.constant((per * group,)))
        new = (n, per * group, h + 1, w + 1)
        return self.scaled(self.add("ConvTranspose", operands, new, group=group), c // group * 4)

    def scaled(self, x: Value, by: int) -> Value:
        """Keep numbers around 1; half of the time the raw result stays in use as well."""
        if not self.flag():
            return x
        c = self.graph.add_constant(
            Tensor.from_numpy(np.float32(1 / math.sqrt(by))), self.name("c")
        )
        return self.add("Mul", [x, c], self.shape(x))

    def batchnorm(self, x: Value) -> Value:
        c = self.shape(x)[1]
        parameters = [self.constant((c,), positive=i == 3) for i in range(4)]
        return self.add("BatchNormalization", [x, *parameters], self.shape(x))

    def matmul(self, x: Value) -> Value:
        shape, n = self.shape(x), self.pick([2, 3])
        made = self.add("MatMul", [x, self.constant((shape[-1], n))], (*shape[:-1], n))
        return self.scaled(made, shape[-1])

    def gemm(self, x: Value) -> Value:
        shape, n = self.shape(x), self.pick([2, 3])
        flat = self.add("Flatten", [x], (shape[0], math.prod(shape[1:])), axis=1)
        k, transposed = math.prod(shape[1:]), int(self.flag())
        weight = self.constant((n, k) if transposed else (k, n))
        operands: list[Value | None] = [flat, weight]
        if self.flag():
            operands.append(self.constant(self.pick([(n,), (1, n), ()])))
        alpha = self.pick([1.0, 0.5])
        made = self.add("Gemm", operands, (shape[0], n), transB=transposed, alpha=alpha)
        return self.scaled(made, k)

    def transpose(self, x: Value) -> Value:
        shape = self.shape(x)
        perm = self.draw(st.permutations(range(len(shape))))
        return self.add("Transpose", [x], tuple(shape[p] for p in perm), perm=list(perm))

    def reshape(self, x: Value) -> Value:
        shape = self.shape(x)
        if len(shape) < 2:
            return self.add("Reshape", [x, self.integers([-1])], (math.prod(shape),))
        new = self.pick([shape, (shape[0], math.prod(shape[1:]))])
        if self.flag():
            return self.add("Reshape", [x, self.integers([0, *new[1:-1], -1])], new)
        dims = self.add("Shape", [x], (len(shape),), DType.I64)
        first = self.add("Gather", [dims, self.integers([0])], (1,), DType.I64, axis=0)
        rest = self.integers(list(new[1:]))
        target = self.add("Concat", [first, rest], (len(new),), DType.I64, axis=0)
        return self.add("Reshape", [x, target], new)

    def pad_or_slice(self, x: Value) -> Value:
        shape = self.shape(x)
        if self.flag():
            return self.add("Pad", [x, self.integers([0] * 2 * len(shape))], shape)
        ends = self.integers([self.pick([shape[0], 2**62])])
        operands = [x, self.integers([0]), ends, self.integers([0])]
        return self.add("Slice", [*operands], shape)

    def concat(self, x: Value) -> Value:
        shape = self.shape(x)
        count = self.pick([1, 2])
        return self.add("Concat", [x] * count, (shape[0] * count, *shape[1:]), axis=0)

    def cast(self, x: Value) -> Value:
        wide = self.add("Cast", [x], self.shape(x), DType.F64, to=DType.F64.onnx)
        return self.add("Cast", [wide], self.shape(x), to=DType.F32.onnx)

    def on_constants(self, x: Value) -> Value:
        shape = self.shape(x)
        last = shape[-1:] or (1,)
        folded = self.add("Add", [self.constant(last), self.constant(last)], last)
        return self.add("Mul", [x, self.add("Tanh", [folded], last)], shape or last)

    def step(self) -> None:
        x = self.pick(self.floats)
        kinds = [self.unary, self.affine, self.binary, self.transpose, self.reshape, self.cast]
        rank = len(self.shape(x))
        if rank >= 1:
            kinds += [self.pad_or_slice, self.on_constants]
            kinds += [self.concat] if math.prod(self.shape(x)) < 200 else []
        if rank >= 2:
            kinds += [self.matmul, self.gemm, self.affine]
        if rank >= 2:
            kinds += [self.batchnorm]
        if rank == 4 and self.shape(x)[1] <= 6:
            kinds += [self.conv, self.conv, self.conv_transpose, self.affine, self.batchnorm]
        self.pick(kinds)(x)

    def build(self) -> Graph:
        first = TensorType(DType.F32, (2, 3, 4, 4))
        self.floats.append(self.graph.add_input("x", first))
        for _ in range(self.draw(st.integers(1, 12))):
            self.step()
        chosen = {self.floats[-1], *self.draw(st.lists(st.sampled_from(self.floats), max_size=2))}
        for value in sorted(chosen, key=lambda item: item.name):
            self.graph.add_output(value, f"{value.name}_out", value.type)
        return self.graph


@st.composite
def graphs(draw: Callable[[Any], Any]) -> Graph:
    """A random valid graph with the input ``x`` of f32[2,3,4,4]."""
    return Sampler(draw).build()
