"""Turn initializers that are listed as graph inputs into constants.

Up to IR version 3 every initializer had to be listed as an input, so the list says nothing. From
IR version 4 on a listed initializer is a default value: whoever runs the model may pass another.
Source: ONNX IR specification, "Graphs" (initializer) and the release notes of IR version 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from optc.passes.base import Pass, PassOptions, PassResult
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes.base import PassContext

_DEFAULTS_SINCE = 4


class FreezeInitializersOptions(PassOptions):
    """Options of `freeze-initializers`."""

    overridable: Literal["keep", "freeze"] = Field(
        default="keep",
        description="initializers that callers may override (IR version 4 and newer): keep them "
        "as inputs, or freeze them to constants, which takes these inputs from the signature",
    )


class FreezeInitializers(Pass):
    """Freeze inputs that have an initializer.

    Refuses: IR version 4 or newer unless `overridable: freeze`. Inputs of subgraphs stay, because
    the operation that owns the subgraph binds them by position.
    """

    name = "freeze-initializers"
    Options = FreezeInitializersOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Freeze what may be frozen, in the order of the inputs."""
        assert isinstance(self.options, FreezeInitializersOptions)
        version = graph.model.ir_version
        freeze = version < _DEFAULTS_SINCE or self.options.overridable == "freeze"
        trace = Trace(self.name)
        for value in graph.inputs:
            if value.node.tensor is None and value.node.sparse is None:
                continue
            if freeze:
                graph.freeze_input(value)
                trace.applied("freeze-initializer", value.node)
            else:
                trace.refused(
                    "freeze-initializer",
                    value.node,
                    f"callers may override this default (IR version {version}); "
                    "`overridable: freeze` makes it a constant",
                )
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)
