"""The cheapest place for integers, against all choices tried one by one."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from fractions import Fraction

import pytest

from optc.numerics.placement_int8 import Placement, Side


def both(*names: str) -> frozenset[Side]:
    return frozenset(Side(name, gives) for name in names for gives in (False, True))


def test_a_chain_is_converted_at_its_ends_only() -> None:
    placement = Placement()
    for name in "abc":
        placement.operation(name, floats=5, integers=2)
    placement.value("x", None, ["a"], quantize=3, dequantize=3)
    placement.value("y", "a", ["b"], 3, 3)
    placement.value("z", "b", ["c"], 3, 3)
    placement.value("out", "c", [None], 3, 3)
    assert placement.solve() == both("a", "b", "c")  # saves 9, costs 6


def test_what_does_not_pay_stays() -> None:
    placement = Placement()
    placement.operation("a", floats=5, integers=2)
    placement.value("x", None, ["a"], 2, 2)
    placement.value("out", "a", [None], 2, 2)
    assert placement.solve() == frozenset()  # saves 3, costs 4


def test_equal_prices_leave_floats() -> None:
    placement = Placement()
    placement.operation("a", floats=6, integers=2)
    placement.value("x", None, ["a"], 2, 2)
    placement.value("out", "a", [None], 2, 2)
    assert placement.solve() == frozenset()


def test_an_operation_that_gives_floats_needs_no_conversion_behind() -> None:
    placement = Placement()
    placement.operation("a", floats=5, integers=2, may_give_floats=True)
    placement.value("x", None, ["a"], 2, 2)
    placement.value("out", "a", [None], 2, 2)
    assert placement.solve() == {Side("a", gives=False)}


def test_a_value_with_several_users_is_converted_once() -> None:
    placement = Placement()
    for name in "abc":
        placement.operation(name, floats=3, integers=2, may_give_floats=True)
        placement.value(f"out-{name}", name, [None], 0, 0)
    placement.value("x", None, ["a", "b", "c", None], quantize=2, dequantize=0)
    assert {side.operation for side in placement.solve()} == {"a", "b", "c"}


Values = list[tuple[int | None, list[int | None], int, int]]


@dataclass
class Case:
    """A seeded graph: prices on floats and on integers, and which operation may give floats."""

    prices: list[tuple[int, int]]
    split: list[bool]
    values: Values
    work: list[int]

    @classmethod
    def seeded(cls, seed: int) -> Case:
        rng = random.Random(seed)
        count = rng.randint(1, 6)
        prices = [(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(count)]
        split = [rng.random() < 0.4 for _ in range(count)]
        values: Values = []
        for maker in (None, *range(count)):
            later = range(count) if maker is None else range(maker + 1, count)
            users: list[int | None] = [user for user in later if rng.random() < 0.5]
            if rng.random() < 0.4:
                users.append(None)
            if users:
                values.append((maker, users, rng.randint(0, 6), rng.randint(0, 6)))
        return cls(prices, split, values, [rng.randint(0, 9) for _ in range(count)])

    def placement(self) -> Placement:
        found = Placement()
        for index, (floats, integers) in enumerate(self.prices):
            found.operation(
                index,
                floats,
                integers,
                work=self.work[index],
                may_give_floats=self.split[index],
            )
        for index, (maker, users, up, down) in enumerate(self.values):
            found.value(("value", index), maker, users, up, down)
        return found

    def choices(self) -> list[frozenset[Side]]:
        numbers = range(len(self.prices))
        return [
            frozenset(Side(i, gives) for gives in (False, True) for i in numbers if c[gives][i])
            for c in itertools.product(
                itertools.product((False, True), repeat=len(numbers)), repeat=2
            )
            if all((g <= t) if s else (g == t) for t, g, s in zip(*c, self.split, strict=True))
        ]

    def total(self, sides: frozenset[Side]) -> int:
        takes, gives = (
            [Side(i, given) in sides for i in range(len(self.prices))] for given in (False, True)
        )
        spent = sum(p[1] if t else p[0] for p, t in zip(self.prices, takes, strict=True))
        for maker, users, up, down in self.values:
            made = maker is not None and gives[maker]
            used = [user is not None and takes[user] for user in users]
            spent += up * (not made and any(used)) + down * (made and not all(used))
        return spent

    def covered(self, sides: frozenset[Side]) -> int:
        return sum(w for i, w in enumerate(self.work) if Side(i, gives=False) in sides)


@pytest.mark.parametrize("seed", range(60))
def test_no_choice_is_cheaper(seed: int) -> None:
    case = Case.seeded(seed)
    found = case.placement().solve()
    assert case.total(found) == min(case.total(choice) for choice in case.choices())


def hull(points: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Work and cost of the choices that are cheapest for some fine, from the cheapest of all on."""
    found = [min(points, key=lambda p: (p[1], p[0]))]
    while ahead := [p for p in points if p[0] > found[-1][0]]:
        work, cost = found[-1]
        found.append(min(ahead, key=lambda p: (Fraction(p[1] - cost, p[0] - work), -p[0])))
    return found


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_work_is_covered_where_that_costs_little_enough(seed: int, share: float) -> None:
    """By the cheapest choice for a fine that is just enough, found among all choices."""
    case = Case.seeded(seed)
    goal, placement = share * sum(case.work), case.placement()
    cheapest = placement.solve()
    saved = case.total(frozenset()) - case.total(cheapest)
    known = hull({(case.covered(choice), case.total(choice)) for choice in case.choices()})
    enough = next((point for point in known if point[0] >= goal), known[0])
    for forgo in (0.0, 0.3, 1.0):
        found, others = placement.cover(goal, forgo)
        assert others == found - cheapest
        expected = enough if enough[1] - known[0][1] <= forgo * saved else known[0]
        assert (case.covered(found), case.total(found)) == expected


def test_what_covers_is_found_for_exactly_what_it_costs() -> None:
    placement = Placement()
    placement.operation("fast", floats=20, integers=10, work=8)
    placement.operation("slow", floats=4, integers=5, work=2)
    assert placement.cover(8, forgo=0.0) == (both("fast"), both())
    assert placement.cover(9, forgo=0.09) == (both("fast"), both())  # 1 of 10 is too much
    assert placement.cover(9, forgo=0.1) == (both("fast", "slow"), both("slow"))
    assert placement.cover(11, forgo=1.0) == (both("fast"), both())  # there is no more work


def test_coverage_never_makes_slower_what_cannot_gain() -> None:
    placement = Placement()
    placement.operation("a", floats=5, integers=6, work=1)
    assert placement.cover(1, forgo=1.0) == (both(), both())
