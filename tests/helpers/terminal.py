"""Runs a command on a terminal of its own (a pseudo terminal), as a person does."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def on_terminal(
    command: Sequence[str],
    *,
    cwd: Path,
    columns: int = 120,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Exit code of a command, and all that it wrote to stdout and stderr.

    The environment has neither NO_COLOR nor FORCE_COLOR nor COLUMNS, unless it is given.
    """
    away = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CI", "GITHUB_ACTIONS", "TERM")
    base = {key: value for key, value in os.environ.items() if key not in away}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**base, "TERM": "xterm-256color", **(environment or {})},
        close_fds=True,
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        found += part
    os.close(ours)
    return process.wait(), found.decode(errors="replace")
