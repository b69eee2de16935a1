"""Text diffs: what is shown, that renumbering is not, and that large texts stay cheap."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import graph_from_text
from optc.ir.text import print_graph
from optc.ir.textdiff import align, diff_text

if TYPE_CHECKING:
    from optc.ir import Graph

CHAIN = ("Relu", "Abs", "Neg", "Exp", "Floor", "Ceil", "Sqrt", "Log")


def chain(*ops: str) -> Graph:
    names = ["x", *(f"v{i}" for i in range(len(ops) - 1)), "y"]
    body = "\n".join(
        f"{names[i + 1]} = {op} ({names[i]}{', x' if op in ('Add', 'Mul') else ''})"
        for i, op in enumerate(ops)
    )
    return graph_from_text(f"g (float[2] x) => (float[2] y) {{ {body} }}")


def difference(before: Graph, after: Graph) -> list[str]:
    return diff_text(print_graph(before), print_graph(after), context=1).splitlines()


def test_equal_texts_have_no_difference() -> None:
    assert diff_text(print_graph(chain(*CHAIN)), print_graph(chain(*CHAIN))) == ""


def test_an_inserted_node_is_one_line_and_its_user_another() -> None:
    assert difference(chain(*CHAIN), chain("Sin", *CHAIN)) == [
        "--- before",
        "+++ after",
        "@@ -4,3 +4,4 @@",
        "   input %x : f32[2]",
        "-  %0 = Relu(%x)",
        "+  %+0 = Sin(%x)",
        "+  %0 = Relu(%+0)",
        "   %1 = Abs(%0)",
    ]


def test_a_removed_node_in_the_middle() -> None:
    assert difference(chain(*CHAIN), chain(*CHAIN[:3], *CHAIN[4:])) == [
        "--- before",
        "+++ after",
        "@@ -7,4 +7,3 @@",
        "   %2 = Neg(%1)",
        "-  %3 = Exp(%2)",
        "-  %4 = Floor(%3)",
        "+  %4 = Floor(%2)",
        "   %5 = Ceil(%4)",
    ]


def test_a_replaced_node_keeps_its_number() -> None:
    assert difference(chain("Relu", "Abs", "Neg"), chain("Relu", "Cos", "Neg")) == [
        "--- before",
        "+++ after",
        "@@ -5,3 +5,3 @@",
        "   %0 = Relu(%x)",
        "-  %1 = Abs(%0)",
        "+  %1 = Cos(%0)",
        "   %2 = Neg(%1) : f32[2]",
    ]


def test_swapped_operands_are_a_difference_though_the_masked_lines_are_equal() -> None:
    texts = [
        f"g (float[2] x) => (float[2] y) {{ a = Relu (x) b = Abs (x) y = Sub ({operands}) }}"
        for operands in ("a, b", "b, a")
    ]
    before, after = map(graph_from_text, texts)
    assert difference(before, after)[3:6] == [
        "   %1 = Abs(%x)",
        "-  %2 = Sub(%0, %1) : f32[2]",
        "+  %2 = Sub(%1, %0) : f32[2]",
    ]


def test_distant_changes_are_in_hunks_of_their_own() -> None:
    ops = CHAIN * 4
    found = difference(chain(*ops), chain("Cos", *ops[1:-1], "Cos"))
    assert [line for line in found if line.startswith("@@")] == [
        "@@ -4,3 +4,3 @@",
        "@@ -35,3 +35,3 @@",
    ]


def test_context_lines_are_as_many_as_asked_for() -> None:
    before, after = print_graph(chain(*CHAIN)), print_graph(chain(*CHAIN[:4], "Cos", *CHAIN[5:]))
    for context in (0, 2, 100):
        found = diff_text(before, after, context=context).splitlines()
        assert len(found) == 3 + 2 + min(2 * context, len(before.splitlines()) - 1)


def test_one_side_may_be_empty() -> None:
    assert diff_text("", "a\nb\n") == "--- before\n+++ after\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    assert diff_text("a\n", "") == "--- before\n+++ after\n@@ -1,1 +0,0 @@\n-a\n"
    assert diff_text("", "") == ""


def test_works_on_named_text() -> None:
    texts = [print_graph(chain(*ops), named=True) for ops in (("Relu", "Abs"), ("Relu", "Cos"))]
    assert "-  %y = Abs(%v0) : f32[2]" in diff_text(*texts).splitlines()


@given(st.lists(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdef")))
def test_alignment_ascends_and_pairs_equal_lines(old: list[str], new: list[str]) -> None:
    pairs = align(old, new)
    assert all(old[i] == new[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))


@given(st.lists(st.sampled_from("ab% 01\n")), st.lists(st.sampled_from("ab% 01\n")))
def test_the_difference_is_empty_only_for_equal_lines_up_to_numbers(
    old: list[str], new: list[str]
) -> None:
    before, after = "".join(old), "".join(new)
    if before.splitlines() == after.splitlines():
        assert diff_text(before, after) == ""
    elif not diff_text(before, after):
        assert "%" in before
        assert len(before.splitlines()) == len(after.splitlines())


def test_long_stretches_without_unique_lines_are_aligned_with_lookahead() -> None:
    old = ["a", "b"] * 300
    new = ["b", "a"] * 100 + ["c"] * 70 + ["a"] * 100 + ["b", "a", "c", "d"] * 50
    pairs = align(["x", *old, "x"], ["y", *new, "y"])
    assert len(pairs) > 200
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))


@pytest.mark.parametrize("unique", [True, False])
def test_many_changes_in_a_long_text_take_linear_time(unique: bool) -> None:
    rng = random.Random(0)
    size = 20_000
    before = [f"%{i} = Op(%{i - 1}{f', axis={i}' if unique else ''})" for i in range(1, size)]
    after = list(before)
    for _ in range(100):
        after.insert(rng.randrange(size), "%0 = Extra(%0)")
    start = time.perf_counter()
    found = diff_text("\n".join(before), "\n".join(after))
    # About 0.3 s on a slow core; a quadratic algorithm takes minutes.
    assert time.perf_counter() - start < 10
    assert sum(line.startswith("+") for line in found.splitlines()) < 300
