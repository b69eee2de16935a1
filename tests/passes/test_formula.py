"""Formulas: spellings of one function are equal, and what is larger than any idea is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from optc.ir import Graph, Tensor
from optc.passes import formula_functions as functions
from optc.passes.formula import Formula, FormulaTooLongError, X, close, number, sigmoid

if TYPE_CHECKING:
    from collections.abc import Callable

M = functions.mean(X, (1,))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((number(1) + functions.exp(X.times(-1))).power(-1), sigmoid(X)),
        ((functions.tanh(X.times(0.5)) + number(1)).times(0.5), sigmoid(X)),
        (functions.erf(X.times(-2)), functions.erf(X.times(2)).times(-1)),
        (functions.relu(X.times(-3)), (functions.relu(X) - X).times(3)),
        (functions.mean((X - M) * (X - M), (1,)), functions.mean(X * X, (1,)) - M * M),
        (functions.step(X) * X, functions.relu(X)),
    ],
)
def test_spellings_of_one_function_are_equal(one: Formula, other: Formula) -> None:
    assert close(one, other)
    assert not close(one, other + number(1e-3))
    assert not close(one.times(1 + 1e-5), other)


def nested() -> Formula:
    found = X
    for shift in range(1, 8):
        found = functions.exp(found) + number(shift)
    return found


def many_terms() -> Formula:
    found = X
    for shift in range(1, 40):
        found = found + functions.relu(X + number(shift))
    return found


def many_parameters() -> Formula:
    graph = Graph("g", {"": 17})
    found = X
    for index in range(5):
        tensor = Tensor.from_numpy(np.ones(2, np.float32))
        found = found + functions.parameter(graph.add_constant(tensor, f"c{index}"))
    return found


@pytest.mark.parametrize("make", [nested, many_terms, many_parameters])
def test_what_is_larger_than_any_idea_is_given_up(make: Callable[[], Formula]) -> None:
    with pytest.raises(FormulaTooLongError):
        make()
