"""What is written: names, versions, provenance, and the same bytes each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from frontend.feature_models import (
    FEATURES,
    captures,
    const,
    f32,
    flag,
    graph,
    model,
    node,
    untyped,
)
from helpers import graph_from_text
from optc.emit.onnx import build_model, save_model, serialize
from optc.frontend.onnx import load_model
from optc.ir import (
    Attr,
    AttrKind,
    DType,
    Graph,
    ModelInfo,
    Origin,
    SparseTensor,
    Tensor,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import ModelProto

    from optc.ir import Value

_F32 = TensorType(DType.F32, (2,))
_ROOT = Path(__file__).resolve().parents[2]


def simple(ir_version: int = 8) -> tuple[Graph, Value]:
    made = Graph("main", {"": 21}, model=ModelInfo(ir_version=ir_version))
    return made, made.add_input("x", _F32)


def lines(graph: onnx.GraphProto) -> list[str]:
    return [f"{', '.join(n.output)} = {n.op_type}({', '.join(n.input)})" for n in graph.node]


def written(source: Graph) -> ModelProto:
    """The emitted model, checked."""
    result = onnx.ModelProto.FromString(serialize(source))
    onnx.checker.check_model(result, full_check=True)
    return result


# ---- names -------------------------------------------------------------------------------------


def test_a_value_takes_the_name_of_the_output_it_feeds() -> None:
    made, x = simple()
    value = made.add("Neg", [x], outputs=["inner"], types=[_F32]).output
    made.add("Abs", [value], outputs=["unused"])
    made.add_output(value, "y", _F32)
    result = written(made).graph
    assert lines(result) == ["y = Neg(x)", "unused = Abs(y)"]


def test_another_value_of_that_name_gets_a_new_one() -> None:
    made, x = simple()
    old = made.add("Neg", [x], outputs=["y"]).output
    new = made.add("Abs", [old], outputs=["z"]).output
    made.add_output(new, "y", _F32)
    assert lines(written(made).graph) == ["y_1 = Neg(x)", "y = Abs(y_1)"]


def test_outputs_may_change_places() -> None:
    made, x = simple()
    made.add_output(made.add("Abs", [x], outputs=["b"]).output, "a", _F32)
    made.add_output(made.add("Neg", [x], outputs=["a"]).output, "b", _F32)
    assert sorted(lines(written(made).graph)) == ["a = Abs(x)", "b = Neg(x)"]


@pytest.mark.parametrize("kind", ["input", "constant", "shared"])
def test_identity_where_a_name_is_not_enough(kind: str) -> None:
    made, x = simple()
    if kind == "constant":
        x = made.add_constant(Tensor.from_numpy(np.zeros(2, np.float32)), "c")
    if kind == "shared":
        x = made.add("Neg", [x], outputs=["n"]).output
        made.add_output(x, "n", _F32)
    made.add_output(x, "y", _F32)
    wanted = {"input": "x", "constant": "c", "shared": "n"}[kind]
    assert lines(written(made).graph)[-1] == f"y = Identity({wanted})"


def test_an_input_or_constant_may_be_an_output_under_its_own_name() -> None:
    made, x = simple()
    c = made.add_constant(Tensor.from_numpy(np.zeros(2, np.float32)), "c")
    made.add_output(x, "x", _F32)
    made.add_output(c, "c", _F32)
    assert lines(written(made).graph) == []


def test_a_captured_value_goes_by_its_outer_name() -> None:
    graph_ = load_model(captures())
    assert "outer" in _operands_inside(written(graph_).graph)
    graph_.rename(graph_.value("outer"), "renamed")
    assert "outer" not in _operands_inside(written(graph_).graph)
    assert "renamed" in _operands_inside(written(graph_).graph)


def test_a_captured_value_as_result_of_a_branch_is_copied() -> None:
    made, x = simple()
    cond = made.add_input("cond", TensorType(DType.BOOL, ()))
    branch = Graph("b", parent=made)
    branch.add_output(branch.add_capture("x", _F32), "x", _F32)
    other = Graph("o", parent=made)
    other.add_output(other.add_capture("x", _F32), "r", _F32)
    branches = {"then_branch": branch, "else_branch": other}
    attributes = {name: Attr(AttrKind.GRAPH, part) for name, part in branches.items()}
    node_ = made.add("If", [cond], outputs=["y"], attributes=attributes, captures={"x": x})
    made.add_output(node_.output, "y", _F32)
    parts = list(_subgraphs(written(made).graph))
    assert [lines(part) for part in parts] == [["x_1 = Identity(x)"], ["r = Identity(x)"]]


def _operands_inside(graph: onnx.GraphProto) -> set[str]:
    return {name for part in _subgraphs(graph) for node_ in part.node for name in node_.input}


def _subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node_ in graph.node:
        for item in node_.attribute:
            if item.HasField("g"):
                yield item.g
                yield from _subgraphs(item.g)


# ---- types -------------------------------------------------------------------------------------


def test_a_constant_as_result_of_a_branch_is_typed() -> None:
    branch = helper.make_graph([], "b", [], [untyped("k")], [const("k", 1, 2)])
    nodes = [
        node("If", ["cond"], ["z"], then_branch=branch, else_branch=branch),
        node("Neg", ["z"], ["y"]),
    ]
    result = written(load_model(model(graph(nodes, [flag("cond")], [f32("y", 2)]))))
    inferred = onnx.shape_inference.infer_shapes(result).graph.value_info
    assert [(info.name, info.type.tensor_type.elem_type) for info in inferred] == [("z", 1)]


def test_types_of_inner_values_are_written() -> None:
    made, x = simple()
    value = made.add("Neg", [x], outputs=["n"], types=[_F32]).output
    made.add_output(made.add("Abs", [value], outputs=["y"]).output, "y", _F32)
    assert [info.name for info in written(made).graph.value_info] == ["n"]


def test_an_undeclared_output_gets_the_type_of_its_value() -> None:
    made, x = simple()
    value = made.add("Neg", [x], outputs=["y"], types=[_F32]).output
    made.add_output(value, "y")
    assert written(made).graph.output[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_an_output_without_shape_gets_that_of_its_value() -> None:
    made, x = simple()
    value = made.add("Neg", [x], outputs=["y"], types=[_F32]).output
    made.add_output(value, "y", TensorType(DType.F32, None, denotation="IMAGE"))
    type = written(made).graph.output[0].type
    assert (type.denotation, type.tensor_type.shape.dim[0].dim_value) == ("IMAGE", 2)


# ---- versions ----------------------------------------------------------------------------------


_FLOAT = Tensor.from_numpy(np.zeros(2, np.float32))
_INDEX = Tensor.from_numpy(np.zeros(1, np.int64))
_VERSIONS: dict[str, tuple[Callable[[Graph], object], int]] = {
    "nothing new": (lambda g: None, 3),
    "constant": (lambda g: g.add_constant(_FLOAT, "c"), 4),
    "input with default": (lambda g: g.add_input("c", _F32, _FLOAT), 3),
    "bf16": (lambda g: g.add_input("c", TensorType(DType.BF16, ())), 4),
    "sparse": (lambda g: g.add_constant(SparseTensor(_FLOAT, _INDEX, (4,)), "c"), 6),
    "f8": (lambda g: g.add_input("c", TensorType(DType.F8E5M2, ())), 9),
    "i4": (lambda g: g.add_constant(Tensor.from_numpy(np.zeros(2), DType.I4), "c"), 10),
    "f4": (lambda g: g.add_input("c", TensorType(DType.F4E2M1, ())), 11),
    "e8m0": (lambda g: g.add_input("c", TensorType(DType.F8E8M0, ())), 12),
    "i2": (lambda g: g.add_input("c", TensorType(DType.I2, ())), 13),
    "f6": (lambda g: g.add_input("c", TensorType(DType.F6E2M3, ())), 14),
}


@pytest.mark.parametrize("name", _VERSIONS)
def test_ir_version_is_the_lowest_that_has_what_is_used(name: str) -> None:
    change, wanted = _VERSIONS[name]
    made, x = simple(ir_version=3)
    change(made)
    made.add_output(x, "x", _F32)
    assert build_model(made).ir_version == wanted


def test_ir_version_of_the_source_is_kept() -> None:
    made, x = simple(ir_version=12)
    made.add_output(x, "x", _F32)
    assert build_model(made).ir_version == 12


# ---- provenance --------------------------------------------------------------------------------


def _notes(made: Graph) -> dict[str, str]:
    return {p.key: p.value for p in written(made).graph.node[0].metadata_props}


def test_a_node_says_which_passes_made_it_from_what() -> None:
    made, x = simple()
    first = Origin("fold-batchnorm", ("conv,1", "bn"))
    node_ = made.add("Neg", [x], outputs=["y"], origin=Origin("fold-affine", (first, "mul")))
    node_.metadata = {"optc.pass": "an older run", "own": "kept"}
    made.add_output(node_.output, "y", _F32)
    assert _notes(made) == {
        "optc.pass": "fold-affine,fold-batchnorm",
        "own": "kept",
        "optc.sources": json.dumps(["conv,1", "bn", "mul"]),
    }


def test_nodes_of_the_source_say_nothing() -> None:
    made, x = simple()
    made.add_output(made.add("Neg", [x], outputs=["y"]).output, "y", _F32)
    assert _notes(made) == {}


def test_long_lists_of_sources_are_cut() -> None:
    made, x = simple()
    origin = Origin("fold-constants", tuple(f"n{i}" for i in range(1000)))
    made.add_output(made.add("Neg", [x], outputs=["y"], origin=origin).output, "y", _F32)
    sources = json.loads(_notes(made)["optc.sources"])
    assert (len(sources), sources[31:]) == (33, ["n31", "… and 968 more"])


def test_constants_say_where_they_come_from() -> None:
    made, x = simple()
    made.add_constant(_FLOAT, "c", Origin("fold-constants", ("shape",)))
    made.add_output(x, "x", _F32)
    (tensor,) = written(made).graph.initializer
    assert {p.key: p.value for p in tensor.metadata_props} == {
        "optc.pass": "fold-constants",
        "optc.sources": '["shape"]',
    }


def test_metadata_is_added_to_that_of_the_model(tmp_path: Path) -> None:
    made, x = simple()
    made.model.metadata.update({"own": "kept", "optc.version": "0"})
    made.add_output(x, "x", _F32)
    save_model(made, tmp_path / "m.onnx", metadata={"optc.version": "1"})
    result = onnx.load(tmp_path / "m.onnx")
    assert {p.key: p.value for p in result.metadata_props} == {"own": "kept", "optc.version": "1"}


# ---- validity and bytes ------------------------------------------------------------------------


def test_a_nameless_graph_gets_a_name() -> None:
    made = graph_from_text("agraph (float[2] x) => (float[2] y) { y = Neg(x) }")
    made.name = ""
    assert written(made).graph.name == "graph"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda item: item.__name__)
def test_build_save_and_serialize_agree(feature: Any, tmp_path: Path) -> None:
    source = load_model(feature())
    data = serialize(source)
    assert save_model(source, tmp_path / "m.onnx") == [tmp_path / "m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == data
    assert build_model(source) == onnx.ModelProto.FromString(data)


_SCRIPT = """
import hashlib, sys
sys.path.insert(0, "tests")
from frontend.feature_models import FEATURES
from optc.emit.onnx import serialize
from optc.frontend.onnx import load_model
data = b"".join(serialize(load_model(feature())) for feature in FEATURES)
sys.stdout.write(hashlib.sha256(data).hexdigest())
"""


def test_bytes_do_not_depend_on_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            cwd=_ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_the_skeleton_has_types_of_large_constants_and_data_of_small_ones() -> None:
    weight = const("w", *range(2000))
    small = const("s", *range(1000))
    branch = helper.make_graph([], "b", [], [untyped("k")], [const("k", *range(2000))])
    cond = flag("cond")
    nodes = [
        node("If", ["cond"], ["z"], then_branch=branch, else_branch=branch),
        node("Add", ["w", "z"], ["y"]),
    ]
    source = load_model(model(graph(nodes, [cond], [f32("y", 2000)], [weight, small])))
    skeleton = build_model(source, skeleton=True)
    sizes = {t.name: len(t.raw_data) for t in skeleton.graph.initializer}
    assert sizes == {"w": 0, "s": 4000}
    assert len(skeleton.SerializeToString()) < 5000
    (info,) = onnx.shape_inference.infer_shapes(skeleton).graph.value_info
    assert (info.name, info.type.tensor_type.shape.dim[0].dim_value) == ("z", 2000)
