"""Line diff of two canonical texts that is not fooled by renumbering.

One node more at the top shifts the number of every value below it. So lines are aligned by what
they say apart from the numbers and by what the lines say that define their operands; the aligned
lines then tell which number became which, and what is left is a true difference. In the result,
the after side speaks in the numbers of the before side; values that only the after side has are
``%+0``, ``%+1``, ….
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

_NUMBER: Final = re.compile(r"%(\d+)\b")
_MASK: Final = "%\0"  # the canonical text has no control characters
_DEPTH: Final = 2  # definitions behind definitions that count as one line's context
_LEAF: Final = 40_000  # line pairs of a stretch without unique lines that difflib may look at
_AHEAD: Final = 64  # lines that the fallback for longer stretches looks ahead


def diff_text(before: str, after: str, *, context: int = 3) -> str:
    """Unified diff of two canonical texts; empty when they say the same.

    Works on numbered and on named text (`print_graph(named=True)`).

    Args:
        before: the one text.
        after: the other.
        context: unchanged lines to show around a change.
    """
    old, new = before.splitlines(), after.splitlines()
    # Where nothing was renumbered, the plain alignment is the better one.
    candidates = (_match(old, new, pairs) for pairs in (_align_lines(old, new), align(old, new)))
    new, same = max(candidates, key=lambda candidate: len(candidate[1]))
    if len(same) == len(old) == len(new):
        return ""
    lines = ["--- before", "+++ after"]
    for hunk in _hunks(same, len(old), len(new), context):
        lines.extend(_render(hunk, old, new))
    return "\n".join(lines) + "\n"


def _align_lines(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Align with the most context first, then what is left between the pairs with less."""
    ids: dict[Hashable, int] = {}
    pairs: list[tuple[int, int]] = []
    for left, right in zip(_keys(old, ids), _keys(new, ids), strict=True):
        more: list[tuple[int, int]] = []
        i = j = 0
        for a, b in (*pairs, (len(old), len(new))):
            more += [(i + x, j + y) for x, y in align(left[i:a], right[j:b])]
            i, j = a + 1, b + 1
        pairs = sorted([*pairs, *more])
    return pairs


def _keys(lines: Sequence[str], ids: dict[Hashable, int]) -> list[list[int]]:
    """For each level of context, the most first, numbers of lines that are equal at that level."""
    masked = [_NUMBER.sub(_MASK, line) for line in lines]
    defined: dict[str, tuple[int, int]] = {}
    used: list[list[tuple[int, int]]] = []
    for index, line in enumerate(lines):
        links: list[tuple[int, int]] = []
        for position, number in enumerate(_NUMBER.findall(line)):
            if number in defined:
                links.append(defined[number])
            else:  # values are defined where they first appear
                defined[number] = index, position
        used.append(links)
    levels = [[ids.setdefault(text, len(ids)) for text in masked]]
    for _ in range(_DEPTH):
        below = levels[-1]
        signs = (
            (text, *[(below[line], position) for line, position in links])
            for text, links in zip(masked, used, strict=True)
        )
        levels.append([ids.setdefault(sign, len(ids)) for sign in signs])
    return levels[::-1]


def _match(
    old: Sequence[str], new: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> tuple[list[str], list[tuple[int, int]]]:
    """The new lines in old numbers, and the pairs of lines that are equal then."""
    new = _renumber(old, new, pairs)
    return new, [(i, j) for i, j in pairs if old[i] == new[j]]


def _renumber(
    old: Sequence[str], new: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> list[str]:
    """The new lines in the numbers of the old ones, as far as aligned lines agree on them."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for i, j in pairs:
        for was, now in zip(_NUMBER.findall(old[i]), _NUMBER.findall(new[j]), strict=True):
            if now not in names and was not in taken:
                names[now] = was
                taken.add(was)
    fresh: dict[str, str] = {}

    def translate(match: re.Match[str]) -> str:
        number = match[1]
        if number in names:
            return f"%{names[number]}"
        return f"%+{fresh.setdefault(number, str(len(fresh)))}"

    return [_NUMBER.sub(translate, line) for line in new]


# ---- alignment ---------------------------------------------------------------------------------


def align(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of indices of equal items, ascending on both sides.

    Patience diff: what both ends share, then lines that are unique on both sides as anchors, and
    the same again between the anchors. Short stretches without anchors go to difflib, long ones
    (a deep network of equal layers) to a search with bounded lookahead: never quadratic.
    """
    found: list[tuple[int, int]] = []
    stack = [(0, len(old), 0, len(new))]
    while stack:
        i, i_end, j, j_end = stack.pop()
        while i < i_end and j < j_end and old[i] == new[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        while i < i_end and j < j_end and old[i_end - 1] == new[j_end - 1]:
            i_end, j_end = i_end - 1, j_end - 1
            found.append((i_end, j_end))
        if i == i_end or j == j_end:
            continue
        anchors = _anchors(old, new, (i, i_end, j, j_end))
        if not anchors:
            found.extend(_leaf(old, new, (i, i_end, j, j_end)))
            continue
        for a, b in (*anchors, (i_end, j_end)):
            stack.append((i, a, j, b))
            i, j = a, b  # the anchor itself starts the next stretch and is its common prefix
    return sorted(found)


def _anchors(
    old: Sequence[Hashable], new: Sequence[Hashable], span: tuple[int, int, int, int]
) -> list[tuple[int, int]]:
    i, i_end, j, j_end = span
    left, right = Counter(old[i:i_end]), Counter(new[j:j_end])
    place = {new[b]: b for b in range(j, j_end) if right[new[b]] == 1}
    common = [(a, place[old[a]]) for a in range(i, i_end) if left[old[a]] == 1 and old[a] in place]
    return _longest_ascending(common)


def _longest_ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second members ascend (patience sorting)."""
    tops: list[int] = []
    heads: list[int] = []
    previous: list[int] = []
    for index, (_, b) in enumerate(pairs):
        pile = bisect_left(tops, b)
        previous.append(heads[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(b)
            heads.append(index)
        else:
            tops[pile], heads[pile] = b, index
    chain: list[tuple[int, int]] = []
    index = heads[-1] if heads else -1
    while index >= 0:
        chain.append(pairs[index])
        index = previous[index]
    return chain[::-1]


def _leaf(
    old: Sequence[Hashable], new: Sequence[Hashable], span: tuple[int, int, int, int]
) -> Iterator[tuple[int, int]]:
    i, i_end, j, j_end = span
    if (i_end - i) * (j_end - j) > _LEAF:
        yield from _lookahead(old, new, span)
        return
    matcher = SequenceMatcher(None, old[i:i_end], new[j:j_end], autojunk=False)
    for block in matcher.get_matching_blocks():
        for step in range(block.size):
            yield i + block.a + step, j + block.b + step


def _lookahead(
    old: Sequence[Hashable], new: Sequence[Hashable], span: tuple[int, int, int, int]
) -> Iterator[tuple[int, int]]:
    i, i_end, j, j_end = span
    while i < i_end and j < j_end:
        if old[i] == new[j]:
            yield i, j
            i, j = i + 1, j + 1
            continue
        for step in range(1, _AHEAD):
            if i + step < i_end and old[i + step] == new[j]:
                i += step
                break
            if j + step < j_end and old[i] == new[j + step]:
                j += step
                break
        else:
            i, j = i + 1, j + 1


# ---- unified format ----------------------------------------------------------------------------

# A hunk is a list of steps: (old index, new index), one of them None for a removed or added line.
_Step = tuple[int | None, int | None]


def _hunks(
    same: Sequence[tuple[int, int]], olds: int, news: int, context: int
) -> Iterator[list[_Step]]:
    hunk: list[_Step] = []
    trail = 0  # unchanged lines at the end of the hunk
    changed = False
    i = j = 0
    for a, b in (*same, (olds, news)):
        gap: list[_Step] = [*((k, None) for k in range(i, a)), *((None, k) for k in range(j, b))]
        if gap:
            if changed and trail > 2 * context:
                yield hunk[: len(hunk) - trail + context]
                changed = False
            if not changed:
                hunk = hunk[max(0, len(hunk) - context) :]
            hunk.extend(gap)
            trail, changed = 0, True
        if a < olds:
            hunk.append((a, b))
            trail += 1
        i, j = a + 1, b + 1
    if changed:
        yield hunk[: len(hunk) - max(0, trail - context)]


def _render(hunk: Sequence[_Step], old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    left = [i for i, _ in hunk if i is not None]
    right = [j for _, j in hunk if j is not None]
    yield f"@@ -{_range(left)} +{_range(right)} @@"
    for i, j in hunk:
        if i is not None:
            yield f"{'-' if j is None else ' '}{old[i]}"
        elif j is not None:
            yield f"+{new[j]}"


def _range(lines: Sequence[int]) -> str:
    return f"{lines[0] + 1},{len(lines)}" if lines else "0,0"
