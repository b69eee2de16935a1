"""Let float32 graph inputs and outputs be bf16.

    x: f32, f(x)  becomes  x: bf16, f(Cast(x, f32))        f(x)  becomes  Cast(f(x), bf16)

This is a contract with whoever calls the model, so it holds on every target, whatever is computed
in between: it halves what a caller and the next model exchange. What a caller gives is rounded by
the caller. A Cast to bf16 that the graph has already becomes the input itself, as one from bf16
becomes the output; so behind `cast-bf16` no Cast is left where bf16 meets bf16, and in front of it
the placement counts these Casts as any other.
Source: ONNX operator Cast-13 (bfloat16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from optc.errors import CapabilityError, ModelError, did_you_mean
from optc.ir import DType, Kind
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.precision_casts import add_cast, typed
from optc.passes.precision_sites import cast_types, dtype_of
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_SINCE: Final = 13


class CastInterfaceOptions(PassOptions):
    """Options of `cast-interface`."""

    only: tuple[str, ...] = Field(
        default=(), description="names of the graph inputs and outputs; none: all that are float32"
    )


class CastInterface(Pass):
    """Give graph inputs and outputs bf16 elements, and convert right behind or in front of them.

    Refuses: inputs with a default value. What is no float32 tensor is left alone, and an error
    where the recipe names it.
    """

    name = "cast-interface"
    Options = CastInterfaceOptions
    keeps_interface = False

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Retype what is asked for.

        Raises:
            ModelError: ``interface-unknown``: the model has no such input or output;
                ``interface-type``: it is neither float32 nor bfloat16.
            CapabilityError: ``opset-too-low``: the opset has no Cast to bf16.
        """
        del context
        assert isinstance(self.options, CastInterfaceOptions)
        trace = Trace(self.name)
        for port in _asked(graph, self.options.only):
            if graph.opset < _SINCE:
                raise CapabilityError(
                    "opset-too-low",
                    f"cast-interface: a Cast to bf16 needs opset {_SINCE}, and the model has "
                    f"{graph.opset}",
                    location=_name(port),
                    hint=f"put `upgrade-opset: {{to: {_SINCE}}}` before it",
                )
            if port.kind is Kind.OUTPUT:
                _retype_output(graph, port)
                trace.applied("cast-output", port)
            elif port.tensor is not None:
                trace.refused("cast-input", port, "it has a default value, which is float32")
            else:
                _retype_input(graph, port.output)
                trace.applied("cast-input", port)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _asked(graph: Graph, only: tuple[str, ...]) -> list[Node]:
    """The float32 inputs and outputs that are meant, in order.

    Raises:
        ModelError: see `CastInterface.apply`.
    """
    ports = [*(value.node for value in graph.inputs), *graph.outputs]
    names = dict.fromkeys(map(_name, ports))
    if unknown := next((name for name in only if name not in names), None):
        raise ModelError(
            "interface-unknown",
            f"cast-interface: the model has no input or output {unknown!r}; there are "
            + ", ".join(names),
            hint=did_you_mean(unknown, names),
        )
    found = []
    for port in ports:
        dtype = _dtype(graph, port)
        if dtype is DType.F32 and (not only or _name(port) in only):
            found.append(port)
        elif dtype is not DType.BF16 and _name(port) in only:
            known = "no tensor" if dtype is None else dtype.value
            raise ModelError(
                "interface-type",
                f"cast-interface: {_name(port)} is {known}, and only float32 becomes bf16",
                hint="leave it out of `only`",
            )
    return found


def _name(port: Node) -> str:
    return port.output.name if port.kind is Kind.INPUT else port.name


def _dtype(graph: Graph, port: Node) -> DType | None:
    value = port.output if port.kind is Kind.INPUT else graph.operand(port, 0)
    return None if value is None else dtype_of(value)


def _retype_input(graph: Graph, value: Value) -> None:
    """Let an input be bf16; what wants float32 shares a Cast."""
    uses = [*graph.uses(value)]
    graph.set_type(value, typed(value, DType.BF16))
    for cast in dict.fromkeys(use.node for use in uses if _casts_to_bf16(graph, use.node)):
        graph.replace_uses(cast.output, value)
        graph.remove(cast)
    others = [use for use in uses if use.node in graph]
    if others:
        wide = add_cast(graph, value, DType.F32, f"{value.name}_f32", CastInterface.name)
        for use in others:
            graph.set_operand(use.node, use.key, wide)


def _casts_to_bf16(graph: Graph, node: Node) -> bool:
    return node.is_op("Cast") and dtype_of(node.output) is DType.BF16


def _retype_output(graph: Graph, output: Node) -> None:
    """Let an output be bf16."""
    value = graph.operand(output, 0)
    assert value is not None
    maker, found = value.node, None
    if maker.is_op("Cast") and cast_types(graph, maker) == (DType.BF16, DType.F32):
        found = graph.operand(maker, 0)
    made = found or add_cast(graph, value, DType.BF16, f"{value.name}_bf16", CastInterface.name)
    graph.set_operand(output, 0, made)
    graph.set_declared(output, made.type)
    if found is not None:
        remove_unused(graph, [maker])
