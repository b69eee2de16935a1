"""A line on the terminal about long work: what is done, how far it is, how long it will take."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from optc.cli.settings import SETTINGS, colours, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optc.pipeline import Progress

_SOON: Final = 1.0  # seconds of a stretch of work before its rest is estimated


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress | None]:
    """What library functions tell about their work while the block runs.

    On a terminal that is a line at the bottom of stderr, with an estimate of the time left. With
    `-v`, each part of the work that ends gets a line of its own, in a log file always. Without any
    of these nobody is told, and the block gets None.

    Args:
        quiet: no line on the terminal.
    """
    shown = is_terminal(sys.stderr) and not quiet and not SETTINGS.quiet
    if not shown and not SETTINGS.verbose and SETTINGS.log is None:
        yield None
        return
    if not shown:
        work = Work(say=_say if SETTINGS.verbose else None)
        yield work
        work.end()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, no_color=not colours(sys.stderr), highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1, rest="")

        def show(activity: str, done: int, total: int, rest: str) -> None:
            bar.update(task, description=activity, completed=done, total=max(total, 1), rest=rest)

        def say(line: str) -> None:
            console.print(line, markup=False)

        work = Work(show=show, say=say if SETTINGS.verbose else None)
        yield work
        work.end()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Work:
    """The callback: keeps the time of each part, and estimates what is left of a stretch.

    A stretch is a run of calls with one total, e.g. the passes, or the samples of a verification.
    """

    def __init__(
        self,
        *,
        show: Callable[[str, int, int, str], None] | None = None,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Work that begins now.

        Args:
            show: told at each call: activity, parts done, parts in all, words about the rest.
            say: told when a part is over, as a line.
            clock: seconds from any beginning.
        """
        self._show = show
        self._say = say
        self._clock = clock
        self._activity = ""
        self._since = 0.0
        self._stretch = (0, 0, clock())  # total, done at its beginning, when that was
        self._done = 0

    def __call__(self, activity: str, done: int, total: int) -> None:
        """Called when a part begins, and once with `done == total` at the end."""
        now = self._clock()
        if activity != self._activity:
            self._finish(now)
            self._activity, self._since = activity, now
        if total != self._stretch[0] or done < self._done:
            self._stretch = (total, done, now)
        self._done = done
        if self._show is not None:
            self._show(activity, done, total, self.rest(now))

    def rest(self, now: float) -> str:
        """How far the stretch is and how long the rest will take, as far as that can be said."""
        total, start, since = self._stretch
        if total <= 1:
            return ""
        far, spent = f"{self._done}/{total}", now - since
        if self._done <= start or spent < _SOON or self._done >= total:
            return far
        seconds = spent / (self._done - start) * (total - self._done)
        return f"{far}, {duration(seconds)} left"

    def end(self) -> None:
        """The block is over: the last part is as well."""
        self._finish(self._clock())
        self._activity = ""

    def _finish(self, now: float) -> None:
        if not self._activity:
            return
        line = f"{now - self._since:8.2f} s  {self._activity}"
        SETTINGS.record(line)
        if self._say is not None:
            self._say(line)


def duration(seconds: float) -> str:
    """A time as people say it: ``8 s``, ``2 min 5 s``, ``1 h 20 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
