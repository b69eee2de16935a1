"""Whether the values that an operation works on survive bf16.

bf16 has the range of fp32 and 8 bits of significand: a rounding moves a value by up to 2^-9 of
itself. Four things go wrong with that:

*Range.* Finite values from (2 - 2^-8) 2^127 on round to infinity: masks of -3.4e38 do, and a row
that is masked everywhere then gives NaN where it gave a constant. Constants are looked at always.

*Whole numbers* above 256 that are counted, compared or used as positions lose their last digit.

*Cancellation.* Roundings of the operands are independent, so the noise of a sum is 2^-9 times the
root of the sum of squares of what is summed. It is compared with the result: with a gain of

    g = sqrt(sum of squares of all summands / sum of squares of the results)

the result is off by g 2^-9 of itself. Add, Sub, Sum, Mean, the mean and sum reductions, and the
centering in normalizations are looked at.

*Resolution.* An epsilon that is less than 2^-9 of everything it is added to changes nothing.

Source: bfloat16 numerics as in the Intel SDM, VCVTNEPS2BF16; limits in targets/precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir import DType
from optc.ir.shape_site import constant_tensor
from optc.passes.precision_search import plain
from optc.passes.precision_sites import dtype_of
from optc.targets.precision_lists import shipped_precision_lists

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from optc.ir import Graph, Node, Value
    from optc.numerics.observe import Observer
    from optc.passes.precision_sites import Site

OVERFLOW: Final = float(2.0**128 - 2.0**119)
"""The least magnitude that rounds to infinity: half a step above the largest bf16."""
_LIMITS: Final = shipped_precision_lists("bf16").safety
MASKING: Final = ("Where", "Add", "Attention", "Softmax", "LogSoftmax", "Clip", "Max", "Min")
"""Operators that let the largest bf16 take the place of what rounds to infinity: it masks as well,
and a row that is masked everywhere stays finite."""
_HALF_STEP: Final = 2.0**-9
_READ: Final = 1 << 22
"""Elements up to which constants are looked at: masks and bounds are smaller, weights are tame."""
_AT_ONCE: Final = 1 << 28
"""Bytes of values that are looked at in one run."""

_SUMS: Final = ("Add", "Sub", "Sum")
_MEANS: Final = ("ReduceMean", "GlobalAveragePool", "Mean")
_CENTERED: Final = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")
_COUNTS: Final = ("Add", "Sub", "Mul", "Div", "Sum", "Floor", "Ceil", "Round", "Mean", "ReduceSum")


def constant_hazard(graph: Graph, site: Site) -> str | None:
    """Why the constants of an operation do not survive bf16; None when they do."""
    for index in site.ports.operands:
        value = graph.operand(site.node, index)
        tensor = None if value is None else constant_tensor(value)
        if value is None or tensor is None or tensor.elements > _READ or not tensor.elements:
            continue
        largest = _largest(tensor.numpy().astype(np.float64))
        if largest >= OVERFLOW:
            return f"its constant {value.name} holds {largest:.2g}, which bf16 rounds to infinity"
    return None


@dataclass
class Seen:
    """What was seen of one value.

    Attributes:
        largest: largest finite magnitude.
        smallest: least magnitude.
        squares: sum of squares of the finite elements.
        count: elements.
        whole: whether all are whole numbers.
        exact: whether bf16 has all of them.
        centered: sum of squares of the distances from the mean that a normalization subtracts.
    """

    largest: float = 0.0
    smallest: float = float("inf")
    squares: float = 0.0
    count: int = 0
    whole: bool = True
    exact: bool = True
    centered: float = 0.0

    def add(self, array: npt.NDArray[Any]) -> None:
        """Add the value of one run."""
        import ml_dtypes

        values = array.astype(np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            return
        sizes = np.abs(finite)
        self.largest = max(self.largest, float(sizes.max()))
        self.smallest = min(self.smallest, float(sizes.min()))
        self.squares += float(np.square(finite).sum())
        self.count += finite.size
        self.whole = self.whole and bool((finite == np.rint(finite)).all())
        kept = finite.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
        self.exact = self.exact and bool((kept == finite).all())


@dataclass
class Values:
    """What was seen of the values of a graph on some data."""

    seen: dict[Value, Seen] = field(default_factory=dict)

    @classmethod
    def observed(
        cls, graph: Graph, sites: Iterable[Site], observer: Observer, sizes: Mapping[Value, int]
    ) -> Values:
        """Run the graph and look at what the operations of these sites work on.

        Args:
            graph: a root graph.
            sites: sites of it.
            observer: runs it.
            sizes: bytes of the values, to look at not too many at once.

        Raises:
            ModelError: the graph does not run.
            DataError: the data does not fit.
        """
        found = cls()
        centered = {v: s.node for s in sites for v in _operands(graph, s) if _centers(s.node)}
        wanted = dict.fromkeys(v for site in sites for v in _values(graph, site))
        runnable = plain(graph)
        for group in _groups(list(wanted), sizes):
            asked = [runnable.value(value.name) for value in group]
            for arrays in observer.observe(runnable, asked, dict, activity="ranges"):
                for value in group:
                    seen = found.seen.setdefault(value, Seen())
                    array = arrays[value.name]
                    seen.add(array)
                    if value in centered:
                        seen.centered += _spread(array, centered[value])
        return found

    @property
    def overflowing(self) -> frozenset[str]:
        """Names of values that bf16 would round to infinity."""
        return frozenset(v.name for v, seen in self.seen.items() if seen.largest >= OVERFLOW)

    def hazard(self, graph: Graph, site: Site, *, saturate: bool = False) -> tuple[str, str] | None:
        """The kind of what goes wrong and the reason; None when nothing does.

        `saturate` says that conversions let the largest bf16 take the place of what rounds to
        infinity.
        """
        node = site.node
        operands = [self.seen[v] for v in _operands(graph, site) if v in self.seen]
        results = [self.seen[v] for v in _results(site) if v in self.seen]
        values = [item for item in (*operands, *results) if item.count]
        if not values:
            return None
        largest = max(item.largest for item in values)
        if largest >= OVERFLOW and not (saturate and node.is_op(*MASKING)):
            return "range", f"it works on {largest:.2g}, which bf16 rounds to infinity"
        limit = _LIMITS.largest_integer.value
        is_count = node.is_op(*_COUNTS) and all(item.whole for item in values)
        if is_count and largest > limit and not all(item.exact for item in values):
            return (
                "whole-numbers",
                f"it computes whole numbers up to {largest:.6g}; bf16 has all of them only to "
                f"{limit:g}",
            )
        return self._cancels(graph, site) or self._resolution(graph, site)

    def _cancels(self, graph: Graph, site: Site) -> tuple[str, str] | None:
        gain = self._gain(graph, site)
        if gain is None or gain <= _LIMITS.cancellation.value:
            return None
        share = min(gain * _HALF_STEP, 1.0)
        return (
            "cancellation",
            f"what it sums is {gain:.3g} times as large as the result, which bf16 would leave off "
            f"by {share:.0%}",
        )

    def _gain(self, graph: Graph, site: Site) -> float | None:
        """The noise gain of a sum; None for what is none, or was not seen."""
        node = site.node
        operands = [self.seen.get(v) for v in _operands(graph, site)]
        results = [self.seen.get(v) for v in _results(site)]
        if not operands or operands[0] is None or not operands[0].count:
            return None
        if _centers(node):
            first = operands[0]
            return _root(first.squares, first.centered)
        result = results[0] if results else None
        if result is None or not result.count or any(item is None for item in operands):
            return None
        seen = [item for item in operands if item is not None and item.count]
        if node.is_op(*_SUMS, "Mean"):
            # An operand that is broadcast counts once for each result that it goes into.
            total = sum(item.squares * result.count / item.count for item in seen)
            return _root(total / (len(seen) ** 2 if node.is_op("Mean") else 1), result.squares)
        if node.is_op("ReduceSum", *_MEANS):
            length = seen[0].count / result.count if not node.is_op("ReduceSum") else 1.0
            return _root(seen[0].squares / length**2, result.squares)
        return None

    def _resolution(self, graph: Graph, site: Site) -> tuple[str, str] | None:
        node = site.node
        if not node.is_op("Add") or len(graph.operands(node)) != 2:
            return None
        for index, value in enumerate(graph.operands(node)):
            tensor = None if value is None else constant_tensor(value)
            other = graph.operand(node, 1 - index)
            seen = None if other is None else self.seen.get(other)
            if tensor is None or tensor.elements != 1 or seen is None or not seen.count:
                continue
            epsilon = abs(float(tensor.numpy().reshape(-1)[0]))
            if 0 < epsilon < _HALF_STEP * seen.smallest:
                return (
                    "resolution",
                    f"the {epsilon:.2g} that it adds is below the resolution of bf16 at values "
                    f"from {seen.smallest:.2g} on",
                )
        return None


def _root(noise: float, signal: float) -> float:
    if noise <= 0:
        return 0.0
    return float("inf") if signal <= 0 else float(np.sqrt(noise / signal))


def _largest(values: npt.NDArray[np.float64]) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def _centers(node: Node) -> bool:
    return node.is_op(*_CENTERED)


def _spread(array: npt.NDArray[Any], node: Node) -> float:
    """Sum of squares of the distances from the mean that a normalization takes."""
    values = array.astype(np.float64)
    if node.is_op("LayerNormalization"):
        axis = int(node.get("axis", -1))
        axes = tuple(range(axis % values.ndim, values.ndim))
    elif node.is_op("GroupNormalization"):
        values = values.reshape(values.shape[0], int(node.get("num_groups", 1)), -1)
        axes = (2,)
    else:
        axes = tuple(range(2, values.ndim))
    return float(np.square(values - values.mean(axis=axes, keepdims=True)).sum())


def _values(graph: Graph, site: Site) -> list[Value]:
    return [*_operands(graph, site), *_results(site)]


def _operands(graph: Graph, site: Site) -> list[Value]:
    """The operands of an operation that change type and are no constants."""
    values = (graph.operand(site.node, index) for index in site.ports.operands)
    found = [v for v in values if v is not None and constant_tensor(v) is None]
    # Of a normalization only what it normalizes.
    return found[:1] if _centers(site.node) else found


def _results(site: Site) -> list[Value]:
    values = (site.node.outputs[index] for index in site.ports.results)
    return [v for v in values if v is not None and dtype_of(v) is DType.F32]


def _groups(values: list[Value], sizes: Mapping[Value, int]) -> list[list[Value]]:
    """Values in groups of bounded size, in order."""
    groups: list[list[Value]] = []
    room = 0
    for value in values:
        size = sizes.get(value, 0)
        if not groups or size > room:
            groups.append([])
            room = _AT_ONCE
        groups[-1].append(value)
        room -= size
    return groups


__all__ = ["MASKING", "OVERFLOW", "Seen", "Values", "constant_hazard"]
