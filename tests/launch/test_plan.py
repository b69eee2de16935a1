"""Slices of cores for instances: the rules, and that script and library agree on them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.errors import TargetError
from optc.launch import Emitted, Settings, render_launch
from optc.launch.plan import Demand, Slice, demand_of, plan_slices
from optc.launch.topology import Core, Node, Topology, sockets
from optc.targets import load_runtime, load_target, target_names

if TYPE_CHECKING:
    from pathlib import Path

AWKS = [awk for awk in ("mawk", "gawk", "busybox") if shutil.which(awk)]


def sizes(topology: Topology, demand: Demand) -> list[tuple[int, int]]:
    return [(part.node, len(part.cpus)) for part in plan_slices(topology, demand)]


def nodes(*counts: int) -> Topology:
    """Nodes with so many cores each, numbered on."""
    first, made = 0, []
    for number, count in enumerate(counts):
        made.append(Node(number, tuple(map(Core, range(first, first + count)))))
        first += count
    return Topology(tuple(made))


@pytest.mark.parametrize(
    ("counts", "demand", "expected"),
    [
        # latency: 4 cores each, the rest idle; fewer where a node has fewer
        ((10, 10), Demand(4, 4), [(0, 4), (1, 4), (0, 4), (1, 4)]),
        ((2, 2), Demand(4, 4), [(0, 2), (1, 2)]),
        ((4, 1), Demand(4, 4), [(0, 4)]),
        # online: at least 8, and up to 16 where cores would stay idle
        ((20, 20), Demand(8, 16), [(0, 10), (1, 10), (0, 10), (1, 10)]),
        ((28,), Demand(8, 16), [(0, 9), (0, 9), (0, 9)]),
        ((40,), Demand(8, 16, None, 2), [(0, 16), (0, 16)]),
        # throughput: a node each, of the size that uses most cores
        ((28, 28), Demand(0, 0), [(0, 28), (1, 28)]),
        ((27, 28), Demand(0, 0), [(0, 27), (1, 27)]),
        ((3, 28), Demand(0, 0), [(1, 28)]),
        # explicit numbers
        ((8, 8), Demand(4, 4, None, 2), [(0, 4), (1, 4)]),
        ((8, 8), Demand(4, 4, None, 5), [(0, 2), (1, 2), (0, 2), (1, 2), (0, 2)]),
        ((8, 8), Demand(3, 3, 3), [(0, 3), (1, 3), (0, 3), (1, 3)]),
    ],
)
def test_slices(counts: tuple[int, ...], demand: Demand, expected: list[tuple[int, int]]) -> None:
    assert sizes(nodes(*counts), demand) == expected


def test_slices_are_cpu_numbers_of_their_node() -> None:
    assert plan_slices(sockets(2, 4, 2), Demand(2, 2, 2, 3)) == (
        Slice(0, (0, 1)),
        Slice(1, (4, 5)),
        Slice(0, (2, 3)),
    )
    assert Slice(0, (0, 1, 4)).cpu_list == "0-1,4"


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (
            Demand(5, 5, 5),
            "1 instance(s) of 5 core(s) do not fit: 8 core(s) on 2 NUMA node(s), and no instance "
            "crosses a node",
        ),
        (
            Demand(4, 4, None, 9),
            "9 instance(s) of 1 core(s) do not fit: 8 core(s) on 2 NUMA node(s), and no instance "
            "crosses a node",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_there(demand: Demand, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        plan_slices(nodes(4, 4), demand)
    assert caught.value.code == "launch-does-not-fit"
    assert caught.value.message == message


@pytest.mark.parametrize("target", target_names())
@pytest.mark.parametrize(
    ("mode", "expected"), [("latency", (4, 4)), ("online", (8, 16)), ("throughput", (0, 0))]
)
def test_modes_ask_for_what_the_descriptor_says(
    target: str, mode: str, expected: tuple[int, int]
) -> None:
    demand = demand_of(load_target(target), mode, None, None)
    assert (demand.wanted, demand.most) == expected
    assert demand_of(load_target(target), mode, 6, 2) == Demand(6, 6, 6, 2)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planning function of launch.sh, in a script of its own."""
    files = render_launch(
        load_target("clx"), load_runtime("onnxruntime"), Emitted("x", "model.onnx"), Settings()
    )
    script = files["launch.sh"].decode()
    start = script.index("\nslices() {")
    body = script[start : script.index("\n}\n", start) + 3]
    path = tmp_path_factory.mktemp("planner") / "plan.sh"
    head = 'instances=$1 cores=$2 wanted=$3 most=$4 awk=$5\nawk() { $awk "$@"; }\n'
    path.write_text(f"{head}{body}\nslices\n", encoding="utf-8")
    return path


def by_script(
    planner: Path, topology: Topology, demand: Demand, awk: str
) -> tuple[Slice, ...] | None:
    """What launch.sh plans; None when it does not fit."""
    lines = [f"{node.number} {core.cpu}" for node in topology.nodes for core in node.cores]
    numbers = [demand.instances or "", demand.exact or "", demand.wanted, demand.most]
    words = ["sh", str(planner), *map(str, numbers), "busybox awk" if awk == "busybox" else awk]
    done = subprocess.run(
        words, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    if done.returncode:
        assert done.returncode == 3
        return None
    parts = [line.split() for line in done.stdout.splitlines()]
    assert all(int(size) == len(cpus.split(",")) for size, _, cpus in parts)
    return tuple(Slice(int(node), tuple(map(int, cpus.split(",")))) for _, node, cpus in parts)


@pytest.mark.skipif(shutil.which("sh") is None or not AWKS, reason="needs a shell and awk")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    mode=st.sampled_from([(4, 4), (8, 16), (2, 5), (0, 0)]),
    exact=st.none() | st.integers(1, 13),
    instances=st.none() | st.integers(1, 9),
    awk=st.sampled_from(AWKS or ["awk"]),
)
def test_the_script_plans_as_the_library_does(
    planner: Path,
    counts: list[int],
    mode: tuple[int, int],
    exact: int | None,
    instances: int | None,
    awk: str,
) -> None:
    topology = nodes(*counts)
    demand = Demand(*((exact, exact) if exact else mode), exact, instances)
    try:
        planned: tuple[Slice, ...] | None = plan_slices(topology, demand)
    except TargetError:
        planned = None
    assert by_script(planner, topology, demand, awk) == planned
    if planned is not None:
        used = [cpu for part in planned for cpu in part.cpus]
        assert len(used) == len(set(used))
        assert len({len(part.cpus) for part in planned}) == 1
