"""The garbage collector while graphs are made and changed."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# A graph is many small objects that live long: looking through them often only costs time, a fifth
# of that of passes over 30,000 operations with Python's own thresholds.
_RARE: Final = (50_000, 20, 50)


class _Rarely:
    """What is common to the threads of a process.

    Attributes:
        inside: how many are within `rare_collections`.
        before: thresholds to go back to.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0
        self.before = (0, 0, 0)


_STATE: Final = _Rarely()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cyclic garbage rarely within, in all threads; a collector that is off stays off.

    May be nested and entered by several threads; the last one out restores the thresholds. Usable
    as a decorator.
    """
    with _STATE.lock:
        _STATE.inside += 1
        if _STATE.inside == 1:
            _STATE.before = gc.get_threshold()
            if _STATE.before[0] and _STATE.before < _RARE:
                gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        with _STATE.lock:
            _STATE.inside -= 1
            if not _STATE.inside:
                gc.set_threshold(*_STATE.before)
