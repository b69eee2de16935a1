"""The permission to use AMX, and each way of being refused."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from optc.launch.amx import tile_permission
from optc.targets import detect_host

CALL = (158, 0x1023, 18)  # arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0, ""),
        (errno.EINVAL, "the kernel knows no permission for AMX: 5.16 is the first (this is "),
        (errno.ENOSPC, "a thread of this process has too small a signal stack for the tile"),
        (errno.EPERM, "the kernel refuses the permission to use AMX: Operation not permitted"),
    ],
)
def test_the_reason_follows_from_the_errno(number: int, reason: str) -> None:
    calls = []

    def call(*arguments: int) -> int:
        calls.append(arguments)
        return number

    found = tile_permission(call)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert calls == [CALL]


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="an x86-64 system call"
)
def test_this_machine_is_asked_in_earnest() -> None:
    assert (tile_permission() == "") == ("amx_tile" in detect_host().flags)
