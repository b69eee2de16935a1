"""Which cores there are: CPU lists, declared machines, and machines read from files."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from launch.machines import MACHINES, Machine, pretend_machine, write
from optc.errors import TargetError
from optc.launch.topology import (
    Core,
    Node,
    Topology,
    detect_topology,
    format_cpus,
    parse_cpus,
    sockets,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("9,2-3", (9, 2, 3)), ("7-7", (7,))],
)
def test_cpu_lists_are_read_in_the_order_of_the_list(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a list of CPUs such as 0-3,8"),
        ("0-", "'0-' is not a list of CPUs such as 0-3,8"),
        ("0,,1", "'0,,1' is not a list of CPUs such as 0-3,8"),
        ("a", "'a' is not a list of CPUs such as 0-3,8"),
        ("3-1", "the range 3-1 begins above its end"),
        ("0-3,2", "CPU 2 stands twice"),
    ],
)
def test_what_is_no_cpu_list_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_cpus(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("cpus", "text"),
    [((), ""), ((5,), "5"), ((0, 1, 2, 3, 8), "0-3,8"), ((2, 0, 1), "0-2"), ((0, 2, 4), "0,2,4")],
)
def test_cpu_lists_are_written_with_ranges(cpus: tuple[int, ...], text: str) -> None:
    assert format_cpus(cpus) == text


def test_a_machine_by_counts_numbers_its_siblings_after_all_cores() -> None:
    assert sockets(2, 2, 2) == Topology(
        (Node(0, (Core(0, (4,)), Core(1, (5,)))), Node(1, (Core(2, (6,)), Core(3, (7,)))))
    )
    assert sockets(1, 2, 1) == Topology((Node(0, (Core(0), Core(1))),))
    assert (sockets(2, 28, 2).cores, sockets(2, 28, 2).threads_per_core) == (56, 2)


def detected(folder: Path, machine: str, allowed: str = "", quota: str = "") -> Topology:
    proc, system = folder / "proc", folder / "sys"
    pretend_machine(proc, system, MACHINES[machine], allowed=allowed, quota=quota)
    return detect_topology(proc, system)


def test_nodes_and_siblings_are_read_from_files(tmp_path: Path) -> None:
    found = detected(tmp_path, "two sockets with HT")
    assert found == sockets(2, 4, 2)


def test_cpu_numbers_count_and_not_core_numbers(tmp_path: Path) -> None:
    (node,) = detected(tmp_path, "HT siblings side by side").nodes
    assert node.cores == (Core(0, (1,)), Core(2, (3,)), Core(4, (5,)), Core(6, (7,)))


def test_only_cpus_in_the_mask_count_and_each_core_once(tmp_path: Path) -> None:
    found = detected(tmp_path, "two sockets with HT", allowed="0-1,9-10")
    assert found.nodes == (Node(0, (Core(0, (8,)), Core(1, (9,)), Core(10, (2,)))),)
    assert found.largest == 3


@pytest.mark.parametrize(
    ("quota", "whole", "largest"),
    [("350000 100000", 3, 3), ("50000 100000", 1, 1), ("3200000 100000", None, 4), ("", None, 4)],
)
def test_a_cgroup_quota_counts_where_it_is_less_than_the_cores(
    tmp_path: Path, quota: str, whole: int | None, largest: int
) -> None:
    found = detected(tmp_path, "two sockets with HT", quota=quota)
    assert (found.quota, found.largest) == (whole, largest)


def test_the_narrowest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    write(tmp_path / "sys/fs/cgroup/slice/unit/cpu.max", "200000 100000\n")
    proc, system = tmp_path / "proc", tmp_path / "sys"
    pretend_machine(proc, system, MACHINES["two sockets with HT"])
    write(system / "fs/cgroup/cpu.max", "500000 100000\n")
    assert detect_topology(proc, system).quota == 2


def test_without_sysfs_every_cpu_is_a_core_of_node_0(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/status", "Cpus_allowed_list:\t2-3\n")
    found = detect_topology(tmp_path / "proc", tmp_path / "sys")
    assert found == Topology((Node(0, (Core(2), Core(3))),))


def test_a_machine_without_procfs_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        detect_topology(tmp_path, tmp_path)
    assert caught.value.code == "topology-unreadable"
    assert "give the number of threads" in str(caught.value.hint)


@pytest.mark.parametrize("name", MACHINES)
def test_the_script_prints_what_the_library_finds(machine: Machine, name: str) -> None:
    machine.pretend(name)
    printed = yaml.safe_load(machine.run("--topology").stdout)["topology"]["nodes"]
    found = detect_topology(machine.folder / "proc", machine.folder / "sys")
    assert printed == [
        {
            "node": node.number,
            "cores": format_cpus(core.cpu for core in node.cores),
            **(
                {"siblings": format_cpus(cpu for core in node.cores for cpu in core.siblings)}
                if node.cores[0].siblings
                else {}
            ),
        }
        for node in found.nodes
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads procfs")
def test_this_machine_has_the_cores_that_it_may_use() -> None:
    found = detect_topology()
    used = {core.cpu for node in found.nodes for core in node.cores}
    assert used <= os.sched_getaffinity(0)
    assert 1 <= found.largest <= found.cores
    one = sorted(os.sched_getaffinity(0))[-1]
    code = "from optc.launch.topology import detect_topology as d; print(d().nodes[0].cores[0].cpu)"
    narrow = f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"
    done = subprocess.run(
        [sys.executable, "-c", narrow], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"{one}\n"
