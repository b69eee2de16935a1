"""Turns of models on a clock of our own: orders, inputs, warm-up, and whose time is counted."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from optc.evidence import bench_latency
from optc.evidence.bench_latency import BlockPlan, BlockTimes, Effort, measure_block
from optc.evidence.bench_stats import BLOCKS, speedup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.numerics.values import Value


@dataclass
class Machine:
    """A clock that only models move, and what they did."""

    now: float = 0.0
    in_thread: float = 1.0
    opened: list[str] = field(default_factory=list)
    ran: list[tuple[str, int]] = field(default_factory=list)
    collecting: list[bool] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now * self.in_thread

    def model(self, name: str, seconds: float = 1e-3) -> Callable[[], Any]:
        def opener() -> Fake:
            self.opened.append(name)
            # What lies second in memory is slower here, by a fifth.
            return Fake(self, name, seconds * (1.0 if len(self.opened) == 1 else 1.2))

        return opener


@dataclass
class Fake:
    """An engine that takes half as long again after another model, as with cold caches."""

    machine: Machine
    name: str
    seconds: float
    native: Any = None
    inputs: Any = None

    def run(self, feeds: Mapping[str, Value]) -> dict[str, Value]:
        raise AssertionError("a block only makes bound calls")

    def bind(self, feeds: Mapping[str, Value]) -> Callable[[], object]:
        number: Any = feeds["number"]

        def call() -> None:
            ran = self.machine.ran
            cold = bool(ran) and ran[-1][0] != self.name
            self.machine.now += self.seconds * (1.5 if cold else 1.0)
            ran.append((self.name, number))
            self.machine.collecting.append(gc.isenabled())

        return call


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(bench_latency, "time", found)
    return found


FEEDS: Any = [{"number": number} for number in range(4)]


def test_order_of_opening_and_running_favours_neither_of_two_equal_models(machine: Machine) -> None:
    found: list[BlockTimes] = []
    effort = Effort(runs=8 * 6)
    for _ in range(BLOCKS):
        machine.opened.clear()
        plan = effort.plan(1, found)
        found.append(measure_block([machine.model("a"), machine.model("b")], FEEDS, plan))
    ratio = speedup([block.cpu[0] for block in found], [block.cpu[1] for block in found])
    assert ratio.value == pytest.approx(1.0)
    assert ratio.low is not None
    assert ratio.high is not None
    # Which model lies second in memory changes from block to block: both ends show it.
    assert ratio.low == pytest.approx(1 / 1.2, rel=0.05)
    assert ratio.high == pytest.approx(1.2, rel=0.05)


def test_a_model_that_takes_twice_as_long_is_half_as_fast(machine: Machine) -> None:
    models = [machine.model("a", 10e-3), machine.model("b", 20e-3 / 1.2)]
    times = measure_block(models, FEEDS, BlockPlan(rounds=4))
    assert times.calls == 1
    assert [len(own) for own in (*times.cpu, *times.wall)] == [4, 4, 4, 4]
    assert speedup([times.cpu[0]], [times.cpu[1]]).value == pytest.approx(0.5)
    assert times.cpu == times.wall


def test_every_input_meets_both_orders(machine: Machine) -> None:
    models = [machine.model("a", 10e-3), machine.model("b", 10e-3)]
    measure_block(models, FEEDS, BlockPlan(rounds=16))
    rounds = machine.ran[-32:]
    pairs = [(rounds[i], rounds[i + 1]) for i in range(0, 32, 2)]
    assert all(one[1] == other[1] for one, other in pairs)  # the same input within a round
    orders = Counter((one[1], one[0]) for one, _ in pairs)
    assert set(orders) == {(number, name) for number in range(4) for name in "ab"}


def test_short_models_run_several_times_between_two_looks_at_the_clock(machine: Machine) -> None:
    times = measure_block([machine.model("a", 1e-4)], FEEDS, BlockPlan(rounds=3))
    assert times.calls == 40
    assert times.cpu[0] == [pytest.approx(1e-4)] * 3


def test_all_models_run_equally_often_in_a_turn_as_the_fastest_one_needs(machine: Machine) -> None:
    # The first run of a turn meets cold caches: with other numbers of runs, equal models differ.
    times = measure_block(
        [machine.model("a", 1e-2), machine.model("b", 1e-3)], FEEDS, BlockPlan(rounds=2)
    )
    assert times.calls == 3  # 4 ms of 1.2 ms each
    assert len(machine.ran[-12:]) == 2 * 2 * 3
    assert Counter(name for name, _ in machine.ran[-12:]) == {"a": 6, "b": 6}
    again = measure_block([machine.model("a", 1e-2)], FEEDS, BlockPlan(rounds=1, calls=5))
    assert again.calls == 5


def test_time_ends_a_block_that_has_no_number_of_rounds(machine: Machine) -> None:
    times = measure_block([machine.model("a", 10e-3)], FEEDS, BlockPlan(seconds=0.095))
    assert len(times.cpu[0]) == 10


@pytest.mark.parametrize(("asked", "runs"), [(None, 2), (1, 1), (7, 7)])
def test_warm_up_runs_are_as_many_as_asked_for(
    machine: Machine, asked: int | None, runs: int
) -> None:
    measure_block([machine.model("a", 0.5)], FEEDS, BlockPlan(rounds=1, warm_up=asked))
    # One run more finds out which clock sees the work, and one is the turn.
    assert len(machine.ran) == runs + 2


@pytest.mark.parametrize(
    ("in_thread", "threads", "clock"),
    [(1.0, 1, "thread"), (0.6, 1, "thread"), (0.0, 1, "process"), (1.0, 2, "process")],
)
def test_the_clock_that_sees_the_work_is_read(
    machine: Machine, in_thread: float, threads: int, clock: str
) -> None:
    machine.in_thread = in_thread
    times = measure_block([machine.model("a", 0.01)], FEEDS, BlockPlan(rounds=1, threads=threads))
    assert times.cpu_clock == clock
    assert times.cpu[0][0] == pytest.approx(0.01 * (in_thread if clock == "thread" else 1.0))


def test_no_garbage_is_collected_during_turns_and_it_is_again_afterwards(machine: Machine) -> None:
    assert gc.isenabled()
    measure_block([machine.model("a", 0.5)], FEEDS, BlockPlan(rounds=3))
    assert machine.collecting[-3:] == [False] * 3
    assert gc.isenabled()


@pytest.mark.parametrize("runs", [1, 3, 8, 13, 100])
def test_runs_are_dealt_out_to_the_blocks(runs: int) -> None:
    effort = Effort(runs=runs)
    done: list[BlockTimes] = []
    for _ in range(effort.blocks):
        plan = effort.plan(1, done)
        assert plan.block == len(done)
        assert plan.first_round == sum(len(block.cpu[0]) for block in done)
        done.append(BlockTimes([[0.0] * (plan.rounds or 0)], [[]], 3, "thread"))
        assert plan.calls == (3 if plan.block else None)
    rounds = [len(block.cpu[0]) for block in done]
    assert sum(rounds) == runs
    assert max(rounds) - min(rounds) <= 1
    assert min(rounds) >= 1
    assert effort.blocks == min(runs, BLOCKS)
