"""launch.sh on machines made of files: which instances it plans, and what it refuses."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from optc.launch import Settings

if TYPE_CHECKING:
    from launch.machines import Machine

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
    machine.artefact(Settings(mode="throughput"))
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
    machine.artefact(Settings(cores=6))
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
        "launch.sh: this CPU has no sse4_1: the fp32 kernels of OpenVINO, CPU plugin use it\n"
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_for_a_cpu_with_vnni_is_refused_on_one_without(machine: Machine, runtime: str) -> None:
    machine.artefact(runtime=runtime, precisions=["fp32", "int8"])
    flags = "fpu sse2 sse4_1 avx2 avx512f"
    machine.pretend("HT siblings side by side", flags=flags)
    done = machine.run("true")
    assert done.returncode == 1
    assert done.stderr == (
        "launch.sh: this CPU has no avx512_vnni and no avx_vnni: the int8 weights use the full "
        "range, and without VNNI sums of their products saturate in 16 bits: the results would be "
        "wrong\n"
    )


@pytest.mark.parametrize("vnni", ["avx512_vnni", "avx_vnni"])
def test_either_form_of_vnni_will_do(machine: Machine, vnni: str) -> None:
    machine.artefact(precisions=["int8"])
    machine.pretend("HT siblings side by side", flags=f"sse2 avx2 {vnni}")
    assert machine.run("--dry-run").returncode == 0


TILES = "fpu sse2 avx2 avx512_vnni amx_tile amx_int8"


@pytest.mark.parametrize(
    ("flags", "perl", "warning"),
    [
        (TILES, "exit 0", ""),
        (TILES, "exit 127", ""),
        (
            TILES,
            "exit 3",
            "launch.sh: the kernel refuses the permission to use AMX: the model runs, but slower. "
            "Usual reasons: Linux before 5.16 (this is 5.14.0-el9), a sandbox\n",
        ),
        (
            TILES.removesuffix(" amx_int8"),
            "exit 0",
            "launch.sh: this CPU shows no amx_int8: the model runs, but slower than on AMX. Usual "
            "reasons: another CPU, Linux before 5.16 (this is 5.14.0-el9), the hypervisor, the "
            "BIOS\n",
        ),
    ],
)
def test_missing_amx_is_told_and_no_obstacle(
    machine: Machine, flags: str, perl: str, warning: str
) -> None:
    machine.artefact(target="spr", precisions=["fp32", "int8"])
    machine.pretend("HT siblings side by side", flags=flags)
    machine.stub("perl", perl)
    machine.stub("uname", "echo 5.14.0-el9")
    done = machine.run("--", "true")
    assert (done.returncode, done.stderr) == (0, warning)


def test_amx_is_asked_for_by_the_system_call_of_linux(machine: Machine) -> None:
    machine.artefact(target="spr", precisions=["int8"])
    machine.pretend("HT siblings side by side", flags=TILES)
    machine.stub("perl", 'echo "$2" >&3')
    log = machine.folder / "log"
    machine.run("sh", "-c", ":")
    script = machine.script.read_text(encoding="utf-8")
    machine.script.write_text(script.replace("2>/dev/null || status", f"3>{log} || status"))
    assert machine.run("true").returncode == 0
    # x86-64: arch_prctl is 158; ARCH_REQ_XCOMP_PERM 0x1023; XFEATURE_XTILE_DATA 18.
    assert log.read_text() == "exit(syscall(158, 0x1023, 18) ? 3 : 0)\n"


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
        (["--cpus", "0-", "true"], "--cpus needs CPU numbers such as 0-7,16, not '0-'"),
        (["--cpus", "0;1", "true"], "--cpus needs CPU numbers such as 0-7,16, not '0;1'"),
        (["--cpus", "0,,1", "true"], "--cpus needs CPU numbers such as 0-7,16, not '0,,1'"),
        (
            ["--instance", "4/4", "true"],
            "--instance needs a number and a count above it, such as 0/4, not '4/4'",
        ),
        (
            ["--instance", "1", "true"],
            "--instance needs a number and a count above it, such as 0/4, not '1'",
        ),
        (["--allocator", "mimalloc", "true"], "there is no allocator 'mimalloc'"),
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


def test_online_instances_grow_where_cores_would_stay_idle(machine: Machine) -> None:
    machine.artefact(Settings(mode="online"))
    machine.pretend("ten cores on one node")
    assert plan(machine) == [
        "instance 0: threads 10, node 0, CPUs 0,1,2,3,4,5,6,7,8,9, bound by numactl"
    ]


def test_throughput_uses_all_nodes_when_one_has_a_core_less(machine: Machine) -> None:
    machine.artefact(Settings(mode="throughput"))
    machine.pretend("two sockets with HT", allowed="1-7")
    assert plan(machine) == [
        "instance 0: threads 3, node 0, CPUs 1,2,3, bound by numactl",
        "instance 1: threads 3, node 1, CPUs 4,5,6, bound by numactl",
    ]


def test_one_instance_of_several_is_started_on_the_given_cpus(machine: Machine) -> None:
    machine.pretend("two sockets with HT")
    assert plan(machine, "--instance", "2/3", "--cpus", "4-6", "--cores", "3") == [
        "instance 2: threads 3, node 1, CPUs 4,5,6, bound by numactl"
    ]


@pytest.mark.parametrize(
    ("cpus", "message"),
    [
        ("2-5", "this process may not use all of the CPUs 2-5; it may use 0-3,8-11"),
        ("0,8", "1 instance(s) of 2 core(s) do not fit: 1 core(s) on 1 NUMA node(s)"),
    ],
)
def test_cpus_that_are_not_there_or_share_a_core_are_refused(
    machine: Machine, cpus: str, message: str
) -> None:
    machine.pretend("two sockets with HT", allowed="0-3,8-11")
    done = machine.run("--cpus", cpus, "--cores", "2", "--instance", "0/2", "true")
    assert done.returncode == 1
    assert done.stderr.startswith(f"launch.sh: {message}")


def test_cores_of_two_nodes_are_no_slice(machine: Machine) -> None:
    machine.pretend("two sockets with HT")
    done = machine.run("--cpus", "2-5", "--cores", "4", "--instance", "0/2", "true")
    assert done.returncode == 1
    assert "1 instance(s) of 4 core(s) do not fit: 4 core(s) on 2 NUMA node(s)" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("name", "allowed", "nodes"),
    [
        (
            "two sockets with HT",
            "",
            [
                '{node: 0, cores: "0-3", siblings: "8-11"}',
                '{node: 1, cores: "4-7", siblings: "12-15"}',
            ],
        ),
        ("HT siblings side by side", "", ['{node: 0, cores: "0,2,4,6", siblings: "1,3,5,7"}']),
        (
            "two sockets with HT",
            "1,3,4,10",
            [
                '{node: 0, cores: "1,3,10", siblings: "9,11,2"}',
                '{node: 1, cores: "4", siblings: "12"}',
            ],
        ),
        ("two cores", "", ['{node: 0, cores: "0-1"}']),
    ],
)
def test_the_topology_is_printed_as_a_recipe_wants_it(
    machine: Machine, shell: str, name: str, allowed: str, nodes: list[str]
) -> None:
    machine.pretend(name, allowed=allowed)
    done = machine.run("--topology", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    head, second, *lines = done.stdout.splitlines()
    assert (head, second) == ("topology:", "  nodes:")
    assert [line.removeprefix("    - ") for line in lines] == nodes


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
