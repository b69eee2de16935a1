"""The equation of an Einsum: labels of each operand and of the result, and what each label is for.

    ij,jk->ik      contracted j, rows i, columns k
    bhqd,bhkd->bhqk     batch b h, rows q, columns k, contracted d

An ellipsis stands for further axes and is replaced by labels of its own. Without an arrow the
result has the labels that stand once, in alphabetical order, after the ellipsis.
Source: ONNX operator Einsum-12, which follows numpy.einsum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import ops
from optc.ir.shape_site import shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Node

_ELLIPSIS: Final = "..."
_FREE: Final = "0123456789"
"""Labels that stand for the axes of an ellipsis; equations have letters only."""


@dataclass(frozen=True)
class Equation:
    """The equation of an Einsum, with every axis labelled.

    Attributes:
        operands: labels of each operand.
        result: labels of the result.
        sizes: for each operand, the size of each label.
    """

    operands: tuple[str, ...]
    result: str
    sizes: tuple[dict[str, Dim], ...]

    def size(self, label: str) -> Dim:
        """The size of a label; of several, one that is not 1."""
        found = [sizes[label] for sizes in self.sizes if label in sizes]
        return next((size for size in found if size != 1), found[0])


def equation_of(graph: Graph, node: Node) -> Equation | str:
    """The equation of an Einsum, or why it cannot be read."""
    text = str(ops.attribute(graph, node, "equation").decode()).replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    shapes = [shape_of(graph, value) for value in graph.operands(node) if value is not None]
    if any(shape is None for shape in shapes):
        return "the rank of an operand is not known"
    ranks = [len(shape) for shape in shapes if shape is not None]
    if len(ranks) != len(terms):
        return f"the equation {text} is not one of {len(ranks)} operands"
    names = [term.replace(_ELLIPSIS, "") for term in terms]
    hidden = max(
        (
            rank - len(name)
            for rank, name, term in zip(ranks, names, terms, strict=True)
            if _ELLIPSIS in term
        ),
        default=0,
    )
    if not arrow:
        once = sorted(label for label in set("".join(names)) if left.count(label) == 1)
        right = (_ELLIPSIS if _ELLIPSIS in left else "") + "".join(once)
    operands = [
        term.replace(_ELLIPSIS, _labels(hidden, rank - len(name)))
        for rank, name, term in zip(ranks, names, terms, strict=True)
    ]
    result = right.replace(_ELLIPSIS, _labels(hidden, hidden))
    if hidden > len(_FREE) or [len(term) for term in operands] != ranks:
        return f"the equation {text} does not fit the ranks of its operands"
    if repeated := next((term for term in operands if len(set(term)) != len(term)), None):
        return f"{repeated} takes a diagonal"
    sizes = tuple(
        dict(zip(term, shape or (), strict=True))
        for term, shape in zip(operands, shapes, strict=True)
    )
    return Equation(tuple(operands), result, sizes)


def _labels(hidden: int, count: int) -> str:
    """Labels of an ellipsis that stands for `count` of `hidden` axes, aligned at the end."""
    return _FREE[hidden - count : hidden]


@dataclass(frozen=True)
class Contraction:
    """What the labels of two operands are for; each in the order of the result, or of the first.

    Attributes:
        batch: in both operands and the result.
        rows: in the first operand and the result.
        columns: in the second operand and the result.
        summed: in both operands only.
    """

    batch: str
    rows: str
    columns: str
    summed: str


def contraction_of(equation: Equation) -> Contraction | str:
    """How the labels of two operands are contracted, or why it is no matrix product."""
    first, second = equation.operands
    result = equation.result
    for label in first + second:
        if label not in result and (label not in first or label not in second):
            return f"{label} is summed over in one operand only"
    return Contraction(
        batch=_common(result, first, second),
        rows="".join(label for label in result if label in first and label not in second),
        columns="".join(label for label in result if label in second and label not in first),
        summed="".join(label for label in first if label in second and label not in result),
    )


def _common(*terms: Sequence[str]) -> str:
    return "".join(label for label in terms[0] if all(label in term for term in terms[1:]))
