from __future__ import annotations

import numpy as np
import onnx.parser
from hypothesis import given, settings
from onnx import numpy_helper

from helpers.linear_models import LinearModel, affine_steps, build, linear_models, majorant, run
from helpers.promises import run_pass
from optc.emit.onnx import serialize
from optc.frontend.onnx import load_model
from optc.passes.fold_affine import FoldAffine


@settings(max_examples=200, deadline=None, derandomize=True)
@given(linear_models(affine_steps(), affine_steps()))
def test_results_agree(model: LinearModel) -> None:
    proto, x = build(model)
    graph = load_model(proto)
    run_pass(FoldAffine(), graph)
    # An element sums `taps` products; per step the source rounds once, the result at most three
    # times (the constant, the reciprocal, the product). Each rounding is at most 2^-24 of the sum
    # of magnitudes of all terms, which the majorant bounds.
    bound = 2 * (model.taps + 8 + 4 * model.depth) * 2.0**-24 * run(majorant(proto), np.abs(x))
    difference = run(proto, x).astype(np.float64) - run(serialize(graph), x)
    assert (np.abs(difference) <= bound).all()


def test_results_agree_in_f16() -> None:
    text = """g (float16[2,4,6,6] x) => (float16[2,4,6,6] y)
        <float16[4,2,3,3] w, float16[4,1,1] s, float16 t> {
          a = Mul(x, s)  b = Conv <pads = [1, 1, 1, 1], group = 2> (a, w)
          c = Mul(b, s)  y = Add(c, t) }"""
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    arrays = {"w": (4, 2, 3, 3), "s": (4, 1, 1), "t": ()}
    model.graph.initializer.extend(
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float16), name)
        for name, shape in arrays.items()
    )
    graph = load_model(model)
    assert run_pass(FoldAffine(), graph).counts == {"affine-conv": 1, "conv-affine": 2}
    x = rng.standard_normal((2, 4, 6, 6)).astype(np.float16)
    # Products are summed in f32; what is stored (weight twice, bias, each result) rounds to f16.
    bound = 2 * 8 * 2.0**-11 * run(majorant(model), np.abs(x)).astype(np.float64)
    difference = run(model, x).astype(np.float64) - run(serialize(graph), x)
    assert (np.abs(difference) <= bound).all()
