"""omit-zero-points: zero points of weights that are all zero are left out."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.emit.openvino import save_ir
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.omit_zero_points import OmitZeroPoints
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from pathlib import Path


def model(zero: str = "0,0,0,0") -> Graph:
    """Two convolutions whose weights share their zero points."""
    numbers = ",".join(str(n) for n in np.random.default_rng(0).integers(-127, 128, 16))
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4,A,B] x) => (float[N,4,A,B] y)
        <int8[4,4,1,1] p = {{{numbers}}}, int8[4,4,1,1] q = {{{numbers}}},
         float xs = {{0.02}}, uint8 xz = {{7}}, float[4] s = {{0.1, 0.2, 0.3, 0.4}},
         int8[4] z = {{{zero}}}>
        {{
            xq = QuantizeLinear (x, xs, xz)
            xd = DequantizeLinear (xq, xs, xz)
            v = DequantizeLinear <axis = 0> (p, s, z)
            a = Conv (xd, v)
            aq = QuantizeLinear (a, xs, xz)
            ad = DequantizeLinear (aq, xs, xz)
            w = DequantizeLinear <axis = 0> (q, s, z)
            y = Conv (ad, w)
        }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


def test_zeros_are_left_out() -> None:
    graph = model()
    source = clone(graph)
    result = run_pass(OmitZeroPoints(), graph)
    assert dict(result.counts) == {"omit-zero-point": 2}
    assert not graph.has_value("z")
    feeds = seeded(source)
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


def test_other_zero_points_stay_and_so_do_those_of_activations() -> None:
    assert not run_pass(OmitZeroPoints(), model("0,1,0,0")).changed


@pytest.mark.skipif(
    "avx2" not in host_capabilities() or importlib.util.find_spec("openvino") is None,
    reason="kernels for int8",
)
def test_openvino_computes_on_integers(tmp_path: Path) -> None:
    import openvino

    def kernels(graph: Graph, name: str) -> set[str]:
        save_ir(graph, tmp_path / f"{name}.xml")
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        found = openvino.Core().compile_model(tmp_path / f"{name}.xml", "CPU", hint)
        layers = [layer.get_rt_info() for layer in found.get_runtime_model().get_ordered_ops()]
        return {
            str(layer["primitiveType"].value).rpartition("_")[2].lower()
            for layer in layers
            if layer["layerType"].value == "Convolution"
        }

    graph = model()
    OmitZeroPoints().apply(graph, PassContext())
    assert kernels(graph, "without") == {"i8"}
