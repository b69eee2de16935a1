"""host-tuning.sh on machines made of files: what it runs, how it is undone, when it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from launch.machines import Machine, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="host-tuning.sh is for Linux")

SERVER = {"schedutil": "0 1", "powersave": "2 3"}


class Host:
    """A machine with cpufreq and idle states, and a cpupower that writes down what it is told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.system = machine.folder / "sys"
        self.log = machine.folder / "log"
        machine.edit("sys=/sys", f"sys={self.system}", "host-tuning.sh")
        machine.stub("cpupower", f'echo "$*" >>{self.log}')
        machine.stub("id", "echo 0")

    def frequencies(
        self, governors: Mapping[str, str], offered: str = "powersave performance"
    ) -> None:
        for index, (governor, cpus) in enumerate(governors.items()):
            policy = self.system / f"devices/system/cpu/cpufreq/policy{index}"
            write(policy / "scaling_governor", f"{governor}\n")
            write(policy / "affected_cpus", f"{cpus}\n")
            write(policy / "scaling_available_governors", f"{offered}\n")

    def idle(self, driver: str, disabled: str) -> None:
        write(self.system / "devices/system/cpu/cpuidle/current_driver", f"{driver}\n")
        for index, value in enumerate(disabled):
            state = self.system / f"devices/system/cpu/cpu0/cpuidle/state{index}"
            write(state / "disable", f"{value}\n")

    def run(self, *arguments: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        words = ["busybox", "sh"] if shell == "busybox" else [shell]
        return subprocess.run(
            [*words, str(self.machine.script.with_name("host-tuning.sh")), *arguments],
            capture_output=True,
            text=True,
            env=self.machine.environment,
            timeout=60,
        )

    @property
    def told(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def host(machine: Machine) -> Host:
    return Host(machine)


@pytest.mark.parametrize("shell", SHELLS)
def test_governor_and_idle_states_are_set_and_the_way_back_is_printed(
    host: Host, shell: str
) -> None:
    host.frequencies(SERVER)
    host.idle("intel_idle", "0000")
    done = host.run(shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert host.told == ["frequency-set -g performance", "idle-set -d 2", "idle-set -d 3"]
    assert done.stdout == (
        "cpupower frequency-set -g performance\n"
        "cpupower idle-set -d 2\n"
        "cpupower idle-set -d 3\n"
        "\n"
        "to undo:\n"
        "cpupower -c 2,3 frequency-set -g powersave\n"
        "cpupower -c 0,1 frequency-set -g schedutil\n"
        "cpupower idle-set -e 2\n"
        "cpupower idle-set -e 3\n"
    )


def test_a_dry_run_changes_nothing_and_needs_no_root(host: Host) -> None:
    host.frequencies(SERVER)
    host.idle("intel_idle", "0000")
    host.machine.stub("id", "echo 1000")
    done = host.run("--dry-run")
    assert done.returncode == 0
    assert "cpupower frequency-set -g performance\n" in done.stdout
    assert host.told == []


def test_only_what_differs_is_changed_and_undone(host: Host) -> None:
    host.frequencies({"performance": "0 1", "powersave": "2 3"})
    host.idle("intel_idle", "0010")
    done = host.run()
    assert host.told == ["frequency-set -g performance", "idle-set -d 3"]
    assert done.stdout.endswith(
        "to undo:\ncpupower -c 2,3 frequency-set -g powersave\ncpupower idle-set -e 3\n"
    )


def test_a_machine_that_is_tuned_is_left_alone(host: Host) -> None:
    host.frequencies({"performance": "0 1"})
    host.idle("intel_idle", "0011")
    done = host.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to change\n", "")
    assert host.told == []


def test_what_was_done_before_a_failure_can_be_undone(host: Host) -> None:
    host.frequencies(SERVER)
    host.idle("intel_idle", "0000")
    host.machine.stub("cpupower", 'case $* in "idle-set -d 3") exit 237 ;; esac')
    done = host.run()
    assert done.returncode == 237
    assert "cpupower -c 0,1 frequency-set -g schedutil\ncpupower idle-set -e 2\n" in done.stdout


def test_a_virtual_machine_without_drivers_is_refused_with_the_reason(host: Host) -> None:
    host.idle("haltpoll", "00")
    done = host.run()
    assert done.returncode == 1
    assert done.stderr == (
        "host-tuning.sh: no cpufreq driver: the governor is left to the firmware or the "
        "hypervisor\n"
        "host-tuning.sh: idle driver haltpoll: its states are numbered in another way, they are "
        "left as they are\n"
        "host-tuning.sh: nothing can be set on this machine\n"
    )
    assert host.told == []


def test_a_governor_that_the_driver_does_not_offer_is_not_asked_for(host: Host) -> None:
    host.frequencies({"schedutil": "0"}, offered="schedutil powersave")
    host.idle("acpi_idle", "0000")
    done = host.run()
    assert "the cpufreq driver offers no governor performance: left as it is\n" in done.stderr
    assert "idle driver acpi_idle" in done.stderr
    assert (done.returncode, host.told) == (1, [])


def test_only_root_may_tune(host: Host) -> None:
    host.frequencies(SERVER)
    host.machine.stub("id", "echo 1000")
    done = host.run()
    assert (done.returncode, host.told) == (1, [])
    assert done.stderr.startswith("host-tuning.sh: only root may change this")


def test_a_missing_cpupower_is_named_with_its_packages(host: Host) -> None:
    (host.machine.bin / "cpupower").unlink()
    if shutil.which("cpupower", path=os.environ["PATH"]):
        pytest.skip("cpupower is installed")
    done = host.run()
    assert done.returncode == 1
    assert done.stderr.startswith("host-tuning.sh: there is no cpupower: install linux-cpupower")


def test_wrong_usage_shows_the_help(host: Host) -> None:
    assert host.run("--undo").returncode == 2
    done = host.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: host-tuning.sh [--dry-run]\n")


def test_this_machine_is_read_without_harm(machine: Machine, tmp_path: Path) -> None:
    machine.stub("cpupower", f"touch {tmp_path / 'called'}")
    script = machine.script.with_name("host-tuning.sh")
    done = subprocess.run(
        ["sh", str(script), "--dry-run"],
        capture_output=True,
        text=True,
        env=machine.environment,
        timeout=60,
    )
    assert done.returncode in (0, 1)
    assert not (tmp_path / "called").exists()
