"""Seeded inputs: types, roles, hints, and sizes that a model accepts."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from optc.errors import DataError
from optc.ir.types import DType, MapType, OptionalType, SequenceType, TensorType, Type
from optc.numerics.evaluate import Session
from optc.numerics.inputs import InputHints, fill_inputs, synthetic_inputs, workable_sizes
from optc.numerics.values import Array, Value

Load = Callable[..., Session]


def one(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value


def made(name: str, type_: Type, samples: int = 1, hints: InputHints | None = None) -> list[Array]:
    found = synthetic_inputs({name: type_}, samples=samples, hints=hints or InputHints())
    return [one(feeds[name]) for feeds in found]


def test_the_bytes_depend_on_the_seed_alone() -> None:
    inputs: dict[str, Type] = {
        "x": TensorType(DType.F32, ("N", 3, "H", "W")),
        "ids": TensorType(DType.I64, ("N", "seq")),
    }

    def digest(seed: int) -> str:
        sha = hashlib.sha256()
        for feeds in synthetic_inputs(inputs, seed=seed, samples=2):
            for name, value in feeds.items():
                sha.update(name.encode() + one(value).tobytes())
        return sha.hexdigest()[:16]

    assert digest(0) == digest(0) == "cd1bb16ce62cfce9"
    assert digest(1) == "40ced0d3e5b5f0be"


def test_another_input_changes_nothing_in_the_first() -> None:
    x = TensorType(DType.F32, (4,))
    alone = synthetic_inputs({"x": x})[0]
    both = synthetic_inputs({"a": x, "x": x})[0]
    assert np.array_equal(one(alone["x"]), one(both["x"]))
    assert not np.array_equal(one(both["a"]), one(both["x"]))


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.UNDEFINED])
@pytest.mark.parametrize("shape", [(2, 5), (), (0, 3)])
def test_every_element_type_has_values(dtype: DType, shape: tuple[int, ...]) -> None:
    array = made("x", TensorType(dtype, shape))[0]
    assert array.shape == shape
    assert array.dtype == dtype.numpy


def test_integers_are_valid_indices_by_default() -> None:
    assert set(made("ids", TensorType(DType.I64, (100,)))[0].tolist()) == {0, 1}


def test_integers_stay_below_a_limit() -> None:
    array = made("ids", TensorType(DType.I32, (1000,)), hints=InputHints(limits={"ids": 72}))[0]
    assert set(array.tolist()) == set(range(72))
    small = made("ids", TensorType(DType.I8, (1000,)), hints=InputHints(limits={"ids": 50000}))[0]
    assert small.min() >= 0


def test_bytes_cover_their_range() -> None:
    array = made("image", TensorType(DType.U8, (1000,)))[0]
    assert array.min() < 5
    assert array.max() > 250


def test_lengths_are_one() -> None:
    assert made("input_lengths", TensorType(DType.I64, (3,)))[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [DType.I64, DType.BOOL, DType.F32])
def test_a_mask_is_full_first_and_ends_early_later(dtype: DType) -> None:
    first, second = made("attention_mask", TensorType(dtype, (2, 8)), samples=2)
    assert (first == 1).all()
    assert second.astype(int).tolist() == [[1] * 6 + [0] * 2] * 2


def test_a_boolean_padding_mask_means_the_opposite() -> None:
    first, second = made("key_padding_mask", TensorType(DType.BOOL, (1, 4)), samples=2)
    assert first.tolist() == [[False] * 4]
    assert second.tolist() == [[False, False, False, True]]


def test_a_range_decides_over_everything_else() -> None:
    hints = InputHints(ranges={"mask": (3, 3), "x": (0.5, 1)}, limits={"mask": 2})
    assert made("mask", TensorType(DType.I64, (2,)), hints=hints)[0].tolist() == [3, 3]
    array = made("x", TensorType(DType.F32, (100,)), hints=hints)[0]
    assert 0.5 <= array.min() < array.max() <= 1


def test_a_range_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        made("x", TensorType(DType.U8, (2,)), hints=InputHints(ranges={"x": (-1, 1)}))
    assert caught.value.code == "range-invalid"
    assert caught.value.message == (
        "the range of input 'x' does not fit: -1 to 1 are not both integers from 0 to 255 (u8)"
    )


def test_sequences_have_two_elements_and_optionals_are_absent_in_every_third_sample() -> None:
    element = TensorType(DType.F32, (3,))
    inputs: dict[str, Type] = {"s": SequenceType(element), "o": OptionalType(element)}
    found = synthetic_inputs(inputs, samples=3)
    sequence = found[0]["s"]
    assert isinstance(sequence, list)
    assert not np.array_equal(one(sequence[0]), one(sequence[1]))
    assert [feeds["o"] is None for feeds in found] == [False, False, True]


@pytest.mark.parametrize(
    "type_",
    [TensorType(DType.UNDEFINED, (2,)), SequenceType(None), MapType(DType.I64, None)],
)
def test_types_without_values_are_an_error(type_: Type) -> None:
    with pytest.raises(DataError, match="which has no synthetic values") as caught:
        synthetic_inputs({"x": type_})
    assert caught.value.code == "no-synthetic-values"


def test_samples_take_the_sizes_in_turn() -> None:
    inputs: dict[str, Type] = {"x": TensorType(DType.F32, ("N", None))}
    found = synthetic_inputs(inputs, samples=3, sizes=[{"N": 1, "x.1": 5}, {"N": 2, "x.1": 7}])
    assert [one(feeds["x"]).shape for feeds in found] == [(1, 5), (2, 7), (1, 5)]


# ---- filling -----------------------------------------------------------------------------------


def test_missing_inputs_are_filled_from_their_range_with_sizes_from_the_data() -> None:
    types: dict[str, Type] = {
        "x": TensorType(DType.F32, ("N", "T")),
        "state": TensorType(DType.F32, ("N", 4)),
        "other": TensorType(DType.F32, (None, 2)),
        "extra": OptionalType(TensorType(DType.F32, (2,))),
        "none": TensorType(DType.F32, (2,)),
    }
    hints = InputHints(ranges={"state": (0, 0), "other": (1, 1)})
    feeds = fill_inputs(types, {"x": np.ones((3, 9), np.float32)}, hints, stream="s", batch=3)
    assert one(feeds["state"]).tolist() == [[0] * 4] * 3
    assert one(feeds["other"]).tolist() == [[1] * 2] * 3
    assert feeds["extra"] is None
    assert "none" not in feeds


# ---- sizes that work ---------------------------------------------------------------------------


def test_a_free_model_is_given_two_assignments(load: Load) -> None:
    session = load("g (float[N,T] x) => (float[N,T] y) { y = Relu(x) }")
    assert workable_sizes(session, session.inputs) == ({"N": 2, "T": 16}, {"N": 1, "T": 24})


def test_a_static_model_is_given_one(load: Load) -> None:
    session = load("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    assert workable_sizes(session, session.inputs) == ({},)


def test_only_dimensions_that_are_free_are_varied(load: Load) -> None:
    session = load(
        "g (float[N,3,H,W] x) => (float[N,3,H,W] y) <int64[2] shape = {64, 1}> "
        "{ column = ConstantOfShape(shape) y = Add(x, column) }"
    )
    first, second = workable_sizes(session, session.inputs)
    assert first == {"N": 2, "H": 64, "W": 64}
    assert second == {"N": 1, "H": 64, "W": 96}


def test_a_frozen_batch_is_found(load: Load) -> None:
    session = load(
        "g (float[N,T] x) => (float[T] y) <int64[1] first = {0}> { y = Squeeze(x, first) }"
    )
    assert workable_sizes(session, session.inputs) == ({"N": 1, "T": 16}, {"N": 1, "T": 24})


def test_a_model_that_never_runs_is_an_error_with_the_reason(load: Load) -> None:
    session = load(
        "g (float[N] x) => (float[M] y) <int64[1] shape = {1000}> { y = Reshape(x, shape) }"
    )
    with pytest.raises(DataError) as caught:
        workable_sizes(session, session.inputs)
    assert caught.value.code == "no-workable-inputs"
    assert "requested shape:{1000}" in caught.value.message
    assert caught.value.hint is not None
    assert "`inputs:`" in caught.value.hint
