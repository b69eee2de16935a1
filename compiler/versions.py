"""Versions of optc and of the libraries that decide what it writes."""

from __future__ import annotations

from importlib.metadata import version

_LIBRARIES = ("ml_dtypes", "networkx", "numpy", "onnx", "onnxruntime", "pydantic")


def tool_versions() -> dict[str, str]:
    """Version of optc and of each library whose release may change the output, by name."""
    return {name: version(name) for name in ("optc", *_LIBRARIES)}
