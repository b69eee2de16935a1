"""Recognise Softmax and LogSoftmax in what they are made of.

    Softmax       e / sum(e)              e = exp(x - max(x)) or exp(x), along one axis
    LogSoftmax    x - max(x) - log(sum(e)), or the logarithm of a Softmax

Without the maximum the spelling overflows where the operator does not.
Source: ONNX operators Softmax-13, LogSoftmax-13; before opset 13 they took all axes from theirs on
for one, so there only the last axis can be theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from optc.passes import formula_functions as functions
from optc.passes.formula import X, close
from optc.passes.ideas import Idea, IdeasPass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.passes.formula import Axes, Formula
    from optc.passes.ideas import Found, Writer

_ONE_AXIS_SINCE: Final = 13


def _spellings(found: Found, axes: Axes) -> Iterator[tuple[Formula, Formula]]:
    """Softmax and its logarithm, with and without the maximum."""
    largest = functions.statistic("max", X, axes)
    for shifted in (X - largest, X):
        exponential = functions.exp(shifted)
        total = found.reader.total(exponential, axes)
        yield exponential * total.power(-1), shifted - functions.log(total)


def _axes_in(formula: Formula) -> set[Axes]:
    found: set[Axes] = set()
    for monomial, _ in formula.terms:
        for atom, _ in monomial:
            found |= {atom.axes} if atom.axes else set()
            found |= _axes_in(atom.inner) if atom.inner else set()
    return found


def _match(found: Found, *, logarithm: bool) -> Writer | str | None:
    for axes in sorted(_axes_in(found.formula)):
        for pair in _spellings(found, axes):
            if not close(found.formula, pair[logarithm]) or found.root.is_op("Softmax"):
                continue
            if len(axes) != 1:
                return f"it is over the axes {', '.join(map(str, axes))}, the operator over one"
            rank = len(found.reader.shape or ())
            if found.graph.opset < _ONE_AXIS_SINCE and axes[0] != rank - 1:
                return f"axis {axes[0]} is not the last, and opset {found.graph.opset} < 13"
            name = "LogSoftmax" if logarithm else "Softmax"
            axis = axes[0] if found.graph.opset < _ONE_AXIS_SINCE else axes[0] - rank
            return lambda build: build.node(name, [found.leaf], attributes={"axis": axis}).output
    return None


class RaiseSoftmax(IdeasPass):
    """Write exponentials over their sum as Softmax, and its logarithm as LogSoftmax.

    Refuses: several axes; before opset 13, another axis than the last; an exponential that
    something else uses.
    """

    name: ClassVar[str] = "raise-softmax"
    ideas: ClassVar[tuple[Idea, ...]] = (
        Idea("softmax", lambda found: _match(found, logarithm=False)),
        Idea("log-softmax", lambda found: _match(found, logarithm=True)),
    )
    marks: ClassVar[Mapping[str, str]] = {
        "Exp": "softmax",
        "ReduceLogSumExp": "log-softmax",
        "Log": "log-softmax",
    }
