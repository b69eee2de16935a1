"""Many compiles at once, in processes: every recipe, and every group of targets of one.

A task is done by a process of `optc.worker`; tasks hand over what they make through the cache. What
tasks have in common is a task of its own that they wait for: the first steps that recipes for one
model share, or the targets of a recipe before the first step that asks for the CPU. When all groups
of a recipe are made, one task puts its output folder together out of the cache.

A task begins when there is a free process and its memory, estimated from the size of the model, is
free as well. A recipe that fails leaves the others be.
"""

from __future__ import annotations

import os
import queue
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from optc.errors import InternalError, OptcError, OutputError
from optc.processes import WorkerProcess, free_memory, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from optc.cache import Cache
    from optc.results import CompileResult

_BASE: Final = 350 << 20
"""Bytes of a process with all libraries: 135 MiB measured with onnxruntime, and room."""
_PER_BYTE: Final = 7
"""Times the model's bytes: source and result in the runtime, weights before and after a pass; 6.3
measured on models of 11 and 91 MB."""


@dataclass(frozen=True)
class Wish:
    """What holds for all recipes.

    Attributes:
        targets: targets instead of the recipes'.
        overrides: settings on top of the recipes.
        verify: whether results are compared with their source models.
        output: the output folder; None: as recipes say.
        below: whether results go into folders in `output`, each named after its recipe.
        cache: where tasks leave what they make.
        fetch: gives the result of a recipe that nothing has changed for.
    """

    targets: tuple[str, ...]
    overrides: tuple[str, ...]
    verify: bool
    output: Path | None
    below: bool
    cache: Cache
    fetch: Callable[[Path], CompileResult | None]


def told(error: OptcError) -> dict[str, Any]:
    """An error as data, with ``exit``, its exit code, ``text`` and ``detail`` for people."""
    detail = error.detail if isinstance(error, InternalError) else ""
    return {**error.to_dict(), "exit": error.exit_code, "text": str(error), "detail": detail}


@dataclass
class Outcome:
    """What became of a recipe.

    Attributes:
        recipe: the recipe file.
        result: `CompileResult.to_dict`; None when it failed.
        error: what went wrong, as `told` says it.
        seconds: from the first task to the last.
    """

    recipe: Path
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """Exit code of a command that compiles only this."""
        if self.error is not None:
            return int(self.error["exit"])
        return 4 if self.result is not None and self.result["missed"] else 0


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Of several recipes: 3 when one met a bug, else 1 when an input is wrong, else 4, else 0."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (3, 1, 4) if code in codes), 0)


@dataclass
class _Task:
    """Something for a process to do.

    Attributes:
        do: which method of the worker.
        recipe: index of the recipe.
        more: arguments beside those that all tasks have.
        needs: tasks that must be over.
        memory: bytes that it takes, more or less.
    """

    do: str
    recipe: int
    more: dict[str, Any] = field(default_factory=dict)
    needs: list[_Task] = field(default_factory=list)
    memory: int = _BASE
    over: bool = False


def compile_many(
    recipes: Sequence[Path],
    wish: Wish,
    jobs: int,
    tell: Callable[[str, int, int], None] | None = None,
) -> list[Outcome]:
    """Compile recipes in up to `jobs` processes.

    Args:
        recipes: recipe files.
        wish: what holds for all of them.
        jobs: how many processes work at a time.
        tell: told what is being done, and how many tasks are over, of how many.

    Returns:
        One outcome per recipe, in order.
    """
    schedule = _Schedule(recipes, wish, jobs, tell)
    try:
        schedule.run()
    finally:
        schedule.stop()
    return schedule.outcomes


class _Schedule:
    """Tasks, the processes that do them, and what has come of it."""

    def __init__(
        self,
        recipes: Sequence[Path],
        wish: Wish,
        jobs: int,
        tell: Callable[[str, int, int], None] | None,
    ) -> None:
        self._wish = wish
        self._jobs = jobs
        self._tell = tell
        self._start = time.perf_counter()
        self._memory = free_memory()
        self._events: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any]]] = queue.SimpleQueue()
        self._idle: list[WorkerProcess] = []
        self._busy: dict[WorkerProcess, _Task] = {}
        self._doing: dict[WorkerProcess, str] = {}
        self._tasks: list[_Task] = []
        self._looks: dict[int, dict[str, Any]] = {}
        self.outcomes = [Outcome(recipe) for recipe in recipes]

    def run(self) -> None:
        """Do everything."""
        for index, outcome in enumerate(self.outcomes):
            try:
                found = self._wish.fetch(outcome.recipe)
            except OptcError as error:
                outcome.error = told(error)
                continue
            if found is not None:
                outcome.result, outcome.seconds = found.to_dict(), found.seconds["total"]
            else:
                self._tasks.append(_Task("look", index))
        while self._begin():
            worker, answer = self._events.get()
            self._take(worker, answer)
            if self._busy or self._open():
                continue
            self._plan()

    def stop(self) -> None:
        """End all processes; those that work are ended as by Ctrl-C."""
        for worker in (*self._busy, *self._idle):
            worker.end()
        for worker in (*self._busy, *self._idle):
            worker.wait()

    # ---- tasks ---------------------------------------------------------------------------------

    def _open(self) -> list[_Task]:
        return [task for task in self._tasks if not task.over]

    def _begin(self) -> bool:
        """Begin what can be begun; False when nothing is left to wait for."""
        for task in self._open():
            if task in self._busy.values() or not all(need.over for need in task.needs):
                continue
            used = sum(other.memory for other in self._busy.values())
            if len(self._busy) >= self._jobs or (self._busy and used + task.memory > self._memory):
                break
            with uninterrupted():
                worker = self._idle.pop() if self._idle else self._new_worker()
                self._busy[worker] = task
            self._say(worker, task.do)
            worker.send(self._request(task))
        return bool(self._busy)

    def _new_worker(self) -> WorkerProcess:
        """A process with its share of the CPUs."""
        cpus = sorted(os.sched_getaffinity(0))
        number = len(self._busy) + len(self._idle)
        share = cpus[number % self._jobs :: self._jobs] or [cpus[number % len(cpus)]]
        return WorkerProcess(share, self._events)

    def _request(self, task: _Task) -> dict[str, Any]:
        wish, outcome = self._wish, self.outcomes[task.recipe]
        return {
            "do": task.do,
            "recipe": str(outcome.recipe),
            "targets": list(wish.targets),
            "overrides": list(wish.overrides),
            "verify": wish.verify,
            "output": self._output(task.recipe),
            "cache": str(wish.cache.folder),
            "limit": wish.cache.limit,
            "trust_times": wish.cache.trust_times,
            **task.more,
        }

    def _output(self, index: int) -> str | None:
        look = self._looks.get(index)
        if look is None:
            return None
        given = self._wish.output
        if given is None:
            return str(look["output"])
        return str(given / look["name"] if self._wish.below else given)

    def _take(self, worker: WorkerProcess, answer: dict[str, Any]) -> None:
        """Take an answer of a process."""
        if worker not in self._busy:  # it ended while it had nothing to do
            self._idle.remove(worker)
            worker.wait()
            return
        task = self._busy[worker]
        name = self.outcomes[task.recipe].recipe.stem
        if "progress" in answer:
            self._say(worker, answer["progress"][0])
            return
        del self._busy[worker], self._doing[worker]
        task.over = True
        if "died" in answer:
            worker.wait()
            text = f"the process that compiled {name} ended: {answer['died']}"
            hint = "it may have run out of memory: try fewer --jobs"
            error = {"code": "worker-died", "exit": 3, "text": f"{text}\n  {hint}"}
            answer = {"error": {**error, "message": text, "hint": hint}}
        else:
            self._idle.append(worker)
        if "error" in answer:
            self._fail(task, answer["error"])
        elif task.do == "look":
            self._looks[task.recipe] = answer["done"]
        elif task.do == "compile":
            outcome = self.outcomes[task.recipe]
            outcome.result = answer["done"]
            outcome.seconds = time.perf_counter() - self._start

    def _fail(self, task: _Task, error: Mapping[str, Any]) -> None:
        """Note an error. One in shared stages is met again by each that needs them."""
        if task.do == "stages":
            return
        self.outcomes[task.recipe].error = error
        self.outcomes[task.recipe].seconds = time.perf_counter() - self._start
        for other in self._tasks:
            if other.recipe == task.recipe and other.do != "stages":
                other.over = True

    # ---- what to do ----------------------------------------------------------------------------

    def _plan(self) -> None:
        """Once all recipes were looked at: make the tasks that compile them."""
        if any(task.do != "look" for task in self._tasks):
            return
        self._refuse_equal_outputs()
        left = {i: self._looks[i] for i in sorted(self._looks) if not self.outcomes[i].error}
        counts = Counter(
            key for look in left.values() for keys in look["groups"] for key in {*keys}
        )
        stages: dict[str, _Task] = {}
        for index, look in left.items():
            memory = _BASE + _PER_BYTE * look["bytes"]
            single = len(look["groups"]) == 1
            parts = []
            for number, keys in enumerate(look["groups"]):
                needs = _shared(index, number, keys, counts, stages, memory)
                do, more = ("compile", {}) if single else ("group", {"group": number})
                parts.append(_Task(do, index, more, needs, memory))
            self._tasks += parts if single else [*parts, _Task("compile", index, {}, parts, memory)]
        self._tasks[:0] = stages.values()

    def _refuse_equal_outputs(self) -> None:
        """Two recipes that write to one folder: the second one is an error."""
        seen: dict[str, Path] = {}
        for index in sorted(self._looks):
            place = os.path.abspath(self._output(index) or "")
            outcome = self.outcomes[index]
            if place in seen:
                error = OutputError(
                    "output-twice",
                    f"{seen[place]} writes to this folder as well",
                    location=place,
                    hint="give one of them another `name` or `output`",
                )
                outcome.error = told(error)
            seen.setdefault(place, outcome.recipe)

    def _say(self, worker: WorkerProcess, activity: str) -> None:
        self._doing[worker] = f"{self.outcomes[self._busy[worker].recipe].recipe.stem}: {activity}"
        if self._tell is not None:
            over = sum(task.over for task in self._tasks)
            self._tell(", ".join(self._doing.values()), over, len(self._tasks))


def _shared(
    recipe: int,
    group: int,
    keys: Sequence[str],
    counts: Mapping[str, int],
    stages: dict[str, _Task],
    memory: int,
) -> list[_Task]:
    """The task that makes the longest beginning that others need as well, with what that needs."""
    task: list[_Task] = []
    for index, key in enumerate(keys):
        longest = index + 1 == len(keys) or counts[keys[index + 1]] < counts[key]
        if counts[key] < 2 or not longest:
            continue
        if key not in stages:
            more = {"group": group, "count": index + 1}
            stages[key] = _Task("stages", recipe, more, list(task), memory)
        task = [stages[key]]
    return task
