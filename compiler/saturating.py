"""Whether sums of int8 products of a result may saturate, and what it then computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import clone
from optc.ir.ops import Trait, info
from optc.numerics.saturating import saturation_risks
from optc.passes import InferShapes
from optc.passes.base import PassContext
from optc.simulation import SaturatingModel
from optc.targets.loading import shipped_kernels
from optc.twins import plain

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.ir import Graph
    from optc.numerics.saturating import Risk

_WITHOUT_VNNI: Final = ("avx2", "avx512")


@dataclass(frozen=True)
class Saturating:
    """A graph with the products of it whose sums may saturate.

    Attributes:
        graph: the graph, with all types inferred.
        risks: the products.
    """

    graph: Graph
    risks: tuple[Risk, ...]

    def open(self) -> SaturatingModel | None:
        """The graph as a CPU computes it that saturates; None where that is not known.

        Raises:
            ModelError: it does not load.
        """
        model = SaturatingModel(self.graph, self.risks)
        return None if model.left_out else model


def find_saturating(graph: Graph, runtime: str, capabilities: Collection[str]) -> Saturating | None:
    """The products of a graph whose sums may saturate; None when there are none.

    Args:
        graph: a root graph; it stays as it is.
        runtime: what executes it.
        capabilities: of the CPU; empty when they are not known, and nothing is said then.
    """
    quantizes = any(
        info(node).has(Trait.QUANTIZE) for nested in graph.walk() for node in nested.nodes()
    )
    if not capabilities or not quantizes:
        return None
    copy = plain(clone(graph))
    InferShapes().apply(copy, PassContext())
    risks = saturation_risks(copy, shipped_kernels(runtime), capabilities)
    return Saturating(copy, risks) if risks else None


def saturates_without_vnni(graph: Graph, runtime: str) -> bool:
    """Whether a CPU without VNNI may compute a graph wrongly.

    Args:
        graph: a root graph.
        runtime: what executes it.
    """
    return find_saturating(graph, runtime, _WITHOUT_VNNI) is not None


def saturation_warning(found: Saturating, target: str) -> str:
    """What to say when sums saturate on a target."""
    first = found.risks[0]
    return (
        f"sums of {len(found.risks)} int8 products may saturate on {target}, which has no VNNI, "
        f"{first.node.label} first ({first.reason}): `saturation: avoid` of quantize-int8 keeps "
        "weights where they cannot"
    )
