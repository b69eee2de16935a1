"""What a runtime says that it executed, in the same words for all runtimes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.evidence.fused import Attribution
from optc.numerics.backends import import_openvino

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.ir import Graph, Node


@dataclass(frozen=True)
class Kernel:
    """One step of an execution.

    Attributes:
        name: the runtime's name of it.
        op: the runtime's operator, e.g. ``Convolution`` or ``QLinearConv``.
        kernel: name of the implementation; empty when the runtime shows none.
        precision: what it computes in; None for layout and integer work, and where unknown.
        isa: capability that it uses; None when nothing tells.
        evidence: how precision and instruction set are known.
        nodes: labels of the operations that it computes, its own first.
        seconds: time of one execution, the median of several.
        heavy: whether it is a multiply-accumulate kernel.
    """

    name: str
    op: str
    kernel: str
    precision: str | None
    isa: str | None
    evidence: str
    nodes: tuple[str, ...]
    seconds: float
    heavy: bool = False


@dataclass(frozen=True)
class Execution:
    """One execution of a model.

    Attributes:
        version: version of the runtime.
        library: version of the kernel library it reports, e.g. ``oneDNN 3.13.0``; empty: none.
        kernels: the steps, in order.
    """

    version: str
    library: str
    kernels: tuple[Kernel, ...]

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return sum(kernel.seconds for kernel in self.kernels)

    def computing(self, label: str) -> Kernel | None:
        """The step that computes an operation: a multiply-accumulate one, else the longest."""
        found = [kernel for kernel in self.kernels if label in kernel.nodes]
        return max(found, key=lambda kernel: (kernel.heavy, kernel.seconds), default=None)


def with_fused(execution: Execution, graph: Graph, labels: Mapping[Node, str]) -> Execution:
    """With the operations that no step names added to the steps that compute them."""
    steps: dict[str, int] = {}
    for index, kernel in enumerate(execution.kernels):
        for label in kernel.nodes:
            known = steps.setdefault(label, index)
            if kernel.heavy and not execution.kernels[known].heavy:
                steps[label] = index
    more: dict[int, list[str]] = {}
    for nested in graph.walk():
        named = {node: steps[labels[node]] for node in nested.nodes() if labels[node] in steps}
        found = Attribution(nested, named)
        for node in nested.ordered():
            step = None if node in named else found.step(node)
            if step is not None:
                more.setdefault(step, []).append(labels[node])
    kernels = [
        replace(kernel, nodes=(*kernel.nodes, *more.get(index, ())))
        for index, kernel in enumerate(execution.kernels)
    ]
    return replace(execution, kernels=tuple(kernels))


def with_products(execution: Execution, model: Path, products: Sequence[str]) -> Execution:
    """With the products of an IR that no step names added to the steps that compute them.

    A matrix product that has become one layer with what is behind it bears the name of that.

    Args:
        execution: what was executed.
        model: the ``.xml`` file.
        products: labels of the multiply-accumulate operations, which are names in the IR.
    """
    steps: dict[str, int] = {}
    for index, kernel in enumerate(execution.kernels):
        for label in kernel.nodes:
            steps.setdefault(label, index)
    operations = import_openvino().Core().read_model(model).get_ops()
    layers = {layer.get_friendly_name(): layer for layer in operations}
    more: dict[int, list[str]] = {}
    for label in products:
        level = [] if label in steps or label not in layers else [layers[label]]
        while level:
            named = [layer for layer in level if layer.get_friendly_name() in steps]
            if named:
                more.setdefault(steps[named[0].get_friendly_name()], []).append(label)
                break
            outputs = (output for layer in level for output in layer.outputs())
            level = [use.get_node() for output in outputs for use in output.get_target_inputs()]
    kernels = [
        replace(kernel, nodes=(*kernel.nodes, *more.get(index, ())))
        for index, kernel in enumerate(execution.kernels)
    ]
    return replace(execution, kernels=tuple(kernels))
