"""Placement as TensorFlow's auto_mixed_precision does it, to compare with.

Colours spread over the graph in five rounds:

1. Operations of the class *allow* are low.
2. *Deny* spreads forward from operations of that class, through clear and infer operations behind
   which, over clear ones, another deny or infer operation comes.
3. Clear and infer operations that lie between low operations become low.
4. Infer operations that directly use a low result, and no denied one, become low.
5. Clear operations that are connected with low ones over clear ones become low.

Sizes of tensors play no part, and deny spreads forward only.
Source: TensorFlow, grappler/optimizers/auto_mixed_precision.cc, mode BF16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optc.numerics.placement import Problem

N = TypeVar("N")


def paint(problem: Problem[N], order: Sequence[N], classes: Mapping[N, str]) -> frozenset[N]:
    """The operations that are low, the fixed ones included.

    Args:
        problem: what is to be placed; only its connections and fixed operations are used.
        order: all operations in order of execution.
        classes: ``allow``, ``infer``, ``clear`` or ``deny``, by operation; one that is fixed high
            whatever its class is never painted.
    """
    painter = _Painter(problem, order, classes)
    painter.spread_deny()
    painter.fill_between()
    painter.follow()
    painter.spread_over_clear()
    return frozenset(painter.low)


class _Painter(Generic[N]):
    def __init__(self, problem: Problem[N], order: Sequence[N], classes: Mapping[N, str]) -> None:
        self.order, self.classes = order, classes
        self.paintable = frozenset(problem.free) | problem.low
        self.allowed = [node for node in order if self._starts(node, problem)]
        self.low = dict.fromkeys(self.allowed)
        self.denied: dict[N, None] = {}
        self.after: dict[N, list[N]] = {}
        self.before: dict[N, list[N]] = {}
        for item in problem.crossings:
            if item.maker is None:
                continue
            for user in item.users:
                self.after.setdefault(item.maker, []).append(user)
                self.before.setdefault(user, []).append(item.maker)

    def _starts(self, node: N, problem: Problem[N]) -> bool:
        if node in problem.low:
            return True
        return self.classes.get(node) == "allow" and node in self.paintable

    def _is(self, node: N, *wanted: str) -> bool:
        return self.classes.get(node) in wanted

    def spread_deny(self) -> None:
        """Round 2."""
        leads = dict.fromkeys(node for node in self.order if self._is(node, "deny", "infer"))
        self._walk(list(leads), leads, self.before, lambda node: self._is(node, "clear"))
        roots = [node for node in self.order if self._is(node, "deny")]
        self.denied.update(dict.fromkeys(roots))
        stops = set(self.allowed)
        self._walk(roots, self.denied, self.after, lambda node: node in leads and node not in stops)

    def fill_between(self) -> None:
        """Round 3."""
        below: dict[N, None] = {}
        self._walk(self.allowed, below, self.after, self._may_follow)
        self._walk(self.allowed, self.low, self.before, lambda node: node in below)

    def _may_follow(self, node: N) -> bool:
        is_free = node in self.paintable and node not in self.denied
        return is_free and self._is(node, "clear", "infer")

    def follow(self) -> None:
        """Round 4."""
        for node in self.order:
            if node in self.low or not self._may_follow(node) or not self._is(node, "infer"):
                continue
            makers = self.before.get(node, [])
            if any(maker in self.low for maker in makers) and not any(
                maker in self.denied for maker in makers
            ):
                self.low[node] = None

    def spread_over_clear(self) -> None:
        """Round 5."""
        around = {
            node: [*self.before.get(node, ()), *self.after.get(node, ())] for node in self.order
        }
        self._walk(
            list(self.low),
            self.low,
            around,
            lambda node: self._may_follow(node) and self._is(node, "clear"),
        )

    @staticmethod
    def _walk(
        roots: Iterable[N],
        found: dict[N, None],
        edges: Mapping[N, Iterable[N]],
        enters: Callable[[N], bool],
    ) -> None:
        """Add everything that can be reached from the roots over nodes that may be entered."""
        stack = list(roots)
        while stack:
            for node in edges.get(stack.pop(), ()):
                if node not in found and enters(node):
                    found[node] = None
                    stack.append(node)
