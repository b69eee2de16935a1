"""The command line: one thin file per verb over the library.

Exit codes: 0 done · 1 the recipe, model, data or target is wrong (or the answer is "no",
"differs") · 2 command-line usage · 3 a bug of optc · 4 built, but a goal was missed · 130
interrupted · 141 nobody reads what is printed · 143 terminated.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import contextmanager, suppress
from importlib.machinery import ExtensionFileLoader
from typing import TYPE_CHECKING, Final, NoReturn

import click

from optc.cli.app import app_of
from optc.cli.completion import COMPLETE
from optc.cli.console import show_crash, show_error, show_usage, warn
from optc.cli.settings import SETTINGS
from optc.collecting import rare_collections
from optc.errors import OptcError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["entry", "main"]

_SIGNALS: Final = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
_SOON: Final = 0.01  # seconds


class _Interrupted(BaseException):
    """Raised by a signal. Not a KeyboardInterrupt, which the argument parser has its own code for.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


_CAME: Final[list[_Interrupted]] = []
"""The signal that is ending the process, once one has come."""


def main(arguments: list[str] | None = None) -> int:
    """Run optc with these arguments (default: the process's) and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    SETTINGS.reset()
    try:
        try:
            with rare_collections(), _signals():
                code = _run(words, as_json="--json" in words)
        except OSError as error:
            if not _is_broken_pipe(error):
                raise
            code = _pipe_is_broken()  # while an error was printed
        SETTINGS.record(f"exit code {code}")
        return code
    finally:
        SETTINGS.reset()


def _run(words: list[str], *, as_json: bool) -> int:
    try:
        return _invoke(words, as_json=as_json)
    except SystemExit as end:
        if _is_broken_pipe(end.__context__):  # rich ends a process whose reader has gone
            return _pipe_is_broken()
        return end.code if isinstance(end.code, int) else 0
    except _Interrupted as end:
        return _interrupted(end)
    except OptcError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except Exception as error:  # the last line of defence: a report that can be pasted
        if _is_broken_pipe(error):
            return _pipe_is_broken()
        # Code that a signal interrupts may make another error of it, as Python 3.11 does where a
        # class is made, and pydantic, which keeps the text alone.
        if _CAME:
            return _interrupted(_CAME[0])
        show_crash(error, words, as_json=as_json)
        return 3


def _invoke(words: list[str], *, as_json: bool) -> int:
    app = app_of(words[0] if words else None)
    if COMPLETE in os.environ:
        app.main(prog_name="optc", complete_var=COMPLETE)  # answers the shell, and ends
    try:
        # Not `main`, which has ways of its own for signals and for pipes that nobody reads.
        with app.make_context("optc", [*words]) as context:
            app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        show_usage(error, as_json=as_json)
        return error.exit_code
    return 0


def entry() -> NoReturn:
    """The console command: `main`, then the end of the process without taking it apart.

    Freeing every node of a large graph one by one takes seconds and gains nothing.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or 128 + signal.SIGPIPE
        except (OSError, ValueError):  # closed
            pass
    os._exit(code)


@contextmanager
def _signals() -> Iterator[None]:
    """Signals that end a process raise an exception, so that nothing stays half-written."""
    before = {}
    _CAME.clear()
    for number in _SIGNALS:
        with suppress(ValueError):  # not in the main thread, where signals cannot be handled
            handler = signal.getsignal(number)
            # What is ignored stays so: nohup, or a job in the background of a script.
            if handler is not signal.SIG_IGN:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)  # what is done needs no end
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _is_loading(frame):
        # C code whose initialization fails half-way may crash the process: a little later, then.
        signal.signal(signal.SIGALRM, lambda _, frame: _interrupt(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _SOON)
        return
    for other in _SIGNALS:  # a second one, sent by the impatient, must not stop the cleaning up
        signal.signal(other, signal.SIG_IGN)
    _CAME.append(_Interrupted(number))
    raise _CAME[0]


def _is_loading(frame: FrameType | None) -> bool:
    """Whether an extension module is being loaded."""
    while frame is not None:
        name, loader = frame.f_code.co_name, frame.f_locals.get("self")
        if name in ("create_module", "exec_module") and isinstance(loader, ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _interrupted(end: _Interrupted) -> int:
    warn(f"{_SIGNALS[signal.Signals(end.number)]}; an output that was there before is untouched")
    return 128 + end.number


def _is_broken_pipe(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _pipe_is_broken() -> int:
    """The reader of what is printed has gone (``optc … | head``): end as others do then."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(quiet, sys.stdout.fileno())  # what is still buffered goes nowhere
    return 128 + signal.SIGPIPE
