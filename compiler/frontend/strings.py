"""Text of protobuf messages.

ONNX text is UTF-8, but the messages are proto2, which does not enforce it: text that is anything
else arrives as bytes. Some exporters write names and docs in the encoding of their machine. Such
bytes are carried in escaped form, so that equal names stay equal and others different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx


def text(value: str | bytes) -> str:
    """The text of a string field."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def domain_of(value: str | bytes) -> str:
    """An operator domain; ONNX's own is empty, however it is spelt."""
    return "" if value == "ai.onnx" else text(value)


def pairs(entries: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    """Key-value entries as a dictionary, in their order."""
    return {text(entry.key): text(entry.value) for entry in entries}
