"""Applies rules to a graph until none applies, with a worklist; builds the replacements."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from optc.errors import InternalError
from optc.ir import Attr, AttrKind, DType, Graph, Kind, Origin, Tensor, ops
from optc.rewrite.matching import match_rule
from optc.rewrite.pattern import Match, as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy.typing as npt

    from optc.ir import Node, Value
    from optc.rewrite.pattern import Rule
    from optc.rewrite.trace import Trace


class Builder:
    """Adds operations and constants that come from `parents`; remembers what it made.

    ``build.Conv(x, weight, bias, like=node)`` adds a Conv with the name and attributes of `node`
    and returns its first output; keyword arguments set attributes, None removes one.
    """

    def __init__(self, graph: Graph, made_by: str, parents: Sequence[Node]) -> None:
        self.graph = graph
        self.made: list[Node] = []
        self._origin = Origin(made_by, tuple(node.source_origin() for node in parents))
        self._base = parents[0].key

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        def build(*operands: Value | None, like: Node | None = None, **attributes: Any) -> Value:
            return self.node(op_type, operands, like=like, attributes=attributes).output

        return build

    def node(
        self,
        op_type: str,
        operands: Sequence[Value | None],
        *,
        like: Node | None = None,
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
        domain: str | None = None,
    ) -> Node:
        """Add an operation with `outputs` results.

        Without a `domain` the operator is one of ONNX's own; where the opset of the model is too
        low for it, the operation becomes a canonical one (see `optc.ir.nodes.CANONICAL`).

        `like` supplies name, attributes and metadata of an operation that this one continues;
        attribute values in `attributes` come on top and may be int, float, str, Tensor, or lists
        of these.
        """
        attrs: dict[str, Attr] = dict(like.attributes) if like is not None else {}
        for name, value in (attributes or {}).items():
            attrs.pop(name, None)
            if value is not None:
                attrs[name] = to_attr(value)
        base = like.key if like is not None else self._base
        node = self.graph.add(
            op_type,
            operands,
            outputs=[self.graph.fresh_name(_output_name(base, i)) for i in range(outputs)],
            domain=ops.domain_of(self.graph, op_type) if domain is None else domain,
            name=like.name if like is not None else "",
            attributes=attrs,
            origin=self._origin,
        )
        if like is not None:
            node.doc, node.metadata, node.opaque = like.doc, like.metadata, like.opaque
        self.made.append(node)
        return node

    def constant(
        self, data: npt.ArrayLike | Tensor, *, dtype: DType | None = None, name: str = "const"
    ) -> Value:
        """Add an initializer; arrays are converted to `dtype`, rounding to nearest even."""
        tensor = data if isinstance(data, Tensor) else Tensor.from_numpy(data, dtype)
        return self.graph.add_constant(tensor, self.graph.fresh_name(name), self._origin)

    def like(self, array: npt.NDArray[np.float64], original: Value) -> Value:
        """Add an initializer that replaces `original`: its element type, its name with a suffix."""
        tensor = original.constant
        assert tensor is not None
        return self.constant(array, dtype=tensor.dtype, name=original.name)


def _output_name(base: str, index: int) -> str:
    return f"{base}_out{index}" if index else base


def to_attr(value: Any) -> Attr:
    """An attribute from a plain Python value; TypeError for one that ONNX cannot hold."""
    if isinstance(value, Attr):
        return value
    if isinstance(value, Tensor):
        return Attr(AttrKind.TENSOR, value)
    if isinstance(value, Graph):
        return Attr(AttrKind.GRAPH, value)
    if isinstance(value, str | bytes):
        return Attr(AttrKind.STRING, _bytes(value))
    if isinstance(value, bool | int | np.integer):
        return Attr(AttrKind.INT, int(value))
    if isinstance(value, float | np.floating):
        return Attr(AttrKind.FLOAT, float(np.float32(value)))
    if isinstance(value, tuple | list):
        return _list_attr(value)
    raise TypeError(f"no attribute type for {type(value).__name__}")


def _list_attr(items: Sequence[Any]) -> Attr:
    kinds = {to_attr(item).kind for item in items}
    if kinds <= {AttrKind.INT}:
        return Attr(AttrKind.INTS, tuple(int(item) for item in items))
    if kinds <= {AttrKind.INT, AttrKind.FLOAT}:
        return Attr(AttrKind.FLOATS, tuple(float(np.float32(item)) for item in items))
    if kinds == {AttrKind.STRING}:
        return Attr(AttrKind.STRINGS, tuple(_bytes(item) for item in items))
    raise TypeError("an attribute list holds ints, floats or strings")


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def replace_node(
    graph: Graph, node: Node, values: Sequence[Value], made: Collection[Node] = ()
) -> list[Node]:
    """Let `values` take the place of a node's outputs, then remove what nothing uses any more.

    Values of the nodes in `made` inherit the names of the old values; all inherit their types
    where they have none.

    Returns:
        The removed nodes.
    """
    olds = [value for value in node.outputs if value is not None]
    for old, new in zip(olds, values, strict=True):
        graph.replace_uses(old, new)
        if new.type is None:
            graph.set_type(new, old.type)
    names = [old.name for old in olds]
    gone = remove_unused(graph, [node])
    if node in gone:
        for name, new in zip(names, values, strict=True):
            if new.node in made and not graph.has_value(name):
                graph.rename(new, name)
    _inherit_names(graph, made, gone)
    return gone


def _inherit_names(graph: Graph, made: Collection[Node], gone: Sequence[Node]) -> None:
    """Let new values that are named after removed ones take their names.

    Without this, names would grow with every rewrite of the same operation.
    """
    free = {value.name for node in gone for value in node.outputs if value is not None}
    for node in made:
        for value in (*graph.operands(node), *node.outputs):
            if value is None or value.node.origin is not node.origin:
                continue
            stem, _, number = value.name.rpartition("_")
            if stem in free and number.isdigit() and graph.fresh_name(stem) == stem:
                graph.rename(value, stem)


def remove_unused(graph: Graph, nodes: Sequence[Node]) -> list[Node]:
    """Remove those of `nodes` that nothing uses, and what becomes unused by that, upwards.

    Graph inputs stay, and so do captures, which the edges of the enclosing graph refer to.

    Returns:
        The removed nodes.
    """
    gone: list[Node] = []
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in graph or node.kind in (Kind.INPUT, Kind.OUTPUT, Kind.CAPTURE):
            continue
        if any(value is not None and graph.is_used(value) for value in node.outputs):
            continue
        above = [value.node for value in graph.operands(node) if value is not None]
        above += [value.node for value in graph.captures(node).values()]
        graph.remove(node)
        gone.append(node)
        stack.extend(above)
    return gone


def apply_rules(graph: Graph, rules: Sequence[Rule], trace: Trace) -> bool:
    """Apply rules to a graph and the graphs nested in it, to a fixed point.

    Returns:
        Whether anything changed.

    Raises:
        InternalError: the rules do not come to an end.
    """
    changed = False
    for nested in tuple(graph.walk()):
        changed |= _Worklist(nested, rules, trace).run()
    return changed


class _Worklist:
    def __init__(self, graph: Graph, rules: Sequence[Rule], trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.index: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            for key in dict.fromkeys(rule.roots):
                self.index.setdefault(key, []).append(rule)
        self.queue: deque[Node] = deque()
        self.queued: set[Node] = set()

    def run(self) -> bool:
        for node in self.graph.ordered():
            self._push(node)
        budget = 10 * len(self.queue) + 1000
        applied = 0
        while self.queue:
            node = self.queue.popleft()
            self.queued.discard(node)
            if node in self.graph and self._visit(node):
                applied += 1
                if applied > budget:
                    raise InternalError(
                        "rewrite-endless", f"the rules of {self.trace.pass_name} do not end"
                    )
        return applied > 0

    def _push(self, node: Node) -> None:
        if node.operator in self.index and node not in self.queued:
            self.queue.append(node)
            self.queued.add(node)

    def _visit(self, node: Node) -> bool:
        for rule in self.index[node.operator]:
            found = match_rule(rule, self.graph, node)
            if not isinstance(found, Match):
                if found.depth > 0:
                    self.trace.missed(
                        rule.name,
                        node,
                        found.depth,
                        found.reason,
                        family=rule.family,
                        other=found.other,
                    )
                continue
            refusal = rule.check(found)
            if refusal is not None:
                self.trace.refused(rule.name, node, refusal.reason, family=rule.family)
                continue
            self._apply(rule, found)
            return True
        return False

    def _apply(self, rule: Rule, match: Match) -> None:
        build = Builder(self.graph, self.trace.pass_name, tuple(match.nodes.values()))
        values = as_values(rule.rewrite(match, build))
        self.trace.applied(rule.name, match.root)
        near = [value for node in match.nodes.values() for value in self.graph.operands(node)]
        for node in replace_node(self.graph, match.root, values, build.made):
            self.trace.forget(node)
        for node in build.made:
            if node in self.graph:
                self._push(node)
        for value in values:
            for use in self.graph.uses(value):
                self._push(use.node)
        for operand in near:
            # A neighbour that was refused because of a second use may have lost it.
            if operand is not None and operand.node in self.graph:
                use_left = self.graph.only_use(operand)
                if use_left is not None:
                    self._push(use_left.node)
