"""What a runtime says that it executed, in the same words for all runtimes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.evidence.fused import Attribution

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def owner_of(name: str, known: Mapping[str, str]) -> str | None:
    """The operation that a layer belongs to: that of its name, or of what stands before a ``/``.

    Args:
        name: of the layer.
        known: label of an operation by its own name and by those of the tensors it makes.
    """
    while name:
        if name in known:
            return known[name]
        name = name.rpartition("/")[0]
    return None


def owners_of(text: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The operations behind a list of layer names that are joined by commas.

    Names may hold commas themselves: the longest run of pieces that is a known name is one name.
    """
    pieces = text.split(",") if text else []
    found: dict[str, None] = {}
    start = 0
    while start < len(pieces):
        ends = range(len(pieces), start + 1, -1)
        end = next((end for end in ends if ",".join(pieces[start:end]) in known), start + 1)
        owner = owner_of(",".join(pieces[start:end]), known)
        if owner is not None:
            found.setdefault(owner)
        start = end
    return tuple(found)


def names_of(labels: Mapping[Node, str]) -> dict[str, str]:
    """The label of an operation by every name that a runtime may call it: its own, its tensors'."""
    found = {v.name: label for n, label in labels.items() for v in n.outputs if v is not None}
    return found | {label: label for label in labels.values()}


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
