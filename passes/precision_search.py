"""Move operations back to fp32 until accuracy goals hold, the one that costs most first.

What an assignment costs is measured, not modelled: the graph is written with its Casts, its fp32
twin (`optc.numerics.twin`) has the same roundings on any CPU, and the outputs of both are compared
on the calibration data. Operations are ranked by what they cost alone, as the only ones in bf16;
noise of independent roundings adds up, so the rank is what leaving each out gains. The shortest
beginning of that rank that reaches the goals is found by bisection, and placed anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from optc.errors import CapabilityError
from optc.ir import DType, Kind, TensorType, clone
from optc.numerics.metrics import find_metric
from optc.numerics.twin import twin
from optc.passes.base import PassContext
from optc.passes.precision_casts import write_casts
from optc.passes.upgrade_opset import UpgradeOpset, UpgradeOpsetOptions
from optc.rewrite.decisions import Decisions
from optc.rewrite.trace import StepRecord, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from optc.ir import Graph, Node
    from optc.numerics.observe import Observer
    from optc.numerics.values import Array

_ALONE: Final = 4
"""Samples that operations are ranked on; goals are measured on more."""
_TOGETHER: Final = 32
_FIRST: Final = 13
"""The first opset in which anything is bf16."""
_RANKED: Final = 64
"""Operations, or runs of neighbouring ones, that are measured alone."""


@dataclass(frozen=True)
class Score:
    """Accuracy goals and what was measured.

    Attributes:
        values: the value of each metric, in the order of the goals.
        goals: metric and limit of each goal.
    """

    values: tuple[float, ...]
    goals: tuple[tuple[str, float], ...]

    @property
    def met(self) -> bool:
        """Whether every goal is reached."""
        pairs = zip(self.values, self.goals, strict=True)
        return all(find_metric(name).meets(value, limit) for value, (name, limit) in pairs)

    @property
    def badness(self) -> tuple[float, ...]:
        """The values such that less is better, to sort by."""
        return tuple(
            -value if find_metric(name).better == "higher" else value
            for value, (name, _) in zip(self.values, self.goals, strict=True)
        )

    def __str__(self) -> str:
        parts = []
        for value, (name, _) in zip(self.values, self.goals, strict=True):
            unit = find_metric(name).unit
            parts.append(f"{name} {value:.4g}" + ("" if unit == "1" else f" {unit}"))
        return ", ".join(parts)


class Judge:
    """Measures what bf16 does to the outputs of a graph.

    Args:
        graph: a root graph.
        observer: runs it.
        goals: metric and limit of each goal; those that need labels must be left out.
        overflowing: names of values that conversions keep finite.
    """

    def __init__(
        self,
        graph: Graph,
        observer: Observer,
        goals: Sequence[tuple[str, float]],
        overflowing: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._observer = observer
        self._goals = tuple(goals)
        self._overflowing = overflowing
        self._expected: list[Mapping[str, Array]] = self._run(plain(graph), _TOGETHER)

    def score(self, low: Collection[Node], samples: int = _TOGETHER) -> Score:
        """The goals when these operations are computed in bf16.

        Raises:
            ModelError: the graph does not run.
        """
        found = [find_metric(name).start() for name, _ in self._goals]
        actual = self._run(rounded(self._graph, low, self._overflowing), samples)
        for expected, result in zip(self._expected, actual, strict=False):
            for metric in found:
                metric.update(expected, result, None)
        return Score(tuple(metric.compute() for metric in found), self._goals)

    def _run(self, graph: Graph, samples: int) -> list[Mapping[str, Array]]:
        """The outputs of a graph, by name of the output."""
        values = {node.name: graph.operand(node, 0) for node in graph.outputs}
        ports = {name: v for name, v in values.items() if v is not None and _is_made(v.node)}
        runs = self._observer.observe(graph, list(ports.values()), dict, activity="accuracy")
        return [
            {name: arrays[value.name] for name, value in ports.items()}
            for arrays in islice(runs, samples)
        ]


def _is_made(node: Node) -> bool:
    return node.kind is not Kind.CONSTANT


def plain(graph: Graph) -> Graph:
    """The graph, as fp32 where it has bf16: what onnxruntime can run."""
    values = (v for g in graph.walk() for n in g.nodes(*Kind) for v in n.outputs if v is not None)
    mixed = any(isinstance(v.type, TensorType) and v.type.dtype is DType.BF16 for v in values)
    return twin(graph) if mixed else graph


def rounded(graph: Graph, low: Collection[Node], overflowing: Collection[str] = ()) -> Graph:
    """The fp32 twin of a graph in which these operations are computed in bf16.

    Raises:
        CapabilityError: the opset is below the first one with bf16, and cannot be raised.
    """
    copy = clone(graph)
    chosen = _raised(graph, low, copy) if graph.opset < _FIRST else _same(graph, low, copy)
    for nested in tuple(copy.walk()):
        write_casts(nested, chosen, "twin", overflowing)
    return twin(copy)


def _same(graph: Graph, low: Collection[Node], copy: Graph) -> set[Node]:
    """The operations of a copy that these stand for."""
    pairs = (zip(a.ordered(), b.ordered(), strict=True) for a, b in _graphs(graph, copy))
    return {theirs for graphs in pairs for ours, theirs in graphs if ours in low}


def _graphs(graph: Graph, copy: Graph) -> Iterator[tuple[Graph, Graph]]:
    return zip(graph.walk(), copy.walk(), strict=True)


def _raised(graph: Graph, low: Collection[Node], copy: Graph) -> set[Node]:
    """Raise a copy to the first opset with bf16; its operations that these have become."""
    trace = Trace("search")
    for nested in graph.walk():
        for node in nested.ordered():
            trace.decided("search", node, "bf16" if node in low else "fp32", "")
    decisions = Decisions([StepRecord("search", decisions=trace.decisions)])
    result = UpgradeOpset(UpgradeOpsetOptions(to=_FIRST)).apply(copy, PassContext())
    if not result.changed:
        raise CapabilityError(
            "opset-too-low",
            f"bf16 needs opset {_FIRST}; the model has {graph.opset} and cannot be raised",
            hint="`optc plan` tells what upgrade-opset refuses",
        )
    nodes = (node for nested in copy.walk() for node in nested.ordered())
    found = ((node, decisions.of(node)) for node in nodes)
    return {node for node, known in found if known is not None and known.precision == "bf16"}


@dataclass(frozen=True)
class Outcome:
    """What the search found.

    Attributes:
        denied: operations that go back to fp32, with the reason.
        score: what was measured without them.
        before: what was measured with everything that was wanted in bf16.
    """

    denied: Mapping[Node, str]
    score: Score
    before: Score


def meet(
    judge: Judge,
    computing: Sequence[Node],
    low_without: Callable[[Collection[Node]], Collection[Node]],
) -> Outcome:
    """Deny as few operations as it takes, worst first.

    Args:
        judge: measures.
        computing: operations in bf16 that round, in order of execution.
        low_without: places the operations anew when some are denied.
    """
    before = judge.score(low_without(()))
    if before.met or not computing:
        return Outcome({}, before, before)
    ranked = _ranked(judge, computing)
    found: dict[int, Score] = {0: before}

    def met(count: int) -> bool:
        if count not in found:
            gone = [node for nodes, _ in ranked[:count] for node in nodes]
            found[count] = judge.score(low_without(gone))
        return found[count].met

    low, high = 0, len(ranked)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle, high)
    # Without a beginning that reaches the goals, the best that was measured counts.
    best = high if met(high) else min(found, key=lambda count: found[count].badness)
    denied = {
        node: f"alone in bf16 it gives {score}; {found[best]} without it and what is worse"
        for nodes, score in ranked[:best]
        for node in nodes
    }
    return Outcome(denied, found[best], before)


def _ranked(judge: Judge, computing: Sequence[Node]) -> list[tuple[Sequence[Node], Score]]:
    """Operations with what they cost alone, worst first; neighbours together if they are many."""
    size = -(-len(computing) // _RANKED)
    runs = [computing[start : start + size] for start in range(0, len(computing), size)]
    scored = [(run, judge.score(frozenset(run), _ALONE)) for run in runs]
    return sorted(scored, key=lambda item: item[1].badness, reverse=True)
