"""Reads what ONEDNN_VERBOSE=profile_create prints: which implementation was made, on which types.

A line is ``onednn_verbose,v1,primitive,create:cache_miss,cpu,<kind>,<implementation>,<prop kind>,
<memory descriptors>,<attributes>,<auxiliary>,<problem>,<ms>``; before oneDNN 3.0 the fields ``v1``
and ``primitive`` are missing. Lines of executions are not used: in OpenVINO 2026.4.1 they are
missing for most primitives, and printing them made some fail.
Source: oneDNN, "Verbose Mode".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.targets.loading import shipped_extensions

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION: Final = re.compile(r"oneDNN v(\d+(?:\.\d+)*)")
_TYPE: Final = re.compile(r"\b(src|wei|dst)(?:_\w+)?:([a-z]\w*)")
_CREATED: Final = "create:cache_"
_SIZES: Final = re.compile(r"(mb|oc|od|oh|ow)(\d+)")


@dataclass(frozen=True)
class Primitive:
    """A oneDNN primitive.

    Attributes:
        kind: e.g. ``convolution``.
        implementation: e.g. ``brg_conv_fwd:avx512_core_vnni``.
        src: element type of the source; empty when the line tells none.
        wei: element type of the weights; empty as well.
        elements: number of result elements; None where the problem does not tell.
    """

    kind: str
    implementation: str
    src: str = ""
    wei: str = ""
    elements: int | None = None

    def isa(self, onednn: str) -> str | None:
        """The capability that the implementation's name proves, the highest one; None: none."""
        rows = shipped_extensions().extensions.items()
        proven = [
            name
            for name, row in rows
            if row.proven_by(self.implementation, onednn, self.src, self.wei)
        ]
        return proven[-1] if proven else None


def onednn_version(lines: Iterable[str]) -> str | None:
    """The version that the log names; None when it names none."""
    found = (_VERSION.search(line) for line in lines if line.startswith("onednn_verbose"))
    return next((match[1] for match in found if match), None)


def created_primitives(lines: Iterable[str]) -> list[Primitive]:
    """The primitives that the log says were created, in order."""
    found = []
    for line in lines:
        parts = line.strip().split(",")
        event = next((i for i, part in enumerate(parts[:4]) if part.startswith(_CREATED)), None)
        if parts[0] != "onednn_verbose" or event is None or len(parts) < event + 8:
            continue
        kind, implementation, _, types = parts[event + 2 : event + 6]  # behind the engine
        named = dict(reversed(_TYPE.findall(types)))
        elements = _elements(kind, parts[-2])
        found.append(
            Primitive(kind, implementation, named.get("src", ""), named.get("wei", ""), elements)
        )
    return found


def _elements(kind: str, problem: str) -> int | None:
    """Result elements of a problem such as ``mb1_ic16oc32_ih14oh14kh3…`` or ``2x8x64:2x64x32``."""
    if kind == "matmul":
        left, _, right = problem.partition(":")
        try:
            a = [int(size) for size in left.split("x")]
            b = [int(size) for size in right.split(":")[0].split("x")]
        except ValueError:
            return None
        batch = [max(pair) for pair in zip(a[:-2], b[:-2], strict=False)]
        return math.prod(batch) * a[-2] * b[-1] if min(len(a), len(b)) >= 2 else None
    sizes = dict(_SIZES.findall(problem))
    return math.prod(map(int, sizes.values())) if {"mb", "oc"} <= sizes.keys() else None
