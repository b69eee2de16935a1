"""lower-pads: wide padding of convolutions becomes a Pad where kernels are slow at the border."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.lower_pads import LowerPads, LowerPadsOptions


def model(attributes: str, *, taps: int = 31, width: str = "64", opset: int = 13) -> Graph:
    values = ",".join(str(0.01 * (i % 7)) for i in range(16 * 4 * taps))
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,4,3,{width}] x) => (float[N,16,H,W] y)
        <float[16,4,1,{taps}] w = {{{values}}}>
        {{ [c] y = Conv <{attributes}> (x, w) }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize(
    ("attributes", "rest", "added"),
    [
        ("pads = [0,15,0,15]", [0, 0, 0, 0], (15, 15)),
        ("pads = [1,14,2,16], strides = [1,2]", [1, 0, 2, 0], (14, 16)),
        ("pads = [0,30,0,0], dilations = [1,1]", [0, 0, 0, 0], (30, 0)),
    ],
)
def test_the_last_axis_is_padded_before(
    attributes: str, rest: list[int], added: tuple[int, int], opset: int
) -> None:
    graph = model(attributes, opset=opset)
    source = clone(graph)
    result = run_pass(LowerPads(LowerPadsOptions(least_work=1)), graph)
    assert dict(result.counts) == {"conv-pads": 1}
    pad, conv = graph.ordered()
    assert pad.is_op("Pad")
    assert (conv.name, list(conv.get("pads"))) == ("c", rest)
    amounts = graph.operand(pad, 1)
    if amounts is None:
        written = list(pad.get("pads"))
    else:
        assert amounts.constant is not None
        written = list(amounts.constant.numpy())
    assert written == [0, 0, 0, added[0], 0, 0, 0, added[1]]
    feeds = seeded(source, size=2)
    # Sums of 124 products, which a kernel may add up in another order.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-5, strict=True
    )


def test_what_pays_is_decided_by_the_work_at_the_border() -> None:
    """30 of 64 places in 3 rows: 30 x 3 x 16 x 4 x 31 products, on 4 x 3 x 94 padded elements."""
    work = 30 * 3 * 16 * 4 * 31 / (4 * 3 * 94)
    for least, count in ((int(work), 1), (int(work) + 1, 0)):
        graph = model("pads = [0,15,0,15]")
        result = run_pass(LowerPads(LowerPadsOptions(least_work=least)), graph)
        assert sum(result.counts.values()) == count


@pytest.mark.parametrize(
    ("attributes", "taps"), [("pads = [0,2,0,2]", 5), ("pads = [3,0,3,0]", 31), ("group = 1", 31)]
)
def test_narrow_windows_and_other_axes_stay(attributes: str, taps: int) -> None:
    graph = model(attributes, taps=taps)
    result = run_pass(LowerPads(LowerPadsOptions(least_work=0)), graph)
    assert not result.changed
    assert not result.refusals


@pytest.mark.parametrize(
    ("attributes", "width", "reason"),
    [
        ('auto_pad = "SAME_UPPER"', "64", "it pads by auto_pad SAME_UPPER"),
        ("pads = [0,15,0,15]", "L", "the sizes of its data are not known"),
    ],
)
def test_it_refuses(attributes: str, width: str, reason: str) -> None:
    graph = model(attributes, width=width)
    result = run_pass(LowerPads(), graph)
    assert not result.changed
    assert [(r.rule, r.node, r.reason) for r in result.refusals] == [("conv-pads", "c", reason)]


def test_a_quantized_convolution_stays() -> None:
    values = ",".join(str(i % 7) for i in range(16 * 4 * 31))
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 13]>
        g (uint8[N,4,3,64] x) => (float[N,16,3,64] y)
        <int8[16,4,1,31] w = {{{values}}}, float s = {{0.1}}> {{
          d = DequantizeLinear (x, s)
          v = DequantizeLinear (w, s)
          [c] y = Conv <pads = [0,15,0,15]> (d, v)
        }}
        """
    )
    InferShapes().apply(graph, PassContext())
    result = run_pass(LowerPads(LowerPadsOptions(least_work=0)), graph)
    assert not result.changed
    assert [r.reason for r in result.refusals] == ["it is quantized, and a Pad would stand between"]
