"""Dependency files in the syntax of make, for make, Ninja and CMake."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from optc.emit.folder import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def depfile(results: Iterable[tuple[str, Sequence[str]]]) -> str:
    """One rule per result: its manifest depends on every file that was read.

    What was read is named relative to the working directory; the manifest as the output folder was
    given, because build systems compare it with what they were told. A file that is gone is no
    error for make: each has an empty rule of its own, as of ``gcc -MP``.

    Args:
        results: output folder, and what was read for it.
    """
    rules, files = [], {}
    for output, inputs in results:
        read = [os.path.relpath(path) for path in inputs]
        files.update(dict.fromkeys(read))
        lines = [f"{_escape(os.path.join(output, MANIFEST))}:", *map(_escape, read)]
        rules.append(" \\\n  ".join(lines) + "\n")
    return "".join([*rules, *(f"\n{_escape(name)}:\n" for name in files)])


def _escape(path: str) -> str:
    """A path as a word of make: as GCC writes it.

    Backslashes are themselves but before a blank, where each needs another.
    """
    path = re.sub(r"(\\*)([ \t])", r"\1\1\\\2", path)
    return path.replace("#", "\\#").replace("$", "$$").replace(":", "\\:")
