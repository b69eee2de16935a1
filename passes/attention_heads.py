"""Queries, keys and values of attention in the layout (batch, heads, sequence, head size).

The two products of attention are MatMuls, or Einsums of any order of letters:

    logits = Q Kᵀ          K is found before its transposition, whatever form that has
    result = P V

A product of rank 3 is over batch · heads: what was of rank 4 before its leading dimensions were
folded is taken, else the folded dimension is the batch, and there is one head. Keys and values
that are repeated for groups of queries are taken before the repetition:

    Reshape(Expand(Unsqueeze(k, 2), [B, Hk, n, S, D]), [B, Hk·n, S, D])   =  k with Hk heads

Source: ONNX operators Attention-24, MatMul-13, Einsum-12, Expand-13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import dims
from optc.ir.shape_site import shape_of
from optc.passes.attention_logits import factor_of
from optc.passes.attention_views import (
    equal_shapes,
    one_more,
    perm_of,
    reshaped,
    row_views,
    swapped,
    transposed,
    view_before_swap,
    writable,
)

if TYPE_CHECKING:
    from optc.ir import Dim, Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder

RANK: Final = 4


@dataclass(frozen=True)
class Factor:
    """An operand of a product, as a matrix of rows per leading index.

    Attributes:
        value: a value.
        perm: how it is transposed to be (…, rows, columns); None for not at all.
        shape: its shape after that.
    """

    value: Value
    perm: tuple[int, ...] | None
    shape: Shape


@dataclass(frozen=True)
class Product:
    """Left · right, with the leading dimensions of both equal or broadcast.

    Attributes:
        left: rows by inner.
        right: inner by columns.
        perm: how the result (…, rows, columns) is transposed; None for not at all.
    """

    left: Factor
    right: Factor
    perm: tuple[int, ...] | None = None


def product_of(graph: Graph, node: Node, *, flip: Value | None = None) -> Product | str:
    """The operands of a MatMul, or of an Einsum that is one.

    Args:
        graph: the graph.
        node: the operation.
        flip: the operand to have on the left, for an Einsum.
    """
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    assert first is not None
    assert second is not None
    a, b = shape_of(graph, first), shape_of(graph, second)
    if a is None or b is None:
        return f"rank of an operand of {node.label} is not known"
    if node.is_op("Einsum"):
        return _einsum(node, (first, a), (second, b), left_first=flip is None or flip is first)
    if len(a) != len(b):
        return f"{node.label} multiplies ranks {len(a)} and {len(b)}"
    return Product(Factor(first, None, a), Factor(second, None, b))


def _einsum(
    node: Node, first: tuple[Value, Shape], second: tuple[Value, Shape], *, left_first: bool
) -> Product | str:
    """An Einsum whose result has its letters in the order of leading, rows, columns, or not."""
    equation = node.get("equation", b"").decode().replace(" ", "")
    left_term, _, out = equation.partition("->")
    terms = left_term.split(",")
    if not out or len(terms) != 2 or "." in equation:
        return f"equation {equation} of {node.label} is not a product"
    (left, a), (right, b) = (terms[0], first), (terms[1], second)
    if not left_first:
        (left, a), (right, b) = (right, b), (left, a)
    lead = [letter for letter in out if letter in left and letter in right]
    rows = [letter for letter in out if letter in left and letter not in right]
    columns = [letter for letter in out if letter in right and letter not in left]
    inner = [letter for letter in left if letter in right and letter not in out]
    if len(rows) != 1 or len(columns) != 1 or len(inner) != 1 or len(set(left)) != len(left):
        return f"equation {equation} of {node.label} is not a product"
    if len(left) != len(lead) + 2 or len(right) != len(lead) + 2 or len(set(right)) != len(right):
        return f"equation {equation} of {node.label} is not a product"
    result = [*lead, rows[0], columns[0]]
    perm = tuple(result.index(letter) for letter in out)
    return Product(
        _permuted(a, left, [*lead, rows[0], inner[0]]),
        _permuted(b, right, [*lead, inner[0], columns[0]]),
        None if perm == tuple(range(len(perm))) else perm,
    )


def _permuted(operand: tuple[Value, Shape], term: str, wanted: list[str]) -> Factor:
    value, shape = operand
    perm = tuple(term.index(letter) for letter in wanted)
    if perm == tuple(range(len(perm))):
        return Factor(value, None, shape)
    return Factor(value, perm, tuple(shape[i] for i in perm))


def unscaled(graph: Graph, value: Value) -> tuple[Value, float]:
    """A value before multiplications by numbers, and the product of these."""
    factor = 1.0
    while (found := factor_of(graph, value.node)) is not None:
        value, factor = found[0], factor * found[1]
    return value, factor


@dataclass(frozen=True)
class Rows:
    """Rows per batch and head: queries, keys or values.

    Attributes:
        value: the value that they are taken from.
        perm: how it is transposed first; None for not at all.
        shape: (batch, heads, sequence, size).
        scale: a factor that was taken off.
    """

    value: Value
    perm: tuple[int, ...] | None
    shape: Shape
    scale: float = 1.0

    def obstacle(self, graph: Graph) -> str | None:
        """Why it cannot be built."""
        own = shape_of(graph, self.value)
        if own is not None and self.perm is not None:
            own = tuple(own[i] for i in self.perm)
        if equal_shapes(own, self.shape) or writable(self.shape) or one_more(own, self.shape):
            return None
        return f"{self.value.name} cannot be reshaped to batch and heads"

    def build(self, build: Builder) -> Value:
        """The value of this shape."""
        value = self.value
        if self.perm is not None:
            value = transposed(build, value, self.perm)
        return reshaped(build, value, self.shape)


def rows_of(graph: Graph, factor: Factor, lead: Shape, *, scaled: bool = False) -> Rows:
    """Queries or values: rows as they are, of leading dimensions (batch, heads).

    With `scaled`, multiplications by numbers stay in the value.
    """
    shape = (*lead, *factor.shape[-2:])
    if factor.perm is not None:
        return Rows(factor.value, factor.perm, shape)
    value, scale = (factor.value, 1.0) if scaled else unscaled(graph, factor.value)
    for view in row_views(graph, value):
        if equal_shapes(shape_of(graph, view), shape):
            return Rows(view, None, shape, scale)
    return Rows(row_views(graph, value)[0], None, shape, scale)


def keys(graph: Graph, factor: Factor, lead: Shape) -> Rows:
    """Keys: the columns of the right operand, before they were transposed."""
    shape = (*lead, factor.shape[-1], factor.shape[-2])
    if factor.perm is not None:
        perm = tuple(factor.perm[i] for i in swapped(len(factor.perm)))
        order = None if perm == tuple(range(len(perm))) else perm
        return Rows(factor.value, order, shape)
    value, scale = unscaled(graph, factor.value)
    before = view_before_swap(graph, value)
    if before is not None:
        inner = rows_of(graph, Factor(before, None, _swap(factor.shape)), lead)
        return Rows(inner.value, None, shape, scale * inner.scale)
    return Rows(value, swapped(len(factor.shape)), shape, scale)


def _swap(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


def split_lead(graph: Graph, product: Product) -> Shape:
    """Batch and heads of a product, as far as a reshape of an operand says how they were folded."""
    lead = product.left.shape[:-2]
    if len(lead) > 2:
        return (dims.product(lead[:-1]), lead[-1])
    if len(lead) != 1 or product.left.perm is not None:
        return lead
    right, _ = unscaled(graph, product.right.value)
    swap = view_before_swap(graph, right)
    for value in (product.left.value, *(() if swap is None else (swap,)), right):
        plain, _ = unscaled(graph, value)
        for view in row_views(graph, plain):
            shape = shape_of(graph, view)
            if shape is not None and len(shape) == RANK:
                return shape[:2]
    return (lead[0], 1)


def ungrouped(graph: Graph, rows: Rows) -> Rows | None:
    """Keys or values before they were repeated for groups of queries; None when they were not."""
    if rows.perm is not None:
        return None
    for view in row_views(graph, rows.value):
        source = _repeated(graph, view)
        if source is None:
            continue
        shape = shape_of(graph, source)
        assert shape is not None
        batch, heads = shape[0], shape[1]
        group = _quotient(rows.shape[1], heads)
        if group and dims.equal(batch, rows.shape[0]) and same_rows(shape, rows.shape):
            return Rows(source, None, (*rows.shape[:1], heads, *rows.shape[2:]), rows.scale)
    return None


def regrouped(graph: Graph, query: Rows, kept: Dim) -> Rows | None:
    """Queries before a reshape made those of one group the rows of one head.

    That is the form of grouped queries for one position: (B, Hk·n, 1, D) as (B, Hk, n, D).
    """
    node = query.value.node
    source = graph.operand(node, 0) if node.is_op("Reshape") and query.perm is None else None
    shape = None if source is None else shape_of(graph, source)
    if source is None or shape is None or len(shape) != RANK or shape[2] != 1:
        return None
    batch, heads, rows, size = query.shape
    fits = equal_shapes(shape, (batch, dims.mul(heads, rows), 1, size))
    return Rows(source, None, shape, query.scale) if fits and dims.equal(heads, kept) else None


def same_rows(first: Shape, second: Shape) -> bool:
    """Whether the last two dimensions are equal."""
    return equal_shapes(first[-2:], second[-2:])


def _quotient(heads: Dim, kept: Dim) -> int | None:
    if not isinstance(heads, int) or not isinstance(kept, int) or not kept or heads % kept:
        return None
    return heads // kept


def _repeated(graph: Graph, view: Value) -> Value | None:
    """K where a value of rank 5 is Expand(Unsqueeze(k, 2)) or the same written as Tile."""
    shape = shape_of(graph, view)
    if not view.node.is_op("Expand", "Tile") or shape is None or len(shape) != RANK + 1:
        return None
    single = graph.operand(view.node, 0)
    assert single is not None
    before = shape_of(graph, single)
    if before is None or len(before) != RANK + 1 or before[2] != 1:
        return None
    if not equal_shapes((*before[:2], *before[3:]), (*shape[:2], *shape[3:])):
        return None
    if not single.node.is_op("Unsqueeze", "Reshape"):
        return None
    source = graph.operand(single.node, 0)
    assert source is not None
    if not equal_shapes(shape_of(graph, source), (*before[:2], *before[3:])):
        return None
    return source


def head_split(graph: Graph, value: Value) -> tuple[Value, int] | None:
    """Find x and H in x (B, S, H·D), split into heads and transposed to (B, H, S, D).

    With one head or one position, a Transpose would move nothing, and there need not be any.
    """
    split = value
    if value.node.is_op("Transpose") and perm_of(graph, value.node) == (0, 2, 1, 3):
        above = graph.operand(value.node, 0)
        assert above is not None
        split = above
    if not split.node.is_op("Reshape", "Unsqueeze"):
        return None
    source = graph.operand(split.node, 0)
    assert source is not None
    before, after = shape_of(graph, source), shape_of(graph, value)
    if before is None or after is None or len(before) != 3 or len(after) != RANK:
        return None
    if split is value and before[1] != 1 and after[1] != 1:
        return None
    heads, size = after[1], after[3]
    if not isinstance(heads, int) or not equal_shapes(before[:2], (after[0], after[2])):
        return None
    return (source, heads) if dims.equal(before[2], dims.mul(heads, size)) else None
