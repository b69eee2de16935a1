"""Starts the processes that time models, talks with them, and ends them however a bench ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.errors import ModelError
from optc.evidence.feeds_file import write_feeds
from optc.processes import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.evidence.subject import Subject
    from optc.numerics.values import Feeds

_COMMAND = (sys.executable, "-P", "-m", "optc.evidence.bench_worker")


class Process:
    """A running `optc.evidence.bench_worker`.

    Attributes:
        label: what it is about, for error messages.
    """

    def __init__(self, process: subprocess.Popen[str], label: str, log: Path) -> None:
        self._process = process
        self._log = log
        self.label = label

    def tell(self, request: Mapping[str, Any]) -> None:
        """Send a request, and do not wait."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: `hear` says so
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for the answer to a request.

        Raises:
            ModelError: what it reports; ``bench-process``: it ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if error := answer.get("error"):
            raise ModelError(
                error["code"], error["message"], location=self.label, hint=error["hint"]
            )
        return answer

    def end(self) -> None:
        """End it now, whatever it does, with everything that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()

    def _ended(self) -> ModelError:
        code = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it says nothing")
        return ModelError(
            "bench-process",
            f"the process that times it ended with exit code {code}: {last}",
            location=self.label,
            hint="usual reasons: too little memory, or a crash of the runtime; --threads makes "
            "fewer, larger instances of --throughput",
        )


@dataclass(frozen=True)
class Pool:
    """Makes processes that end with it; see `open_pool`.

    Attributes:
        folder: a folder that is gone with the pool.
        feeds: file of the inputs.
        table: finds them in the file.
    """

    folder: Path
    feeds: Path
    table: Sequence[Mapping[str, Any]]
    _stack: ExitStack

    def start(self, label: str) -> Process:
        """Start a process; it hears requests while it is still loading Python.

        Raises:
            ModelError: ``bench-process``: it cannot be started.
        """
        log = self.folder / "log.txt"
        with log.open("a", encoding="utf-8") as stream, uninterrupted():
            try:
                started = subprocess.Popen(
                    _COMMAND,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    text=True,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C reaches the parent alone, which ends them
                )
            except OSError as error:
                raise ModelError(
                    "bench-process", f"no process can be started: {error.strerror}", location=label
                ) from error
            process = Process(started, label, log)
            self._stack.callback(process.end)
        return process

    def request(self, verb: str, subjects: Sequence[Subject], **more: Any) -> dict[str, Any]:
        """A request about models on the inputs."""
        models = [
            {"path": str(s.model.resolve()), "options": s.options.model_dump(mode="json")}
            for s in subjects
        ]
        feeds = {"feeds": str(self.feeds), "table": self.table}
        return {"do": verb, "models": models, **feeds, **more}


@contextmanager
def open_pool(feeds: Sequence[Feeds]) -> Iterator[Pool]:
    """A pool whose processes are fed with these inputs.

    Raises:
        ModelError: ``map-input``.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optc-bench-")))
        file = folder / "feeds.npz"
        yield Pool(folder, file, write_feeds(file, feeds), stack)
