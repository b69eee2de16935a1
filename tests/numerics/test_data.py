"""Datasets: every layout, batches, labels, filling, and what is wrong with data."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from optc.errors import DataError, ModelError
from optc.ir.tensor import Tensor
from optc.ir.types import DType, OptionalType, SequenceType, TensorType, Type
from optc.numerics.batches import Batch
from optc.numerics.data import open_dataset
from optc.numerics.inputs import InputHints
from optc.numerics.values import Array, Datum, Value

IMAGES = np.arange(5 * 3 * 2 * 2, dtype=np.float32).reshape(5, 3, 2, 2)
LABELS = np.array([3, 1, 4, 1, 5])


def f32(*shape: int | str | None) -> TensorType:
    return TensorType(DType.F32, shape)


def i64(*shape: int | str | None) -> TensorType:
    return TensorType(DType.I64, shape)


IMAGE: dict[str, Type] = {"x": f32("N", 3, "H", "W")}


def one(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value


def labels_of(batch: Batch) -> list[int]:
    assert batch.labels is not None
    return list(batch.labels.tolist())


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# ---- layouts -----------------------------------------------------------------------------------


def test_an_npz_has_one_sample_per_row(tmp_path: Path) -> None:
    data = open_dataset(npz(tmp_path / "d.npz", x=IMAGES), IMAGE)
    batches = list(data.batches(2))
    assert data.samples == 5
    assert [(batch.start, batch.count) for batch in batches] == [(0, 2), (2, 2), (4, 1)]
    assert np.array_equal(np.concatenate([one(b.feeds["x"]) for b in batches]), IMAGES)
    assert all(batch.labels is None for batch in batches)


def test_a_dataset_can_be_read_again(tmp_path: Path) -> None:
    data = open_dataset(npz(tmp_path / "d.npz", x=IMAGES), IMAGE)
    assert len(list(data.batches())) == len(list(data.batches())) == 5


@pytest.mark.parametrize("key", ["label", "test:label"])
def test_a_split_selects_keys_and_labels_come_along(tmp_path: Path, key: str) -> None:
    arrays = {"calib:x": IMAGES[:2], "test:x": IMAGES, key: LABELS}
    data = open_dataset(npz(tmp_path / "d.npz", **arrays), IMAGE, split="test", labels="label")
    assert [labels_of(batch) for batch in data.batches(3)] == [[3, 1, 4], [1, 5]]


def test_a_limit_takes_the_first_samples(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES, y=LABELS)
    data = open_dataset(path, IMAGE, labels="y", limit=3)
    batches = list(data.batches(2))
    assert data.samples == 3
    assert [one(batch.feeds["x"]).shape[0] for batch in batches] == [2, 1]
    assert [labels_of(batch) for batch in batches] == [[3, 1], [4]]


def test_rows_that_are_complete_inputs_are_fed_one_by_one(tmp_path: Path) -> None:
    inputs: dict[str, Type] = {"x": f32("T", 4), "rate": i64()}
    path = npz(tmp_path / "d.npz", x=np.ones((3, 7, 4), np.float32), rate=np.array([1, 2, 3]))
    batches = list(open_dataset(path, inputs).batches(2))
    assert [one(batch.feeds["x"]).shape for batch in batches] == [(7, 4)] * 3
    assert [one(batch.feeds["rate"]).tolist() for batch in batches] == [1, 2, 3]


def test_a_fixed_batch_is_filled_up_with_the_last_sample(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES, y=LABELS)
    data = open_dataset(path, {"x": f32(4, 3, 2, 2)}, labels="y")
    first, last = data.batches(1)
    assert (first.count, last.count, last.rows) == (4, 1, 4)
    assert np.array_equal(one(last.feeds["x"]), np.repeat(IMAGES[4:], 4, axis=0))
    assert labels_of(last) == [5]
    outputs = last.trim({"y": np.arange(8).reshape(4, 2), "s": np.array(1), "n": None})
    assert one(outputs["y"]).tolist() == [[0, 1]]
    assert one(outputs["s"]).tolist() == 1
    assert one(first.trim({"y": np.arange(4)})["y"]).tolist() == [0, 1, 2, 3]


def test_a_single_array_feeds_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "whatever.npy", IMAGES)
    assert open_dataset(tmp_path / "whatever.npy", IMAGE).samples == 5


def test_a_folder_of_npz_files_is_read_in_order_of_names(tmp_path: Path) -> None:
    npz(tmp_path / "b.npz", x=IMAGES[3:], y=LABELS[3:])
    npz(tmp_path / "a.npz", x=IMAGES[:3], y=LABELS[:3])
    data = open_dataset(tmp_path, IMAGE, labels="y", limit=4)
    batches = list(data.batches(2))
    assert [batch.count for batch in batches] == [2, 1, 1]
    assert [label for batch in batches for label in labels_of(batch)] == [3, 1, 4, 1]
    assert [batch.start for batch in batches] == [0, 2, 3]


def test_a_folder_of_npy_files_named_like_the_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "ids.npy", LABELS)
    np.save(tmp_path / "truth.npy", LABELS)
    inputs: dict[str, Type] = {**IMAGE, "ids": i64("N")}
    data = open_dataset(tmp_path, inputs, labels="truth")
    batch = next(iter(data.batches(5)))
    assert one(batch.feeds["ids"]).tolist() == labels_of(batch) == LABELS.tolist()


def test_labels_missing_from_a_folder_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(DataError, match="there is no data for labels 'truth'; found x"):
        open_dataset(tmp_path, IMAGE, labels="truth")


def test_data_for_no_input_at_all_is_no_data(tmp_path: Path) -> None:
    hints = InputHints(ranges={"x": (0, 0)})
    path = npz(tmp_path / "d.npz", other=IMAGES)
    with pytest.raises(DataError, match="there is no data for any input"):
        open_dataset(path, IMAGE, hints=hints)


def test_a_rank_that_is_not_known_takes_rows_as_samples(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES)
    data = open_dataset(path, {"x": TensorType(DType.F32)})
    assert [one(b.feeds["x"]).shape for b in data.batches(4)] == [(4, 3, 2, 2), (1, 3, 2, 2)]


def test_an_optional_input_takes_data_as_well(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES)
    data = open_dataset(path, {"x": OptionalType(f32("N", 3, 2, 2))})
    assert one(next(iter(data.batches(5))).feeds["x"]).shape == IMAGES.shape


def test_a_folder_of_npy_files_with_samples_of_different_sizes(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", IMAGES[0])  # one sample, without an axis for samples
    np.save(tmp_path / "2.npy", np.ones((2, 3, 8, 4), np.float32))
    np.save(tmp_path / "3.npy", np.ones((1, 1, 3, 5, 5), np.float32))  # a complete input
    shapes = [one(b.feeds["x"]).shape for b in open_dataset(tmp_path, IMAGE).batches(2)]
    assert shapes == [(1, 3, 2, 2), (2, 3, 8, 4), (1, 3, 5, 5)]


# ---- test data sets ----------------------------------------------------------------------------


def read(data: bytes, type_: Type | None) -> tuple[str, Datum]:
    """Stands in for the reader of the ONNX frontend: ``name=number``."""
    if b"=" not in data:
        raise ModelError("data-truncated", "the data is truncated")
    name, _, number = data.decode().partition("=")
    tensor = Tensor.from_numpy(np.array([float(number)], np.float32))
    return name, (tensor,) if isinstance(type_, SequenceType) else tensor


def test_test_data_sets_are_samples_in_numeric_order(tmp_path: Path) -> None:
    inputs: dict[str, Type] = {"a": f32(1), "s": SequenceType(f32(1))}
    for number in (10, 2):
        folder = tmp_path / f"test_data_set_{number}"
        folder.mkdir()
        (folder / "input_0.pb").write_text(f"={number}")  # without a name: by position
        (folder / "input_1.pb").write_text(f"s={number}")
        (folder / "output_0.pb").write_text("ignored")
    data = open_dataset(tmp_path, inputs, read_value=read)
    first, second = data.batches(16)
    assert (data.samples, first.start, second.start) == (2, 0, 1)
    assert one(first.feeds["a"]).tolist() == [2]
    assert one(second.feeds["a"]).tolist() == [10]
    sequence = first.feeds["s"]
    assert isinstance(sequence, list)
    assert one(sequence[0]).tolist() == [2]
    single = open_dataset(tmp_path / "test_data_set_2", inputs, read_value=read)
    assert single.samples == 1


def test_a_test_data_set_fills_and_misses_inputs_like_other_data(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    (folder / "input_0.pb").write_text("a=1")
    inputs: dict[str, Type] = {"a": f32(1), "h": f32(2)}
    hints = InputHints(ranges={"h": (0, 0)})
    batch = next(iter(open_dataset(tmp_path, inputs, hints=hints, read_value=read).batches()))
    assert one(batch.feeds["h"]).tolist() == [0, 0]
    with pytest.raises(DataError, match="there is no file for the inputs h"):
        list(open_dataset(tmp_path, inputs, read_value=read).batches())


def test_a_broken_test_data_set_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_text("junk")
    with pytest.raises(DataError, match="the data is truncated") as caught:
        list(open_dataset(tmp_path, {"a": f32(1)}, read_value=read).batches())
    assert caught.value.code == "data-unreadable"
    assert caught.value.location == str(tmp_path / "input_0.pb")


def test_test_data_sets_hold_no_labels(tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_text("a=1")
    with pytest.raises(DataError, match="test data sets hold no labels"):
        open_dataset(tmp_path, {"a": f32(1)}, labels="y", read_value=read)


# ---- element types -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (np.float16, DType.F32),
        (np.float32, DType.F64),
        (np.int32, DType.I64),
        (np.uint8, DType.I64),
        (np.dtype(">f4"), DType.F32),
        (np.bool_, DType.BOOL),
        (ml_dtypes.bfloat16, DType.BF16),
        (ml_dtypes.int4, DType.I4),
    ],
)
def test_elements_are_widened_without_loss(tmp_path: Path, stored: Any, wanted: DType) -> None:
    values = np.array([[0, 1], [1, 0]]).astype(stored)
    data = open_dataset(npz(tmp_path / "d.npz", x=values), {"x": TensorType(wanted, ("N", 2))})
    array = one(next(iter(data.batches(2))).feeds["x"])
    assert array.dtype == wanted.numpy
    assert array.astype(int).tolist() == [[0, 1], [1, 0]]


def test_numbers_for_bf16_are_rounded_to_nearest_even(tmp_path: Path) -> None:
    values = np.array([[1 + 2.0**-8, 1 + 3 * 2.0**-8]], np.float32)
    data = open_dataset(npz(tmp_path / "d.npz", x=values), {"x": TensorType(DType.BF16, ("N", 2))})
    array = one(next(iter(data.batches(1))).feeds["x"])
    assert array.dtype == ml_dtypes.bfloat16
    assert array.astype(float).tolist() == [[1.0, 1 + 2.0**-6]]


@pytest.mark.parametrize("values", [["a", "é"], [b"a", "é".encode()]])
def test_strings_are_text(tmp_path: Path, values: list[Any]) -> None:
    inputs: dict[str, Type] = {"x": TensorType(DType.STRING, ("N",))}
    data = open_dataset(npz(tmp_path / "d.npz", x=np.array(values)), inputs)
    assert one(next(iter(data.batches(2))).feeds["x"]).tolist() == ["a", "é"]


@pytest.mark.parametrize(
    ("stored", "wanted", "message", "hint"),
    [
        (np.float64, DType.F32, "f32, the data is float64[1,2]", "save it with .astype(numpy.f"),
        (np.int64, DType.I32, "i32, the data is int64[1,2]", "save it with .astype(numpy.int32)"),
        (np.uint8, DType.F32, "f32, the data is uint8[1,2]", "check the preprocessing, then save"),
        (np.float32, DType.I64, "i64, the data is float32[1,2]", "check the preprocessing"),
        (np.float32, DType.STRING, "str, the data is float32[1,2]", "check the preprocessing"),
        ("<U3", DType.F32, "f32, the data is str96[1,2]", "check the preprocessing"),
    ],
)
def test_other_elements_are_refused(
    tmp_path: Path, stored: Any, wanted: DType, message: str, hint: str
) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros((1, 2), stored))
    with pytest.raises(DataError) as caught:
        open_dataset(path, {"x": TensorType(wanted, ("N", 2))})
    assert caught.value.code == "data-dtype"
    assert caught.value.message == f"input 'x' wants {message}"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)
    assert caught.value.location == f"{path}[x]"


# ---- filling -----------------------------------------------------------------------------------


def test_inputs_without_data_are_filled_from_their_range(tmp_path: Path) -> None:
    inputs: dict[str, Type] = {
        "x": f32("N", 2),
        "h": f32("N", 4),
        "o": OptionalType(f32(1)),
    }
    hints = InputHints(ranges={"h": (0, 0)})
    path = npz(tmp_path / "d.npz", x=np.ones((3, 2), np.float32))
    batch = next(iter(open_dataset(path, inputs, hints=hints).batches(2)))
    assert one(batch.feeds["h"]).tolist() == [[0] * 4] * 2
    assert batch.feeds["o"] is None


def test_a_shape_fixed_by_the_recipe_is_what_data_has_to_fit(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES)
    hints = InputHints(shapes={"x": (2, 3, 2, 2)})
    assert [b.rows for b in open_dataset(path, IMAGE, hints=hints).batches()] == [2, 2, 2]
    with pytest.raises(DataError, match=r"input 'x' has shape \[N,3,4,4\]"):
        open_dataset(path, IMAGE, hints=InputHints(shapes={"x": (None, 3, 4, 4)}))


# ---- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message", "hint"),
    [
        (
            (3, 2, 2),
            "input 'x' has shape [N,3,H,W], so a sample has shape [3,H,W]; the data is "
            "float32[3,2,2], 3 samples of shape [2,2]",
            "this is one sample without the axis that counts samples: save x[None]",
        ),
        (
            (5, 2, 2, 3),
            "input 'x' has shape [N,3,H,W], so a sample has shape [3,H,W]; the data is "
            "float32[5,2,2,3], 5 samples of shape [2,2,3]",
            "the data has channels last, the model wants them first: save numpy.moveaxis(x, -1, 1)",
        ),
        (
            (5, 4, 2, 2),
            "input 'x' has shape [N,3,H,W], so a sample has shape [3,H,W]; the data is "
            "float32[5,4,2,2], 5 samples of shape [4,2,2]",
            "the first axis counts samples",
        ),
        (
            (),
            "input 'x' has shape [N,3,H,W], so a sample has shape [3,H,W]; the data is float32[]",
            "the first axis counts samples",
        ),
    ],
)
def test_wrong_shapes_say_what_is_wanted(
    tmp_path: Path, shape: tuple[int, ...], message: str, hint: str
) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros(shape, np.float32))
    with pytest.raises(DataError) as caught:
        open_dataset(path, IMAGE)
    assert (caught.value.code, caught.value.message) == ("data-shape", message)
    assert caught.value.hint == hint


def test_arrays_cannot_feed_a_sequence(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=IMAGES)
    with pytest.raises(DataError, match=r"input 'x' is a seq\(f32\[1\]\); arrays only hold"):
        open_dataset(path, {"x": SequenceType(f32(1))})


@pytest.mark.parametrize(
    ("keys", "split", "labels", "code", "message", "hint"),
    [
        (
            ["imag"],
            "",
            "",
            "data-key-missing",
            "there is no data for input 'image'; found imag",
            "did you mean 'imag'? A key is the name of an input",
        ),
        (
            ["calib:image", "test:image"],
            "",
            "",
            "data-key-missing",
            "there is no data for input 'image'; found calib:image, test:image",
            "choose a split: `split: calib` or `split: test`",
        ),
        (
            ["zzz"],
            "",
            "",
            "data-key-missing",
            "there is no data for input 'image'; found zzz",
            "a key is the name of an input; `inputs:` with a range, or --fill, fills an input "
            "without data",
        ),
        (
            ["calib:image"],
            "calb",
            "",
            "data-split-missing",
            "the file has no keys calb:<input>; its splits are calib",
            "did you mean 'calib'?",
        ),
        (
            ["image"],
            "test",
            "",
            "data-split-missing",
            "the file has no keys test:<input>; its keys have no splits",
            "leave out `split:`",
        ),
        (
            ["image", "label"],
            "",
            "labels",
            "data-key-missing",
            "there is no data for labels 'labels'; found image, label",
            "did you mean 'label'? A key is the name of an input",
        ),
    ],
)
def test_missing_keys_name_the_nearest(
    tmp_path: Path, keys: list[str], split: str, labels: str, code: str, message: str, hint: str
) -> None:
    arrays = {key: np.zeros((2, 3), np.float32) for key in keys}
    path = npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError) as caught:
        open_dataset(path, {"image": f32("N", 3)}, split=split, labels=labels)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert (caught.value.hint, caught.value.location) == (hint, str(path))


def test_arrays_need_equal_numbers_of_rows(tmp_path: Path) -> None:
    inputs: dict[str, Type] = {"x": f32("N"), "y": f32("N")}
    path = npz(tmp_path / "d.npz", x=np.zeros(3, np.float32), y=np.zeros(2, np.float32))
    with pytest.raises(DataError, match="'y' has 2 rows, 'x' has 3") as caught:
        open_dataset(path, inputs)
    assert caught.value.code == "data-rows"
    path = npz(tmp_path / "e.npz", x=np.zeros(3, np.float32), label=np.zeros(4))
    with pytest.raises(DataError, match="'label' has 4 rows, 'x' has 3"):
        open_dataset(path, {"x": f32("N")}, labels="label")


def test_inputs_need_a_common_batch(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros((3, 1), np.float32), y=np.zeros((3, 1), np.float32))
    with pytest.raises(DataError, match=r"no common batch \(x 2, y 4\)"):
        open_dataset(path, {"x": f32(2, 1), "y": f32(4, 1)})
    whole = npz(tmp_path / "e.npz", x=np.zeros((3, 1), np.float32), y=np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"no common batch \(x 2\)"):
        open_dataset(whole, {"x": f32(2, 1), "y": f32()})


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda p: None, "data-not-found", "there is no such file or folder"),
        (lambda p: p.mkdir(), "data-empty", "the folder has no .npz file, no .npy file and no"),
        (
            lambda p: npz(p.with_suffix(".npz"), x=IMAGES[:0]).rename(p),
            "data-format",
            "data files are .npz or .npy, not files without suffix",
        ),
    ],
    ids=["missing", "empty folder", "unknown suffix"],
)
def test_no_data_is_an_error(tmp_path: Path, make: Any, code: str, message: str) -> None:
    path = tmp_path / "data"
    make(path)
    with pytest.raises(DataError) as caught:
        open_dataset(path, IMAGE)
    assert caught.value.code == code
    assert caught.value.message.startswith(message)


def test_an_array_without_rows_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no samples"):
        open_dataset(npz(tmp_path / "d.npz", x=IMAGES[:0]), IMAGE)


def test_a_misspelt_path_gets_the_nearest_name(tmp_path: Path) -> None:
    npz(tmp_path / "calib.npz", x=IMAGES)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "calb.npz", IMAGE)
    assert caught.value.hint == "did you mean 'calib.npz'?"


def test_one_array_cannot_feed_two_inputs(tmp_path: Path) -> None:
    inputs: dict[str, Type] = {"a": f32("N"), "b": f32("N")}
    np.save(tmp_path / "d.npy", np.zeros(2, np.float32))
    with pytest.raises(DataError, match="one array cannot feed the 2 inputs") as caught:
        open_dataset(tmp_path / "d.npy", inputs)
    assert caught.value.hint == "save an .npz with the keys a, b"
    hints = InputHints(ranges={"b": (0, 0)})
    assert open_dataset(tmp_path / "d.npy", inputs, hints=hints).samples == 2


def test_labels_need_one_array_of_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", IMAGES[0])
    with pytest.raises(DataError, match="labels need one array with all samples"):
        open_dataset(tmp_path, IMAGE, labels="y")
    with pytest.raises(DataError, match="a single array has no labels beside it"):
        open_dataset(tmp_path / "1.npy", IMAGE, labels="y")
