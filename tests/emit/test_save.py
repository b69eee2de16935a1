"""Files: weights outside of the model, replaced as a whole, and streamed."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from conformance.roundtrip import assert_same_model
from frontend.feature_models import FEATURES
from optc.emit import onnx as emit
from optc.emit.onnx import save_model, serialize
from optc.errors import ModelError, OutputError
from optc.frontend.onnx import load_model
from optc.ir import DType, Graph, Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def weights(*arrays: Any) -> Graph:
    made = Graph("main", {"": 21})
    x = made.add_input("x", TensorType(DType.F32, ("n",)))
    for index, array in enumerate(arrays):
        made.add_constant(Tensor.from_numpy(array), f"w{index}")
    made.add_output(x, "x", x.type)
    return made


def entries(path: Path) -> dict[str, dict[str, str]]:
    result = onnx.load(path, load_external_data=False)
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in result.graph.initializer
    }


@pytest.mark.parametrize("feature", FEATURES, ids=lambda item: item.__name__)
def test_weights_outside_change_nothing(feature: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(load_model(feature()), path, external_data="always")
    assert_same_model(feature(), onnx.load(path))


def test_tensors_from_1_kib_go_out(tmp_path: Path) -> None:
    made = weights(np.zeros(255, np.float32), np.zeros(256, np.float32), np.full(999, "a"))
    files = save_model(made, tmp_path / "m.onnx", external_data="always")
    assert files == [tmp_path / "m.onnx", tmp_path / "m.onnx.data"]
    places = entries(files[0])
    assert places == {
        "w0": {},
        "w1": {"location": "m.onnx.data", "offset": "0", "length": "1024"},
        "w2": {},
    }
    onnx.checker.check_model(str(files[0]), full_check=True)


def test_offsets_are_aligned_to_pages_for_large_tensors(tmp_path: Path) -> None:
    sizes = (1025, 1025, 65536, 65537, 2048)
    made = weights(*(np.full(size, index, np.uint8) for index, size in enumerate(sizes)))
    path, data = save_model(made, tmp_path / "m.onnx", external_data="always")
    offsets = [int(entry["offset"]) for entry in entries(path).values()]
    assert offsets == [0, 1088, 4096, 69632, 135232]
    assert data.stat().st_size == 135232 + 2048
    for value in load_model(path).constants():
        assert value.constant is not None
        assert set(value.constant.raw()) == {int(value.name[1:])}


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    ramp = np.arange(5000, dtype=np.float32)
    other = ramp.copy()
    other[-1] = 0  # starts like the others
    made = weights(ramp, other, ramp.copy(), ramp.reshape(50, 100))
    path, data = save_model(made, tmp_path / "m.onnx", external_data="always")
    offsets = [entry["offset"] for entry in entries(path).values()]
    assert offsets[0] == offsets[2]
    assert len(set(offsets)) == 3
    assert data.stat().st_size < 3 * 20000 + 3 * 64


def test_auto_moves_weights_out_above_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = weights(np.zeros(1000, np.float32))
    monkeypatch.setattr(emit, "_INLINE_LIMIT", 4000)
    assert len(save_model(made, tmp_path / "m.onnx")) == 1
    monkeypatch.setattr(emit, "_INLINE_LIMIT", 3999)
    assert len(save_model(made, tmp_path / "m.onnx")) == 2


def test_a_model_beyond_the_limit_of_protobuf_is_refused_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = weights(np.zeros(1000, np.float32))
    monkeypatch.setattr(emit, "_PROTOBUF_LIMIT", 4000)
    with pytest.raises(OutputError) as info:
        save_model(made, tmp_path / "m.onnx", external_data="never")
    assert info.value.code == "model-too-large"
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError):
        serialize(made)


def test_weights_are_never_in_memory_at_once(tmp_path: Path) -> None:
    size = 1 << 24
    made = weights(*(np.full(size, index, np.uint8) for index in range(4)))
    source = save_model(made, tmp_path / "a.onnx", external_data="always")[0]
    del made
    for mode in ("always", "never"):
        tracemalloc.start()
        save_model(load_model(source), tmp_path / "b.onnx", external_data=mode)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size  # of 4 * size; what there is are chunks of 4 MiB


def test_saving_over_the_source_works_once(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(weights(np.arange(999, dtype=np.float32)), path, external_data="always")
    loaded = load_model(path)
    loaded.add_constant(Tensor.from_numpy(np.ones(999, np.float32)), "new")
    save_model(loaded, path, external_data="always")
    again = load_model(path)
    kept = again.value("w0").constant
    assert kept is not None
    assert kept.numpy()[-1] == 998
    # The handles of the first graph know that their file is another one now.
    with pytest.raises(ModelError) as info:
        save_model(loaded, path, external_data="always")
    assert info.value.code == "external-data-changed"
    assert load_model(path).has_value("new")


@pytest.mark.parametrize("place", ["none/m.onnx", "folder"])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as info:
        save_model(weights(), tmp_path / place)
    assert info.value.code == "output-unwritable"
    assert info.value.location == str(tmp_path / place)


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    path, data = save_model(
        weights(np.zeros(999, np.float32)), tmp_path / "m.onnx", external_data="always"
    )
    before = path.read_bytes(), data.read_bytes()
    loaded = load_model(path)
    data.write_bytes(data.read_bytes())  # another time stamp: cannot be read any more
    with pytest.raises(ModelError):
        save_model(loaded, path, external_data="always")
    assert (path.read_bytes(), data.read_bytes()) == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def top_fields(data: bytes) -> list[int]:
    """Numbers of the fields of a message, in the order of the file (protobuf encoding)."""
    found, place = [], 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = varint()
        found.append(key >> 3)
        size = varint()
        place += size if key & 7 == 2 else 0
    return found


def test_fields_of_the_model_come_in_their_order() -> None:
    """OpenVINO takes a file for ONNX only when its first three fields differ."""
    made = Graph("main", {"": 21, "com.microsoft": 1, "ai.onnx.ml": 3})
    x = made.add_input("x", TensorType(DType.F32, (2,)))
    made.add_constant(Tensor.from_numpy(np.zeros(9999, np.float32)), "w")
    made.add_output(x, "y", x.type)
    assert top_fields(serialize(made)) == [1, 7, 8, 8, 8]
