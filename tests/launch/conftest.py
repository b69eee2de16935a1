"""A stand-in for the machine that launch.sh runs on."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from optc.launch import render_launch
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
}


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
        *,
        runtime: str = "onnxruntime",
        mode: str = "latency",
        instances: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.script.parent.mkdir(parents=True, exist_ok=True)
        files = render_launch(
            load_target("clx"),
            load_runtime(runtime),
            model_file="model.onnx",
            mode=mode,
            instances=instances,
            cores=cores,
        )
        for name, content in files.items():
            (self.script.parent / name).write_bytes(content)
        self.model.write_bytes(b"model")

    @property
    def model(self) -> Path:
        return self.script.parent.parent / "model.onnx"

    def pretend(
        self, machine: str, *, allowed: str = "", flags: str = "fpu sse2 avx2", quota: str = ""
    ) -> None:
        """Let the script see one of MACHINES, with all its CPUs allowed unless told otherwise."""
        nodes = MACHINES[machine]
        proc, system = self.folder / "proc", self.folder / "sys"
        every = ",".join(str(cpu) for cores in nodes for threads in cores for cpu in threads)
        self._write(proc / "cpuinfo", f"processor\t: 0\nflags\t\t: {flags}\n\nflags\t\t: none\n")
        self._write(proc / "self/status", f"Name:\tsh\nCpus_allowed_list:\t{allowed or every}\n")
        self._write(proc / "self/cgroup", "0::/slice/unit\n")
        if quota:
            self._write(system / "fs/cgroup/slice/cpu.max", f"{quota}\n")
            self._write(system / "fs/cgroup/slice/unit/cpu.max", "max 100000\n")
        for node, cores in enumerate(nodes):
            for threads in cores:
                for cpu in threads:
                    place = system / f"devices/system/cpu/cpu{cpu}"
                    self._write(
                        place / "topology/thread_siblings_list",
                        ",".join(map(str, threads)) + "\n",
                    )
                    (place / f"node{node}").mkdir()
        text = self.script.read_text(encoding="utf-8")
        text = text.replace("\nproc=/proc\n", f"\nproc={proc}\n")
        self.script.write_text(text.replace("\nsys=/sys\n", f"\nsys={system}\n"), encoding="utf-8")

    def tool(self, name: str, *, works: bool) -> None:
        """Put a stub before the real tool: it drops its options and runs the command, or fails."""
        options = {"numactl": "shift 2", "taskset": "shift 2"}[name]
        body = f'{options}\nexec "$@"' if works else "exit 1"
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

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.artefact()
    made.tool("numactl", works=True)
    made.tool("taskset", works=True)
    return made
