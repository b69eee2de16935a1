"""Where a graph could be computed on integers: the operations that a runtime has kernels for.

A site is an operation with what belongs to it: the operands that would come out of a
DequantizeLinear, and the value that would go into a QuantizeLinear, which is behind a Relu or a
Clip from zero where one follows, because saturation does what they do. Which forms reach an integer
kernel is asked of the kernel table of the runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from optc.ir import DType, Kind, TensorType
from optc.ir.ops import Trait, info
from optc.numerics.saturation import Product
from optc.passes.split_outliers import is_outlier_product
from optc.targets.kernels import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.ir import Graph, Node, Tensor, Value
    from optc.targets.kernels import Choice, Element, Form, KernelTable, ZeroPoint

Scheme = Literal["u8", "s8", "u8-symmetric", "s8-symmetric"]
"""Integer type of activations, and whether their zero point is its middle."""

PRODUCTS: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BYTE_MAXPOOL_SINCE: Final = 12


def elements_of(scheme: Scheme) -> tuple[DType, Element, bool]:
    """Type, its name in kernel tables, and whether the scheme is symmetric."""
    element: Element = "u8" if scheme.startswith("u8") else "s8"
    return (DType.U8 if element == "u8" else DType.I8), element, scheme.endswith("symmetric")


@dataclass(frozen=True)
class Kernels:
    """What the runtime has integer kernels for on a CPU.

    Attributes:
        table: kernels of the runtime.
        capabilities: of the CPU.
        activations: scheme of activations.
        product_activations: scheme of the operands of products of two activations.
        weights: element type of weights.
        operators: operators beside products that may be computed on integers.
        padded_activations: scheme of operands of convolutions with padding that have negative
            elements; None: as of others.
    """

    table: KernelTable
    capabilities: Collection[str]
    activations: Scheme
    product_activations: Scheme
    weights: Element
    operators: Collection[str]
    padded_activations: Scheme | None = None

    def product(
        self,
        node: Node,
        form: Form,
        result: Element | None,
        *,
        clamped: bool,
        from_zero: bool = False,
        weight_zero: ZeroPoint = "any",
    ) -> Choice | str:
        """The kernel of a product with a result of this type (None: as operands), or why not.

        ``from_zero`` tells that its first operand has no negative elements, ``clamped`` that its
        result will have none; ``weight_zero`` is about the zero points of its weights.
        """
        scheme = self.product_activations if form == "qdq-pair" else self.activations
        _, element, symmetric = elements_of(scheme)
        zero: ZeroPoint = "symmetric" if symmetric else "lowest" if from_zero else "asymmetric"
        if form == "qdq" and clamped and symmetric:
            form = "qdq-relu"
        weight: Element = element if form == "qdq-pair" else self.weights
        output = result or element
        return self._find(node.op_type, form, element, weight, output, zero, weight_zero)

    def needs_least_zero(self, node: Node) -> bool:
        """Whether a product with a Relu has a kernel only where the zero point absorbs the Relu."""
        _, element, symmetric = elements_of(self.activations)
        zero: ZeroPoint = "symmetric" if symmetric else "asymmetric"
        kept = self._find(node.op_type, "qdq-relu", element, self.weights, element, zero)
        return isinstance(kept, str)

    def dynamic(self, node: Node) -> Choice | str:
        """The kernel of a matrix product whose operand is quantized as it comes, or why not."""
        op_type = "MatMul" if node.is_op("Gemm") else node.op_type
        return self._find(op_type, "dynamic", "u8", self.weights, "f32", "any")

    def weight_only(self, node: Node) -> Choice | str:
        """What computes a product with 8-bit weights alone, or why nothing does."""
        return self._find(node.op_type, "weight-only", "f32", self.weights, None, "any")

    def other(self, node: Node) -> Choice | str:
        """The kernel of another operation on bytes, or why there is none."""
        if node.op_type not in self.operators:
            return f"{node.op_type} is not among the operators to be computed on integers"
        return self._find(node.op_type, "qdq", "u8", None, None, "any")

    def _find(
        self,
        op_type: str,
        form: Form,
        activation: Element,
        weight: Element | None,
        output: Element | None,
        zero: ZeroPoint,
        weight_zero: ZeroPoint = "any",
    ) -> Choice | str:
        types = activation if weight is None else f"{activation} x {weight} -> {output}"
        route = self.table.find(
            op_type, form, activation, weight, output, zero, weight_zero_point=weight_zero
        )
        if route is None:
            return f"no integer kernel is described for {op_type} as {form} of {types}"
        choice = route.choice(self.capabilities)
        if choice is None:
            return f"no kernel for this CPU is described for {op_type} as {form} of {types}"
        # Weights are widened on the way: the arithmetic stays, the memory traffic shrinks.
        widened = form == "weight-only" and choice.outcome == "converted"
        if choice.outcome != "native" and not widened:
            note = f" ({choice.note})" if choice.note else ""
            return f"{op_type} as {form} of {types} is {OUTCOMES[choice.outcome]}{note}"
        return choice


@dataclass(frozen=True, eq=False)
class Site:
    """An operation that could be computed on integers.

    Attributes:
        node: the operation.
        operands: indices of the operands that would be quantized.
        result: what would be quantized behind it.
        clamp: the Relu or Clip before `result` that saturation replaces.
        choice: the kernel.
        may_give_floats: whether a kernel takes integers and gives floats.
        keeps_scale: whether operands and result need the same scale.
        from_zero: values that need the least integer as their zero point, or there is no kernel.
        other: the kernel where zero points of weights are not the middle of their type, if that is
            another one.
        off_middle: whether zero points of weights are one below the middle, for that kernel.
    """

    node: Node
    operands: tuple[int, ...]
    result: Value
    clamp: Node | None
    choice: Choice
    may_give_floats: bool = False
    keeps_scale: bool = False
    from_zero: tuple[Value, ...] = ()
    other: Choice | None = None
    off_middle: bool = False

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product."""
        return self.node.is_op(*PRODUCTS)

    @property
    def is_pair(self) -> bool:
        """Whether it multiplies two activations."""
        return self.is_product and len(self.operands) > 1


def find_site(graph: Graph, node: Node, kernels: Kernels) -> Site | str:
    """The site of an operation on floats, or why it has none."""
    if node.operator[0] or node.overload:
        return f"{node.qualified_op} is no operator of ONNX's own domain"
    if not node.outputs or not is_float32(node.outputs[0]):
        return "its result is not of type f32"
    if node.is_op(*PRODUCTS):
        return _product(graph, node, kernels)
    if info(node).has(Trait.MAC):
        found = kernels.other(node)
        return found if isinstance(found, str) else f"{node.op_type} is computed as a whole"
    return _other(graph, node, kernels)


def is_float32(value: Value | None) -> bool:
    """Whether a value is known to be a tensor of f32."""
    kind = None if value is None else value.type
    return isinstance(kind, TensorType) and kind.dtype is DType.F32


def weight_of(graph: Graph, node: Node) -> Tensor | None:
    """The constant second operand of a product."""
    value = graph.operand(node, 1)
    return None if value is None else value.constant


def channel_axis(node: Node, rank: int) -> int | None:
    """The axis of the weight along which results differ; None where scales cannot follow it."""
    if node.is_op("Conv"):
        return 0
    if node.is_op("ConvTranspose"):
        return 1 if node.get("group", 1) == 1 else None
    if node.is_op("Gemm"):
        return 0 if node.get("transB", 0) else 1
    return 1 if rank == 2 else None


def product_of(node: Node) -> Product | None:
    """The layout of the weights of an operation, as far as sums of its products are known."""
    if not node.is_op("Conv", "MatMul", "Gemm"):
        return None
    op = cast("Literal['Conv', 'MatMul', 'Gemm']", node.op_type)
    return Product(op, int(node.get("group", 1)), bool(node.get("transB", 0)))


def _product(graph: Graph, node: Node, kernels: Kernels) -> Site | str:
    if reason := product_obstacle(graph, node):
        return reason
    weight = weight_of(graph, node)
    form: Form = "qdq" if weight is not None else "qdq-pair"
    clamp = clamp_behind(graph, node.output)
    first = graph.operand(node, 0)
    least = None if first is None else _least(graph, first.node)
    from_zero = form == "qdq" and least is not None and least >= 0
    integers = kernels.product(node, form, None, clamped=clamp is not None, from_zero=from_zero)
    floats = kernels.product(node, form, "f32", clamped=False, from_zero=from_zero)
    if isinstance(integers, str):
        return integers
    if integers.saturates is not None and product_of(node) is None:
        return "sums of its products may saturate on this CPU; what weights prevent it is not known"
    bound: list[Value] = []
    if clamp is not None and kernels.needs_least_zero(node):
        bound.append(clamp.output)
    if from_zero and isinstance(kernels.product(node, form, None, clamped=clamp is not None), str):
        assert first is not None
        bound.append(first)
    return Site(
        node,
        (0,) if weight is not None else (0, 1),
        node.output if clamp is None else clamp.output,
        clamp,
        integers,
        may_give_floats=not isinstance(floats, str),
        from_zero=tuple(bound),
        other=_off_middle(node, kernels, integers, clamped=clamp is not None, from_zero=from_zero),
    )


def _off_middle(
    node: Node, kernels: Kernels, known: Choice, *, clamped: bool, from_zero: bool
) -> Choice | None:
    """The kernel of a convolution whose weights have zero points, if it is another one."""
    if not node.is_op("Conv") or node.get("group", 1) != 1:
        return None
    found = kernels.product(
        node, "qdq", None, clamped=clamped, from_zero=from_zero, weight_zero="asymmetric"
    )
    return None if isinstance(found, str) or found == known else found


def product_obstacle(graph: Graph, node: Node) -> str | None:
    """What keeps a product from being one of an activation with a constant, or of two."""
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    if first is None or second is None or not (is_float32(first) and is_float32(second)):
        return "an operand is not of type f32"
    if first.constant is not None:
        return "its first operand is a constant"
    if is_outlier_product(graph, node):
        return "its channels are the large ones, which were split off to stay fp32"
    if second.constant is None and not node.is_op("MatMul"):
        return f"its weight {second.name} is not constant"
    if second.constant is not None and len(second.constant.shape) < 2:
        return f"its weight {second.name} is a vector"
    bias = graph.operand(node, 2)
    if bias is not None and bias.constant is None:
        return f"its bias {bias.name} is not constant"
    return _gemm_obstacle(node, bias) if node.is_op("Gemm") else None


def _gemm_obstacle(node: Node, bias: Value | None) -> str | None:
    if node.get("transA", 0):
        return "it transposes its first operand"
    if node.get("alpha", 1.0) != 1.0 or (bias is not None and node.get("beta", 1.0) != 1.0):
        return "alpha or beta is not 1"
    shape = bias.constant.shape if bias is not None and bias.constant is not None else (1,)
    if len(shape) != 1:
        return "its bias is no vector"
    return None


def clamp_behind(graph: Graph, value: Value) -> Node | None:
    """The only user of a value, when it is a Relu or a Clip from zero."""
    use = graph.only_use(value)
    if use is None or use.key != 0:
        return None
    return use.node if _least(graph, use.node) == 0 else None


def _least(graph: Graph, node: Node) -> float | None:
    """The least result of a Relu or a Clip; None where it is not known."""
    if node.is_op("Relu"):
        return 0.0
    bounds = clip_bounds(graph, node) if node.is_op("Clip") else None
    return None if bounds is None else bounds[0]


def clip_bounds(graph: Graph, node: Node) -> tuple[float, float] | None:
    """Lower and upper bound of a Clip; None where one is not constant."""
    found = [float(node.get("min", float("-inf"))), float(node.get("max", float("inf")))]
    for index in (1, 2):
        value = graph.operand(node, index)
        if value is None:
            continue
        if value.constant is None or value.constant.elements != 1:
            return None
        found[index - 1] = float(value.constant.numpy().reshape(-1)[0])
    return found[0], found[1]


def _other(graph: Graph, node: Node, kernels: Kernels) -> Site | str:
    choice = kernels.other(node)
    if isinstance(choice, str):
        return choice
    single = info(node).has(Trait.UNARY) or not (
        node.is_op("Concat") or info(node).has(Trait.ELEMENTWISE)
    )
    operands = (0,) if single else tuple(range(len(graph.operands(node))))
    for index in operands:
        value = graph.operand(node, index)
        if value is None or not is_float32(value):
            return "an operand is not of type f32"
        if value.node.kind is Kind.CONSTANT:
            return f"its operand {value.name} is a constant"
    if reason := _other_obstacle(graph, node):
        return reason
    moves = info(node).has(Trait.DATA_MOVEMENT) or node.is_op("MaxPool", "Resize")
    clamp = None if moves else clamp_behind(graph, node.output)
    result = node.output if clamp is None else clamp.output
    keeps = moves and not node.is_op("Concat")
    return Site(node, operands, result, clamp, choice, keeps_scale=keeps)


def _other_obstacle(graph: Graph, node: Node) -> str | None:
    if any(value is not None for value in node.outputs[1:]):
        return "it has a second result"
    if node.is_op("Resize") and node.get("mode", b"nearest") != b"nearest":
        return "it interpolates, and bytes would be cut off, not rounded"
    if node.is_op("MaxPool") and graph.opset < _BYTE_MAXPOOL_SINCE:
        return f"MaxPool of opset {graph.opset} does not take bytes"
    return None
