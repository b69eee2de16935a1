"""Sessions on onnxruntime: types of all kinds in and out, errors, files."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from optc.errors import ModelError
from optc.ir.types import DType, MapType, OptionalType, SequenceType, TensorType
from optc.numerics.evaluate import Session, failing_node, open_session, reference_run

Load = Callable[..., Session]

F32 = DType.F32
ONES = np.ones((2, 3), np.float32)


def one(values: object) -> np.ndarray:
    assert isinstance(values, np.ndarray)
    return values


# ---- values ------------------------------------------------------------------------------------


def test_a_session_knows_its_inputs_and_outputs_in_order(load: Load) -> None:
    session = load(
        "g (float[N,3] b, int64[2] a) => (float[N,3] y, int64[2] z) { y = Relu(b) z = Identity(a) }"
    )
    assert dict(session.inputs) == {
        "b": TensorType(F32, ("N", 3)),
        "a": TensorType(DType.I64, (2,)),
    }
    assert list(session.inputs) == ["b", "a"]
    assert list(session.outputs) == ["y", "z"]


def test_outputs_come_by_name_in_the_order_asked_for(load: Load) -> None:
    session = load("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Neg(x) }")
    found = session.run({"x": np.array([-1, 2], np.float32)}, ["z", "y"])
    assert list(found) == ["z", "y"]
    assert one(found["z"]).tolist() == [1, -2]


def test_an_input_with_a_default_may_be_left_out_or_given(load: Load) -> None:
    session = load("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Add(x, w) }")
    zeros = np.zeros(2, np.float32)
    assert dict(session.inputs) == {"x": TensorType(F32, (2,))}
    assert dict(session.defaults) == {"w": TensorType(F32, (2,))}
    assert one(session.run({"x": zeros})["y"]).tolist() == [1, 2]
    assert one(session.run({"x": zeros, "w": zeros})["y"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bfloat16", DType.BF16),
        ("float8e4m3fn", DType.F8E4M3FN),
        ("float8e4m3fnuz", DType.F8E4M3FNUZ),
        ("float8e5m2", DType.F8E5M2),
        ("float8e5m2fnuz", DType.F8E5M2FNUZ),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_small_floats_pass_through(
    load: Load, name: str, dtype: DType, shape: tuple[int, ...]
) -> None:
    dims = f"[{','.join(map(str, shape))}]" if shape else ""
    session = load(f"g ({name}{dims} x) => ({name}{dims} y) {{ y = Identity(x) }}")
    given = np.full(shape, 1.5).astype(dtype.numpy)
    found = one(session.run({"x": given})["y"])
    assert session.inputs["x"] == TensorType(dtype, shape or None)
    assert found.dtype == dtype.numpy
    assert found.shape == shape
    assert found.tobytes() == given.tobytes()


@pytest.mark.parametrize(
    ("name", "dtype", "values"),
    [
        ("int4", DType.I4, [-8, -1, 0, 1, 7]),
        ("uint4", DType.U4, [0, 1, 2, 9, 15]),
        ("int2", DType.I2, [-2, -1, 0, 1, 1]),  # since opset 25
        ("uint2", DType.U2, [0, 1, 2, 3, 3]),
    ],
)
def test_packed_integers_go_in_and_come_out(
    load: Load, name: str, dtype: DType, values: list[int]
) -> None:
    text = (
        f"g ({name}[5] x, float[5] f) => (float[5] y, {name}[5] z) "
        f"{{ y = Cast<to = 1>(x) z = Cast<to = {dtype.onnx}>(f) }}"
    )
    found = load(text, opset=25 if dtype.bits == 2 else 22).run(
        {"x": np.array(values).astype(dtype.numpy), "f": np.array(values, np.float32)}
    )
    assert one(found["y"]).tolist() == values
    assert one(found["z"]).dtype == dtype.numpy
    assert one(found["z"]).astype(int).tolist() == values


def test_a_raw_output_comes_together_with_plain_ones_and_sequences(load: Load) -> None:
    session = load(
        "g (float[2] x) => (bfloat16[2] b, seq(float[2]) s, float[2] y) "
        "{ b = Cast<to = 16>(x) s = SequenceConstruct(x, x) y = Neg(x) }"
    )
    found = session.run({"x": np.array([1, 2], np.float32)})
    assert list(found) == ["b", "s", "y"]
    assert one(found["b"]).dtype == np.dtype(ml_dtypes.bfloat16)
    assert isinstance(found["s"], list)
    assert len(found["s"]) == 2
    assert one(found["y"]).tolist() == [-1, -2]


def test_a_raw_output_beside_a_sequence_input_is_a_clear_error(load: Load) -> None:
    session = load(
        "g (seq(float[2]) s, float[2] x) => (bfloat16[2] b, int64 n) "
        "{ b = Cast<to = 16>(x) n = SequenceLength(s) }"
    )
    with pytest.raises(ModelError, match="a sequence or map, in a model with outputs that numpy"):
        session.run({"s": [ONES[0, :2]], "x": ONES[0, :2]})


def test_sequences_go_in_and_come_out_even_empty(load: Load) -> None:
    session = load(
        "g (seq(float[N,3]) s, float[M,3] x) => (seq(float[N,3]) o) { o = SequenceInsert(s, x) }"
    )
    assert session.inputs["s"] == SequenceType(TensorType(F32))
    found = session.run({"s": [], "x": ONES})["o"]
    assert isinstance(found, list)
    assert one(found[0]).tolist() == ONES.tolist()


def test_an_absent_optional_is_none_or_left_out(load: Load) -> None:
    session = load("g (optional(float[2]) o) => (bool h) { h = OptionalHasElement(o) }")
    assert session.inputs["o"] == OptionalType(TensorType(F32, (2,)))
    assert one(session.run({"o": ONES[0, :2]})["h"]).item() is True
    assert one(session.run({"o": None})["h"]).item() is False
    assert one(session.run({})["h"]).item() is False


def test_an_absent_optional_comes_out_as_none(load: Load) -> None:
    empty = onnx.helper.make_node(
        "Optional", [], ["o"], type=onnx.helper.make_tensor_type_proto(1, [2])
    )
    kind = onnx.helper.make_optional_type_proto(onnx.helper.make_tensor_type_proto(1, [2]))
    graph = onnx.helper.make_graph([empty], "g", [], [onnx.helper.make_value_info("o", kind)])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    assert open_session(model.SerializeToString()).run({}) == {"o": None}


def test_maps_go_in(load: Load) -> None:
    session = load(
        "g (map(string, float) m) => (float[1,N] o) "
        '{ o = ai.onnx.ml.DictVectorizer<string_vocabulary = ["a", "b"]>(m) }'
    )
    assert session.inputs["m"] == MapType(DType.STRING, TensorType(F32))
    assert one(session.run({"m": {"a": 1.0, "b": 2.0}})["o"]).tolist() == [[1, 2]]


def test_maps_come_out_as_dictionaries(load: Load) -> None:
    session = load(
        "g (float[N,2] x) => (seq(map(string, float)) o) "
        '{ o = ai.onnx.ml.ZipMap<classlabels_strings = ["a", "b"]>(x) }'
    )
    assert session.outputs["o"] == SequenceType(MapType(DType.STRING, TensorType(F32)))
    assert session.run({"x": np.array([[1, 2]], np.float32)})["o"] == [{"a": 1.0, "b": 2.0}]


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "é"], dtype=object),
        np.array([b"a", "é".encode()], dtype=object),
        np.array(["a", "é"]),
        np.array([b"a", "é".encode()]),
    ],
    ids=["objects", "bytes objects", "unicode", "bytes"],
)
def test_strings_of_every_kind_are_text(load: Load, array: np.ndarray) -> None:
    session = load("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    assert one(session.run({"x": array})["y"]).tolist() == ["a", "é"]


def test_bytes_that_are_no_text_are_refused(load: Load) -> None:
    session = load("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    with pytest.raises(ModelError, match="surrogate"):
        session.run({"x": np.array([b"\xff"], dtype=object)})


def test_zero_size_and_zero_dimensional_tensors_pass(load: Load) -> None:
    session = load("g (float[N,3] x, float s) => (float[N,3] y) { y = Add(x, s) }")
    for scalar in (np.ones((), np.float32), np.float32(1)):
        found = session.run({"x": np.zeros((0, 3), np.float32), "s": scalar})
        assert one(found["y"]).shape == (0, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(12, dtype=np.float32)[::2].reshape(2, 3) / 2,
    ],
    ids=["column-major", "big-endian", "strided"],
)
def test_memory_layout_and_byte_order_do_not_matter(load: Load, array: np.ndarray) -> None:
    session = load("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }")
    assert one(session.run({"x": array})["y"]).tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model with its weight in a file beside it."""
    weight = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"], name="n")],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [3])],
        [onnx.helper.make_tensor_value_info("y", 1, [3])],
        [weight],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    return path


def test_external_data_is_found_beside_a_file(external: Path) -> None:
    assert one(open_session(external).run({"x": ONES[0]})["y"]).tolist() == [1, 2, 3]


def test_external_data_is_found_in_the_folder_given_with_bytes(external: Path) -> None:
    session = open_session(external.read_bytes(), external_dir=external.parent)
    assert one(session.run({"x": ONES[0]})["y"]).tolist() == [1, 2, 3]


def test_a_missing_file_is_an_error_that_names_it() -> None:
    with pytest.raises(ModelError, match="doesn't exist") as caught:
        open_session(Path("/nowhere/model.onnx"))
    assert (caught.value.code, caught.value.location) == ("runtime-cannot-load", "model.onnx")


def test_nothing_is_printed_or_logged(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        open_session(b"not a model")
    session = load("g (float[2] x, int64[1] s) => (float[N] y) { y = Reshape(x, s) }")
    with pytest.raises(ModelError):
        session.run({"x": np.ones(2, np.float32), "s": np.array([3])})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("optimize", ["none", "basic", "extended", "all"])
def test_threads_and_optimization_can_be_chosen(
    build: Callable[..., bytes], threads: int, optimize: str
) -> None:
    model = build("g (float[2] x) => (float[2] y) { t = Identity(x) y = Neg(t) }")
    session = open_session(model, threads=threads, optimize=optimize)  # type: ignore[arg-type]  # parametrized
    assert one(session.run({"x": ONES[0, :2]})["y"]).tolist() == [-1, -1]


# ---- errors ------------------------------------------------------------------------------------

CANNOT_LOAD = [
    (
        "g (bfloat16[2] x) => (bfloat16[2] y) { [add 'it'] y = Add(x, x) }",
        "add 'it'",
        "onnxruntime: Could not find an implementation for Add(14) node with name 'add 'it''",
    ),
    (
        "g (float[2,3] x, float[4,4] w) => (float[N,M] y) { [mm (1)] y = MatMul(x, w) }",
        "mm (1)",
        "onnxruntime: Node (mm (1)) Op (MatMul) [ShapeInferenceError] Incompatible dimensions for "
        "matrix multiplication",
    ),
    (
        "g (int64[2] x, float[2] w) => (float[2] y) { [sum] y = Add(x, w) }",
        "sum",
        "onnxruntime: Type Error: Type parameter (T) of Optype (Add) bound to different types "
        "(tensor(int64) and tensor(float) in node (sum).",
    ),
    (
        "g (float[2] x) => (int64[2] y) { [relu] y = Relu(x) }",
        "relu",
        "onnxruntime: Type Error: Type (tensor(int64)) of output arg (y) of node (relu) does not "
        "match expected type (tensor(float)).",
    ),
    (
        "g (float[2] x) => (float[2] y) { [a/b] y = Relu(x, x) }",
        "a/b",
        'onnxruntime: This is an invalid model. In Node, ("a/b", Relu, "", -1) : '
        '("x": tensor(float),"x": tensor(float),) -> ("y": tensor(float),) , Error Node(a/b) with '
        "schema(::Relu:14) has input size 2 not in range [min=1, max=1].",
    ),
    (
        "g (string[2] x) => (string[2] y) { [q] y = Relu(x) }",
        "q",
        "onnxruntime: This is an invalid model. Type Error: Type 'tensor(string)' of input "
        "parameter (x) of operator (Relu) in node (q) is invalid.",
    ),
    (
        "g (float[2] x) => (float[2] y) { [n] y = Relu(missing) }",
        None,
        "onnxruntime: Invalid model. Node input 'missing' is not a graph input, initializer, or "
        "output of a previous node.",
    ),
]


@pytest.mark.parametrize(("text", "node", "message"), CANNOT_LOAD)
def test_a_model_that_does_not_load_names_the_node(
    build: Callable[..., bytes], text: str, node: str | None, message: str
) -> None:
    model = onnx.ModelProto.FromString(build(text.replace(f"[{node}]", "")))
    model.graph.node[0].name = node or ""
    with pytest.raises(ModelError) as caught:
        open_session(model.SerializeToString())
    assert caught.value.code == "runtime-cannot-load"
    assert caught.value.message == message
    assert failing_node(caught.value) == node


def test_a_missing_kernel_has_a_hint(build: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError) as caught:
        open_session(build("g (bfloat16[2] x) => (bfloat16[2] y) { y = Add(x, x) }"))
    assert caught.value.hint == "onnxruntime has no CPU kernel for these element types"
    assert failing_node(caught.value) is None  # the node has no name


def test_a_node_that_fails_at_run_time_is_named_without_source_places(
    build: Callable[..., bytes],
) -> None:
    model = onnx.ModelProto.FromString(
        build("g (float[2] x, int64[1] s) => (float[N] y) { y = Reshape(x, s) }")
    )
    model.graph.node[0].name = "the 'reshape'"
    session = open_session(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        session.run({"x": np.ones(2, np.float32), "s": np.array([7])})
    assert caught.value.code == "runtime-failed"
    assert failing_node(caught.value) == "the 'reshape'"
    assert caught.value.message.startswith(
        "onnxruntime: Non-zero status code returned while running Reshape node. Name:'the "
        "'reshape'' Status Message: input_shape_size == "
    )
    assert caught.value.message.endswith("Input shape:{2}, requested shape:{7}")


def test_a_failure_in_a_subgraph_names_the_outer_node() -> None:
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running If node. "
        "Name:'outer' Status Message: Non-zero status code returned while running Reshape node. "
        "Name:'inner' Status Message: no"
    )
    assert failing_node(text) == "outer"


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"Required inputs \(\['x'\]\) are missing"),
        ({"x": ONES, "q": ONES}, "Invalid input name: q"),
        ({"x": ONES.astype(np.float64)}, r"Actual: \(tensor\(double\)\) , expected"),
        ({"x": ONES[:, :2]}, "invalid dimensions for input: x .* index: 1 Got: 2 Expected: 3"),
        ({"x": ONES[0]}, "Invalid rank for input: x Got: 1 Expected: 2"),
    ],
)
def test_wrong_inputs_are_clear_errors(
    load: Load, feeds: dict[str, np.ndarray], message: str
) -> None:
    session = load("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match=message):
        session.run(feeds)


# ---- the reference evaluator -------------------------------------------------------------------


def test_the_reference_evaluator_runs_what_onnxruntime_cannot(build: Callable[..., bytes]) -> None:
    model = build("g (bfloat16[2] x) => (bfloat16[2] y) { y = Add(x, x) }")
    found = one(reference_run(model, {"x": np.array([1, 2], ml_dtypes.bfloat16)})["y"])
    assert found.astype(np.float32).tolist() == [2, 4]


def test_the_reference_evaluator_gives_tensors_for_scalars(build: Callable[..., bytes]) -> None:
    model = build("g (float[2] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }")
    assert one(reference_run(model, {"x": np.array([1, 2], np.float32)})["y"]).shape == ()


def test_the_reference_evaluator_gives_sequences(build: Callable[..., bytes]) -> None:
    model = build("g (float[2] x) => (seq(float[2]) s) { s = SequenceConstruct(x, x) }")
    found = reference_run(model, {"x": np.array([1, 2], np.float32)})["s"]
    assert isinstance(found, list)
    assert [one(item).tolist() for item in found] == [[1, 2], [1, 2]]


def test_what_the_reference_evaluator_cannot_run_is_an_error(build: Callable[..., bytes]) -> None:
    model = build("g (float[2] x) => (float[N] y) { y = Reshape(x, x) }")
    with pytest.raises(ModelError) as caught:
        reference_run(model, {"x": np.ones(2, np.float32)})
    assert caught.value.code == "reference-failed"
