"""Sketches of tensors: blind to last bits, and to nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from optc.ir import DType, Tensor
from optc.numerics.sketch import Sketch, sketch, tolerance

RNG = np.random.default_rng(3)


def sketch_of(array: object, dtype: DType = DType.F32) -> Sketch:
    return sketch(Tensor.from_numpy(np.asarray(array), dtype))


def close(one: object, other: object, dtype: DType = DType.F32) -> bool:
    return sketch_of(one, dtype).close_to(sketch_of(other, dtype), dtype)


@pytest.mark.parametrize("size", [9, 1000, 200_000])
def test_rounding_is_not_seen_and_a_percent_is(size: int) -> None:
    for _ in range(20):
        x = RNG.normal(size=size).astype(np.float32)
        noise = RNG.normal(size=size)
        assert close(x, x * (1 + 4e-7 * noise))
        # 1% is 33 times the tolerance: all four projections stay below it with p < 1e-6.
        assert not close(x, x * (1 + 0.01 * noise))


def test_one_element_of_a_thousand_is_seen() -> None:
    x = RNG.normal(size=1000).astype(np.float32)
    other = x.copy()
    other[417] = -other[417] + 1  # about 0.03 of the norm, a hundred times the tolerance
    assert not close(x, other)


def test_a_permutation_and_a_sign_are_seen() -> None:
    x = RNG.normal(size=(8, 8)).astype(np.float32)
    assert not close(x, x.T)
    assert not close(x, -x)
    assert not close(x, x * 1.001)


@pytest.mark.parametrize(
    ("dtype", "unit"), [(DType.F16, 2**-11), (DType.BF16, 2**-8)], ids=["f16", "bf16"]
)
def test_last_bits_of_short_types_are_not_seen(dtype: DType, unit: float) -> None:
    x = RNG.normal(size=4096).astype(np.float32)
    assert close(x, x * (1 + unit * RNG.choice([-1, 1], 4096)), dtype)


def test_codes_one_step_off_are_not_seen_and_other_scales_are() -> None:
    codes = np.clip(RNG.normal(0, 40, 4096).round(), -127, 126)
    off = codes + (RNG.random(4096) < 0.05)
    assert close(codes, off, DType.I8)
    assert not close(codes, (codes * 0.9).round(), DType.I8)
    biases = np.array([827.0, -310, 95, 1204, -77, 640, -950, 33, 410, -620, 75, -1100])
    off = biases.copy()
    off[3] += 1
    assert close(biases, off, DType.I32)
    assert not close(biases, biases + 20, DType.I32)


def test_extreme_contents() -> None:
    assert str(sketch_of(np.zeros(9))) == "~0.0000e+00 (0.0000 0.0000 0.0000 0.0000)"
    assert close(np.zeros(9), np.zeros(9))
    assert not close(np.zeros(9), np.full(9, 1e-30))
    mask = np.full(16, -np.inf)
    mask[:4] = 0
    assert str(sketch_of(mask)).endswith(" nonfinite 12")
    assert not close(mask, np.zeros(16))
    huge = np.full(9, 3e38)
    assert sketch_of(huge).rms == pytest.approx(float(np.float32(3e38)))
    assert sketch_of(np.zeros(0)).rms == 0


def test_what_is_written_comes_back() -> None:
    found = sketch_of(RNG.normal(size=100))
    read = Sketch.parse(str(found))
    assert read is not None
    assert read.close_to(found, DType.F32)
    assert str(read) == str(found)
    odd = Sketch(1.5, (0.5, -0.25), 3)
    assert Sketch.parse(str(odd)) == odd
    for text in ("", "sha256:1234", "~1 (a b)", "~x (1 2)", "~1.0 (1.0) nonfinite many"):
        assert Sketch.parse(text) is None


def test_the_signs_are_the_same_everywhere() -> None:
    """The numbers of a golden graph: another hash would change every one."""
    assert str(sketch_of(np.arange(1, 13))) == "~7.3598e+00 (0.2353 -0.5491 -0.0784 0.0784)"


def test_large_tensors_are_read_in_parts() -> None:
    x = RNG.normal(size=(1 << 20) + 5).astype(np.float32)
    whole = sketch_of(x)
    assert whole.rms == pytest.approx(float(np.sqrt(np.mean(x.astype(float) ** 2))), rel=1e-6)


def test_tolerances() -> None:
    # A last bit of f32 is 2^-23; that of a dot product of n random terms sqrt(n) of it.
    assert tolerance(DType.F32) > 100 * 2.0**-23
    assert tolerance(DType.F32) < tolerance(DType.F16) < tolerance(DType.BF16) < tolerance(DType.I8)
