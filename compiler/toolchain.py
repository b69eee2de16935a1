"""What decides the output beside the recipe and the files that it names: optc itself, libraries.

Kept light, for what is asked before anything is done: no import of a library, no metadata parser.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

_LIBRARIES: Final = (
    "jinja2",
    "ml_dtypes",
    "networkx",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "protobuf",
    "pydantic",
    "pydantic_core",
    "pyyaml",
)
_PACKAGES: Final = ("optc", "optc.passes", "optc.recipes", "optc.targets")
_PLUGINS: Final = re.compile(rb"^\[optc\.", re.MULTILINE)
_CPUINFO: Final = Path("/proc/cpuinfo")
_CPU_FACTS: Final = ("vendor_id", "cpu family", "model", "stepping", "flags")
_CAPS: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "OV_CPU_MAX_ISA")
"""Environment variables that hold runtimes back from kernels of the CPU."""


@cache
def toolchain() -> str:
    """Digest (hex) of optc's own files, and of the versions of libraries, plugins and Python.

    Its own files and not its version, so that an edited pass is never served an old result.
    """
    sha = hashlib.sha256()
    for folder in package_folders():
        for path in _sources(folder):
            sha.update(path.encode() + b"\0")
            sha.update(hashlib.sha256((folder / path).read_bytes()).digest())
    for name in _distributions():
        sha.update(name.encode() + b"\n")
    sha.update(f"{sys.implementation.name} {platform.python_version()}".encode())
    return sha.hexdigest()


@cache
def machine() -> str:
    """Digest (hex) of the kind of CPU that this is: its model and the features that it shows.

    Kernels are chosen by these, and by what holds a runtime back from them, so floating-point
    results on an equal CPU are equal but for the number of threads.
    """
    facts = [platform.machine(), platform.system(), *(os.environ.get(name, "") for name in _CAPS)]
    try:
        with _CPUINFO.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if not value:
                    break  # the first CPU: the others are like it
                if name.strip() in _CPU_FACTS:
                    facts.append(value.strip())
    except OSError:
        facts.append(platform.processor())
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


@cache
def package_folders() -> tuple[Path, ...]:
    """The folders with optc's own files."""
    found = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        found.append(Path(os.path.abspath(next(iter(spec.submodule_search_locations)))))
    return tuple(found)


def _sources(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in files]
    return sorted(name for name in found if not name.endswith((".pyc", ".md")))


def _distributions() -> list[str]:
    """Names and versions of installed libraries that count, and of what extends optc.

    As the names of their metadata folders say it, the first on the path of each.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            entries = sorted(os.listdir(place or "."))
        except OSError:
            continue
        for entry in entries:
            stem, dot, kind = entry.rpartition(".")
            if not dot or kind not in ("dist-info", "egg-info"):
                continue
            name = re.sub(r"[-_.]+", "_", stem.partition("-")[0]).lower()
            if name not in found and (name in _LIBRARIES or _extends(place, entry)):
                found[name] = stem
    return sorted(found.values())


def _extends(place: str, entry: str) -> bool:
    """Whether a distribution has entry points for optc: passes, metrics."""
    try:
        text = Path(place or ".", entry, "entry_points.txt").read_bytes()
    except OSError:
        return False
    return _PLUGINS.search(text) is not None
