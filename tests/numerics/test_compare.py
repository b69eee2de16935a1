"""Comparison of outputs: floats within bounds, everything else exact."""

import json
import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from optc.numerics.compare import compare_outputs
from optc.numerics.comparison import Comparison, OutputComparison
from optc.numerics.tolerance import EXACT, Tolerance

if TYPE_CHECKING:
    from optc.numerics.values import Value

ONE_PERCENT = Tolerance(relative=0.01, peak=0.02, reason="test")


def compared(expected: Any, actual: Any, tolerance: Tolerance = EXACT) -> OutputComparison:
    (found,) = compare_outputs({"y": expected}, {"y": actual}, tolerance).outputs
    return found


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_equal_outputs_pass_exactly() -> None:
    found = compared(f32(1, 2), f32(1, 2))
    assert found == OutputComparison(
        "y", True, dtype="float32", shape=(2,), elements=2, tolerance=EXACT
    )


def test_figures_by_hand() -> None:
    found = compared(f32(3, -4, 0), f32(3, -2, 1), ONE_PERCENT)
    assert not found.passed
    assert found.max_abs_error == 2
    assert found.max_rel_error == math.inf
    assert found.relative == pytest.approx(math.sqrt(5 / 25))
    assert found.peak == 0.5
    assert found.sqnr == pytest.approx(10 * math.log10(5))
    assert found.cosine == pytest.approx(17 / math.sqrt(25 * 14))
    assert found.mismatched == 2
    assert found.worst == (1,)
    assert found.used == pytest.approx(math.sqrt(5 / 25) / 0.01, rel=1e-4)
    assert found.reason == (
        "the error is 4.5e-01 of the output (rms) and 5.0e-01 of its largest element; "
        "allowed are 1.0e-02 and 2.0e-02"
    )


def test_errors_are_measured_against_the_whole_output() -> None:
    """A difference of large terms is as uncertain as they are, however small it is."""
    assert compared(f32(1000, 0.01), f32(1000, 0.02), Tolerance(1e-4, 1e-4)).passed


def test_the_rms_bound_and_the_peak_bound_both_hold() -> None:
    flat = np.ones(10_000, np.float32)
    one_off = flat.copy()
    one_off[7] = 1.03
    assert compared(flat, one_off, ONE_PERCENT).worst == (7,)
    assert not compared(flat, one_off, ONE_PERCENT).passed  # peak: 3 % > 2 %
    assert not compared(flat, flat * np.float32(1.015), ONE_PERCENT).passed  # rms: 1.5 % > 1 %
    assert compared(flat, flat * np.float32(1.005), ONE_PERCENT).passed
    assert compared(flat, flat * np.float32(1.005), ONE_PERCENT).used == pytest.approx(
        0.5, rel=0.01
    )


def test_an_output_of_zeros_is_held_to_the_absolute_bound() -> None:
    zeros, tiny = f32(0, 0), f32(0, 1e-30)
    assert not compared(zeros, tiny, ONE_PERCENT).passed
    assert compared(zeros, tiny, Tolerance(0.01, 0.01, absolute=1e-20)).passed


def test_a_bound_as_wide_as_the_output_is_not_conclusive() -> None:
    tolerance = Tolerance(1e-5, 1e-4, absolute=1e-6)
    assert compared(f32(1e-7), f32(2e-7), tolerance).passed
    assert not compared(f32(1e-7), f32(2e-7), tolerance).conclusive
    assert compared(f32(1), f32(1), tolerance).conclusive


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_types_of_few_digits_may_differ_in_the_last_place(dtype: Any) -> None:
    eps = float(ml_dtypes.finfo(dtype).eps)
    expected = np.ones(3).astype(dtype)
    next_up = np.full(3, 1 + eps).astype(dtype)
    two_up = np.full(3, 1 + 2 * eps).astype(dtype)
    assert compared(expected, next_up, Tolerance.for_fp32(1)).passed
    assert not compared(expected, two_up, Tolerance.for_fp32(1)).passed
    assert not compared(expected, next_up, EXACT).passed


def test_complex_outputs_are_compared_by_their_parts() -> None:
    expected, actual = np.array([[1 + 1j, 2]]), np.array([[1 + 1j, 2 + 1j]])
    found = compared(expected, actual, ONE_PERCENT)
    assert (found.passed, found.worst, found.mismatched) == (False, (0, 1), 1)
    assert compared(expected, expected).passed


def test_nan_and_infinity_have_to_be_at_the_same_places() -> None:
    odd = f32(math.nan, math.inf, -math.inf, 1)
    assert compared(odd, odd).passed
    for place, value in ((0, 1.0), (1, -math.inf), (3, math.nan)):
        other = odd.copy()
        other[place] = value
        found = compared(odd, other, Tolerance(1, 1, 1e9))
        assert not found.passed
        assert found.reason == "NaN or infinity at other places, 1 of 4 elements"
        assert (found.mismatched, found.worst, found.used) == (1, (place,), math.inf)


@pytest.mark.parametrize(
    ("expected", "actual", "distance"),
    [
        (np.array([1, 2, 3]), np.array([1, 5, 3]), 3),
        (np.array([0, 2**63 - 1, 0]), np.array([0, -(2**63), 0]), 2.0**64),
        (np.array([0, 2**64 - 1, 0], np.uint64), np.array([0, 0, 0], np.uint64), 2.0**64),
        (np.array([True, True, True]), np.array([True, False, True]), 0),
        (np.array(["a", "b", "c"], object), np.array(["a", "x", "c"], object), 0),
        (np.array([1, -8, 3], ml_dtypes.int4), np.array([1, 7, 3], ml_dtypes.int4), 0),
    ],
    ids=["int", "int64 ends", "uint64 ends", "bool", "string", "int4"],
)
def test_everything_but_floats_is_exact(expected: Any, actual: Any, distance: float) -> None:
    assert compared(expected, expected).passed
    found = compared(expected, actual, Tolerance(1, 1, 1))
    assert not found.passed
    assert found.compared
    assert (found.mismatched, found.worst) == (1, (1,))
    assert found.reason == "1 of 3 elements differ"
    if distance:
        assert found.max_abs_error == distance


def test_elements_that_jump_in_the_source_may_jump() -> None:
    expected, actual = np.arange(100), np.arange(100)
    actual[3] = 0
    found = compared(expected, actual, Tolerance(flips=0.02))
    assert (found.passed, found.used, found.mismatched) == (True, 0.5, 1)
    assert not compared(expected, actual[::-1], Tolerance(flips=0.02)).passed


@pytest.mark.parametrize(
    ("expected", "actual", "reason"),
    [
        (f32(1), np.ones(1), "float32 became float64"),
        (f32(1), f32(1).reshape(1, 1), "shape (1,) became (1, 1)"),
        (f32(1), None, "a tensor became nothing"),
        ([f32(1)], f32(1), "a sequence became a tensor"),
        ({"a": 1.0}, [], "a map became a sequence"),
        (np.array([1], np.uint8), np.array([1], np.int8), "uint8 became int8"),
    ],
)
def test_types_and_shapes_have_to_agree(expected: Any, actual: Any, reason: str) -> None:
    found = compared(expected, actual, Tolerance(1, 1, 1))
    assert (found.passed, found.compared, found.reason) == (False, False, reason)
    assert found.used == math.inf


def test_an_unstable_output_is_only_checked_for_type_and_rank() -> None:
    unstable = Tolerance(stable=False)
    assert compared(f32(1, 2), f32(5), unstable).passed
    assert not compared(f32(1, 2), np.ones(1), unstable).passed
    assert not compared(f32(1, 2), f32(1).reshape(1, 1), unstable).passed


def test_strings_of_different_kinds_are_strings() -> None:
    assert compared(np.array(["a"], object), np.array(["a"])).passed


def test_absent_optionals_agree() -> None:
    assert compared(None, None).passed


def test_empty_tensors_agree() -> None:
    assert compared(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).passed
    assert not compared(np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32)).passed


def test_scalars_of_numpy_are_tensors() -> None:
    assert compared(np.float32(1), np.ones((), np.float32)).passed


def test_sequences_are_compared_element_by_element() -> None:
    found = compare_outputs({"s": [f32(1), [f32(2)]]}, {"s": [f32(1), [f32(3)]]}, EXACT)
    assert [(o.name, o.passed) for o in found.outputs] == [("s[0]", True), ("s[1][0]", False)]
    shorter = compare_outputs({"s": [f32(1), f32(2)]}, {"s": [f32(1)]}, EXACT)
    assert [o.name for o in shorter.outputs] == ["s", "s[0]"]
    assert shorter.outputs[0].reason == "a sequence of 2 became one of 1"


def test_maps_are_compared_key_by_key() -> None:
    expected: dict[Any, Value] = {"a": 1.0, "b": "x"}
    assert compare_outputs({"m": expected}, {"m": {"a": 1.0, "b": "x"}}, EXACT).passed
    found = compare_outputs({"m": expected}, {"m": {"a": 1.5, "b": "x"}}, ONE_PERCENT)
    assert [(o.name, o.passed) for o in found.outputs] == [("m['a']", False), ("m['b']", True)]
    other = compare_outputs({"m": expected}, {"m": {"a": 1.0}}, EXACT)
    assert other.outputs[0].reason == "the map has other keys"


def test_missing_and_surplus_outputs_fail() -> None:
    found = compare_outputs({"a": f32(1), "b": f32(1)}, {"c": f32(1), "b": f32(1)}, EXACT)
    assert [(o.name, o.reason) for o in found.outputs] == [
        ("a", "the output is missing"),
        ("b", ""),
        ("c", "the output was not expected"),
    ]


def test_each_output_has_its_own_tolerance() -> None:
    expected = {"a": f32(1), "b": f32(1)}
    actual = {"a": f32(1.005), "b": f32(1.005)}
    found = compare_outputs(expected, actual, {"a": ONE_PERCENT})
    assert [output.passed for output in found.outputs] == [True, False]


def test_merging_keeps_the_worst_sample_of_each_output() -> None:
    samples = [
        compare_outputs({"a": f32(1), "b": f32(1)}, {"a": f32(a), "b": f32(b)}, ONE_PERCENT)
        for a, b in ((1.001, 1), (1.5, 1.002), (1.2, 1.001))
    ]
    merged = Comparison.merge(samples)
    assert [o.max_abs_error for o in merged.outputs] == pytest.approx([0.5, 0.002], rel=1e-3)
    assert not merged.passed
    assert merged.worst is merged.outputs[0]


def test_merged_evidence_is_conclusive_when_one_sample_is() -> None:
    tolerance = Tolerance(1e-5, 1e-4, absolute=1e-6)
    weak = compare_outputs({"y": f32(1e-7)}, {"y": f32(3e-7)}, tolerance)
    strong = compare_outputs({"y": f32(1)}, {"y": f32(1)}, tolerance)
    assert not Comparison.merge([weak]).outputs[0].conclusive
    assert Comparison.merge([weak, strong]).outputs[0].conclusive


def test_nothing_to_compare_passes() -> None:
    nothing = compare_outputs({}, {}, EXACT)
    assert nothing.passed
    assert nothing.worst is None


def test_a_comparison_is_json_data() -> None:
    for actual in (f32(1, math.nan), f32(1, 2), f32(1, 3), None):
        data = compared(f32(1, 2), actual, ONE_PERCENT).to_dict()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert compared(f32(1, 2), f32(1, 2)).to_dict()["sqnr"] == "inf"
