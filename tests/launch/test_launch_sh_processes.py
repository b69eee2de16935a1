"""launch.sh with real processes: what they find, how they end, and what is left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from launch.machines import Machine

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="launch.sh is for Linux")

SHOW = (
    'echo "$OPTC_INSTANCE/$OPTC_INSTANCES $OPTC_THREADS $ORT_INTRA_OP_NUM_THREADS $OPTC_BATCH '
    '$OPTC_MODEL"; grep intra_op_num "$OPTC_RUNTIME_JSON"; echo "$@"'
)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_instance_finds_its_settings_and_options_with_the_true_thread_count(
    machine: Machine, shell: str
) -> None:
    machine.pretend("two cores")
    done = machine.run("--", "sh", "-c", SHOW, "-", "a b", "*", shell=shell)
    assert done.stdout.splitlines() == [
        f"0/1 2 2 1 {machine.model}",
        '    "intra_op_num_threads": 2',
        "a b *",
    ]
    assert done.stderr.startswith(
        "launch.sh: threads per instance: 2, not the 4 of runtime.json; options: "
    )
    assert done.returncode == 0
    assert list((machine.folder / "tmp").iterdir()) == []


def test_runtime_json_itself_is_handed_on_when_its_count_is_true(machine: Machine) -> None:
    machine.pretend("HT siblings side by side")
    done = machine.run("sh", "-c", 'echo "$OPTC_RUNTIME_JSON"')
    assert (done.stdout, done.stderr) == (f"{machine.script.parent / 'runtime.json'}\n", "")


def test_the_copy_for_openvino_differs_in_the_thread_count_only(machine: Machine) -> None:
    machine.artefact(runtime="openvino")
    machine.pretend("four sub-NUMA nodes", allowed="0-1", flags="sse4_1")
    done = machine.run("sh", "-c", 'cat "$OPTC_RUNTIME_JSON"')
    stated = (machine.script.parent / "runtime.json").read_text(encoding="utf-8")
    assert done.stdout == stated.replace(
        '"INFERENCE_NUM_THREADS": "4"', '"INFERENCE_NUM_THREADS": "2"'
    )
    assert done.stdout != stated


def test_an_edited_runtime_json_is_refused_rather_than_handed_on_wrong(machine: Machine) -> None:
    options = machine.script.parent / "runtime.json"
    options.write_text(
        options.read_text(encoding="utf-8").replace('threads": 4', 'threads": 16'),
        encoding="utf-8",
    )
    machine.pretend("four sub-NUMA nodes")
    done = machine.run("true")
    assert done.returncode == 1
    assert done.stderr == (
        "launch.sh: runtime.json does not state intra_op_num_threads 4 any more: compile again\n"
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_the_exit_status_is_the_highest_of_the_instances(machine: Machine, shell: str) -> None:
    machine.pretend("four sub-NUMA nodes")
    status = "exit $((OPTC_INSTANCE == 1 ? 9 : OPTC_INSTANCE))"
    assert machine.run("sh", "-c", status, shell=shell).returncode == 9


def test_a_command_that_does_not_exist_is_a_failure(machine: Machine) -> None:
    machine.pretend("HT siblings side by side")
    assert machine.run("no-such-command").returncode == 127


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_instances_and_waits_for_them(
    machine: Machine, shell: str, number: signal.Signals
) -> None:
    machine.pretend("two cores")
    # An instance says when it is ready, and takes a moment to end after SIGTERM.
    serve = (
        "import os, pathlib, signal, sys, time\n"
        "mine = pathlib.Path(sys.argv[1], os.environ['OPTC_INSTANCE'])\n"
        "def end(*_):\n"
        "    time.sleep(0.2)\n"
        "    mine.with_suffix('.ended').touch()\n"
        "    sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "mine.with_suffix('.ready').touch()\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        machine.command(
            ["--instances", "2", "--", sys.executable, "-c", serve, str(machine.folder)], shell
        ),
        env=machine.environment,
        stderr=subprocess.DEVNULL,
    ) as launched:
        deadline = time.monotonic() + 30
        while len(list(machine.folder.glob("?.ready"))) < 2:
            assert time.monotonic() < deadline, "the instances did not start"
            time.sleep(0.02)
        launched.send_signal(number)
        assert launched.wait(timeout=30) == 5
    assert sorted(path.name for path in machine.folder.glob("?.ended")) == ["0.ended", "1.ended"]
    assert list((machine.folder / "tmp").iterdir()) == []


def test_an_instance_that_ignores_the_signal_is_waited_for_and_its_status_kept(
    machine: Machine,
) -> None:
    machine.pretend("HT siblings side by side")
    marker = machine.folder / "ready"
    stubborn = f"trap '' TERM; touch '{marker}'; sleep 1; exit 3"
    with subprocess.Popen(
        machine.command(["--", "sh", "-c", stubborn]), env=machine.environment
    ) as launched:
        deadline = time.monotonic() + 30
        while not marker.exists():
            assert time.monotonic() < deadline, "the instance did not start"
            time.sleep(0.02)
        launched.terminate()
        launched.send_signal(signal.SIGHUP)
        assert launched.wait(timeout=30) == 3
