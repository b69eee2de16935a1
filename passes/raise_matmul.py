"""Raise what is a matrix product: Einsum, and a Gemm between reshapes that merge and split rows.

    Einsum("bhqd,bhkd->bhqk", q, k)     = MatMul(q, Transpose(k))
    Einsum("abc,cde->abde", x, w)       = Reshape(MatMul(x, Reshape(w, [c, d e])), [a, b, d, e])
    Einsum("a,b->ab", x, y)             = Mul(Unsqueeze(x), Unsqueeze(y))
    Einsum("ab->ba", x)                 = Transpose(x); ReduceSum for labels that are left out
    Reshape(Gemm(Reshape(x, [-1, K]), W, b), [.., N])  = MatMul(x, W) + b

In a contraction, labels that both operands and the result have are batch axes, those of one operand
are rows or columns, those that the result lacks are summed over. Several rows need no Reshape where
there is no batch; otherwise groups are merged, which needs their sizes. Operands change places
where that spares a Transpose of the result. What is done to constants `fold-constants` computes.
Source: ONNX operators Einsum-12, MatMul-13, Gemm-13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from optc.ir import DType, TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.einsum import contraction_of, equation_of
from optc.passes.linear import other_use, use_text
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Dim, Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.einsum import Contraction, Equation

_AXES_OPERAND_SINCE: Final = 13
_INTEGERS: Final = (DType.I32, DType.I64, DType.U32, DType.U64)


class RaiseMatmul(Pass):
    """Raise Einsum to MatMul, Mul, Transpose or ReduceSum, and a flattened Gemm to MatMul and Add.

    Refuses an Einsum: more than two operands; a diagonal; a label that is summed over in one of
    two operands; an element type that MatMul does not have; a size that is not known to be equal
    on both sides, or that a merged axis needs.
    Refuses a Gemm: a transposed first operand; factors other than 1; a bias that is not one value
    per column; reshapes that do more than to merge and to split the rows; a value in between that
    something else uses.
    """

    name: ClassVar[str] = "raise-matmul"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Raise in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node not in nested:
                    continue
                if node.is_op("Einsum"):
                    _raise_einsum(nested, node, trace)
                elif node.is_op("Reshape"):
                    _raise_flattened(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


# ---- Einsum ------------------------------------------------------------------------------------


def _raise_einsum(graph: Graph, node: Node, trace: Trace) -> None:
    equation = equation_of(graph, node)
    operands = [value for value in graph.operands(node) if value is not None]
    if isinstance(equation, str):
        trace.refused("matmul", node, equation)
        return
    build = Builder(graph, trace.pass_name, [node])
    writer = _Writer(build, _dtype(operands[0]))
    if len(operands) == 1:
        new, rule = _reduced(writer, equation, operands[0]), "einsum-transpose"
    elif len(operands) > 2:
        trace.refused("matmul", node, f"{len(operands)} operands")
        return
    else:
        found = contraction_of(equation)
        if isinstance(found, str):
            trace.refused("matmul", node, found)
            return
        if reason := "" if not found.summed else _obstacle(equation, found, operands[0]):
            trace.refused("matmul", node, reason)
            return
        rule = "einsum-matmul" if found.summed else "einsum-mul"
        make = _product if found.summed else _outer
        new = make(writer, equation, found, operands)
    trace.applied(rule, node)
    replace_node(graph, node, [new], build.made)


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


def _obstacle(equation: Equation, found: Contraction, data: Value) -> str:
    """Why a contraction cannot be written as one MatMul; empty when it can."""
    dtype = _dtype(data)
    if not dtype.is_float and dtype not in _INTEGERS:
        return f"MatMul has no {dtype.value}"
    first, second = equation.sizes
    for label in found.summed:
        if not dims.equal(first[label], second[label]):
            return f"the sizes of {label} are not known to be equal"
    groups = [found.summed, found.columns, found.rows if found.batch else ""]
    if any(len(group) > 1 for group in groups):
        sizes = {label: equation.size(label) for label in "".join(groups)}
        if loose := [
            label for label, size in sizes.items() if not isinstance(size, int) or not size
        ]:
            return f"the size of {loose[0]} is not known to be a positive number, for a Reshape"
    return ""


@dataclass(frozen=True)
class _Writer:
    """Writes operations that move axes; leaves out those that do nothing."""

    build: Builder
    dtype: DType

    def typed(self, value: Value, shape: Sequence[Dim]) -> Value:
        self.build.graph.set_type(value, TensorType(self.dtype, tuple(shape)))
        return value

    def transpose(self, value: Value, labels: str, wanted: str, sizes: Sequence[Dim]) -> Value:
        if labels == wanted:
            return value
        perm = [labels.index(label) for label in wanted]
        return self.typed(self.build.Transpose(value, perm=perm), sizes)

    def reshape(self, value: Value, target: Sequence[int], shape: Sequence[Dim]) -> Value:
        constant = self.build.constant(list(target), dtype=DType.I64, name="shape")
        return self.typed(self.build.Reshape(value, constant), shape)

    def axes(self, op_type: str, value: Value, axes: Sequence[int], shape: Sequence[Dim]) -> Value:
        """Squeeze, Unsqueeze or ReduceSum over axes, in the form of the opset."""
        if not axes:
            return value
        extra = {"keepdims": 0} if op_type == "ReduceSum" else {}
        if self.build.graph.opset < _AXES_OPERAND_SINCE:
            attributes = {"axes": list(axes), **extra}
            new = self.build.node(op_type, [value], attributes=attributes)
        else:
            operand = self.build.constant(list(axes), dtype=DType.I64, name="axes")
            new = self.build.node(op_type, [value, operand], attributes=extra)
        return self.typed(new.output, shape)


def _reduced(writer: _Writer, equation: Equation, value: Value) -> Value:
    labels, result = equation.operands[0], equation.result
    kept = "".join(label for label in labels if label in result)
    axes = [i for i, label in enumerate(labels) if label not in result]
    new = writer.axes("ReduceSum", value, axes, [equation.size(label) for label in kept])
    new = writer.transpose(new, kept, result, [equation.size(label) for label in result])
    return writer.build.Identity(new) if new is value else new


def _outer(
    writer: _Writer, equation: Equation, found: Contraction, operands: Sequence[Value]
) -> Value:
    """A product without a sum: Mul of operands that are spread over the axes of the result."""
    parts: list[Value] = []
    for value, labels, sizes in zip(operands, equation.operands, equation.sizes, strict=True):
        wanted = "".join(label for label in equation.result if label in labels)
        new = writer.transpose(value, labels, wanted, [sizes[label] for label in wanted])
        missing = [i for i, label in enumerate(equation.result) if label not in labels]
        shape = [sizes.get(label, 1) for label in equation.result]
        parts.append(writer.axes("Unsqueeze", new, missing, shape))
    return writer.build.Mul(*parts)


def _product(
    writer: _Writer, equation: Equation, found: Contraction, operands: Sequence[Value]
) -> Value:
    """MatMul of operands that are brought to batch, rows, summed and batch, summed, columns."""
    batch, summed = found.batch, found.summed
    order = (0, 1)
    rows, columns = found.rows, found.columns
    if equation.result == batch + columns + rows and columns and rows:
        order, rows, columns = (1, 0), columns, rows
    # Without a batch, several rows stay several axes, and none is a vector, as MatMul has it.
    upper = [rows] if batch else [*rows]
    lower = [columns] if batch or columns else []
    left, right = (
        _grouped(writer, operands[i], equation.operands[i], equation.sizes[i], parts)
        for i, parts in zip(
            order, ([*batch, *upper, summed], [*batch, summed, *lower]), strict=True
        )
    )
    parts = [*batch, *upper, *lower]
    shape = [dims.product([equation.size(label) for label in part]) for part in parts]
    new = writer.typed(writer.build.MatMul(left, right), shape)
    labels = "".join(parts)
    sizes = {label: equation.size(label) for label in labels}
    new = _ungrouped(writer, new, sizes, parts)
    return writer.transpose(
        new, labels, equation.result, [sizes[label] for label in equation.result]
    )


def _grouped(
    writer: _Writer, value: Value, labels: str, sizes: Mapping[str, Dim], parts: Sequence[str]
) -> Value:
    """A value with an axis for each group of labels; one of size 1 for an empty group."""
    wanted = "".join(parts)
    new = writer.transpose(value, labels, wanted, [sizes[label] for label in wanted])
    shape = [dims.product([sizes[label] for label in part]) for part in parts]
    if all(len(part) < 2 for part in parts):
        return writer.axes("Unsqueeze", new, _empty(parts), shape)
    target: list[int] = []
    for size, part in zip(shape, parts, strict=True):
        copied = part and wanted[len(target) : len(target) + 1] == part
        target.append(0 if copied else _number(size))
    return writer.reshape(new, target, shape)


def _ungrouped(
    writer: _Writer, value: Value, sizes: Mapping[str, Dim], parts: Sequence[str]
) -> Value:
    """The value with an axis for each label again; undoes `_grouped`."""
    labels = "".join(parts)
    shape = [sizes[label] for label in labels]
    if all(len(part) < 2 for part in parts):
        return writer.axes("Squeeze", value, _empty(parts), shape)
    whole = "".join(part or " " for part in parts)
    target = [
        0 if i < len(parts) and parts[i] == label and whole[i] == label else _number(size)
        for i, (label, size) in enumerate(zip(labels, shape, strict=True))
    ]
    return writer.reshape(value, target, shape)


def _empty(parts: Sequence[str]) -> list[int]:
    return [i for i, part in enumerate(parts) if not part]


def _number(size: Dim) -> int:
    assert isinstance(size, int)
    return size


# ---- a Gemm between reshapes -------------------------------------------------------------------


def _raise_flattened(graph: Graph, node: Node, trace: Trace) -> None:
    """Reshape(Gemm(Reshape(x))) as MatMul and Add of the unmerged rows."""
    gemm = _source(graph, node)
    inner = None if gemm is None else _source(graph, gemm)
    if gemm is None or inner is None or not gemm.is_op("Gemm") or not inner.is_op("Reshape"):
        return
    if reason := _flattened_obstacle(graph, node, gemm, inner):
        trace.refused("flattened-gemm", gemm, reason)
        return
    x, weight, bias = graph.operand(inner, 0), graph.operand(gemm, 1), graph.operand(gemm, 2)
    assert x is not None
    assert weight is not None
    build = Builder(graph, trace.pass_name, [gemm, node, inner])
    if ops.attribute(graph, gemm, "transB"):
        shape = shape_of(graph, weight)
        assert shape is not None
        weight = build.Transpose(weight, perm=[1, 0])
        graph.set_type(weight, TensorType(_dtype(x), shape[::-1]))
    new = build.MatMul(x, weight)
    graph.set_type(new, node.output.type)
    if bias is not None:
        new = build.Add(new, bias)
    trace.applied("flattened-gemm", gemm)
    replace_node(graph, node, [new], build.made)


def _source(graph: Graph, node: Node) -> Node | None:
    value = graph.operand(node, 0)
    return None if value is None else value.node


def _flattened_obstacle(graph: Graph, last: Node, gemm: Node, first: Node) -> str:
    for node, user in ((gemm, last), (first, gemm)):
        if other := other_use(graph, node.output, (user,)):
            return f"{node.op_type} output {use_text(other, 'also feeds')}"
    if ops.attribute(graph, gemm, "transA"):
        return "the rows are transposed"
    weight, bias = graph.operand(gemm, 1), graph.operand(gemm, 2)
    if ops.attribute(graph, gemm, "alpha") != 1 or (
        bias is not None and ops.attribute(graph, gemm, "beta") != 1
    ):
        return "alpha or beta is not 1"
    assert weight is not None
    source = graph.operand(first, 0)
    assert source is not None
    inner, outer = shape_of(graph, source), shape_of(graph, last.output)
    sides = shape_of(graph, weight)
    if inner is None or outer is None or sides is None or len(inner) <= 2:
        return "a shape is not known, or has no rows to merge"
    depth, width = sides[::-1] if ops.attribute(graph, gemm, "transB") else sides
    rows = zip(inner[:-1], outer[:-1], strict=False)
    if len(inner) != len(outer) or not all(dims.equal(a, b) for a, b in rows):
        return f"{last.label} does not split the rows as {first.label} merged them"
    if not dims.equal(inner[-1], depth) or not dims.equal(outer[-1], width):
        return "a Reshape changes the columns"
    added = None if bias is None else shape_of(graph, bias)
    per_column = added is not None and all(dim == 1 for dim in added[:-1])
    if bias is not None and not per_column:
        return f"the bias {bias.name} is not one value per column"
    return ""
