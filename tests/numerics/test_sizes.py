"""Sizes for dynamic dimensions."""

import pytest

from optc.errors import DataError
from optc.ir.types import DType, OptionalType, SequenceType, Shape, TensorType, Type
from optc.numerics.sizes import Sizes, choose_sizes, concrete_shape, fix_shapes, name_dims

SIZES = Sizes(batch=2, length=16, spatial=64, channels=3)


def f32(*shape: int | str | None) -> TensorType:
    return TensorType(DType.F32, shape)


def resolve(inputs: dict[str, Type], sizes: Sizes = SIZES) -> dict[str, tuple[int, ...]]:
    types = name_dims(inputs)
    chosen = choose_sizes(types, sizes)
    shapes: dict[str, Shape] = {
        name: type_.shape or () for name, type_ in types.items() if isinstance(type_, TensorType)
    }
    return {name: concrete_shape(shape, chosen) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("batch", "seq"), (2, 16)),
        ((None, 3, None, None), (2, 3, 64, 64)),
        ((None, None, None, None), (2, 3, 64, 64)),
        (("?", 3, "?", "?"), (2, 3, 64, 64)),
        (("N", "C", "D", "H", "W"), (2, 3, 64, 64, 64)),
        ((1, "height", "width", 3), (1, 64, 64, 3)),
        (("p2o.DynamicDimension.0", 3, "p2o.DynamicDimension.1"), (2, 3, 16)),
        (("unk__12",), (2,)),
        ((None,), (2,)),
        ((None, None), (2, 16)),
        ((None, None, None), (2, 16, 16)),
        (("sequence_length", 576), (16, 576)),
        ((0, "N"), (0, 2)),
        ((), ()),
    ],
)
def test_a_size_comes_from_the_name_or_the_place(shape: Shape, expected: tuple[int, ...]) -> None:
    assert resolve({"x": TensorType(DType.F32, shape)}) == {"x": expected}


def test_a_tensor_of_unknown_rank_gets_two_dimensions() -> None:
    assert resolve({"x": TensorType(DType.F32, None)}) == {"x": (2, 16)}


def test_equal_names_have_equal_sizes_wherever_they_stand() -> None:
    found = resolve({"a": f32("n_tokens", 8), "b": f32("rows", "n_tokens"), "c": f32("rows")})
    assert found == {"a": (16, 8), "b": (2, 16), "c": (2,)}


def test_dimensions_without_a_name_are_independent() -> None:
    types = name_dims({"a": f32(None), "b-c": f32(None)})
    assert choose_sizes(types, SIZES) == {"a.0": 2, "b_c.0": 2}


def test_an_input_called_tokens_still_has_a_batch() -> None:
    assert resolve({"tokens": f32(None, None)}) == {"tokens": (2, 16)}


def test_expressions_are_computed_from_their_symbols() -> None:
    found = resolve({"past": f32("batch", "past_len", 8), "mask": f32("batch", "past_len + seq")})
    assert found == {"past": (2, 16, 8), "mask": (2, 32)}
    assert resolve({"x": f32("2*s0", "s0//3")}) == {"x": (4, 0)}


def test_dimensions_inside_sequences_and_optionals_get_names() -> None:
    types = name_dims({"s": SequenceType(OptionalType(f32(None, "seq")))})
    assert types["s"] == SequenceType(OptionalType(f32("s.0", "seq")))
    assert choose_sizes(types, SIZES) == {"s.0": 2, "seq": 16}


# ---- shapes that a recipe fixes ----------------------------------------------------------------


def test_a_fixed_dimension_fixes_its_symbol_everywhere() -> None:
    inputs: dict[str, Type] = {"a": f32("N", "S"), "b": f32("N", "S + 1"), "c": f32(None)}
    fixed = fix_shapes(inputs, {"a": (1, None), "c": ("any",)})
    assert fixed == {"a": f32(1, "S"), "b": f32(1, "S + 1"), "c": f32(None)}
    assert fix_shapes(inputs, {"a": (None, 7)})["b"] == f32("N", 8)


def test_an_unknown_rank_takes_the_shape_of_the_recipe() -> None:
    assert fix_shapes({"x": TensorType(DType.F32)}, {"x": (1, None)}) == {"x": f32(1, None)}


@pytest.mark.parametrize(
    ("shapes", "code", "message"),
    [
        ({"imag": (1,)}, "unknown-input", "the model has no input 'imag'; its inputs are image, m"),
        (
            {"image": (1, 3)},
            "shape-conflict",
            "image has 4 dimensions, [N,3,H,H]; the shape [1,3] has 2",
        ),
        (
            {"image": (1, 4, 8, 8)},
            "shape-conflict",
            "image has shape [N,3,H,H] with 3 for 3; it cannot be [1,4,8,8]",
        ),
        (
            {"image": (1, 3, 8, 9)},
            "shape-conflict",
            "image has shape [N,3,H,H] with 8 for H; it cannot be [1,3,8,9]",
        ),
        ({"m": (1,)}, "shape-conflict", "m is a seq(f32[*]), which has no shape to fix"),
    ],
)
def test_a_shape_that_contradicts_the_model_is_an_error(
    shapes: dict[str, Shape], code: str, message: str
) -> None:
    inputs: dict[str, Type] = {
        "image": f32("N", 3, "H", "H"),
        "m": SequenceType(TensorType(DType.F32)),
    }
    with pytest.raises(DataError) as caught:
        fix_shapes(inputs, shapes)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_a_misspelt_input_gets_the_nearest_name() -> None:
    with pytest.raises(DataError) as caught:
        fix_shapes({"image": f32("N")}, {"imag": (1,)})
    assert caught.value.hint == "did you mean 'image'?"
