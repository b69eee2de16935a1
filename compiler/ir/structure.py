"""Structural soundness of a graph: edges, names, interface, captures, no cycle.

These are the invariants that the mutators of `Graph` keep. They can break only when somebody goes
around the mutators, or when a subgraph is attached without the edges for what it captures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.ir.nodes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value


@dataclass(frozen=True)
class Violation:
    """One rule that does not hold.

    Attributes:
        where: the node, value or output; inside a subgraph with the path to it.
        what: what was found, and what should be.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def structure_problems(graph: Graph, path: str = "") -> list[Violation]:
    """What is wrong with one graph, not looking into subgraphs except for what they capture."""
    found: list[Violation] = []
    for node in graph.nodes(*Kind):
        problems = [*_edge_problems(graph, node), *_value_problems(graph, node)]
        if node.kind is not Kind.OP:
            problems += _kind_problems(graph, node)
        elif not node.op_type:
            problems.append("is an operation without operator")
        found += [Violation(path + node.label, what) for what in problems]
    found += [Violation(path + (graph.name or "graph"), what) for what in _table_problems(graph)]
    cycle = _find_cycle(graph)
    if cycle:
        route = " -> ".join(node.label for node in (*cycle, cycle[0]))
        found.append(Violation(path + cycle[0].label, f"is part of a cycle: {route}"))
    return found


# ---- edges -------------------------------------------------------------------------------------
# These run for every node after every pass, hence lists and plain loops instead of generators.


def _edge_problems(graph: Graph, node: Node) -> list[str]:
    found: list[str] = []
    operands: dict[int, Value] = {}
    captures: set[str] = set()
    for producer, edges in graph._pred[node].items():
        for key, data in edges.items():
            value = data["value"]
            if not _is_result(value, producer):
                found.append(f"operand {key} is {value.name}, no result of {producer.label}")
            if isinstance(key, str):
                captures.add(key)
            elif key in operands:
                found.append(f"operand {key} is both {operands[key].name} and {value.name}")
            else:
                operands[key] = value
    if node._operands is not None and node._operands != _slots(operands):
        found.append("the operands that the node remembers are not those of its edges")
    if captures or (node.attributes and next(node.subgraphs(), None) is not None):
        found += _capture_problems(graph, node, captures)
    return found


def _slots(operands: Mapping[int, Value]) -> tuple[Value | None, ...]:
    return tuple([operands.get(index) for index in range(max(operands, default=-1) + 1)])


def _is_result(value: Value, node: Node) -> bool:
    return (
        value.node is node
        and value.index < len(node.outputs)
        and node.outputs[value.index] is value
    )


def _kind_problems(graph: Graph, node: Node) -> list[str]:
    found: list[str] = []
    operands = sum(map(len, graph._pred[node].values()))
    if node.kind is Kind.OUTPUT:
        if operands != 1 or graph.operand(node, 0) is None:
            found.append(f"is an output of {operands} values, not of one")
        if node.outputs or graph._succ[node]:
            found.append("is an output and has results")
        return found
    if operands:
        found.append(f"is of kind {node.kind.value} and has operands")
    if len(node.outputs) != 1 or node.outputs[0] is None:
        found.append(f"is of kind {node.kind.value} and has {len(node.outputs)} values, not one")
    if node.kind is Kind.CAPTURE and graph.parent is None:
        found.append("stands for a captured value, but the graph has no enclosing graph")
    if node.kind is Kind.CONSTANT and (node.tensor is None) == (node.sparse is None):
        found.append("is a constant without data, or with both dense and sparse data")
    return found


# ---- names -------------------------------------------------------------------------------------


def _value_problems(graph: Graph, node: Node) -> list[str]:
    found: list[str] = []
    for index, value in enumerate(node.outputs):
        if value is None:
            continue
        name = value.name
        if value.node is not node or value.index != index:
            found.append(f"result {index} ({name}) says it is another one")
        if not name:
            found.append(f"result {index} has an empty name")
        elif graph._values.get(name) is not value:
            found.append(f"result {index} has the name {name}, which is not registered as its own")
    return found


def _table_problems(graph: Graph) -> Iterator[str]:
    """Problems of the tables that the graph keeps beside its edges."""
    values = {value for node in graph._g for value in node.outputs if value is not None}
    for name in sorted(name for name, value in graph._values.items() if value not in values):
        yield f"the name {name} belongs to a value that is not in the graph"
    for kind, listed in ((Kind.INPUT, graph._inputs), (Kind.OUTPUT, graph._outputs)):
        found = {node for node in graph._g if node.kind is kind}
        if len(listed) != len(found) or set(listed) != found:
            yield f"the list of {kind.value}s is not the {kind.value} nodes of the graph"
    names = Counter(node.name for node in graph._outputs)
    for name in sorted(name for name, count in names.items() if count > 1):
        yield f"{names[name]} outputs have the name {name}"
    if names[""]:
        yield "an output has an empty name"


# ---- captures ----------------------------------------------------------------------------------


def _capture_problems(graph: Graph, node: Node, present: set[str]) -> Iterator[str]:
    captured: set[str] = set()
    for name, inner in node.subgraphs():
        if inner.parent is not graph:
            yield f"the parent of subgraph {name} is not the graph of its owner"
        captured |= {capture.output.name for capture in inner.nodes(Kind.CAPTURE)}
    for name in sorted(captured - present):
        yield f"a subgraph captures {name}, for which the node has no edge"
    for name in sorted(present - captured):
        yield f"the node has an edge for {name}, which no subgraph captures"


# ---- order -------------------------------------------------------------------------------------


def _find_cycle(graph: Graph) -> Sequence[Node]:
    """The nodes of one cycle, or nothing. Kahn's algorithm, then a walk in what is left."""
    waiting = {node: len(edges) for node, edges in graph._pred.items() if edges}
    ready = [node for node, edges in graph._pred.items() if not edges]
    while ready:
        for consumer in graph._succ[ready.pop()]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                del waiting[consumer]
                ready.append(consumer)
    if not waiting:
        return ()
    route: dict[Node, None] = {}
    node = min(waiting, key=lambda item: item.key)
    while node not in route:
        route[node] = None
        # Whatever waits, waits for something that waits.
        node = min((n for n in graph._pred[node] if n in waiting), key=lambda item: item.key)
    cycle = list(route)
    cycle = cycle[cycle.index(node) :][::-1]
    first = cycle.index(min(cycle, key=lambda item: item.key))
    return cycle[first:] + cycle[:first]
