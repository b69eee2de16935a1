"""What each operation is planned to run as: precision, instruction set and kernel, with reasons.

The plan is what the graph says; what becomes of it follows from the kernel table of the runtime and
the CPU. A product that is written in int8 and that the runtime converts back is planned in int8,
expected in fp32, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir.ops import Trait, info
from optc.ir.types import DType, TensorType
from optc.numerics.traffic import precision
from optc.numerics.written import written
from optc.targets.kernels import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node
    from optc.numerics.written import Written
    from optc.targets.capabilities import Precision
    from optc.targets.kernels import Choice, Element, KernelTable, Pairing

_NAMES = {DType.F64: "fp64"}


@dataclass(frozen=True)
class PlannedNode:
    """The plan of one operation.

    Attributes:
        precision: ``fp32 fp16 bf16 int8 fp64 other``; integer, boolean and string work is other.
        reason: why it is that.
        expected: the precision that the runtime will compute it in; differs where the kernel table
            knows of no kernel in the planned one.
        obstacle: why it differs; empty when it does not.
        form: how it is written, e.g. ``qdq of u8 x s8 -> u8``; empty for what has no kernel table.
        kernel: the kernel that the table names; None when it does not.
        isa: the capability that the kernel needs, the highest one; None when none is known.
        heavy: whether it is a multiply-accumulate operation, which decides the speed.
        saturates: which two products the kernel adds in 16 bits with saturation; None: none.
    """

    precision: str
    reason: str
    expected: str = ""
    obstacle: str = ""
    form: str = ""
    kernel: str | None = None
    isa: str | None = None
    heavy: bool = False
    saturates: Pairing | None = None


def plan_node(
    graph: Graph,
    node: Node,
    table: KernelTable | None = None,
    capabilities: Collection[str] = (),
    *,
    hint: Precision = "fp32",
    version: str | None = None,
) -> PlannedNode:
    """The plan of an operation.

    Args:
        graph: its graph.
        node: the operation.
        table: kernels of the runtime; None: only what the graph says.
        capabilities: of the CPU.
        hint: what the runtime is told to compute fp32 operations in.
        version: version of the runtime; None: the newest that is described.
    """
    heavy = info(node).has(Trait.MAC)
    kind, reason = _in_graph(node, precision(graph, node), hint)
    spelled = written(graph, node)
    if spelled is None or table is None:
        return PlannedNode(kind, reason, kind, heavy=heavy)
    if hint != "fp32" and spelled.form in {"plain", "pair"} and spelled.activation == "f32":
        route = table.find(spelled.op, "hint", _HINTED[hint], version=version)
        choice = None if route is None else route.choice(capabilities)
    else:
        choice = find_choice(table, capabilities, spelled, version=version)
    if choice is None:
        return PlannedNode(kind, reason, kind, form=spelled.spelling, heavy=True)
    expected, obstacle = kind, ""
    if choice.outcome not in {"native", "slow", "emulated"}:
        note = f" ({choice.note})" if choice.note else ""
        expected = "fp32"
        obstacle = f"as {spelled.spelling} it is {OUTCOMES[choice.outcome]}{note}"
    return PlannedNode(
        kind,
        reason,
        expected,
        obstacle if expected != kind else "",
        spelled.spelling,
        choice.kernel,
        choice.needs[-1] if choice.needs else None,
        heavy=True,
        saturates=choice.saturates,
    )


def find_choice(
    table: KernelTable,
    capabilities: Collection[str],
    spelled: Written,
    output: Element | None = None,
    *,
    version: str | None = None,
) -> Choice | None:
    """The kernel of a spelling; None when none is described.

    Args:
        table: kernels of the runtime.
        capabilities: of the CPU.
        spelled: how the operation is written.
        output: element type of the result, if another is asked about.
        version: version of the runtime; None: the newest that is described.
    """
    # The clamp of qdq-relu is of a result in integers.
    form = "qdq" if output is not None and spelled.form == "qdq-relu" else spelled.form
    route = table.find(
        spelled.op,
        form,
        spelled.activation,
        spelled.weight,
        output or spelled.output,
        spelled.zero_point,
        weight_zero_point=spelled.weight_zero_point,
        version=version,
    )
    return None if route is None else route.choice(capabilities)


_HINTED: Final[dict[Precision, Element]] = {"bf16": "bf16", "fp16": "f16"}


def _in_graph(node: Node, meant: Precision | None, hint: Precision) -> tuple[str, str]:
    """What the graph itself says."""
    if meant == "int8":
        if info(node).has(Trait.QUANTIZE):
            return "int8", "integer operator"
        if not info(node).has(Trait.MAC):
            return "int8", "between DequantizeLinear and QuantizeLinear"
        return "int8", "its operands come from DequantizeLinear"
    if meant is not None:
        if meant == "fp32" and hint != "fp32":
            return hint, f"the runtime is told to compute fp32 operations in {hint}"
        return meant, "element type"
    for value in node.outputs:
        kind = value.type if value is not None else None
        if isinstance(kind, TensorType) and kind.dtype is not DType.UNDEFINED:
            return _NAMES.get(kind.dtype, "other"), f"computes {kind.dtype.value}"
    return "other", "type not known"
