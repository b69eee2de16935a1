"""What the rewrites of a pass save: costs of the operations that go against those that come.

The graph says which operations are added and removed, the trace which rule applied where. One
rewrite is what happens around one `Trace.applied`: passes build first and report then, and remove
before or after that.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from optc.ir import Kind, TensorType
from optc.ir.result_types import result_dtype
from optc.ir.shapes import infer
from optc.rewrite.trace import Gain, recorded_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.ir import Graph, Node, Value

    Cost: TypeAlias = Callable[[Graph, Node], float | None]
    """Seconds of one run of an operation; None when they are not known."""

_Price: TypeAlias = "tuple[float, ...] | None"


@dataclass
class _Rewrite:
    """One rewrite: operations that it removed and made."""

    rule: str
    root: Node | None = None
    removed: list[Node] = field(default_factory=list)
    made: list[Node] = field(default_factory=list)


class Journal:
    """Watches one run of a pass, with one or more cost functions (one per target)."""

    def __init__(self, costs: Sequence[Cost]) -> None:
        self._costs = costs
        self._graphs: dict[Node, Graph] = {}
        self._prices: dict[Node, _Price] = {}
        self._rewrites: list[_Rewrite] = []
        self._open = _Rewrite("")  # what happened since a rule applied last
        self._events: list[tuple[bool, Node]] = []

    @contextmanager
    def watching(self, graph: Graph) -> Iterator[None]:
        """Note what happens while the block runs."""
        with graph.watched_by(self), recorded_by(self):
            yield
        self._close(None)

    # ---- what is told --------------------------------------------------------------------------

    def added(self, graph: Graph, node: Node) -> None:
        """An operation was added."""
        self._graphs[node] = graph
        self._events.append((True, node))

    def removing(self, graph: Graph, node: Node) -> None:
        """An operation is about to be removed: this is the last moment to tell its cost."""
        self._prices[node] = self._price(graph, node)
        self._events.append((False, node))

    def applied(self, rule: str, node: Node) -> None:
        """A rule applied: what was not settled yet is its own."""
        self._close(_Rewrite(rule, node))

    def _close(self, rewrite: _Rewrite | None) -> None:
        """Divide what happened since the last rewrite between that one and the next."""
        events, self._events = self._events, []
        last = self._rewrites[-1] if self._rewrites else None
        mine = len(events) if rewrite is None else _end_of(last, events)
        for made, node in events[:mine]:
            owner = last or self._open
            (owner.made if made else owner.removed).append(node)
        if rewrite is None:
            return
        for made, node in events[mine:]:
            (rewrite.made if made else rewrite.removed).append(node)
        self._rewrites.append(rewrite)

    # ---- costs ---------------------------------------------------------------------------------

    def gains(self, root: Graph) -> list[dict[str, Gain]]:
        """The gain of each rule, for each cost function; call it once the pass has run."""
        alive = set(root.walk())
        for node, graph in self._graphs.items():
            if node not in self._prices and graph in alive and node in graph:
                self._prices[node] = self._price(graph, node)
        found: list[dict[str, list[Gain]]] = [{} for _ in self._costs]
        rewrites = self._rewrites if self._rewrites or not self._touched() else [self._open]
        for rewrite in rewrites:
            for table, gain in zip(found, self._gain(rewrite), strict=True):
                table.setdefault(rewrite.rule, []).append(gain)
        return [{rule: Gain.total(parts) for rule, parts in table.items()} for table in found]

    def _touched(self) -> bool:
        return bool(self._open.removed or self._open.made)

    def _gain(self, rewrite: _Rewrite) -> list[Gain]:
        # What was made and removed without ever having a cost was no more than scaffolding.
        removed = [n for n in rewrite.removed if n not in self._graphs or self._prices.get(n)]
        made = [node for node in rewrite.made if node in self._prices and self._matters(node)]
        prices = [self._prices[node] for node in (*removed, *made)]
        if any(price is None for price in prices):
            return [Gain(uncounted=1) for _ in self._costs]
        signs = [1.0] * len(removed) + [-1.0] * len(made)
        return [
            Gain(sum(s * p[i] for s, p in zip(signs, prices, strict=True) if p is not None), 1)
            for i in range(len(self._costs))
        ]

    def _matters(self, node: Node) -> bool:
        """Whether a made operation is there in the end, or its cost is known."""
        return self._prices[node] is not None or node in self._graphs[node]

    def _price(self, graph: Graph, node: Node) -> _Price:
        with _typed(graph, node, self._graphs):
            found = [cost(graph, node) for cost in self._costs]
        known = tuple(price for price in found if price is not None)
        return known if len(known) == len(found) else None


def _end_of(last: _Rewrite | None, events: Sequence[tuple[bool, Node]]) -> int:
    """How many of the events since the last rewrite still belong to it.

    Where its root went after it had been reported, these are all up to the operation that is made
    next.
    """
    roots = [i for i, (made, node) in enumerate(events) if not made and last and node is last.root]
    if not roots:
        return 0
    later = (i for i in range(roots[0], len(events)) if events[i][0])
    return next(later, len(events))


@contextmanager
def _typed(graph: Graph, node: Node, made: Mapping[Node, Graph]) -> Iterator[None]:
    """Give the results of new operations their types while the block runs.

    Passes leave those of intermediate values to `infer-shapes`.
    """
    given: list[Value] = []
    for item in _untyped(graph, node, made):
        shapes = infer(graph, item) or ()
        for value, shape in zip(item.outputs, shapes, strict=False):
            if value is not None and value.type is None:
                dtype = result_dtype(graph, item, value.index)
                if dtype is not None and graph.set_type(value, TensorType(dtype, shape)):
                    given.append(value)
    try:
        yield
    finally:
        for value in given:
            graph.set_type(value, None)


def _untyped(graph: Graph, node: Node, made: Mapping[Node, Graph]) -> list[Node]:
    """A new operation and those above it whose results have no type, producers first."""
    found: dict[Node, None] = {}
    stack = [node]
    while stack:
        item = stack.pop()
        new = item.kind is Kind.OP and (item in made or item is node)
        if new and any(value is not None and value.type is None for value in item.outputs):
            found.pop(item, None)
            found[item] = None
        elif item is not node:
            continue
        stack += [value.node for value in graph.operands(item) if value is not None]
    return list(reversed(found))
