"""The forms that an operator can be written in, by name.

    onnx           the operator of ONNX's own domain, where the model's opset has it
    canonical      the canonical operation as it is: for formats that do not go by ONNX's opsets
    microsoft      one of ONNX Runtime's own operators (domain com.microsoft)
    primitives     elementary operators, which every opset and runtime has
    doublings      enlarging bytes by two as often as it takes, in the layout of ONNX
    difference     a bias behind a quantized product, negative and subtracted

The tables `FORMS` of the modules ``forms_*`` hold them. Which form is the fastest is a fact about a
runtime: its descriptor names the forms it prefers (see `optc.targets.runtimes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir import ops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder

    Obstacle: TypeAlias = Callable[[Graph, Node], str | None]
    """Why a node cannot be written so, or None when it can; "" where nobody would expect it."""

    Writer: TypeAlias = Callable[[Builder, Node], Sequence[Value | None]]
    """Builds what takes the place of a node; gives a value for each of its outputs, None where an
    output that nothing uses is not computed."""

ONNX: Final = "onnx"
CANONICAL: Final = "canonical"
MICROSOFT: Final = "microsoft"
PRIMITIVES: Final = "primitives"
DOUBLINGS: Final = "doublings"
DIFFERENCE: Final = "difference"

FOREIGN: Final = {MICROSOFT: (ops.MICROSOFT, 1)}
"""Domain, and the version of it to import, of the forms that need one."""


def _always(graph: Graph, node: Node) -> str | None:
    return None


@dataclass(frozen=True)
class Form:
    """One way to write an operator.

    Attributes:
        op: the operator, of ONNX's own domain.
        name: name of the form.
        write: builds it.
        obstacle: when it cannot be used.
    """

    op: str
    name: str
    write: Writer
    obstacle: Obstacle = _always


def opset_obstacle(graph: Graph, node: Node) -> str | None:
    """Why a node cannot be an operator of ONNX's own domain in this model, or None."""
    if not ops.domain_of(graph, node.op_type):
        return None
    return f"opset {graph.opset} does not have {node.op_type}"


def write_onnx(build: Builder, node: Node) -> Sequence[Value | None]:
    """The same operation in ONNX's own domain."""
    graph = build.graph
    made = build.node(
        node.op_type, graph.operands(node), like=node, outputs=len(node.outputs), domain=""
    )
    return made.outputs


def scalar(build: Builder, like: Value, number: float) -> Value:
    """A constant without dimensions in the element type of another value."""
    from optc.ir import TensorType

    assert isinstance(like.type, TensorType)
    return build.constant(number, dtype=like.type.dtype, name=f"{like.node.key}_const")
