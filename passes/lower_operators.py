"""Write operators in the forms that a runtime runs fastest, and no operation as a canonical one.

For every operator that `forms` names, and for every canonical operation (see
`optc.ir.nodes.CANONICAL`), the first form that can be written here: those of `forms` in their
order, then the operator itself, then primitives. `optc.passes.forms` has the forms.
Source: the descriptor of the runtime, which names forms with the measurement that prefers them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.errors import InternalError
from optc.ir import ops
from optc.passes import (
    forms_activations,
    forms_attention,
    forms_norms,
    forms_quantized,
    forms_rotary,
)
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.forms import (
    CANONICAL,
    FOREIGN,
    MICROSOFT,
    ONNX,
    PRIMITIVES,
    Form,
    opset_obstacle,
    write_onnx,
)
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_TABLE: Final = {
    (form.op, form.name): form
    for form in (
        *forms_activations.FORMS,
        *forms_norms.FORMS,
        *forms_quantized.FORMS,
        *forms_attention.FORMS,
        *forms_rotary.FORMS,
    )
}


def form_names(op_type: str) -> tuple[str, ...]:
    """Names of the forms of an operator, besides the operator itself."""
    return tuple(name for op, name in _TABLE if op == op_type)


class LowerOperatorsOptions(PassOptions):
    """Options of `lower-operators`."""

    forms: dict[str, tuple[str, ...]] = Field(
        default={}, description="by operator: names of forms, the preferred one first"
    )
    domains: tuple[str, ...] = Field(
        default=(), description="operator domains beside ONNX's own that may be used"
    )
    keep_canonical: bool = Field(
        default=False,
        description="let canonical operations stay where a form `canonical` is preferred: for "
        "formats that do not go by ONNX's opsets",
    )


class LowerOperators(Pass):
    """Write operators in the preferred form, canonical ones in one that the model can hold.

    Refuses a preferred form: the opset does not have the operator; its domain is not allowed; an
    element type that the runtime has no kernel for; what the table of the form says.
    """

    name: ClassVar[str] = "lower-operators"
    Options = LowerOperatorsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Write every operation in the first form that is possible.

        Raises:
            InternalError: a canonical operation has no form that can be written.
        """
        assert isinstance(self.options, LowerOperatorsOptions)
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _Lowering(nested, self.options, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Lowering:
    def __init__(self, graph: Graph, options: LowerOperatorsOptions, trace: Trace) -> None:
        self.graph = graph
        self.options = options
        self.trace = trace

    def run(self) -> None:
        """Lower until nothing is left; a form may be made of operators that have forms."""
        stack = list(reversed(self.graph.ordered()))
        while stack:
            node = stack.pop()
            if node in self.graph and not node.operator[0]:
                stack.extend(self._lower(node))

    def _lower(self, node: Node) -> list[Node]:
        """Write one operation; returns what was built."""
        preferred = self.options.forms.get(node.op_type, ())
        if not preferred and not node.is_canonical:
            return []
        refused: list[str] = []
        for name in dict.fromkeys((*preferred, ONNX, PRIMITIVES)):
            if self._is_written(node, name):
                self._note(node, refused)
                return []
            form = _form(node, name)
            reason = self._obstacle(node, name, form)
            if reason is None and form is not None:
                self._note(node, refused)
                return self._write(node, form)
            if reason != "":
                refused.append(f"{name}: {reason}")
        if node.is_canonical:
            raise InternalError(
                "no-form", f"{node.label}: {node.op_type} cannot be written: {'; '.join(refused)}"
            )
        self._note(node, refused)
        return []

    def _is_written(self, node: Node, name: str) -> bool:
        """Whether the operation has this form already."""
        if node.is_canonical:
            return name == CANONICAL and self.options.keep_canonical
        # Without being in the opset it is ONNX Runtime's operator of that name.
        return name == (MICROSOFT if ops.domain_of(self.graph, node.op_type) else ONNX)

    def _obstacle(self, node: Node, name: str, form: Form | None) -> str | None:
        if name == CANONICAL:
            return "the format goes by ONNX's opsets"
        if form is None:
            return f"{node.op_type} has no such form"
        domain = FOREIGN.get(name, ("", 0))[0]
        if domain and domain not in self.options.domains:
            return f"{domain} is not among the domains that may be used"
        return form.obstacle(self.graph, node)

    def _note(self, node: Node, refused: list[str]) -> None:
        """Say why better forms were passed over."""
        if refused and self.options.forms.get(node.op_type):
            self.trace.refused(_stem(node.op_type), node, "; ".join(refused))

    def _write(self, node: Node, form: Form) -> list[Node]:
        build = Builder(self.graph, self.trace.pass_name, (node,))
        values = list(form.write(build, node))
        self._import(form)
        self.trace.applied(f"{_stem(node.op_type)}-{form.name}", node)
        for old in node.outputs[1:]:
            if old is not None and not self.graph.is_used(old):
                self.graph.drop_output(old)
        kept = list(_kept(node, values))
        replace_node(self.graph, node, kept, build.made)
        return [made for made in build.made if made.is_canonical]

    def _import(self, form: Form) -> None:
        domain, version = FOREIGN.get(form.name, ("", 0))
        if domain and domain not in self.graph.opsets:
            self.graph.set_opset(domain, version)


def _kept(node: Node, values: list[Value | None]) -> Iterator[Value]:
    """The new values for the outputs that the node still has."""
    for old, new in zip(node.outputs, values, strict=False):
        if old is not None:
            assert new is not None
            yield new


def _form(node: Node, name: str) -> Form | None:
    if name == ONNX:
        return Form(node.op_type, ONNX, write_onnx, opset_obstacle)
    return _TABLE.get((node.op_type, name))


def _stem(op_type: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z][a-z])", "-", op_type).lower()
