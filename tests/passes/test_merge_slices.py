"""merge-slices: slices of slices, concatenations of concatenations, and splits undone."""

from __future__ import annotations

import re

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.merge_slices import MergeSlices

_LAST = 9223372036854775807


def _numbers(text: str) -> str:
    """The text with ``<#>`` replaced by constants for the names that it uses: n2 is 2, m1 is -1."""
    names = sorted(set(re.findall(r"\b(?:n\d|m\d|e)\b", text)))
    found = {name: str(_LAST) if name == "e" else name[1:] for name in names}
    items = (
        f"int64[1] {name} = {{{'-' if name[0] == 'm' else ''}{number}}}"
        for name, number in found.items()
    )
    return text.replace("<#>", f"<{', '.join(items)}>")


REWRITES = {
    # PyTorch 2.13 of the focus layer of YOLOv5, x[..., ::2, ::2]: rows, then columns of these
    "rows and columns, two of the same rows": (
        """
        g (float[1,2,4,H] x) => (float[1,2,2,A] y, float[1,2,2,B] z) <#>
        {
           a = Slice (x, n0, e, n2, n2)
           y = Slice (a, n0, e, n3, n2)
           z = Slice (a, n1, e, n3, n2)
        }
        """,
        """
        g (float[1,2,4,H] x) => (float[1,2,2,A] y, float[1,2,2,B] z)
        <int64[2] s = {0, 0}, int64[2] t = {0, 1}, int64[2] i = {2, 3}, int64[2] k = {2, 2},
         int64[2] e = {9223372036854775807, 9223372036854775807}, int64[2] i2 = {2, 3},
         int64[2] k2 = {2, 2}, int64[2] e2 = {9223372036854775807, 9223372036854775807}>
        { y = Slice (x, s, e, i, k) z = Slice (x, t, e2, i2, k2) }
        """,
        {"slice-slice": 2},
    ),
    "one axis, from the end": (
        """
        g (float[10] x) => (float[A] y) <#>
        { a = Slice (x, n1, m1, n0, n2) y = Slice (a, m3, e, n0) }
        """,
        """
        g (float[10] x) => (float[A] y)
        <int64[1] s = {3}, int64[1] t = {9}, int64[1] i = {0}, int64[1] k = {2}>
        { y = Slice (x, s, t, i, k) }
        """,
        {"slice-slice": 1},
    ),
    "one axis of an unknown size": (
        """
        g (float[N] x) => (float[A] y) <#>
        { a = Slice (x, n1, e, n0, n2) y = Slice (a, n1, n3, n0, n2) }
        """,
        """
        g (float[N] x) => (float[A] y)
        <int64[1] s = {3}, int64[1] t = {7}, int64[1] i = {0}, int64[1] k = {4}>
        { y = Slice (x, s, t, i, k) }
        """,
        {"slice-slice": 1},
    ),
    "concatenations": (
        """
        g (float[N,1] a, float[N,2] b, float[N,3] c) => (float[N,7] y)
        { p = Concat <axis = -1> (b, a) q = Concat <axis = 1> (p, c) y = Concat <axis = 1> (a, q) }
        """,
        """
        g (float[N,1] a, float[N,2] b, float[N,3] c) => (float[N,7] y)
        { y = Concat <axis = 1> (a, b, a, c) }
        """,
        {"concat-concat": 2},
    ),
    "a split undone": (
        """
        g (float[N,6] x) => (float[N,6] y) <int64[2] s = {2, 4}>
        { a, b = Split <axis = 1> (x, s) c = Concat <axis = -1> (a, b) y = Relu (c) }
        """,
        "g (float[N,6] x) => (float[N,6] y) { y = Relu (x) }",
        {"concat-split": 1},
    ),
    "a part of one operand": (
        """
        g (float[N,3] a, float[N,4] b) => (float[N,4] y, float[N,2] z) <#>
        {
           p = Concat <axis = 1> (a, b)
           q = Slice (p, n3, n7, n1)
           y = Relu (q)
           z = Slice (p, n4, m1, n1)
        }
        """,
        """
        g (float[N,3] a, float[N,4] b) => (float[N,4] y, float[N,2] z)
        <int64[1] s = {1}, int64[1] t = {3}, int64[1] i = {1}>
        { y = Relu (b) z = Slice (b, s, t, i) }
        """,
        {"slice-concat": 2},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_merges(before: str, expected: str, counts: dict[str, int]) -> None:
    typed = "float[N] x" not in before  # the same size would be spelled otherwise
    assert_rewrites(MergeSlices(), _numbers(before), expected, counts=counts, typed=typed)


def _two(first: str, second: str, *, size: str = "N", more: str = "", outs: str = "") -> str:
    return f"""
    g (float[{size}] x, int64[1] k) => (float[A] y{outs}) <#>
    {{ [a] a = Slice (x, {first}) y = Slice (a, {second}) {more} }}
    """


REFUSALS = {
    "bounds that are not constant": (_two("n1, k, n0", "n1, e, n0"), "the bounds are not constant"),
    "from the end of an unknown size": (
        _two("n1, m1, n0", "n1, e, n0"),
        "the bounds of axis 0 cannot be composed",
    ),
    "backwards": (
        _two("n1, e, n0", "m1, m3, n0, m1", size="8"),
        "the bounds of axis 0 cannot be composed",
    ),
    "used elsewhere": (
        _two("n1, e, n0", "n1, e, n0", more="[n] z = Neg (a)", outs=", float[B] z"),
        "a also feeds n",
    ),
    "concatenated along another axis": (
        """
        g (float[1,2] a, float[1,2] b) => (float[2,4] y)
        { [p] p = Concat <axis = 0> (a, b) q = Neg (p) y = Concat <axis = 1> (p, q) }
        """,
        "p has another axis",
    ),
    "concatenated and used elsewhere": (
        """
        g (float[1,2] a, float[1,2] b) => (float[4,2] y)
        { [p] p = Concat <axis = 0> (a, b) q = Neg (p) y = Concat <axis = 0> (p, q) }
        """,
        "p is used elsewhere",
    ),
    "split along another axis": (
        """
        g (float[2,2] x) => (float[1,4] y)
        { [s] a, b = Split <axis = 0, num_outputs = 2> (x) y = Concat <axis = 1> (a, b) }
        """,
        "s splits another axis",
    ),
    "over two operands": (
        """
        g (float[3] a, float[4] b) => (float[A] y) <#>
        { p = Concat <axis = 0> (a, b) y = Slice (p, n1, n4, n0) }
        """,
        "it reaches over several operands, or their sizes are not known",
    ),
    "operands of an unknown size": (
        """
        g (float[N] a, float[4] b) => (float[A] y) <#>
        { p = Concat <axis = 0> (a, b) y = Slice (p, n1, n4, n0) }
        """,
        "it reaches over several operands, or their sizes are not known",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(MergeSlices(), _numbers(text), typed=True)
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [f"y: {reason}"]


DECOYS = {
    "a split in another order": """
        g (float[4,2] x) => (float[4,2] y)
        { a, b = Split <axis = 0, num_outputs = 2> (x) y = Concat <axis = 0> (b, a) }
        """,
    "a slice of another axis of a concatenation": """
        g (float[1,3] a, float[4,3] b) => (float[5,A] y) <#>
        { p = Concat <axis = 0> (a, b) y = Slice (p, n1, n2, n1) }
        """,
}


@pytest.mark.parametrize("text", DECOYS.values(), ids=DECOYS)
def test_is_no_match(text: str) -> None:
    assert not assert_keeps(MergeSlices(), _numbers(text), typed=True).refusals
