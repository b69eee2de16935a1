"""What passes share that change the data of linear operations, for all that multiply it at once."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from optc.passes.base import Pass, PassResult
from optc.passes.layers import layers_in, observe_layers
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.layers import Layer, LayerData


class SharedDataPass(Pass):
    """Base of those passes.

    Attributes:
        operators: which operations' data is looked at.
        rule: name of the rule in refusals.
    """

    observes: ClassVar[bool] = True
    operators: ClassVar[tuple[str, ...]] = ()
    rule: ClassVar[str]

    @abstractmethod
    def treat(
        self,
        graph: Graph,
        site: Sequence[Layer],
        data: Mapping[Node, LayerData],
        trace: Trace,
    ) -> None:
        """Change the data of layers that share it, or tell why not."""

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Look at the layers of the top-level graph."""
        trace = Trace(self.name)
        if context.observer is None:
            return PassResult(False)
        sites = self._sites(graph)
        layers = [layer for site in sites for layer in site]
        if not layers:
            return PassResult(False)
        data = observe_layers(context.observer, graph, layers, self.name)
        for site in sites:
            if not all(layer.node in data for layer in site):
                trace.refused(self.rule, site[0].node, "its data is not finite, or empty")
                continue
            # Something may have been folded into what makes the data, or beside it.
            now = layers_in(graph, (layer.node for layer in site if layer.node in graph))
            if len(now) == len(site):
                self.treat(graph, now, data, trace)
        return PassResult(
            bool(trace.counts), trace.counts, trace.refusals, decisions=trace.decisions
        )

    def _sites(self, graph: Graph) -> list[list[Layer]]:
        """Layers by the value that they multiply; none of which this pass made before."""
        sites: dict[Value, list[Layer]] = {}
        for layer in layers_in(graph, (n for n in graph.ordered() if n.is_op(*self.operators))):
            sites.setdefault(layer.data, []).append(layer)
        return [
            site
            for value, site in sites.items()
            if value.constant is None
            and not any(self.name in _makers(layer.node) for layer in site)
            and len({layer.linear.inputs for layer in site}) == 1
        ]


def _makers(node: Node) -> tuple[str, ...]:
    return () if node.origin is None else node.origin.passes()
