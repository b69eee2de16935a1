"""Versions of optc and of the libraries that decide what it writes."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIBRARIES = ("ml_dtypes", "networkx", "numpy", "onnx", "onnxruntime", "pydantic")


@cache
def tool_versions() -> Mapping[str, str]:
    """Version of optc and of each library whose release may change the output, by name."""
    return MappingProxyType({name: version(name) for name in ("optc", *_LIBRARIES)})


def library_version(name: str) -> str | None:
    """Version of an installed package; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
