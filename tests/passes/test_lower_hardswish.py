"""lower-hardswish: HardSigmoid times its input becomes HardSwish, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_keeps, assert_refuses, run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.lower_hardswish import LowerHardswish

HALF = "alpha = 0.16666667, beta = 0.5"


def product(order: str, attributes: str = HALF) -> str:
    return f"""
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x) => (float[N,4] y)
    {{
       [s] a = HardSigmoid <{attributes}> (x)
       [m] y = Mul ({order})
    }}
    """


EXPECTED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,4] y) { y = HardSwish (x) }
"""


@pytest.mark.parametrize("order", ["x, a", "a, x"])
@pytest.mark.parametrize("slope", ["0.16666667", "0.1666667"])
def test_the_product_in_either_order(order: str, slope: str) -> None:
    graph = graph_from_text(product(order, f"alpha = {slope}, beta = 0.5"))
    source = clone(graph)
    result = run_pass(LowerHardswish(), graph)
    assert result.changed
    assert dict(result.counts) == {"hardsigmoid-product": 1}
    assert print_graph(graph) == print_graph(graph_from_text(EXPECTED))
    feeds = seeded(source)
    # A slope of 0.1666667 is 1/6 but for its last digits: 4e-7 of the result.
    (wanted,), (found,) = run(source, feeds).values(), run(graph, feeds).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_the_default_slope_is_another_function() -> None:
    assert_refuses(
        LowerHardswish(),
        product("x, a", "alpha = 0.2, beta = 0.5"),
        "m: alpha 0.2 and beta 0.5 are not those of HardSwish",
    )
    assert_refuses(
        LowerHardswish(),
        product("x, a", "alpha = 0.16666667, beta = 0.4"),
        "m: alpha 0.166667 and beta 0.4 are not those of HardSwish",
    )


def test_an_opset_without_hardswish() -> None:
    text = product("x, a").replace("17", "13")
    assert_refuses(LowerHardswish(), text, "m: opset 13 < 14, which has HardSwish")


def test_a_sigmoid_that_is_used_elsewhere() -> None:
    text = product("x, a").replace("[N,4] y)", "[N,4] y, float[N,4] z)")
    text = text.replace("Mul (x, a)", "Mul (x, a)\n       z = Neg (a)")
    assert_refuses(LowerHardswish(), text, "m: HardSigmoid output also feeds z")


def test_another_factor() -> None:
    text = product("x, a").replace("g (float[N,4] x)", "g (float[N,4] x, float[N,4] w)")
    assert_keeps(LowerHardswish(), text.replace("Mul (x, a)", "Mul (w, a)"))
