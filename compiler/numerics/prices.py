"""What an operation costs in fp32 and in int8, to weigh one against the other.

    product        multiply-adds / (peak x efficiency) + elements of the result x cycles
    anything else  elements of the operand or of the result x cycles
    both           + cycles for each operation

Peaks are those of the path that the runtime's kernel takes on the CPU (`optc.targets.kernels`),
the other numbers are measured and lie in the descriptor of the runtime (`StepCosts`), or in the
profile of one machine (`optc.evidence.costs`). These are estimates for one core with its data in
the caches: good for comparing, not for promising.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import TensorType
from optc.ir.cost import macs
from optc.ir.ops import Trait, info
from optc.numerics.timing import ASSUMED_GHZ, sized
from optc.targets.paths import PATH_NEEDS
from optc.targets.peak import best_path, peak

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optc.ir import Graph, Node, Value
    from optc.targets import Precision, Runtime, Target
    from optc.targets.kernels import Choice
    from optc.targets.runtimes import IndirectCosts, StepCosts, WindowCosts

_AVX2_PEAK: Final = 64.0
"""Operations per cycle of VPMADDUBSW, VPMADDWD and VPADDD on 256 bits, where no path is kept."""


@dataclass(frozen=True)
class Prices:
    """Seconds of operations on one core.

    Attributes:
        target: the CPU.
        runtime: what executes; it must have `costs`.
        sizes: what symbols in shapes stand for.
    """

    target: Target
    runtime: Runtime
    sizes: Mapping[str, int]

    @property
    def costs(self) -> StepCosts:
        """What the descriptor of the runtime says of the CPU."""
        return self._costs_on(self.target.capabilities)

    def _costs_on(self, capabilities: Collection[str]) -> StepCosts:
        found = self.runtime.costs_on(capabilities)
        if found is None:
            raise ValueError(f"{self.runtime.id} has no costs")
        return found

    def of(
        self,
        graph: Graph,
        node: Node,
        precision: Precision,
        choice: Choice | None = None,
        *,
        gathers: bool = False,
    ) -> float | None:
        """Seconds of an operation in a precision; None when a size is not known.

        Args:
            graph: its graph.
            node: the operation.
            precision: what it is computed in.
            choice: the kernel in that precision; None: the fastest path of the CPU.
            gathers: whether a convolution has no int8 kernel of its own, whatever its channels.
        """
        with sized(graph, node, self.sizes):
            work, elements = macs(graph, node), _elements(node.output)
            if work is None or elements is None:
                return None
            if not info(node).has(Trait.MAC):
                first = graph.operand(node, 0)
                largest = max(elements, 0 if first is None else _elements(first) or 0)
                moved = info(node).has(Trait.DATA_MOVEMENT) or info(node).has(Trait.POOLING)
                rates = self.costs.move if moved else self.costs.elementwise
                count = self.costs.several.get(node.op_type, 1)
                slow = self.costs.windows.get(node.op_type) if precision == "int8" else None
                if slow is not None and not slow.planar:
                    return self._seconds(_window(node, elements, slow), precision)
                return count * self._seconds(largest * rates[precision], precision)
            if _is_depthwise(graph, node):
                return self._seconds(work * self.costs.depthwise[precision], precision)
            costs = self._costs_of_product(precision, choice)
            rate = self.rate(precision, choice) * costs.efficiency[precision]
            cycles = 2 * work / rate + elements * costs.result[precision]
            if precision == "int8" and costs.indirect is not None:
                cycles += _gathering(graph, node, elements, costs.indirect, always=gathers)
        return self._seconds(cycles, precision)

    def work(self, graph: Graph, node: Node) -> int:
        """Multiply-adds of an operation; 0 where it has none, or a size is not known."""
        with sized(graph, node, self.sizes):
            return macs(graph, node) or 0

    def planar(self, graph: Graph, node: Node) -> float:
        """Seconds that an operation on integers takes longer whose operand has just been quantized.

        Its channels are not the last axis then, as they are behind a convolution on integers.
        """
        slow = self.costs.windows.get(node.op_type)
        if slow is None or not slow.planar:
            return 0.0
        with sized(graph, node, self.sizes):
            elements = _elements(node.output)
        return 0.0 if elements is None else self._seconds(_window(node, elements, slow), "int8")

    def _costs_of_product(self, precision: Precision, choice: Choice | None) -> StepCosts:
        """Those of the kernel: one for VNNI does on a CPU with AMX what it does without."""
        path = choice.path if choice is not None and precision == "int8" else None
        return self.costs if path is None else self._costs_on((PATH_NEEDS[path],))

    def conversion(self, graph: Graph, value: Value) -> tuple[float, float] | None:
        """Seconds of QuantizeLinear and DequantizeLinear of a value; None without its size."""
        with sized(graph, value.node, self.sizes):
            count = _elements(value)
        if count is None:
            return None
        up, down = count * self.costs.quantize, count * self.costs.dequantize
        return self._seconds(up, "fp32"), self._seconds(down, "fp32")

    def _seconds(self, cycles: float, precision: Precision) -> float:
        return (cycles + self.costs.operation[precision]) / (ASSUMED_GHZ * 1e9)

    def rate(self, precision: Precision, choice: Choice | None) -> float:
        """Operations per cycle at the peak of a kernel; None: of the fastest path of the CPU."""
        path = choice.path if choice is not None else None
        path = path or best_path(precision, self.target.capabilities)
        rate = None if path is None else peak(self.target, path).ops_per_cycle.value
        return _AVX2_PEAK if rate is None else rate


def _elements(value: Value) -> int | None:
    return value.type.elements if isinstance(value.type, TensorType) else None


def _window(node: Node, elements: int, costs: WindowCosts) -> float:
    """Cycles of a pool whose kernel looks at one element at a time."""
    places: int = math.prod(node.get("kernel_shape", ()))
    return elements * (costs.result + places * costs.place)


def _gathering(
    graph: Graph, node: Node, elements: int, costs: IndirectCosts, *, always: bool
) -> float:
    """Cycles of a convolution whose operand is copied together first; 0 of any other product."""
    weight = graph.operand(node, 1) if node.is_op("Conv") else None
    shape = weight.type.shape if weight and isinstance(weight.type, TensorType) else None
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is None or len(sizes) < len(shape):
        return 0.0
    outputs, inputs, *kernel = sizes
    groups = node.get("group", 1)
    aligned = inputs % costs.inputs == 0 and outputs % costs.outputs == 0
    if groups == 1 and aligned and outputs >= costs.least and not always:
        return 0.0
    # One copy takes a row of the kernel; of a group, whose channels lie apart, a place of it.
    copies = math.prod(kernel[:-1]) if groups == 1 else math.prod(kernel) * groups
    positions, places = elements // outputs, math.prod(kernel)
    copied = 0 if places == max(node.get("strides", (1,))) == 1 else places * inputs * groups
    return positions * (copies * costs.gather + copied * costs.byte) + elements * costs.element


def _is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a convolution has one input channel per group, and more than one group."""
    weight = graph.operand(node, 1) if node.is_op("Conv") else None
    kind = None if weight is None else weight.type
    if not isinstance(kind, TensorType) or kind.shape is None:
        return False
    return node.get("group", 1) > 1 and kind.shape[1] == 1
