"""Which int8 products of a graph may saturate on a CPU, decided from their weights.

The kernel table of a runtime says which kernels add products in 16 bits (`Choice.saturates`); the
weights say whether that can overflow (`optc.numerics.saturation`). A product of two activations has
no weights to go by, and one that is not understood counts as one that may saturate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir.ops import Trait, info
from optc.numerics.planned import plan_node
from optc.numerics.products import read_product
from optc.numerics.saturation import find_saturation

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node
    from optc.numerics.products import IntegerProduct
    from optc.targets.kernels import KernelTable, Pairing

VNNI: Final = "vnni"
"""The capability with which nothing saturates."""


@dataclass(frozen=True)
class Risk:
    """A product whose sums may saturate.

    Attributes:
        node: the operation.
        reason: a sum that saturates, or why it is not known that none does.
        pairing: which products are added in 16 bits.
        product: the operation as a product of integers; None where it is not understood.
    """

    node: Node
    reason: str
    pairing: Pairing
    product: IntegerProduct | None = None


def saturation_risks(
    graph: Graph, table: KernelTable, capabilities: Collection[str]
) -> tuple[Risk, ...]:
    """The int8 products of a graph and of those nested in it whose sums may saturate.

    Args:
        graph: the graph as it is emitted.
        table: kernels of the runtime.
        capabilities: of the CPU.
    """
    if VNNI in capabilities:
        return ()
    found = (
        _risk(inner, node, table, capabilities)
        for inner in graph.walk()
        for node in inner.ordered()
    )
    return tuple(risk for risk in found if risk is not None)


def _risk(
    graph: Graph, node: Node, table: KernelTable, capabilities: Collection[str]
) -> Risk | None:
    traits = info(node)
    if not traits.has(Trait.MAC):
        return None
    plan = plan_node(graph, node, table, capabilities)
    if not plan.form:  # not in the table: an integer operator of the runtime's own, or no int8
        known = not traits.has(Trait.QUANTIZE)
        return None if known else Risk(node, "how it adds its products is not known", "terms")
    pairing = plan.saturates
    if pairing is None and plan.precision == plan.expected == "int8" and plan.kernel is None:
        pairing = "terms"  # not in the table: the worst is assumed
    if pairing is None:
        return None
    product = read_product(graph, node)
    if product is None:
        return Risk(node, "its operands are not understood", pairing)
    weights = product.weights
    if weights is None:
        return Risk(node, "both operands are activations", pairing, product)
    if weights.dtype.kind == "u":  # VPMADDUBSW takes signed weights
        return None
    witness = find_saturation(weights, product.product, pairings=[pairing])
    return None if witness is None else Risk(node, str(witness), pairing, product)
