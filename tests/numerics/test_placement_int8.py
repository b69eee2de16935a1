"""The cheapest place for integers, against all choices tried one by one."""

from __future__ import annotations

import itertools
import random

import pytest

from optc.numerics.placement_int8 import Placement, Side


def both(*names: str) -> set[Side]:
    return {Side(name, gives) for name in names for gives in (False, True)}


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


@pytest.mark.parametrize("seed", range(60))
def test_no_choice_is_cheaper(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 6)
    prices = [(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(count)]
    split = [rng.random() < 0.4 for _ in range(count)]
    values: list[tuple[int | None, list[int | None], int, int]] = []
    for maker in (None, *range(count)):
        later = range(count) if maker is None else range(maker + 1, count)
        users: list[int | None] = [user for user in later if rng.random() < 0.5]
        if rng.random() < 0.4:
            users.append(None)
        if users:
            values.append((maker, users, rng.randint(0, 6), rng.randint(0, 6)))

    def total(takes: tuple[bool, ...], gives: tuple[bool, ...]) -> float:
        spent = sum(p[1] if t else p[0] for p, t in zip(prices, takes, strict=True))
        for maker, users, up, down in values:
            made = maker is not None and gives[maker]
            used = [user is not None and takes[user] for user in users]
            spent += up * (not made and any(used)) + down * (made and not all(used))
        return spent

    choices = [
        (takes, gives)
        for takes in itertools.product((False, True), repeat=count)
        for gives in itertools.product((False, True), repeat=count)
        if all((g <= t) if s else (g == t) for t, g, s in zip(takes, gives, split, strict=True))
    ]
    placement = Placement()
    for index, (floats, integers) in enumerate(prices):
        placement.operation(index, floats, integers, may_give_floats=split[index])
    for index, (maker, users, up, down) in enumerate(values):
        placement.value(("value", index), maker, users, up, down)
    sides = placement.solve()
    found = tuple(
        tuple(Side(index, gives) in sides for index in range(count)) for gives in (False, True)
    )
    assert total(found[0], found[1]) == min(total(*choice) for choice in choices)
