"""The command line: one thin file per verb over the library.

Exit codes: 0 done · 1 the recipe, model, data or target is wrong (or the answer is "no",
"differs") · 2 command-line usage · 3 a bug of optc · 4 built, but a goal was missed · 130
interrupted.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from optc.cli.app import app
from optc.cli.console import show_crash, show_error, show_usage, warn
from optc.errors import OptcError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "entry", "main"]

_USAGE = 2
_INTERRUPTED = 130


class _Interrupted(BaseException):
    """Raised by Ctrl-C. Not a KeyboardInterrupt, which the argument parser turns into exit 1."""


def main(arguments: list[str] | None = None) -> int:
    """Run optc with these arguments (default: the process's) and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words
    # A graph is many small objects that live long: collecting them often only costs time.
    gc.set_threshold(50_000, 20, 50)
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        app(args=words, prog_name="optc")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if as_json and code == _USAGE:
            show_usage(end.__context__)
        return code
    except _Interrupted:
        warn("interrupted; an output that was there before is untouched")
        return _INTERRUPTED
    except OptcError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except Exception as error:
        # The last line of defence: what nobody foresaw becomes a report that can be pasted.
        show_crash(error, words, as_json=as_json)
        return 3
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def entry() -> NoReturn:
    """The console command: `main`, then the end of the process without taking it apart.

    Freeing every node of a large graph one by one takes seconds and gains nothing.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise _Interrupted
