"""Files for build systems: a CMake package, Bazel rules, and an example for each system."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SYSTEMS: Final = ("cmake", "ninja", "make", "bazel")
_PARTS: Final = {"cmake": "cmake", "bazel": "bazel"}
_HERE: Final = Path(__file__).parent


def system_folder(system: str) -> Path:
    """The folder with what a build system reads; of those that read nothing, their example."""
    part = _PARTS.get(system)
    return example_folder(system) if part is None else _HERE / part


def example_folder(system: str) -> Path:
    """The folder with the example of a build system."""
    return _HERE / "examples" / system
