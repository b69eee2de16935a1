"""Compare two sets of outputs within a tolerance, and say how far they are apart.

Names, element types, shapes, the number of sequence elements, and the places of NaN and infinity
must agree; floating-point values lie within `Tolerance`; integers, bools and strings are equal.
An output of a type with few digits (float16, bfloat16, float8) may in addition differ by one unit
in its last place, for a result on the edge between two values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from optc.numerics.comparison import Comparison, OutputComparison
from optc.numerics.stats import ErrorStats
from optc.numerics.tolerance import EXACT, Tolerance
from optc.numerics.values import is_floating, is_small_integer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.numerics.values import Array, Value

_CONCLUSIVE: Final = 2.0**-4  # the bound, relative to the output


def compare_outputs(
    expected: Mapping[str, Value],
    actual: Mapping[str, Value],
    tolerance: Tolerance | Mapping[str, Tolerance],
) -> Comparison:
    """Compare what a model gives with what it should give.

    Args:
        expected: outputs by name.
        actual: outputs by name; the order does not matter.
        tolerance: for all outputs, or by name of the output (a missing one is exact).
    """
    results: list[OutputComparison] = []
    for name, value in expected.items():
        bound = tolerance if isinstance(tolerance, Tolerance) else tolerance.get(name, EXACT)
        if name in actual:
            results.extend(_compare(name, value, actual[name], bound))
        else:
            results.append(_incomparable(name, "the output is missing"))
    results.extend(
        _incomparable(name, "the output was not expected")
        for name in actual
        if name not in expected
    )
    return Comparison(tuple(results))


def _incomparable(name: str, reason: str, **known: Any) -> OutputComparison:
    return OutputComparison(name, False, reason, compared=False, used=math.inf, **known)


def _compare(
    name: str, expected: Value, actual: Value, tolerance: Tolerance
) -> Iterator[OutputComparison]:
    tensor = np.ndarray | np.generic
    if isinstance(expected, tensor) and isinstance(actual, tensor):
        yield _compare_tensor(name, np.asarray(expected), np.asarray(actual), tolerance)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield _incomparable(name, f"a sequence of {len(expected)} became one of {len(actual)}")
        for index, (a, b) in enumerate(zip(expected, actual, strict=False)):
            yield from _compare(f"{name}[{index}]", a, b, tolerance)
    elif isinstance(expected, dict) and isinstance(actual, dict):
        if expected.keys() != actual.keys():
            yield _incomparable(name, "the map has other keys")
        for key in (key for key in expected if key in actual):
            yield from _compare(f"{name}[{key!r}]", expected[key], actual[key], tolerance)
    elif isinstance(expected, int | float | str) and isinstance(actual, int | float | str):
        yield from _compare(name, np.array(expected), np.array(actual), tolerance)
    elif expected is None and actual is None:
        yield OutputComparison(name, True)
    else:
        yield _incomparable(name, f"{_kind(expected)} became {_kind(actual)}")


def _kind(value: Value) -> str:
    names = {list: "a sequence", dict: "a map", np.ndarray: "a tensor", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")


def _compare_tensor(
    name: str, expected: Array, actual: Array, tolerance: Tolerance
) -> OutputComparison:
    known: dict[str, Any] = {
        "dtype": expected.dtype.name,
        "shape": expected.shape,
        "elements": expected.size,
        "tolerance": tolerance,
    }
    if expected.dtype != actual.dtype and not _both_strings(expected, actual):
        return _incomparable(name, f"{expected.dtype.name} became {actual.dtype.name}", **known)
    if expected.ndim != actual.ndim or (tolerance.stable and expected.shape != actual.shape):
        return _incomparable(name, f"shape {expected.shape} became {actual.shape}", **known)
    if not tolerance.stable:
        return OutputComparison(name, True, **known)
    if is_floating(expected) or expected.dtype.kind == "c":
        return _compare_floats(name, expected, actual, tolerance, known)
    return _compare_exact(name, expected, actual, tolerance, known)


def _both_strings(expected: Array, actual: Array) -> bool:
    return expected.dtype.kind in "OUT" and actual.dtype.kind in "OUT"


def _compare_exact(
    name: str, expected: Array, actual: Array, tolerance: Tolerance, known: dict[str, Any]
) -> OutputComparison:
    if is_small_integer(expected):
        expected, actual = expected.astype(np.int8), actual.astype(np.int8)
    different = np.asarray(expected != actual, dtype=np.bool_)
    wrong = int(np.count_nonzero(different))
    if not wrong:
        return OutputComparison(name, True, **known)
    allowed = tolerance.flips * expected.size
    known["mismatched"] = wrong
    known["worst"] = tuple(int(i) for i in np.argwhere(different)[0])
    if expected.dtype.kind in "iu":
        known["max_abs_error"] = float(max(_distances(expected[different], actual[different])))
    if wrong <= allowed:
        return OutputComparison(name, True, used=wrong / allowed, **known)
    reason = f"{wrong} of {expected.size} elements differ"
    return OutputComparison(name, False, reason, used=_ratio(wrong, allowed), **known)


def _distances(expected: Array, actual: Array) -> Iterator[int]:
    # Python integers: differences of 64-bit numbers overflow.
    return (abs(a - b) for a, b in zip(expected.tolist(), actual.tolist(), strict=True))


def _compare_floats(
    name: str, expected: Array, actual: Array, tolerance: Tolerance, known: dict[str, Any]
) -> OutputComparison:
    stats = ErrorStats()
    stats.update(expected, actual)
    part = expected.real.dtype if expected.dtype.kind == "c" else expected.dtype
    last_place = float(ml_dtypes.finfo(part).eps) if tolerance.relative else 0.0
    rms_bound = tolerance.absolute + (tolerance.relative + last_place) * stats.rms_signal
    peak_bound = tolerance.absolute + (tolerance.peak + last_place) * stats.peak_signal
    relative = _ratio(stats.rms_error, stats.rms_signal)
    peak = _ratio(stats.max_abs_error, stats.peak_signal)
    known |= {
        "max_abs_error": stats.max_abs_error,
        "max_rel_error": stats.peak_relative,
        "relative": relative,
        "peak": peak,
        "sqnr": stats.sqnr,
        "cosine": stats.cosine,
        "worst": _index(stats.worst, expected),
        "conclusive": not expected.size or rms_bound <= _CONCLUSIVE * stats.rms_signal,
        "used": max(_ratio(stats.rms_error, rms_bound), _ratio(stats.max_abs_error, peak_bound)),
    }
    if known["used"] <= 1.0:
        return OutputComparison(name, True, **known)
    known["mismatched"] = stats.misplaced + _beyond(expected, actual, peak_bound)
    if stats.misplaced:
        reason = f"NaN or infinity at other places, {stats.misplaced} of {expected.size} elements"
    else:
        reason = (
            f"the error is {relative:.1e} of the output (rms) and {peak:.1e} of its largest "
            f"element; allowed are {tolerance.relative:.1e} and {tolerance.peak:.1e}"
        )
    return OutputComparison(name, False, reason, **known)


def _ratio(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return value / scale if scale else math.inf


def _beyond(expected: Array, actual: Array, bound: float) -> int:
    """Number of finite elements that differ by more than `bound`."""
    with np.errstate(all="ignore"):
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        error = np.abs(expected.astype(wide) - actual.astype(wide))
        return int(np.count_nonzero(np.isfinite(error) & (error > bound)))


def _index(position: int, array: Array) -> tuple[int, ...] | None:
    if position < 0:
        return None
    position //= 2 if array.dtype.kind == "c" else 1
    return tuple(int(i) for i in np.unravel_index(position, array.shape))
