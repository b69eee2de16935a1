"""Weights of ONNX models in half the bits: which, how they are rounded, and what is computed."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import optc
from helpers import graph_from_text
from optc.emit.onnx import serialize
from optc.emit.storage import store_weights
from optc.errors import CapabilityError
from optc.ir import DType, Graph, Tensor
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.evaluate import open_session

ROOT = Path(__file__).resolve().parents[2]
MOBILENET = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"


def graph(opset: int = 17, *, mask: float = 0.5) -> Graph:
    made = graph_from_text(f"""
    <ir_version: 8, opset_import: ["" : {opset}]>
    g (float[2,4] x, float[4,3] w, float[4,3] mask) => (float[2,3] y)
    <float[3] b = {{0.1, 0.2, 0.3}}>
    {{ [prod] p = MatMul (x, w) [bias] a = Add (p, b) m = MatMul (x, mask) y = Add (a, m) }}
    """)
    numbers = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    for name, array in (("w", numbers), ("mask", np.full((4, 3), mask, np.float32))):
        old = made.value(name)
        new = made.add_constant(Tensor.from_numpy(array), made.fresh_name(name))
        made.replace_uses(old, new)
        made.remove(old.node)
        made.rename(new, name)
    return made


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_matrices_are_stored_rounded_and_computed_with_in_fp32(dtype: DType) -> None:
    source = graph()
    before = print_graph(source)
    made = store_weights(source, dtype)
    assert print_graph(source) == before
    assert verify(made) == ()
    stored = {v.name: v.constant.dtype for v in made.constants() if v.constant is not None}
    assert stored == {f"w/{dtype.value}": dtype, f"mask/{dtype.value}": dtype, "b": DType.F32}
    x = np.random.default_rng(1).standard_normal((2, 4), np.float32)
    (found,) = open_session(serialize(made)).run({"x": x}).values()
    weight = source.value("w").constant
    assert weight is not None
    wide = weight.numpy().astype(dtype.numpy).astype(np.float32)
    bias = np.array([0.1, 0.2, 0.3], np.float32)
    expected = x @ wide + bias + x @ np.full((4, 3), 0.5, np.float32)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * 2.0**-24 * np.abs(expected).max())


def test_numbers_that_would_become_infinite_stay() -> None:
    lowest = float(np.finfo(np.float32).min)
    made = store_weights(graph(mask=lowest), DType.BF16)
    kinds = {v.name: v.constant.dtype for v in made.constants() if v.constant is not None}
    assert kinds["mask"] is DType.F32  # bf16 has no -3.4028235e38
    assert kinds["w/bf16"] is DType.BF16
    bits = made.value("w/bf16").constant
    source = graph().value("w").constant
    assert bits is not None
    assert source is not None
    assert np.array_equal(bits.numpy(), source.numpy().astype(ml_dtypes.bfloat16))


def test_an_opset_without_the_cast_is_refused() -> None:
    with pytest.raises(CapabilityError, match="Cast has bfloat16 from opset 13 on") as caught:
        store_weights(graph(12), DType.BF16)
    assert caught.value.code == "opset-too-low"
    assert "emit: {opset: 13}" in str(caught.value.hint)
    store_weights(graph(12), DType.F16)


def test_a_compiled_model_is_half_the_size_and_verified(tmp_path: Path) -> None:
    recipe = {"schema_version": 1, "model": str(MOBILENET), "targets": ["clx"]}
    sizes = {}
    for weights in ("f32", "bf16", "f16"):
        emit = {"emit": {"weights": weights}} if weights != "f32" else {}
        result = optc.compile({**recipe, **emit}, output=tmp_path / weights)
        artifact = result.artifacts["cascadelake"]
        assert artifact.verification is not None
        assert artifact.verification.comparison.passed
        sizes[weights] = artifact.model.stat().st_size
    assert sizes["bf16"] < 0.65 * sizes["f32"]
    assert sizes["f16"] < 0.65 * sizes["f32"]
