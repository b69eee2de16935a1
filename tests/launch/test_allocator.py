"""launch.sh and memory allocators: loaded by a checked absolute path, or refused."""

from __future__ import annotations

import ctypes.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optc.launch import Settings

if TYPE_CHECKING:
    from launch.machines import Machine
    from optc.launch.settings import Allocator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="launch.sh is for Linux")
SHOW = ("sh", "-c", 'echo "$LD_PRELOAD|${MALLOC_CONF-unset}"')


def some_library() -> Path:
    """A small shared library that every process can load."""
    for folder in (Path("/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/lib")):
        for name in ("libdl.so.2", "libm.so.6"):
            if (folder / name).exists():
                return folder / name
    pytest.skip("no shared library is known here")


@pytest.fixture
def libraries(machine: Machine) -> Path:
    """The only folder in which launch.sh looks for allocators."""
    folder = machine.folder / "lib"
    folder.mkdir()
    return folder


def prepare(machine: Machine, libraries: Path, allocator: Allocator) -> None:
    machine.artefact(Settings(allocator=allocator))
    text = machine.script.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("libraries=")]
    machine.edit(line, f"libraries='/nowhere {libraries}'")
    machine.pretend("HT siblings side by side")


@pytest.mark.parametrize(
    ("allocator", "file", "conf"),
    [
        (
            "jemalloc",
            "libjemalloc.so.2",
            "oversize_threshold:1,background_thread:true,metadata_thp:auto",
        ),
        ("tcmalloc", "libtcmalloc_minimal.so.4", "unset"),
        ("tcmalloc", "libtcmalloc.so.4", "unset"),
    ],
)
def test_the_allocator_is_loaded_by_its_absolute_path(
    machine: Machine, libraries: Path, allocator: Allocator, file: str, conf: str
) -> None:
    shutil.copy(some_library(), libraries / file)
    prepare(machine, libraries, allocator)
    done = machine.run(*SHOW)
    assert (done.stdout, done.stderr) == (f"{libraries / file}|{conf}\n", "")


def test_what_is_preloaded_already_stays(machine: Machine, libraries: Path) -> None:
    shutil.copy(some_library(), libraries / "libjemalloc.so.2")
    prepare(machine, libraries, "jemalloc")
    other = str(some_library())
    machine.extra.update(LD_PRELOAD=other, MALLOC_CONF="narenas:2")
    done = machine.run(*SHOW)
    assert done.stdout == f"{libraries / 'libjemalloc.so.2'}:{other}|narenas:2\n"


@pytest.mark.parametrize("broken", [False, True])
def test_an_allocator_that_cannot_be_loaded_is_refused(
    machine: Machine, libraries: Path, broken: bool
) -> None:
    # The loader would only complain, and start the instances without it.
    if broken:
        (libraries / "libjemalloc.so.2").write_text("not a library")
    prepare(machine, libraries, "jemalloc")
    done = machine.run("true")
    assert done.returncode == 1
    assert done.stderr == (
        f"launch.sh: no jemalloc that can be loaded in /nowhere {libraries}: install it, or use "
        "--allocator system\n"
    )
    assert machine.run("--allocator", "system", "true").returncode == 0


def test_the_system_allocator_needs_nothing(machine: Machine) -> None:
    machine.pretend("HT siblings side by side")
    assert machine.run(*SHOW).stdout == "|unset\n"


@pytest.mark.parametrize(
    ("allocator", "file", "symbol"),
    [
        ("jemalloc", "jemalloc", "mallctl"),
        ("tcmalloc", "tcmalloc_minimal", "tc_version"),
    ],
)
def test_an_installed_allocator_is_found_and_in_force(
    machine: Machine, allocator: Allocator, file: str, symbol: str
) -> None:
    if ctypes.util.find_library(file) is None:
        pytest.skip(f"{file} is not installed")
    machine.artefact(Settings(allocator=allocator))
    machine.pretend("HT siblings side by side")
    code = f"import ctypes; print(bool(getattr(ctypes.CDLL(None), {symbol!r}, None)))"
    done = machine.run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("True\n", "")
