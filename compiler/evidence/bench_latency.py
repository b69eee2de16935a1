"""How long one run of each model takes: all models in turns, in one process per block.

One *turn* is some runs of one model on one input between two looks at both clocks: as many for
every model, for the first run of a turn finds the caches full of another model's data. One *round*
is a turn of each model on the same input, in an order that `turns` balances. For blocks, and what
is concluded from them, see `optc.evidence.bench_stats`.

CPU time is that of the calling thread when models have one thread: both runtimes then compute in
it (measured with ONNX Runtime 1.32, OpenVINO 2025.4 and 2026.4: thread and process clock agree to
0.1 %). Should it do less than half of the work, and with several threads, it is the CPU time of the
process, in which nothing else runs. Threads of ONNX Runtime that wait must not spin: that is CPU
time as well.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from optc.evidence.bench_process import open_pool
from optc.evidence.bench_stats import BLOCKS, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optc.evidence.subject import Subject
    from optc.launch.engines import Engine
    from optc.numerics.values import Feeds
    from optc.pipeline import Progress

    Call = Callable[[], object]

SECONDS: Final = 4.0
"""Measuring time unless the user gives one."""
_TURN: Final = 0.004  # seconds: long against the clocks (1 us) and against cold caches
_MOST_CALLS: Final = 100
_TICK: Final = 1e-9  # what clocks count in: a time is never zero, for ratios are made of them
_WARM: Final = 0.02  # seconds of warm-up of a model in each process, and at least two runs
_LEAST_WARM: Final = 2


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        seconds: measuring time of all models together, opening and warm-up not counted.
        runs: turns of each model instead of a time; None: as many as fit into `seconds`.
        warm_up: runs of each model before its first turn in a process; None: a few.
    """

    seconds: float = SECONDS
    runs: int | None = None
    warm_up: int | None = None

    @property
    def blocks(self) -> int:
        """Into how many blocks the measurement is cut."""
        return BLOCKS if self.runs is None else min(BLOCKS, self.runs)

    def plan(self, threads: int, before: Sequence[BlockTimes]) -> BlockPlan:
        """What the next block is to do.

        Args:
            threads: threads of the runtime.
            before: what the blocks before it measured.
        """
        block = len(before)
        rounds = None
        if self.runs is not None:
            blocks = self.blocks
            rounds = (block + 1) * self.runs // blocks - block * self.runs // blocks
        share = self.seconds / self.blocks
        done = sum(len(times.cpu[0]) for times in before)
        calls = before[0].calls if before else None
        return BlockPlan(block, done, rounds, share, calls, threads, self.warm_up)


@dataclass(frozen=True)
class BlockPlan:
    """What one block is to do.

    Attributes:
        block: its number; decides in which order models are opened.
        first_round: rounds of the blocks before; decides the orders of turns.
        rounds: how many rounds; None: as many as fit into `seconds`.
        seconds: measuring time.
        calls: runs of a turn; None: as many as the fastest model needs for a long enough turn.
        threads: threads of the runtime; decides whose CPU time is counted.
        warm_up: runs of each model before the first round; None: a few.
    """

    block: int = 0
    first_round: int = 0
    rounds: int | None = None
    seconds: float = SECONDS / BLOCKS
    calls: int | None = None
    threads: int = 1
    warm_up: int | None = None


@dataclass(frozen=True)
class BlockTimes:
    """What one block measured.

    Attributes:
        cpu: CPU seconds of a run, by model and round.
        wall: elapsed seconds of a run, by model and round.
        calls: runs of a turn.
        cpu_clock: ``thread`` or ``process``.
    """

    cpu: list[list[float]]
    wall: list[list[float]]
    calls: int
    cpu_clock: str

    def to_dict(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)


def measure_latency(
    subjects: Sequence[Subject],
    feeds: Sequence[Feeds],
    *,
    effort: Effort = Effort(),
    progress: Progress | None = None,
) -> list[BlockTimes]:
    """Time models that take the same inputs, each block in a fresh process.

    Args:
        subjects: the models, with the same number of threads; they have run on the inputs before.
        feeds: the inputs; rounds go through them in turn.
        effort: how much is measured.
        progress: told about each block.

    Raises:
        ModelError: ``map-input`` or ``bench-process``; or what opening a model raises.
    """
    runtimes = sorted({subject.runtime for subject in subjects})
    label = ", ".join(subject.label for subject in subjects)
    found: list[BlockTimes] = []
    with open_pool(feeds) as pool:
        # All of them load their libraries now, so that they are idle while one of them measures.
        processes = [pool.start(label) for _ in range(effort.blocks)]
        for process in processes:
            process.tell({"do": "import", "runtimes": runtimes})
        for process in processes:
            process.hear()
        for number, process in enumerate(processes):
            if progress is not None:
                progress("latency", number, len(processes))
            plan = effort.plan(subjects[0].options.threads, found)
            process.tell(pool.request("block", subjects, plan=asdict(plan)))
            found.append(BlockTimes(**process.hear()))
            process.end()
    if progress is not None:
        progress("latency", len(found), len(found))
    return found


# ---- one block, in the process that is measured ------------------------------------------------


def measure_block(
    openers: Sequence[Callable[[], Engine]], feeds: Sequence[Feeds], plan: BlockPlan
) -> BlockTimes:
    """Open the models, warm them up, and let them take turns.

    Args:
        openers: open each model.
        feeds: the inputs.
        plan: how long, and in which order.
    """
    count = len(openers)
    order = turns(count, plan.block)
    calls: list[list[Call]] = [[] for _ in openers]
    for index in order:
        engine = openers[index]()
        calls[index] = [engine.bind(sample) for sample in feeds]
    fastest = min(_warm_up(calls[index], plan.warm_up) for index in order)
    repeats = plan.calls or _repeats(fastest)
    name, clock = _choose_clock(calls, plan.threads)
    times = BlockTimes([[] for _ in openers], [[] for _ in openers], repeats, name)
    enabled = gc.isenabled()
    gc.disable()  # it would start in the middle of a turn
    try:
        _rounds(calls, clock, plan, times)
    finally:
        if enabled:
            gc.enable()
    return times


def _rounds(
    calls: Sequence[Sequence[Call]],
    clock: Callable[[], float],
    plan: BlockPlan,
    times: BlockTimes,
) -> None:
    count = len(calls)
    start = time.perf_counter()
    done = 0
    while plan.rounds is None or done < plan.rounds:
        number = plan.first_round + done
        # Shifted once per cycle of orders: no input may always meet the same order.
        sample = number + number // (2 * count)
        for index in turns(count, number):
            call = calls[index][sample % len(calls[index])]
            cpu, wall = _timed(call, times.calls, clock)
            times.cpu[index].append(cpu)
            times.wall[index].append(wall)
        done += 1
        if plan.rounds is None and time.perf_counter() - start >= plan.seconds:
            return


def _timed(call: Call, repeats: int, clock: Callable[[], float]) -> tuple[float, float]:
    """CPU and elapsed seconds of one run, as means over some."""
    wall, cpu = time.perf_counter(), clock()
    for _ in range(repeats):
        call()
    cpu, wall = clock() - cpu, time.perf_counter() - wall
    return max(cpu, _TICK) / repeats, max(wall, _TICK) / repeats


def _warm_up(calls: Sequence[Call], wanted: int | None) -> float:
    """Run a model until it is warm; returns the seconds of its fastest run."""
    fastest, spent, done = float("inf"), 0.0, 0
    while done < (wanted or _LEAST_WARM) or (wanted is None and spent < _WARM):
        start = time.perf_counter()
        calls[done % len(calls)]()
        took = time.perf_counter() - start
        fastest, spent, done = min(fastest, took), spent + took, done + 1
    return fastest


def _repeats(seconds: float) -> int:
    """Runs of a turn."""
    return max(1, min(_MOST_CALLS, round(_TURN / max(seconds, _TICK))))


def _choose_clock(calls: Sequence[Sequence[Call]], threads: int) -> tuple[str, Callable[[], float]]:
    """The clock that sees the work."""
    thread, process = time.thread_time(), time.process_time()
    for own in calls:
        own[0]()
    thread, process = time.thread_time() - thread, time.process_time() - process
    if threads > 1 or thread < process / 2:
        return "process", time.process_time
    return "thread", time.thread_time
