"""What `-v`, `-q`, `--log-file` and the environment say about output; one per run of a command."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from optc.files import unwritable

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Settings:
    """How much is said, and where it is kept.

    Attributes:
        verbose: say what each step of the work took.
        quiet: say nothing but answers, warnings and errors.
        log: an open file that gets everything with the time.
    """

    verbose: bool = False
    quiet: bool = False
    log: IO[str] | None = None

    def reset(self) -> None:
        """Back to the defaults, before a command and after it."""
        if self.log is not None:
            with suppress(OSError):
                self.log.close()
        self.verbose, self.quiet, self.log = False, False, None

    def open_log(self, path: Path) -> None:
        """Keep what is said in a file, which is overwritten.

        Raises:
            OutputError: ``output-unwritable``.
        """
        try:
            # Line by line: whatever ends the process, what came before it is there.
            self.log = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            hint = "give --log-file a file name in a folder that exists"
            raise unwritable(path, error, hint=hint) from error

    def record(self, text: str) -> None:
        """Write lines to the log file, if there is one, with the time before each."""
        if self.log is None:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        with suppress(OSError, ValueError):  # a full disk is no reason to lose the work
            self.log.writelines(f"{now} {line}\n" for line in text.splitlines())


SETTINGS = Settings()


def colours(stream: IO[str]) -> bool:
    """Whether to colour what goes to a stream.

    NO_COLOR forbids (https://no-color.org), FORCE_COLOR asks for it; else a terminal gets colours.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream)


def is_terminal(stream: IO[str]) -> bool:
    """Whether somebody looks at a stream on a terminal that can move its cursor."""
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def width() -> int:
    """Columns for help: those of the terminal, at most 100."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        columns = int(os.environ.get("COLUMNS") or 0) if _is_number("COLUMNS") else 0
    return min(columns or _WIDEST, _WIDEST)


def _is_number(name: str) -> bool:
    return os.environ.get(name, "").isdecimal()


_WIDEST = 100
