"""Weights in files beside the model: read late, and only from inside the model's folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from conformance.roundtrip import assert_same_model
from frontend.feature_models import f32, graph, model, node
from optc.emit.onnx import serialize
from optc.errors import ModelError
from optc.frontend.onnx import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

_WEIGHT = np.arange(12, dtype=np.float32)


def external(**entries: str) -> ModelProto:
    """A model whose weight is at byte 8 of ``w.bin``, but for what `entries` say."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[12], data_location=1)
    for key, value in ({"location": "w.bin", "offset": "8", "length": "48"} | entries).items():
        weight.external_data.add(key=key, value=value)
    main = graph([node("Add", ["x", "w"], ["y"])], [f32("x", 12)], [f32("y", 12)], [weight])
    return model(main)


def put(folder: Path, source: ModelProto, data: bytes = b"8 bytes." + _WEIGHT.tobytes()) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").write_bytes(data)
    path = folder / "m.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_data_is_found_beside_the_model(tmp_path: Path) -> None:
    path = put(tmp_path, external(checksum="not checked"))
    graph_ = load_model(path)
    weight = graph_.value("w").constant
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), _WEIGHT)
    result = onnx.ModelProto.FromString(serialize(graph_))
    assert_same_model(onnx.load(path, load_external_data=False), result, tmp_path)


def test_offset_and_length_may_be_left_out(tmp_path: Path) -> None:
    source = external(offset="", length="")
    weight = load_model(put(tmp_path, source, _WEIGHT.tobytes())).value("w").constant
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), _WEIGHT)


def test_data_of_a_constant_node(tmp_path: Path) -> None:
    source = external()
    constant = node("Constant", [], ["w"], value=source.graph.initializer[0])
    source.graph.node.insert(0, constant)
    del source.graph.initializer[:]
    weight = load_model(put(tmp_path, source)).value("w").constant
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), _WEIGHT)


def test_data_is_not_read_by_loading(tmp_path: Path) -> None:
    path = put(tmp_path, external())
    (tmp_path / "w.bin").chmod(0)
    load_model(path)


def test_data_in_a_folder_below(tmp_path: Path) -> None:
    path = put(tmp_path, external(location="sub/w.bin"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "sub" / "w.bin")
    assert load_model(path).has_value("w")


def test_a_link_inside_of_the_folder(tmp_path: Path) -> None:
    path = put(tmp_path, external(location="link.bin"))
    (tmp_path / "link.bin").symlink_to("w.bin")
    assert load_model(path).has_value("w")


@pytest.mark.parametrize(
    "location", ["../w.bin", "sub/../../w.bin", "/etc/passwd", "", "sub/../w.bin"]
)
def test_paths_that_leave_the_folder(tmp_path: Path, location: str) -> None:
    put(tmp_path, external())
    with pytest.raises(ModelError) as info:
        load_model(put(tmp_path / "in", external(location=location)))
    assert info.value.code == "external-data-path"
    assert info.value.message == (
        f"tensor 'w' is stored in {location!r}; only a relative path inside of the model's folder "
        "is allowed"
    )


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_that_leaves_the_folder(tmp_path: Path, link: str) -> None:
    put(tmp_path, external())
    location = "w2.bin" if link == "file" else "sub/w.bin"
    path = put(tmp_path / "in", external(location=location))
    if link == "file":
        (tmp_path / "in" / "w2.bin").symlink_to(tmp_path / "w.bin")
    else:
        (tmp_path / "in" / "sub").symlink_to(tmp_path)
    with pytest.raises(ModelError) as info:
        load_model(path)
    assert info.value.message == (
        f"tensor 'w' is stored in {location!r}, a link that leaves the model's folder"
    )


def test_the_model_itself_may_be_a_link(tmp_path: Path) -> None:
    """Its data is looked for beside the link, as runtimes do."""
    path = put(tmp_path / "store", external())
    (tmp_path / "w.bin").write_bytes((tmp_path / "store" / "w.bin").read_bytes())
    (tmp_path / "m.onnx").symlink_to(path)
    assert load_model(tmp_path / "m.onnx").has_value("w")


@pytest.mark.parametrize(
    ("entries", "code", "message"),
    [
        (
            {"location": "none.bin"},
            "external-data-missing",
            "tensor 'w' is stored in 'none.bin', which is not there",
        ),
        (
            {"location": "a\0b"},
            "external-data-unreadable",
            "external data of tensor 'w': ",
        ),
        (
            {"offset": "16"},
            "external-data-truncated",
            "tensor 'w' ends at byte 64 of 'w.bin', which has 56",
        ),
        (
            {"length": "44"},
            "external-data-size",
            "tensor 'w' needs 48 bytes, its external data has 44",
        ),
        (
            {"offset": "-8"},
            "external-data-invalid",
            "tensor 'w': offset of its external data is '-8', not a number",
        ),
        (
            {"length": "9" * 50},
            "external-data-invalid",
            f"tensor 'w': length of its external data is '{'9' * 40}', not a number",
        ),
    ],
)
def test_wrong_entries(tmp_path: Path, entries: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(ModelError) as info:
        load_model(put(tmp_path, external(**entries)))
    assert info.value.code == code
    assert info.value.message.startswith(message)


def test_a_pipe_is_no_data_file(tmp_path: Path) -> None:
    path = put(tmp_path, external(location="pipe"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError) as info:
        load_model(path)
    assert info.value.code == "external-data-missing"


def test_a_model_without_a_path_has_no_folder() -> None:
    with pytest.raises(ModelError) as info:
        load_model(external())
    assert info.value.code == "external-data-no-folder"
    assert info.value.hint == "load the model from its file"


def test_data_that_changed_after_loading_is_not_used(tmp_path: Path) -> None:
    graph_ = load_model(put(tmp_path, external()))
    (tmp_path / "w.bin").write_bytes(bytes(100))
    weight = graph_.value("w").constant
    assert weight is not None
    with pytest.raises(ModelError) as info:
        weight.numpy()
    assert info.value.code == "external-data-changed"


def test_large_weights_are_views_of_the_file() -> None:
    """The bytes of a model are held once: no copy for each weight."""
    weight = numpy_helper.from_array(np.zeros((100, 1000), np.float32), "w")
    main = graph([node("Add", ["x", "w"], ["y"])], [f32("x", 1000)], [f32("y", 100, 1000)])
    main.initializer.extend([numpy_helper.from_array(np.ones(2, np.float32), "small"), weight])
    data = model(main).SerializeToString()
    loaded = load_model(data).value("w").constant
    assert loaded is not None
    (chunk,) = loaded.chunks()
    assert isinstance(chunk, memoryview)
    assert chunk.obj is data
    assert_same_model(model(main), onnx.ModelProto.FromString(serialize(load_model(data))))
