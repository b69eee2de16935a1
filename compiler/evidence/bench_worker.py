"""The process in which models are timed: nothing else runs in it, and its memory is fresh.

`optc.evidence.bench_process` starts ``python -m optc.evidence.bench_worker`` and writes requests to
its stdin, one JSON object per line; each gets one line on stdout. It ends when stdin does, so that
it never outlives its parent.

    {"do": "import", "runtimes": […]}        gets ready; {}
    {"do": "block", "models": […], …}        one block of `measure_block`; its times
    {"do": "open", "models": [one], …}       opens an instance on its own CPUs; {}
    {"do": "turn", "start": …, "seconds": …} runs the instance; {"rate": runs per second}

An error of the model is answered as {"error": {code, message, …}}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.errors import OptcError
from optc.evidence.bench_latency import BlockPlan, measure_block
from optc.evidence.feeds_file import read_feeds
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.numerics.backends import import_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optc.launch.engines import Engine
    from optc.numerics.values import Feeds

_WARM_UP = 3  # runs, unless told otherwise


class Worker:
    """Answers requests; keeps what is open between them."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what a request asks for."""
        match request["do"]:
            case "import":
                for name in request["runtimes"]:
                    import_runtime(name)
                return {}
            case "block":
                openers = [_opener(model) for model in request["models"]]
                plan = BlockPlan(**request["plan"])
                return measure_block(openers, _feeds(request), plan).to_dict()
            case "open":
                os.sched_setaffinity(0, request["cpus"])  # before the runtime counts the CPUs
                engine = _opener(request["models"][0])()
                self._calls = _warm(engine, _feeds(request), request["warm_up"] or _WARM_UP)
                return {}
            case "turn":
                return {"rate": _turn(self._calls, request["start"], request["seconds"])}
        raise ValueError(f"there is no request {request['do']!r}")


def _opener(model: Mapping[str, Any]) -> Callable[[], Engine]:
    options = LaunchOptions.model_validate(model["options"])
    return lambda: open_engine(Path(model["path"]), options)


def _feeds(request: Mapping[str, Any]) -> list[Feeds]:
    return read_feeds(Path(request["feeds"]), request["table"])


def _warm(engine: Engine, feeds: Sequence[Feeds], runs: int) -> list[Callable[[], object]]:
    calls = [engine.bind(sample) for sample in feeds]
    for number in range(runs):
        calls[number % len(calls)]()
    return calls


def _turn(calls: Sequence[Callable[[], object]], start: float, seconds: float) -> float:
    """Run from `start` on the monotonic clock, which all processes share; runs per second."""
    time.sleep(max(0.0, start - time.monotonic()))
    begun = time.monotonic()
    done = 0
    while True:
        calls[done % len(calls)]()
        done += 1
        if (spent := time.monotonic() - begun) >= seconds:
            return done / spent


def serve(lines: Iterable[str], reply: Callable[[str], None]) -> None:
    """Answer every line with one line."""
    worker = Worker()
    for line in lines:
        try:
            reply(json.dumps(worker.answer(json.loads(line))))
        except OptcError as error:
            reply(json.dumps({"error": error.to_dict()}))


def main() -> None:
    """Serve on stdin and stdout; whatever else runtimes print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    serve(sys.stdin, reply)


if __name__ == "__main__":
    main()
