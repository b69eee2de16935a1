"""Which processes there are, from /proc."""

from __future__ import annotations

import os
from pathlib import Path


def children(parent: int | None = None) -> list[int]:
    """Running processes that a process has started; of this one by default.

    Those that have ended and wait to be asked for their exit code do not count.
    """
    wanted = str(os.getpid() if parent is None else parent)
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended in this moment
            continue
        if ppid == wanted and state != "Z":
            found.append(int(stat.parent.name))
    return found


def command(process: int) -> list[str]:
    """The words that a process was started with; none when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:
        return []


def workers(parent: int | None = None) -> list[int]:
    """Those children that time models: a test runner has others."""
    return [child for child in children(parent) if "optc.evidence.bench_worker" in command(child)]
