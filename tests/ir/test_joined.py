"""Things in groups, in the order in which they come."""

from __future__ import annotations

from optc.ir.joined import joined


def test_what_pairs_join_directly_or_not_is_one_group() -> None:
    pairs = [("e", "c"), ("a", "d"), ("d", "f")]
    assert joined("abcdef", pairs) == [["a", "d", "f"], ["b"], ["c", "e"]]
    assert joined("abcdef", [(b, a) for a, b in reversed(pairs)]) == joined("abcdef", pairs)


def test_without_pairs_each_is_alone() -> None:
    assert joined([3, 1], []) == [[3], [1]]
    assert joined([], []) == []
