"""What the lists, the recipe, ONNX and the target say about computing each operation in bf16.

A *site* is an operation that does floating-point work. It has one of four classes (see
``targets/precision/bf16.yaml``), and may be fixed: low (bf16) or high (fp32). What fixes it high is
asked in this order, so that a reason names the root cause:

- it is quantized, or has a type of its own;
- ONNX has no bf16 form of its operator, or only above the highest opset that is allowed;
- the runtime computes it in another precision on this target;
- the recipe or a list denies it.

Selectors of the recipe win over lists. A selector that names nodes wins over one that names only
operators; among equals `keep_fp32`, `deny`, `infer` and `allow` win in that order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType
from optc.ir.ops import OPS, Trait, attribute, info
from optc.ir.shape_site import constant_tensor
from optc.ir.type_ports import Ports, opset_for, ports_of
from optc.numerics.traffic import precision
from optc.targets import missing_capability
from optc.targets.precision_lists import shipped_precision_lists

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.selector import Selector
    from optc.targets import Runtime
    from optc.targets.capabilities import Precision
    from optc.targets.precision_lists import OpClass

EXACT: Final = frozenset({DType.BOOL, DType.U8, DType.I8})
"""Integers that bf16 has all of."""
_PRIMITIVES: Final = 16
"""The opset from which on elementwise and moving operators have bf16 (Where was the last)."""
_WORK: Final = frozenset({DType.F32, DType.BF16})


@dataclass(frozen=True)
class Site:
    """An operation that does floating-point work.

    Attributes:
        node: the operation.
        op_class: allow, infer, clear or deny.
        ports: the operands and results that change type with it.
        side: ``low`` or ``high`` where that is fixed, else ``free``.
        rule: what said so: a list, the recipe, the schema, …
        reason: why, in words.
        precision: what it is decided to be when it is fixed high; None: somebody else decided.
        forced: whether the recipe asks for bf16.
        needs_opset: the lowest opset in which it can be bf16, where it can.
    """

    node: Node
    op_class: OpClass
    ports: Ports
    side: Literal["low", "high", "free"]
    rule: str
    reason: str
    precision: Precision | None = "fp32"
    forced: bool = False
    needs_opset: int = 0

    def denied(self, rule: str, reason: str) -> Site:
        """The same operation, fixed high."""
        return replace(self, op_class="deny", side="high", rule=rule, reason=reason)


class Classifier:
    """Classifies the operations of one model for one target.

    Args:
        context: target, runtime, and what was decided before.
        selectors: of the recipe, by option: ``allow infer deny keep_fp32``.
        max_opset: the highest opset that the model may be raised to.
    """

    def __init__(
        self,
        context: PassContext,
        selectors: Mapping[str, Sequence[Selector]],
        max_opset: int,
    ) -> None:
        self._context = context
        self._selectors = selectors
        self._max_opset = max_opset
        self._lists = shipped_precision_lists("bf16")
        self._runtime = context.executes
        self.missing = missing_capability("bf16", context.described, self._runtime)
        self._kernels: dict[str, str] = {}

    def site(self, graph: Graph, node: Node) -> Site | None:
        """What is known of an operation; None when it does no fp32 or bf16 work."""
        values = [v for v in (*graph.operands(node), *node.outputs) if v is not None]
        if is_constant(node) or not _WORK & {dtype_of(value) for value in values}:
            return None
        site = Site(node, "deny", low_ports(graph, node), "high", "list", "")
        return (
            self._quantized(graph, site)
            or self._conversion(graph, site)
            or self._typed(graph, site)
            or self._possible(graph, site)
            or self._listed(graph, site)
        )

    # ---- what somebody else decided ------------------------------------------------------------

    def _quantized(self, graph: Graph, site: Site) -> Site | None:
        before = self._context.decisions.of(site.node)
        if before is not None and before.precision == "int8":
            return replace(site, rule="quantized", reason=before.reason, precision=None)
        if info(site.node).has(Trait.QUANTIZE):
            reason = "converts between real and quantized numbers"
            return replace(site, rule="quantized", reason=reason, precision=None)
        if precision(graph, site.node) == "int8":
            reason = "its operands come from DequantizeLinear"
            return replace(site, rule="quantized", reason=reason, precision="int8")
        return None

    def _conversion(self, graph: Graph, site: Site) -> Site | None:
        """Casts. One that loses nothing in bf16 is free; one to or from bf16 has its sides."""
        if not site.node.is_op("Cast"):
            return None
        source, result = cast_types(graph, site.node)
        if not site.ports:
            return replace(site, rule="cast", reason="converts to or from fp32")
        if DType.BF16 in (source, result):
            way = "to" if result is DType.BF16 else "from"
            reason = f"the model itself converts {way} bf16 here"
            return replace(site, op_class="clear", side="low", rule="cast", reason=reason)
        if self.missing is not None:
            return replace(site, rule="target", reason=self.missing.message)
        known = source.value if source is not None else ""
        reason = f"bf16 has all of {known}" if source in EXACT else "reads either precision"
        return replace(site, op_class="clear", side="free", rule="cast", reason=reason)

    def _typed(self, graph: Graph, site: Site) -> Site | None:
        """Operations whose type is not open."""
        node = site.node
        if self.missing is not None:
            return replace(site, rule="target", reason=self.missing.message)
        if ports_of(graph, node, DType.BF16) and not site.ports:
            reason = "the model itself has it in bf16"
            return replace(site, side="low", rule="as-written", reason=reason)
        if info(node).has(Trait.CONTROL_FLOW):
            return replace(site, rule="control-flow", reason="it runs subgraphs; its values stay")
        if (node.domain, node.op_type, node.overload) in graph.model.functions:
            return replace(site, rule="function", reason="its body says what its types are")
        return None

    # ---- what is possible ----------------------------------------------------------------------

    def _possible(self, graph: Graph, site: Site) -> Site | None:
        node = site.node
        lowest = needed_opset(graph, node, self._runtime)
        if lowest is None:
            reason = f"ONNX has no bf16 form of {node.qualified_op}"
            return replace(site, rule="schema", reason=reason)
        if lowest > self._max_opset:
            return replace(
                site,
                rule="schema",
                reason=f"{node.op_type} in bf16 needs opset {lowest}, above max_opset "
                f"{self._max_opset}",
            )
        if not site.ports:
            reason = "its operands have several floating-point types, or types that are not known"
            return replace(site, rule="schema", reason=reason)
        if obstacle := self._kernel(node):
            return replace(site, rule="kernel", reason=obstacle)
        return None

    def _kernel(self, node: Node) -> str:
        """Why the runtime has no bf16 kernel for an operator on the target; empty when it has."""
        name = node.op_type
        if node.operator not in OPS:
            return ""
        if name not in self._kernels:
            cpu = self._context.described
            answer = cpu.query(op=name, dtype="bf16", runtime=self._runtime)
            runs = bool(answer) or answer.outcome is None
            self._kernels[name] = "" if runs else f"{self._runtime.id}: {answer.reason}"
        return self._kernels[name]

    # ---- what is wanted ------------------------------------------------------------------------

    def _listed(self, graph: Graph, site: Site) -> Site:
        site = replace(site, needs_opset=needed_opset(graph, site.node, self._runtime) or 0)
        node = site.node
        entry = self._lists.find(node.op_type, lambda name: attribute(graph, node, name))
        usual: OpClass = entry.op_class if entry is not None else "deny"
        if (ruling := self._ruling(site.node)) is not None:
            option, selector = ruling
            if option in ("keep_fp32", "deny"):
                return site.denied(f"recipe-{option.replace('_', '-')}", f"{option}: {selector}")
            chosen: OpClass = "allow" if option == "allow" else "infer"
            forced = option == "allow"
            return replace(
                site,
                op_class=chosen,
                side="low" if forced else "free",
                rule=f"recipe-{option}",
                reason=f"{option}: {selector}, where the list says {usual}",
                forced=forced,
            )
        if entry is None:
            return site.denied("unlisted", f"no list names {site.node.op_type}")
        if usual == "deny":
            return site.denied("deny-list", f"{entry.reason} ({entry.source})")
        reason = f"{entry.reason} ({entry.source})"
        return replace(site, op_class=usual, side="free", rule=f"{usual}-list", reason=reason)

    def _ruling(self, node: Node) -> tuple[str, Selector] | None:
        """The option of the recipe that speaks of a node, and the selector that does."""
        found = [
            (selector.name is None, rank, option, selector)
            for rank, option in enumerate(("keep_fp32", "deny", "infer", "allow"))
            for selector in self._selectors.get(option, ())
            if selector.matches(node)
        ]
        if not found:
            return None
        best = min(found, key=lambda item: item[:2])
        return best[2], best[3]


def low_ports(graph: Graph, node: Node) -> Ports:
    """The fp32 operands and results that an operation has in bf16 when it is low.

    A Cast has one side only: the other is of a type of its own. It has none where it would not give
    what it gives in fp32.
    """
    if not node.is_op("Cast"):
        return ports_of(graph, node)
    source, result = cast_types(graph, node)
    if source is DType.F32 and result is not DType.F32:
        return Ports((0,), ())
    if result is DType.F32 and (source is DType.BF16 or source in EXACT):
        return Ports((), (0,))
    return Ports((), ())


def cast_types(graph: Graph, node: Node) -> tuple[DType | None, DType | None]:
    """What a Cast converts from and to."""
    operand = graph.operand(node, 0)
    return None if operand is None else dtype_of(operand), dtype_of(node.output)


def needed_opset(graph: Graph, node: Node, runtime: Runtime) -> int | None:
    """The lowest opset, from the graph's own on, in which an operation can be bf16; None: in none.

    A canonical operation that the runtime prefers in primitives needs the opset of those only.
    """
    lowest = opset_for(graph, node, DType.BF16)
    if lowest is None or not node.is_canonical:
        return lowest
    forms = next((entry.forms for entry in runtime.forms if entry.op == node.op_type), ())
    return max(graph.opset, _PRIMITIVES) if forms[:1] == ("primitives",) else lowest


def is_constant(node: Node) -> bool:
    """Whether a node only gives a constant, which is converted at compile time."""
    return constant_tensor_of(node) is not None


def constant_tensor_of(node: Node) -> object | None:
    """The tensor of an initializer or Constant operation, or None."""
    value = node.outputs[0] if node.outputs else None
    return None if value is None else constant_tensor(value)


def dtype_of(value: Value) -> DType | None:
    """The element type of a value, or None when it is not a tensor or not known."""
    return value.type.dtype if isinstance(value.type, TensorType) else None
