"""Whether a process may use the AMX tiles.

Linux gives the 8 KiB of tile registers only to processes that ask for them; without the permission
the first tile instruction ends in SIGILL, so runtimes ask and fall back to vectors when refused.
Source: Linux, Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ARCH_PRCTL: Final = 158  # number of the system call on x86-64
_REQUEST_PERMISSION: Final = 0x1023  # ARCH_REQ_XCOMP_PERM
_TILE_DATA: Final = 18  # XFEATURE_XTILE_DATA


def tile_permission(call: Callable[[int, int, int], int] | None = None) -> str:
    """Ask for the permission to use AMX; it holds for this process and its children.

    Args:
        call: makes the system call and returns 0 or an errno; None: the real one.

    Returns:
        Why it was refused; empty when it was given.
    """
    if call is None and (sys.platform != "linux" or os.uname().machine != "x86_64"):
        return "AMX can be used on x86-64 Linux only"
    number = (call or _system_call)(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    if number == 0:
        return ""
    if number == errno.ENOSPC:
        return "a thread of this process has too small a signal stack for the tile registers"
    release = os.uname().release
    if number == errno.EINVAL:
        return f"the kernel knows no permission for AMX: 5.16 is the first (this is {release})"
    return f"the kernel refuses the permission to use AMX: {os.strerror(number)}"


def _system_call(number: int, *arguments: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if library.syscall(number, *arguments) else 0
