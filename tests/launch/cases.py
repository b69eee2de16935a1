"""The cases of the golden files, and where each file lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optc.launch import MODES, Emitted, Settings, render_launch
from optc.launch.topology import Core, Node, Topology, sockets
from optc.targets import load_runtime, load_target, runtime_names, target_names

if TYPE_CHECKING:
    from collections.abc import Mapping

GOLDEN = Path(__file__).parent / "golden"
MODEL = {"onnxruntime": "model.onnx", "openvino": "model.xml"}


def _sub_numa() -> Topology:
    """Two sockets of 12 cores with sub-NUMA clustering and Hyper-Threading.

    The cores of a socket go to its two nodes by place on the die, not by number, as on Skylake-SP
    and its successors.
    """
    cores = ((0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11))
    nodes = []
    for number in range(4):
        first = 12 * (number // 2)
        own = [first + core for core in cores[number % 2]]
        nodes.append(Node(number, tuple(Core(cpu, (cpu + 24,)) for cpu in own)))
    return Topology(tuple(nodes))


TOPOLOGIES: Mapping[str, Topology] = {"two-sockets": sockets(2, 20, 2), "sub-numa": _sub_numa()}

Case = tuple[str, str, str, str]
"""Runtime, mode, topology, target: from what decides most of a file to what decides least."""

CASES: tuple[Case, ...] = tuple(
    (runtime, mode, topology, target)
    for runtime in runtime_names()
    for mode in MODES
    for topology in TOPOLOGIES
    for target in target_names()
)


def rendered(case: Case, *, declared: bool = True) -> dict[str, bytes]:
    """The launch folder of a case; without the topology when it is not declared."""
    runtime, mode, topology, target = case
    emitted = Emitted("digits", MODEL[runtime], model_bytes=470_861)
    settings = Settings(mode=mode, topology=TOPOLOGIES[topology] if declared else None)
    return render_launch(load_target(target), load_runtime(runtime), emitted, settings)


def layout(cases: Mapping[Case, Mapping[str, bytes]]) -> dict[str, bytes]:
    """Path and content of every golden file.

    A file lies in the highest folder below which all cases agree on it, so that a file that does
    not depend on the target, say, is stored and reviewed once.
    """
    placed: dict[str, bytes] = {}
    _place((), cases, placed)
    return placed


def _place(
    folder: tuple[str, ...], cases: Mapping[Case, Mapping[str, bytes]], placed: dict[str, bytes]
) -> None:
    first, *others = cases.values()
    shared = {
        name: content
        for name, content in first.items()
        if all(other.get(name) == content for other in others)
    }
    placed.update({"/".join((*folder, name)): content for name, content in shared.items()})
    left = {
        case: {name: content for name, content in files.items() if name not in shared}
        for case, files in cases.items()
    }
    depth = len(folder)
    for key in dict.fromkeys(case[depth] for case in left if left[case]):
        inner = {case: files for case, files in left.items() if case[depth] == key}
        _place((*folder, key), inner, placed)
