"""Placement by a minimum cut is the best one, and the same one whatever the order."""

from __future__ import annotations

import random
import time
from itertools import product

import pytest

from optc.numerics.painting import paint
from optc.numerics.placement import Crossing, Problem, place


def random_problem(seed: int, free: int, *, savings: bool = True) -> Problem[int]:
    """Operations 0, 1, … in order of execution, with values from each to later ones."""
    rng = random.Random(seed)
    count = free + rng.randint(1, 6)
    fixed = rng.sample(range(count), count - free)
    split = rng.randint(0, len(fixed))
    crossings = []
    for maker in range(count):
        for _ in range(rng.choice([1, 1, 1, 2])):
            later = range(maker + 1, count)
            users = tuple(sorted(rng.sample(later, min(len(later), rng.choice([0, 1, 1, 2, 3])))))
            cost = rng.choice([0, 1, 1, 2, 3, 5, 8])
            crossings.append(Crossing(maker, users, cost, rng.random() < 0.1))
    for _ in range(rng.randint(0, 3)):
        users = tuple(sorted(rng.sample(range(count), min(count, rng.randint(1, 3)))))
        crossings.append(Crossing(None, users, rng.randint(1, 6)))
    names = tuple(node for node in range(count) if node not in fixed)
    return Problem(
        frozenset(fixed[:split]),
        frozenset(fixed[split:]),
        names,
        tuple(crossings),
        {node: rng.randint(0, 4) for node in names if savings and rng.random() < 0.5},
        {node: rng.randint(0, 3) for node in names if rng.random() < 0.5},
    )


def exhaustive(problem: Problem[int]) -> frozenset[int]:
    """The best assignment of all: least cost, most preferred, then fewest operations low."""
    best: tuple[int, int, int] | None = None
    found: frozenset[int] = frozenset()
    for choice in product((False, True), repeat=len(problem.free)):
        chosen = {node for node, low in zip(problem.free, choice, strict=True) if low}
        low = problem.low | chosen
        wish = sum(problem.preferences.get(node, 0) for node in chosen)
        key = (problem.cost(low), -wish, len(chosen))
        if best is None or key < best:
            best, found = key, frozenset(low)
    return found


@pytest.mark.parametrize("seed", range(200))
def test_it_is_the_best_of_all_assignments(seed: int) -> None:
    problem = random_problem(seed, 16 if seed % 40 == 0 else 1 + seed % 11)
    expected = exhaustive(problem)
    found = place(problem)
    assert problem.cost(found) == problem.cost(expected)
    # Also the same assignment: preferences decide, then the fewest low operations, which are the
    # same ones in every minimum cut.
    assert found == expected


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_depend_on_the_order(seed: int) -> None:
    problem = random_problem(seed, 12)
    rng = random.Random(seed)
    free, crossings = list(problem.free), list(problem.crossings)
    rng.shuffle(free)
    rng.shuffle(crossings)
    mixed = Problem(
        problem.high,
        problem.low,
        tuple(free),
        tuple(crossings),
        problem.savings,
        problem.preferences,
    )
    assert place(mixed) == place(problem)


def test_a_value_is_converted_once_for_all_its_users() -> None:
    # One maker, three users that are low: 5 once is less than 3 x 4 for each of their results.
    crossings = (
        Crossing("a", ("u", "v", "w"), 5),
        *(Crossing(user, (), 4, outside=True) for user in "uvw"),
    )
    problem = Problem(frozenset("a"), frozenset("uvw"), (), crossings)
    assert problem.conversions(place(problem)) == 5 + 3 * 4
    free = Problem(frozenset("a"), frozenset(), ("u", "v", "w"), crossings, dict.fromkeys("uvw", 6))
    # Low saves 18 and costs 17; were the value converted three times, it would cost 27.
    assert place(free) == frozenset("uvw")


@pytest.mark.parametrize("seed", range(100))
def test_no_more_is_converted_than_by_painting(seed: int) -> None:
    problem = random_problem(seed, 12, savings=False)
    rng = random.Random(seed)
    order = sorted(problem.high | problem.low | set(problem.free))
    classes = {node: rng.choice(["infer", "clear"]) for node in problem.free}
    classes |= dict.fromkeys(problem.high, "deny") | dict.fromkeys(problem.low, "allow")
    painted = paint(problem, order, classes)
    assert problem.low <= painted
    assert not painted & problem.high
    assert problem.conversions(place(problem)) <= problem.conversions(painted)


def test_painting_goes_by_the_rounds() -> None:
    # conv -> add -> relu -> conv2 : between; conv2 -> exp -> sum -> clear : denied forward up to
    # the infer operation; conv2 -> follow (infer) -> tail (clear) : follows, and spreads.
    chain = [
        ("conv", ("add",)),
        ("add", ("relu",)),
        ("relu", ("conv2",)),
        ("conv2", ("exp", "follow")),
        ("exp", ("view",)),
        ("view", ("sum",)),
        ("sum", ("last",)),
        ("follow", ("tail",)),
    ]
    classes = {
        "conv": "allow",
        "conv2": "allow",
        "exp": "deny",
        **dict.fromkeys(("add", "sum", "follow"), "infer"),
        **dict.fromkeys(("relu", "view", "last", "tail"), "clear"),
    }
    free = tuple(name for name, kind in classes.items() if kind in {"infer", "clear"})
    problem = Problem(
        frozenset({"exp"}),
        frozenset({"conv", "conv2"}),
        free,
        tuple(Crossing(maker, users, 1) for maker, users in chain),
    )
    low = paint(problem, list(classes), classes)
    assert low == {"conv", "add", "relu", "conv2", "follow", "tail"}


def test_five_thousand_operations_take_seconds() -> None:
    rng = random.Random(0)
    count = 5000
    crossings = []
    for node in range(count):
        users = {min(node + 1, count - 1)} | {
            rng.randrange(node, min(count, node + 60)) for _ in range(rng.choice([0, 0, 1, 2]))
        }
        crossings.append(Crossing(node, tuple(sorted(users - {node})), rng.randint(1000, 10**6)))
    names = list(range(count))
    rng.shuffle(names)
    problem = Problem(
        frozenset(names[:500]),
        frozenset(names[500:1500]),
        tuple(names[1500:]),
        tuple(crossings),
        preferences={node: rng.randint(0, 1000) for node in names[1500:]},
    )
    start = time.process_time()
    low = place(problem)
    assert time.process_time() - start < 10  # about 1 s alone on a 3 GHz core
    assert problem.low <= low
