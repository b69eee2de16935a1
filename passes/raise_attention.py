"""Recognise attention as the operator Attention.

    MatMul(Softmax(scale · Q Kᵀ + Σ masks), V)  =  Attention(Q, K, V, mask, scale)

The Softmax over keys is where the search begins: up to the product of queries and keys, down to the
product with values. `optc.passes.attention_logits` has the forms of the logits,
`attention_heads` those of queries, keys and values, `attention_masks` those of masks. Then

    Attention(Q, Concat(past, K), Concat(past, V))          takes past keys and values itself
    Attention of heads split by Reshape and Transpose       takes (batch, sequence, heads · size)

Where keys are hidden by minus infinity, all of a row may be: that is NaN in a Softmax, and zero
where exporters guard against it by Where(IsNaN(p), 0, p). Zero is what Attention gives, so guarded
attention is raised in any case, else only where no row can be hidden. NaN and infinities that come
from queries and keys themselves are left aside.
Source: ONNX operators Attention-24, Softmax-13, IsNaN-20, RotaryEmbedding-23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.ir import DType, Kind, TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.attention_heads import (
    RANK,
    Product,
    Rows,
    keys,
    product_of,
    regrouped,
    rows_of,
    split_lead,
    ungrouped,
)
from optc.passes.attention_layouts import absorb_heads, absorb_past
from optc.passes.attention_logits import PRODUCTS, Logits, Mask, find_logits, is_product, number
from optc.passes.attention_masks import Placed, build_mask, masks_may_hide, place
from optc.passes.attention_views import equal_shapes, reshaped, row_views, transposed, writable
from optc.passes.base import Pass, PassOptions, PassResult
from optc.rewrite.driver import Builder, remove_unused, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Shape, Value
    from optc.passes.base import PassContext

_RULE: Final = "attention"
_BETWEEN: Final = (
    *("Where", "Cast", "Identity", "Dropout", "Mul"),
    *("Reshape", "Transpose", "Unsqueeze", "Squeeze"),
)
"""Operators through which probabilities may go on their way to the values."""


class RaiseAttentionOptions(PassOptions):
    """Options of `raise-attention`."""

    zero_rows: bool = Field(
        default=False,
        description="let a row of which a mask hides all be zero, where it is NaN in the source",
    )


class RaiseAttention(Pass):
    """Write attention as the operator Attention, with heads and caches inside where they fit.

    Refuses: logits or probabilities that are used elsewhere; a Softmax over another axis; a scale
    that is not a number; a Where that fills with a number which is not hidden for sure; masks that
    enlarge the logits or whose row may be hidden without a guard; queries, keys and values of other
    batch, heads or element types; reshapes of unknown sizes.
    """

    name: ClassVar[str] = "raise-attention"
    Options = RaiseAttentionOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Raise in the graph and all its subgraphs."""
        assert isinstance(self.options, RaiseAttentionOptions)
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("Softmax") and node in nested:
                    _raise(nested, node, trace, zero_rows=self.options.zero_rows)
            for node in nested.ordered():
                if node.is_op("Attention"):
                    absorb_heads(nested, absorb_past(nested, node, trace), trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


@dataclass(frozen=True)
class _Below:
    """What follows the Softmax.

    Attributes:
        probabilities: what is multiplied with the values.
        product: the operation that does it.
        guarded: whether NaN becomes zero on the way.
    """

    probabilities: Value
    product: Node
    guarded: bool


@dataclass(frozen=True)
class _Plan:
    """An attention that can be written.

    Attributes:
        logits: the logits.
        below: what follows the Softmax.
        output: the product with the values.
        query: queries, of shape (batch, heads, queries, size).
        key: keys, of shape (batch, heads of keys, keys, size).
        value: values, likewise.
        masks: masks.
    """

    logits: Logits
    below: _Below
    output: Product
    query: Rows
    key: Rows
    value: Rows
    masks: tuple[Placed, ...]

    @property
    def shape(self) -> Shape:
        """Batch, heads, queries, keys."""
        return (*self.query.shape[:3], self.key.shape[2])

    @property
    def result(self) -> Shape:
        """Batch, heads, queries, size of the values."""
        return (*self.query.shape[:3], self.value.shape[3])


def _raise(graph: Graph, softmax: Node, trace: Trace, *, zero_rows: bool) -> None:
    if not _meets_product(graph, softmax.output, 0):
        return
    logits = find_logits(graph, softmax)
    if logits is None:
        return
    plan = logits if isinstance(logits, str) else _plan(graph, softmax, logits)
    if isinstance(plan, _Plan) and not zero_rows:
        plan = _hidden_row(graph, plan) or plan
    if isinstance(plan, str):
        trace.refused(_RULE, softmax, plan)
        return
    parents = dict.fromkeys((plan.below.product, softmax, plan.logits.product))
    build = Builder(graph, trace.pass_name, tuple(parents))
    result = _write(build, plan)
    trace.applied(_RULE, softmax)
    replace_node(graph, plan.below.product, [result], build.made)
    # Reshapes that restored the rank have lost their uses to the Attention itself.
    for use in tuple(graph.uses(result)):
        remove_unused(graph, [use.node])


# ---- below the Softmax -------------------------------------------------------------------------


def _meets_product(graph: Graph, value: Value, depth: int) -> bool:
    """Whether a MatMul or Einsum takes the probabilities on the left, a few operations below."""
    for use in graph.uses(value):
        node = use.node
        if node.is_op(*PRODUCTS) and (use.key == 0 or node.op_type == "Einsum"):
            return True
        passes = node.is_op(*_BETWEEN)
        if passes and depth < 6 and _meets_product(graph, node.output, depth + 1):
            return True
    return False


def _below(graph: Graph, softmax: Node) -> _Below | str:
    value, guarded = softmax.output, False
    while True:
        if not guarded and (guard := _guard(graph, value)) is not None:
            value, guarded = guard, True
        use = graph.only_use(value)
        if use is None:
            return _other_use(graph, value)
        node = use.node
        if is_product(graph, node):
            return _Below(value, node, guarded)
        if node.is_op("Reshape") and len(row_views(graph, node.output)) == 1:
            return f"{node.label} reshapes queries or keys"
        passes = node.is_op("Cast", "Identity", "Reshape") or (
            node.is_op("Dropout") and ops.is_inference_dropout(graph, node)
        )
        if not passes or use.key != 0:
            return f"{node.label} is between the Softmax and the product with values"
        value = node.output


def _other_use(graph: Graph, value: Value) -> str:
    for use in graph.uses(value):
        if use.node.kind is Kind.OUTPUT:
            return f"the probabilities are the graph output {use.node.name}"
        if not use.node.is_op(*PRODUCTS, "Where", "IsNaN"):
            return f"the probabilities also feed {use.node.label}"
    return f"the probabilities {value.name} are used more than once"


def _guard(graph: Graph, value: Value) -> Value | None:
    """The result of Where(IsNaN(value), 0, value), when nothing else uses the value."""
    uses = [use.node for use in graph.uses(value)]
    where = next((node for node in uses if node.is_op("Where")), None)
    if where is None or len(uses) != 2:
        return None
    condition, zero, kept = graph.operands(where)
    if condition is None or kept is not value or number(zero) != 0.0:
        return None
    test = condition.node
    if not test.is_op("IsNaN") or test not in uses or graph.only_use(condition) is None:
        return None
    return where.output


# ---- legality ----------------------------------------------------------------------------------


def _plan(graph: Graph, softmax: Node, logits: Logits) -> _Plan | str:
    below = _below(graph, softmax)
    if isinstance(below, str):
        return below
    axis, rank = int(ops.attribute(graph, softmax, "axis")), len(logits.shape)
    if axis not in (-1, rank - 1):
        return f"the Softmax is over axis {axis} of {rank}"
    first = product_of(graph, logits.product)
    second = product_of(graph, below.product, flip=below.probabilities)
    if isinstance(first, str) or isinstance(second, str):
        return first if isinstance(first, str) else str(second)
    if first.perm is not None or second.left.perm is not None:
        return f"{logits.product.label} transposes queries and keys"
    if second.left.value is not below.probabilities:
        return f"{below.product.label} multiplies values from the left"
    return _arrange(graph, logits, below, (first, second))


def _arrange(
    graph: Graph, logits: Logits, below: _Below, products: tuple[Product, Product]
) -> _Plan | str:
    first, second = products
    if len(first.left.shape) < 3 or len(second.right.shape) != len(first.left.shape):
        return f"{below.product.label} has another rank than {logits.product.label}"
    lead = first.left.shape[:-2]
    heads = split_lead(graph, first)
    sides = []
    for factor in (first.right, second.right):
        own = _lead_of(factor.shape[:-2], lead, heads)
        if own is None:
            return f"{factor.value.name} has other batches or heads than {first.left.value.name}"
        sides.append(own)
    query = rows_of(graph, first.left, heads)
    key, value = (
        keys(graph, first.right, sides[0]),
        rows_of(graph, second.right, sides[1], scaled=True),
    )
    fewer = ungrouped(graph, key), ungrouped(graph, value)
    if fewer[0] is not None and fewer[1] is not None and _heads_agree(fewer[0], fewer[1]):
        key, value = fewer[0], fewer[1]
    if not _heads_agree(key, value):
        return f"{key.value.name} and {value.value.name} have different heads"
    if all(_same_for_rows(graph, mask) for mask in logits.masks):
        query = regrouped(graph, query, key.shape[1]) or query
    return _checked(graph, logits, below, second, (query, key, value))


def _same_for_rows(graph: Graph, mask: Mask) -> bool:
    """Whether a mask is the same for all heads and queries."""
    shape = shape_of(graph, mask.value)
    return shape is not None and all(dim == 1 for dim in shape[-3:-1]) and len(shape) <= RANK


def _lead_of(own: Shape, lead: Shape, heads: Shape) -> Shape | None:
    """Batch and heads of keys or values; heads may be one for all queries."""
    if equal_shapes(own, lead):
        return heads
    if len(own) == 2 and dims.equal(own[0], lead[0]) and own[1] == 1:
        return own
    return None


def _heads_agree(key: Rows, value: Rows) -> bool:
    return equal_shapes(key.shape[:3], value.shape[:3])


def _checked(
    graph: Graph,
    logits: Logits,
    below: _Below,
    output: Product,
    rows: tuple[Rows, Rows, Rows],
) -> _Plan | str:
    query, key, value = rows
    for part in rows:
        if reason := part.obstacle(graph):
            return reason
    types = [_dtype(part.value) for part in rows]
    if len(set(types)) != 1 or not types[0].is_float:
        return f"queries, keys and values are {', '.join(str(type_.value) for type_ in types)}"
    if _dtype(below.probabilities) is not types[0]:
        return f"the probabilities are {_dtype(below.probabilities).value}, the values not"
    shape = (*query.shape[:3], key.shape[2])
    masks = []
    for mask in logits.masks:
        found = place(graph, mask, shape)
        if isinstance(found, str):
            return found
        masks.append(found)
    plan = _Plan(logits, below, output, query, key, value, tuple(masks))
    for dim in (query.shape[1], query.shape[3], key.shape[1], value.shape[3]):
        if not isinstance(dim, int):
            return f"heads of {query.value.name} or their size are not known"
    return _result_obstacle(graph, plan) or plan


def _hidden_row(graph: Graph, plan: _Plan) -> str | None:
    """Why Attention would give zero where the source gives NaN."""
    hiding = masks_may_hide(graph, plan.logits.masks, _dtype(plan.query.value))
    if hiding is None or plan.below.guarded:
        return None
    return (
        f"without a guard, a row that {hiding.value.name} hides wholly is NaN, "
        "and zero in Attention"
    )


def _result_obstacle(graph: Graph, plan: _Plan) -> str | None:
    shape = shape_of(graph, plan.below.product.output)
    if shape is None:
        return f"rank of {plan.below.product.label} is not known"
    if equal_shapes(shape, plan.result) or plan.output.perm is not None or writable(shape):
        return None
    same = equal_shapes(shape, plan.output.left.shape[:-1] + plan.query.shape[3:])
    query = shape_of(graph, plan.query.value)
    if same and equal_shapes(query, shape):
        return None
    return f"sizes of {plan.below.product.label} are not known"


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


# ---- construction ------------------------------------------------------------------------------


def _write(build: Builder, plan: _Plan) -> Value:
    query, key, value = (part.build(build) for part in (plan.query, plan.key, plan.value))
    dtype = _dtype(plan.query.value)
    mask = build_mask(build, plan.masks, dtype, (query, key), plan.shape)
    wide = plan.logits.wide
    operands = [query, key, value] if mask is None else [query, key, value, mask]
    made = build.Attention(
        *operands,
        scale=plan.logits.scale * plan.query.scale * plan.key.scale,
        softcap=plan.logits.softcap or None,
        softmax_precision=None if wide is None else wide.onnx,
    )
    build.graph.set_type(made, TensorType(dtype, plan.result))
    if plan.output.perm is not None:
        return transposed(build, made, plan.output.perm)
    return _folded(build, plan, made)


def _folded(build: Builder, plan: _Plan, made: Value) -> Value:
    """The result in the rank of the product; reshapes that restore it are taken out here."""
    graph = build.graph
    old = plan.below.product.output
    shape = shape_of(graph, old)
    assert shape is not None
    if equal_shapes(shape, plan.result):
        return made
    for use in tuple(graph.uses(old)):
        if use.node.is_op("Reshape") and equal_shapes(
            shape_of(graph, use.node.output), shape_of(graph, made)
        ):
            graph.replace_uses(use.node.output, made)
    if writable(shape):
        return reshaped(build, made, shape)
    return build.Reshape(made, build.Shape(plan.query.value))
