"""A stand-in for the machine that launch.sh runs on."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from optc.launch import Emitted, Settings, render_launch
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from optc.targets import Precision

# Machines as NUMA nodes, each a list of cores, each a list of the numbers of its hardware threads.
MACHINES: Mapping[str, Sequence[Sequence[Sequence[int]]]] = {
    "two sockets with HT": (
        ((0, 8), (1, 9), (2, 10), (3, 11)),
        ((4, 12), (5, 13), (6, 14), (7, 15)),
    ),
    "four sub-NUMA nodes": (((0,), (1,)), ((2,), (3,)), ((4,), (5,)), ((6,), (7,))),
    # CPU number and core number differ.
    "HT siblings side by side": (((0, 1), (2, 3), (4, 5), (6, 7)),),
    "two cores": (((0,), (1,)),),
    "ten cores on one node": (tuple((cpu,) for cpu in range(10)),),
}


def write(path: Path, text: str) -> None:
    """Write a file with all folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def pretend_machine(
    proc: Path,
    system: Path,
    nodes: Sequence[Sequence[Sequence[int]]],
    *,
    allowed: str = "",
    quota: str = "",
) -> None:
    """Write what Linux says of a machine in procfs and sysfs; all CPUs allowed unless told."""
    every = ",".join(str(cpu) for cores in nodes for threads in cores for cpu in threads)
    write(proc / "self/status", f"Name:\tsh\nCpus_allowed_list:\t{allowed or every}\n")
    write(proc / "self/cgroup", "0::/slice/unit\n")
    if quota:
        write(system / "fs/cgroup/slice/cpu.max", f"{quota}\n")
        write(system / "fs/cgroup/slice/unit/cpu.max", "max 100000\n")
    for node, cores in enumerate(nodes):
        for threads in cores:
            for cpu in threads:
                place = system / f"devices/system/cpu/cpu{cpu}"
                siblings = ",".join(map(str, threads))
                write(place / "topology/thread_siblings_list", f"{siblings}\n")
                (place / f"node{node}").mkdir()


class Machine:
    """An artefact, and a folder that stands for /proc, /sys and the tools of a machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.script = folder / "out put" / "launch" / "launch.sh"
        self.extra: dict[str, str] = {}

    def artefact(
        self,
        settings: Settings | None = None,
        *,
        runtime: str = "onnxruntime",
        target: str = "clx",
        precisions: Collection[Precision] = frozenset({"fp32"}),
    ) -> None:
        self.script.parent.mkdir(parents=True, exist_ok=True)
        emitted = Emitted("digits", "model.onnx", precisions=frozenset(precisions))
        files = render_launch(load_target(target), load_runtime(runtime), emitted, settings)
        for name, content in files.items():
            path = self.script.parent / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        self.model.write_bytes(b"model")

    @property
    def model(self) -> Path:
        return self.script.parent.parent / "model.onnx"

    def pretend(
        self, machine: str, *, allowed: str = "", flags: str = "fpu sse2 avx2", quota: str = ""
    ) -> None:
        """Let the script see one of MACHINES, with all its CPUs allowed unless told otherwise."""
        proc, system = self.folder / "proc", self.folder / "sys"
        pretend_machine(proc, system, MACHINES[machine], allowed=allowed, quota=quota)
        write(proc / "cpuinfo", f"processor\t: 0\nflags\t\t: {flags}\n\nflags\t\t: none\n")
        self.edit("proc=/proc", f"proc={proc}")
        self.edit("sys=/sys", f"sys={system}")

    def edit(self, line: str, replacement: str, script: str = "launch.sh") -> None:
        """Replace a line of a script."""
        path = self.script.parent / script
        text = path.read_text(encoding="utf-8")
        assert f"\n{line}\n" in text
        path.write_text(text.replace(f"\n{line}\n", f"\n{replacement}\n"), encoding="utf-8")

    def tool(self, name: str, *, works: bool) -> None:
        """Put a stub before the real tool: it drops its options and runs the command, or fails."""
        self.stub(name, 'shift 2\nexec "$@"' if works else "exit 1")

    def stub(self, name: str, body: str) -> None:
        """Put a script before the real tool of that name."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def command(self, arguments: Sequence[str], shell: str = "sh") -> list[str]:
        return [
            *(["busybox", "sh"] if shell == "busybox" else [shell]),
            str(self.script),
            *arguments,
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "TMPDIR": str(temporary), **self.extra}

    def run(self, *arguments: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments, shell),
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
