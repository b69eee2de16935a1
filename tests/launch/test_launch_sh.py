"""launch.sh on machines made of files: which instances it plans, and what it refuses."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from launch.conftest import Machine

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="launch.sh is for Linux")


def plan(machine: Machine, *arguments: str, shell: str = "sh") -> list[str]:
    done = machine.run("--dry-run", *arguments, shell=shell)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_latency_puts_four_physical_cores_of_one_node_into_each_instance(
    machine: Machine, shell: str
) -> None:
    machine.pretend("two sockets with HT")
    assert plan(machine, shell=shell) == [
        "instance 0: threads 4, node 0, CPUs 0,1,2,3, bound by numactl",
        "instance 1: threads 4, node 1, CPUs 4,5,6,7, bound by numactl",
    ]


def test_instances_take_turns_on_the_nodes(machine: Machine) -> None:
    machine.pretend("two sockets with HT")
    assert plan(machine, "--instances", "3", "--cores", "2") == [
        "instance 0: threads 2, node 0, CPUs 0,1, bound by numactl",
        "instance 1: threads 2, node 1, CPUs 4,5, bound by numactl",
        "instance 2: threads 2, node 0, CPUs 2,3, bound by numactl",
    ]


def test_sub_numa_nodes_are_not_crossed(machine: Machine) -> None:
    machine.pretend("four sub-NUMA nodes")
    assert plan(machine) == [
        "instance 0: threads 2, node 0, CPUs 0,1, bound by numactl",
        "instance 1: threads 2, node 1, CPUs 2,3, bound by numactl",
        "instance 2: threads 2, node 2, CPUs 4,5, bound by numactl",
        "instance 3: threads 2, node 3, CPUs 6,7, bound by numactl",
    ]


def test_cpu_numbers_are_used_where_they_differ_from_core_numbers(machine: Machine) -> None:
    machine.pretend("HT siblings side by side")
    assert plan(machine) == ["instance 0: threads 4, node 0, CPUs 0,2,4,6, bound by numactl"]


def test_throughput_starts_one_instance_per_node_with_all_its_cores(machine: Machine) -> None:
    machine.artefact(mode="throughput")
    machine.pretend("two sockets with HT")
    assert plan(machine) == [
        "instance 0: threads 4, node 0, CPUs 0,1,2,3, bound by numactl",
        "instance 1: threads 4, node 1, CPUs 4,5,6,7, bound by numactl",
    ]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("0-1,9-10", ["instance 0: threads 3, node 0, CPUs 0,1,10, bound by numactl"]),
        ("5", ["instance 0: threads 1, node 1, CPUs 5, bound by numactl"]),
        ("0,4-7,12-15", ["instance 0: threads 4, node 1, CPUs 4,5,6,7, bound by numactl"]),
    ],
)
def test_only_cores_in_the_mask_are_used_and_siblings_once(
    machine: Machine, allowed: str, expected: list[str]
) -> None:
    machine.pretend("two sockets with HT", allowed=allowed)
    assert plan(machine) == expected


def test_more_instances_than_fit_get_fewer_cores_each(machine: Machine) -> None:
    machine.pretend("HT siblings side by side")
    assert plan(machine, "--instances", "2") == [
        "instance 0: threads 2, node 0, CPUs 0,2, bound by numactl",
        "instance 1: threads 2, node 0, CPUs 4,6, bound by numactl",
    ]


def test_a_cgroup_quota_limits_the_threads_and_prevents_binding(machine: Machine) -> None:
    machine.pretend("two sockets with HT", quota="350000 100000")
    done = machine.run("--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "instance 0: threads 3, node 0, CPUs any,any,any, bound by nothing"
    ]
    assert done.stderr == (
        "launch.sh: the cgroup leaves 3 of 8 cores: the instances are not bound to cores\n"
    )


def test_a_quota_above_the_mask_changes_nothing(machine: Machine) -> None:
    machine.pretend("HT siblings side by side", quota="3200000 100000")
    assert plan(machine) == ["instance 0: threads 4, node 0, CPUs 0,2,4,6, bound by numactl"]


@pytest.mark.parametrize(
    ("numactl", "taskset", "binder"),
    [(True, True, "numactl"), (False, True, "taskset"), (False, False, "nothing")],
)
def test_the_first_tool_that_works_binds(
    machine: Machine, numactl: bool, taskset: bool, binder: str
) -> None:
    machine.pretend("HT siblings side by side")
    machine.tool("numactl", works=numactl)
    machine.tool("taskset", works=taskset)
    done = machine.run("--dry-run")
    assert done.stdout.endswith(f"bound by {binder}\n")
    warning = "launch.sh: neither numactl nor taskset can bind to CPUs 0,2,4,6: not bound\n"
    assert done.stderr == (warning if binder == "nothing" else "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cores", "5"],
            "1 instance(s) of 5 core(s) do not fit: 8 core(s) on 2 NUMA node(s), "
            "and no instance crosses a node",
        ),
        (
            ["--instances", "9"],
            "9 instance(s) of 1 core(s) do not fit: 8 core(s) on 2 NUMA node(s), "
            "and no instance crosses a node",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_there(
    machine: Machine, arguments: list[str], message: str
) -> None:
    machine.pretend("two sockets with HT")
    done = machine.run(*arguments, "--", "true")
    assert (done.returncode, done.stderr) == (1, f"launch.sh: {message}\n")


def test_cores_fixed_by_the_recipe_are_not_reduced(machine: Machine) -> None:
    machine.artefact(cores=6)
    machine.pretend("HT siblings side by side")
    done = machine.run("true")
    assert done.returncode == 1
    assert "1 instance(s) of 6 core(s) do not fit: 4 core(s) on 1 NUMA node(s)" in done.stderr


def test_a_cpu_without_the_needed_flags_is_refused(machine: Machine) -> None:
    machine.artefact(runtime="openvino")
    machine.pretend("HT siblings side by side", flags="fpu sse sse2 sse4_1x")
    done = machine.run("true")
    assert done.returncode == 1
    assert done.stderr == (
        "launch.sh: this CPU lacks the flags sse4_1 that OpenVINO, CPU plugin needs for this "
        "model\n"
    )


def test_a_missing_model_is_refused(machine: Machine) -> None:
    machine.model.unlink()
    done = machine.run("true")
    assert (done.returncode, done.stderr) == (1, f"launch.sh: there is no model {machine.model}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command given"),
        (["--"], "no command given"),
        (["--core", "2", "true"], "unknown option --core"),
        (["--cores"], "--cores needs a positive whole number, not ''"),
        (["--cores", "0", "true"], "--cores needs a positive whole number, not '0'"),
        (["--instances", "2x", "true"], "--instances needs a positive whole number, not '2x'"),
    ],
)
def test_wrong_usage_shows_the_help_and_ends_with_2(
    machine: Machine, arguments: list[str], message: str
) -> None:
    done = machine.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    first, usage, *_ = done.stderr.splitlines()
    assert first == f"launch.sh: {message}"
    assert usage.startswith("usage: launch.sh ")


def test_help_goes_to_standard_output_and_names_every_variable(machine: Machine) -> None:
    done = machine.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in (
        "OPTC_MODEL",
        "OPTC_RUNTIME_JSON",
        "OPTC_THREADS",
        "OPTC_BATCH",
        "OPTC_INSTANCE",
        "OPTC_INSTANCES",
        "ORT_INTRA_OP_NUM_THREADS",
    ):
        assert f"  {name} " in done.stdout
