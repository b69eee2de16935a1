"""Dimension arithmetic: one spelling per size, and nothing claimed that a number refutes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.ir import dims

if TYPE_CHECKING:
    from optc.ir.types import Dim

SPELLINGS = [
    ("N", "N"),
    ("N + N", "2*N"),
    ("2*N - N - N", 0),
    ("N*L + 3", "L*N + 3"),
    ("1 - N", "-N + 1"),
    ("N*(L + 1)**2", "L*L*N + 2*L*N + N"),
    ("floor((H - 1)/2) + 1", "floor((H + 1)/2)"),
    ("floor(H/2 - 1/2) + 1", "floor((H + 1)/2)"),
    ("((s0 - 1)//2) + 1", "floor((s0 + 1)/2)"),
    ("ceiling(H/2)", "floor((H + 1)/2)"),
    ("floor(floor(H/2)/2)", "floor(H/4)"),
    ("floor((floor((H + 1)/2) + 1)/2)", "floor((H + 3)/4)"),
    ("floor((2*H + 3)/4)", "floor((H + 1)/2)"),
    ("floor((2*H + 4*W)/2)", "H + 2*W"),
    ("FloorDiv(H, 2)", "floor(H/2)"),
    ("H % 4", "H - 4*floor(H/4)"),
    ("Mod(H, 4)", "H - 4*floor(H/4)"),
    ("(N*L*12)//(4*N)", "3*L"),
    ("Min(512, s0)", "min(512, s0)"),
    ("min(N + 1, N)", "N"),
    ("min(min(512, L), 256)", "min(256, L)"),
    ("Max(1, s0, 1)", "max(1, s0)"),
    ("max(0, N)", "N"),
    ("max(0, L - min(512, L))", "L - min(512, L)"),
    ("p2o.DynamicDimension.0", "p2o.DynamicDimension.0"),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_an_expression_has_one_spelling(text: str, expected: Dim) -> None:
    assert dims.canonical(text) == expected
    assert dims.canonical(expected) == expected
    assert dims.equal(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "batch size",
        "N +",
        "N)",
        "(N",
        "3*H/2",
        "H/0",
        "N**9",
        "f(N)",
        "0.5*N",
        "a:b",
        "N N",
        "min()",
    ],
)
def test_a_text_that_is_no_expression_is_one_symbol(text: str) -> None:
    assert dims.canonical(text) == text
    assert dims.equal(text, text)
    assert not dims.equal(text, "N")
    assert dims.add(text, 0) == text
    assert dims.mul(text, 1) == text
    assert dims.add(text, 1) is None
    assert dims.lower_bound(text) == 0


@pytest.mark.parametrize("text", ["?", "?x:0", "-1", "*", "None", "none", "dynamic", "dyn", "UNK"])
def test_words_for_an_unknown_size_are_unknown(text: str) -> None:
    assert dims.clean(text) is None
    assert dims.clean_shape((text, 3)) == (None, 3)
    assert not dims.equal(text, text)
    assert dims.add(text, 1) is None
    assert dims.symbols(text) == frozenset()


def test_a_deep_or_long_text_is_read_in_no_time() -> None:
    for text in ("(" * 10**5 + "N", "N + " * 10**5 + "N", "-" * 10**5 + "N", "N" * 10**5):
        assert dims.canonical(text) is None
        assert dims.equal(text, text)
        assert dims.lower_bound(text) == 0


def test_arithmetic_with_the_unknown_is_unknown() -> None:
    for operation in (dims.add, dims.sub, dims.mul, dims.floordiv, dims.minimum, dims.maximum):
        assert operation(None, "N") is None
        assert operation("N", None) is None
    assert dims.mul(None, 0) == 0
    assert dims.product(["N", 0, None]) == 0
    assert dims.product([]) == 1


def test_results_that_are_too_large_are_unknown() -> None:
    many: Dim = 0
    for index in range(40):
        many = dims.add(many, f"a{index}")
    assert many is None
    assert dims.canonical("9223372036854775807 + N - N") == 2**63 - 1
    assert dims.canonical("9223372036854775808 + N - N") is None


def test_division_needs_a_positive_number_or_a_factor() -> None:
    assert dims.floordiv(7, 2) == 3
    assert dims.floordiv("N*L*768", "64*N") == "12*L"
    assert dims.floordiv("2*N + 2", "N + 1") == 2
    assert dims.floordiv("N*L + 1", "N") is None
    assert dims.floordiv("N", 0) is None
    assert dims.floordiv("N", -2) is None
    assert dims.ceildiv("N", 2) == "floor((N + 1)/2)"


BOUNDS = [
    ("N", 0),
    ("N + 2", 2),
    ("floor((N + 31)/32)", 0),
    ("floor((N + 64)/32)", 2),
    ("2*N*L + 1", 1),
    ("N - 1", -1),
    ("N - L", None),
    ("min(512, L)", 0),
    ("512 - min(512, L)", 0),
    ("L - min(512, L)", 0),
    ("max(4, L)", 4),
    ("max(L, W) - W", 0),
    ("H - floor(H/2)", 0),
    ("2*floor(H/2) - H", -1),
]


@pytest.mark.parametrize(("text", "bound"), BOUNDS)
def test_lower_bounds(text: str, bound: int | None) -> None:
    assert dims.lower_bound(text) == bound


def test_equal_and_differ_are_proofs() -> None:
    assert dims.equal("N + 1", "1 + N")
    assert not dims.equal("N", "L")
    assert not dims.equal(None, None)
    assert dims.differ("N", -1)
    assert dims.differ("N + 1", "N")
    assert not dims.differ("N", "L")
    assert not dims.differ("N", 3)
    assert not dims.differ(None, 3)


def test_conflict_of_shapes() -> None:
    assert dims.conflict((1, 2), (1, 2, 3))
    assert dims.conflict((1, "N"), (2, "N"))
    assert dims.conflict(("N + 1",), ("N",))
    assert not dims.conflict(None, (1,))
    assert not dims.conflict(("N", None), (3, 4))


BROADCASTS = [
    (1, "N", "N"),
    (1, None, None),
    (3, "N", 3),
    (3, None, 3),
    (0, "N", 0),
    (3, 4, None),
    (3, "N + 4", None),
    ("N", "N", "N"),
    ("N", "L", None),
    ("N", None, None),
    (None, None, None),
    ("N + 2", "L", "N + 2"),
    ("2*floor((W + 31)/32)", "floor((W + 15)/16)", "2*floor((W + 31)/32)"),
    ("L", "min(512, L)", "L"),
    ("L", "min(1, L)", None),
]


@pytest.mark.parametrize(("a", "b", "expected"), BROADCASTS)
def test_broadcast(a: Dim, b: Dim, expected: Dim) -> None:
    assert dims.broadcast(a, b) == expected
    assert dims.broadcast(b, a) == expected


@pytest.mark.parametrize(("a", "b", "expected"), BROADCASTS)
def test_a_broadcast_holds_for_all_sizes_that_broadcast(a: Dim, b: Dim, expected: Dim) -> None:
    for n, length, width in itertools.product((0, 1, 2, 5, 600), repeat=3):
        sizes: dict[str, Dim] = {"N": n, "L": length, "W": width}
        x, y, z = (dims.substitute(dim, sizes) for dim in (a, b, expected))
        if None in (x, y, z) or (x != y and 1 not in (x, y)):
            continue
        assert z == (y if x == 1 else x)


def test_broadcast_of_shapes_pads_with_ones() -> None:
    assert dims.broadcast_shapes(("N", 1, 4), (3, 1), ()) == ("N", 3, 4)
    assert dims.broadcast_shapes((2,), None) is None
    assert dims.broadcast_shapes() == ()


def test_refine_prefers_numbers_then_texts() -> None:
    assert dims.refine("N", 3) == 3
    assert dims.refine(None, "N") == "N"
    assert dims.refine("N", "M") == "N"
    assert dims.refine_shape((None, "N"), (2, None)) == (2, "N")
    assert dims.refine_shape(None, (2,)) == (2,)
    assert dims.refine_shape((2,), (2, 3)) == (2,)


def test_substitute() -> None:
    assert dims.substitute("floor((H + 1)/2)*N", {"H": 321}) == "161*N"
    assert dims.substitute("N + L", {"N": "L"}) == "2*L"
    assert dims.substitute("N + L", {"N": None}) is None
    assert dims.substitute("L+N", {"H": 3}) == "L+N"
    assert dims.substitute(4, {"H": 3}) == 4


# ---- random expressions against Python's integers ----------------------------------------------

NAMES = ("N", "L", "H")
TREES = st.recursive(
    st.sampled_from(NAMES) | st.integers(0, 9),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["add", "sub", "mul", "min", "max"]), inner, inner),
        st.tuples(st.just("div"), inner, st.integers(1, 5)),
    ),
    max_leaves=8,
)


def build(tree: object) -> Dim:
    if isinstance(tree, tuple):
        operation, a, b = tree
        function = {"min": dims.minimum, "max": dims.maximum, "div": dims.floordiv}.get(operation)
        return (function or getattr(dims, operation))(build(a), build(b))
    assert isinstance(tree, str | int)
    return tree


def compute(tree: object, sizes: dict[str, int]) -> int:
    if isinstance(tree, tuple):
        operation, a, b = tree
        x, y = compute(a, sizes), compute(b, sizes)
        return {
            "add": x + y,
            "sub": x - y,
            "mul": x * y,
            "min": min(x, y),
            "max": max(x, y),
            "div": x // y if operation == "div" else 0,
        }[operation]
    return sizes[tree] if isinstance(tree, str) else int(tree)  # type: ignore[call-overload] # a leaf


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TREES, st.lists(st.integers(0, 40), min_size=3, max_size=3))
def test_expressions_have_the_value_that_integers_have(tree: object, numbers: list[int]) -> None:
    sizes = dict(zip(NAMES, numbers, strict=True))
    dim = build(tree)
    if dim is None:
        return
    expected = compute(tree, sizes)
    assert dims.substitute(dim, dict(sizes)) == expected
    assert dims.canonical(dim) == dim
    bound = dims.lower_bound(dim)
    assert bound is None or bound <= expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TREES, TREES, st.lists(st.integers(0, 40), min_size=3, max_size=3))
def test_proofs_hold_for_random_expressions(a: object, b: object, numbers: list[int]) -> None:
    sizes = dict(zip(NAMES, numbers, strict=True))
    left, right = build(a), build(b)
    x, y = compute(a, sizes), compute(b, sizes)
    assert not dims.equal(left, right) or x == y
    assert not dims.differ(left, right) or x != y
    assert not dims.at_least(left, right) or x >= y
