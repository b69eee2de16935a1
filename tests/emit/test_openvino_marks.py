"""What keeps the marks of fp32 operations from being lost, as it stands in the IR."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers import graph_from_text
from optc.emit.openvino import save_ir
from optc.ir import Graph, Tensor
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

BODY = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,8] x, float[8,8] w, float[8] b) => (float[N,8] y)
{
  [first] a = MatMul (x, w)
  [bias] c = Add (a, b)
  [soft] s = Softmax (c)
  [dense] d = Gemm <transB = 1> (s, w, b)
  [free] f = MatMul (d, w)
  [shift] y = Add (f, b)
}
"""


def graph() -> Graph:
    made = graph_from_text(BODY)
    drawn = np.random.default_rng(0)
    for name, shape in (("w", (8, 8)), ("b", (8,))):
        old = made.value(name)
        array = drawn.standard_normal(shape, np.float32)
        new = made.add_constant(Tensor.from_numpy(array), made.fresh_name(name))
        made.replace_uses(old, new)
        made.remove(old.node)
        made.rename(new, name)
    return made


def layers(path: Path) -> dict[str, Element]:
    root = ElementTree.fromstring(path.read_bytes())
    return {layer.get("name", ""): layer for layer in root.iter("layer")}


def marked(path: Path) -> set[str]:
    wanted = "rt_info/attribute[@name='precise'][@version='0']"
    return {name for name, layer in layers(path).items() if layer.find(wanted) is not None}


def saved(path: Path, *labels: str) -> Path:
    made = graph()
    keep = [node for node in made.nodes() if node.label in labels]
    assert len(keep) == len(labels)
    return save_ir(made, path, keep_f32=keep)[0]


def test_a_product_with_a_bias_is_followed_by_a_clamp(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.xml", "first", "bias", "dense")
    found = layers(path)
    assert found["first/Clamp"].get("type") == "Clamp"
    assert {"first", "first/Clamp", "bias", "dense"} <= marked(path)
    clamps = [name for name, layer in found.items() if layer.get("type") == "Clamp"]
    assert len(clamps) == 2  # of the MatMul and of the Gemm; the others are not to be kept
    assert all(name in marked(path) for name in clamps)
    data = found["first/Clamp"].find("data")
    assert data is not None
    largest = float(np.finfo(np.float32).max)
    assert np.float32(data.get("max", "0")) == np.float32(largest)
    assert not {"free", "shift"} & marked(path)


def test_softmax_becomes_that_of_opset_1(tmp_path: Path) -> None:
    plain = layers(saved(tmp_path / "plain.xml"))["soft"]
    kept = layers(saved(tmp_path / "kept.xml", "soft"))["soft"]
    assert (plain.get("version"), kept.get("version")) == ("opset8", "opset1")
    data = kept.find("data")
    assert data is not None
    assert data.get("axis") == "1"


def test_nothing_is_added_where_nothing_is_kept(tmp_path: Path) -> None:
    kinds = [layer.get("type") for layer in layers(saved(tmp_path / "m.xml")).values()]
    assert "Clamp" not in kinds
    assert not marked(tmp_path / "m.xml")


def test_kept_operations_compute_the_same_under_the_hint_f32(tmp_path: Path) -> None:
    options = LaunchOptions.default("openvino")
    x = np.random.default_rng(1).standard_normal((5, 8), np.float32)
    results: list[Any] = [
        open_engine(path, options).run({"x": x})["y"]
        for path in (
            saved(tmp_path / "plain.xml"),
            saved(tmp_path / "kept.xml", "first", "bias", "soft", "dense"),
        )
    ]
    # Both sum eight products in float32, perhaps in another order, three times over.
    bound = 24 * 2.0**-24 * np.abs(results[0]).max()
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=bound)
