"""A process that does parts of compiles for another one: ``python -m optc.worker CPUS``.

One task per line of standard input, as JSON; one or more answers per line of standard output: what
is being done (``progress``), and at the end ``done`` or ``error``. When standard input ends, or on
SIGTERM, the process ends, and leaves nothing half written.

What one task makes another one finds in the cache: the graph after steps that several share, the
verification of a graph. So a task gives back no graph, and its results are small.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.cache import Cache
from optc.errors import OptcError
from optc.many import told

if TYPE_CHECKING:
    from types import FrameType

    from optc.prepare import Prepared

_QUIET = 0.1  # seconds between two lines of progress
_KILLED = 143


class Worker:
    """Does tasks with one cache; `tell` is given each answer."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell
        self._last = 0.0

    def run(self, task: dict[str, Any]) -> None:
        """Do a task; what goes wrong is an answer."""
        try:
            answer = getattr(self, f"_{task['do']}")(task)
        except OptcError as error:
            self._tell({"error": told(error)})
        except Exception as error:  # the last line of defence: the others go on
            text = f"optc has a bug: {type(error).__name__}: {error}"
            detail = "".join(traceback.format_exception(error))
            self._tell({"error": {"code": "crash", "exit": 3, "text": text, "detail": detail}})
        else:
            self._tell({"done": answer})

    def _progress(self, activity: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last > _QUIET:
            self._last = now
            self._tell({"progress": [activity, done, total]})

    def _look(self, task: dict[str, Any]) -> dict[str, Any]:
        """What a recipe consists of: groups of targets, keys of their steps, sizes, the output."""
        from optc.parts import look

        return look(self._prepared(task), _cache(task))

    def _stages(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run the first steps of a group of targets into the cache."""
        from optc.parts import make_stages

        make_stages(
            self._prepared(task), _cache(task), task["group"], task["count"], self._progress
        )
        return {}

    def _group(self, task: dict[str, Any]) -> dict[str, Any]:
        """Make and verify the graph of a group of targets; what is written is thrown away."""
        from optc.driver import make_group

        with tempfile.TemporaryDirectory(prefix="optc-") as folder:
            make_group(
                self._prepared(task),
                Path(folder),
                task["group"],
                verify=task["verify"],
                cache=_cache(task),
                progress=self._progress,
            )
        return {}

    def _compile(self, task: dict[str, Any]) -> dict[str, Any]:
        """Compile a recipe; what has been made of it is found in the cache."""
        from optc.driver import compile as compile_recipe

        result = compile_recipe(
            task["recipe"],
            targets=task["targets"] or None,
            overrides=task["overrides"],
            output=task["output"],
            verify=task["verify"],
            cache=_cache(task),
            progress=self._progress,
        )
        return result.to_dict()

    @staticmethod
    def _prepared(task: dict[str, Any]) -> Prepared:
        from optc.prepare import prepare

        return prepare(task["recipe"], targets=task["targets"] or None, overrides=task["overrides"])


def _cache(task: dict[str, Any]) -> Cache:
    return Cache(task["cache"], task["limit"], trust_times=task["trust_times"])


def main() -> None:
    """Do the tasks of standard input until it ends."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, [int(word) for word in sys.argv[1].split(",")])
    # Ctrl-C goes to the whole terminal: the process that started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with answers

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    worker = Worker(tell)
    while line := tasks.get():
        worker.run(json.loads(line))
    os._exit(0)


def _listen(tasks: queue.SimpleQueue[str]) -> None:
    """Hand over the lines of standard input; end the process when the other one is gone."""
    for line in sys.stdin:
        tasks.put(line)
    tasks.put("")
    os.kill(os.getpid(), signal.SIGTERM)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_KILLED)


if __name__ == "__main__":
    main()
