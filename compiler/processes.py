"""Processes that work for this one, and the memory that is free for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterator, Sequence

_PATIENCE: Final = 5.0  # seconds that a process has to clean up before it is killed
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")
_UNKNOWN: Final = 4 << 30


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Take signals after the block: whatever it starts is then known to what ends it.

    Only the main thread takes signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: h for n in handled if callable(h := signal.getsignal(n))}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class WorkerProcess:
    """A process of `optc.worker`.

    Its answers go to a queue that several share, each with the process that it is from; when the
    process ends, the last one is ``{"died": why}``.
    """

    def __init__(
        self,
        cpus: Sequence[int],
        events: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any]]],
    ) -> None:
        """Start the process.

        Args:
            cpus: the CPUs that it may use.
            events: where its answers go.
        """
        self._events = events
        # A session of its own: Ctrl-C in the terminal is for this process to handle.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "optc.worker", ",".join(map(str, cpus))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._events.put((self, json.loads(line)))
        code = self._process.wait()
        why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._events.put((self, {"died": why}))

    def send(self, task: dict[str, Any]) -> None:
        """Give it a task."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: its last answer says so
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Ask it to end, and to clean up."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended; kill it when that takes long."""
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()


def free_memory() -> int:
    """Bytes that new processes can have: what is available, within the limit of the cgroup."""
    free = _UNKNOWN
    with suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(found.split()[1]) << 10
    with suppress(OSError, ValueError):  # no limit, or another version of cgroups
        limit = int((_CGROUP / "memory.max").read_text())
        free = min(free, limit - int((_CGROUP / "memory.current").read_text()))
    return max(free, 0)
