"""The `launch` section: the machine, the services, and what launching makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from optc.errors import RecipeError
from optc.launch import Service, Settings
from optc.launch.topology import Core, Node, Topology, sockets
from optc.recipe import load_recipe


def settings_of(launch: object) -> Settings:
    recipe: dict[str, Any] = {"schema_version": 1, "model": "m.onnx", "targets": ["clx"]}
    return load_recipe({**recipe, "launch": launch}).launch.settings


def problems(launch: object) -> list[tuple[str, str, str | None]]:
    with pytest.raises(RecipeError) as caught:
        settings_of(launch)
    return [(p.path.removeprefix("launch."), p.message, p.hint) for p in caught.value.problems]


def test_an_empty_section_is_all_defaults() -> None:
    assert settings_of({}) == Settings()


def test_every_key_reaches_the_launch_folder() -> None:
    launch = {
        "mode": "online",
        "batch": 4,
        "instances": 2,
        "cores": 6,
        "runtime_version": "1.27",
        "allocator": "jemalloc",
        "precision": "bf16",
        "topology": {"sockets": 2, "cores_per_socket": 20, "threads_per_core": 2},
        "service": {
            "command": ["python3", "/srv/serve.py"],
            "folder": "/srv/models/det",
            "image": "registry:5000/det:1.2",
            "memory": "4Gi",
        },
    }
    assert settings_of(launch) == Settings(
        mode="online",
        batch=4,
        instances=2,
        cores=6,
        topology=sockets(2, 20, 2),
        runtime_version="1.27",
        allocator="jemalloc",
        precision="bf16",
        service=Service(
            ("python3", "/srv/serve.py"), "/srv/models/det", "registry:5000/det:1.2", "4Gi"
        ),
    )


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([{"node": 0, "cores": 5}], (Node(0, (Core(5),)),)),
        (
            [{"node": 0, "cores": "0,2", "siblings": "1,3"}],
            (Node(0, (Core(0, (1,)), Core(2, (3,)))),),
        ),
        # Pairs are by place in the lists, whatever their order.
        (
            [{"node": 0, "cores": "1,3,10", "siblings": "9,11,2"}],
            (Node(0, (Core(1, (9,)), Core(3, (11,)), Core(10, (2,)))),),
        ),
        (
            [{"node": 2, "cores": "2-3"}, {"node": 0, "cores": "0-1"}],
            (Node(0, (Core(0), Core(1))), Node(2, (Core(2), Core(3)))),
        ),
    ],
)
def test_nodes_by_their_cpus(nodes: list[dict[str, object]], expected: tuple[Node, ...]) -> None:
    assert settings_of({"topology": {"nodes": nodes}}).topology == Topology(expected)


def test_counts_without_threads_are_one_thread_per_core() -> None:
    found = settings_of({"topology": {"sockets": 1, "cores_per_socket": 4}}).topology
    assert found == sockets(1, 4, 1)


PRINTS = "launch/launch.sh --topology prints the topology of the machine it runs on"


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (
            {},
            (
                "topology",
                "missing key 'sockets': either nodes, or sockets and cores_per_socket",
                PRINTS,
            ),
        ),
        (
            {"sockets": 2},
            (
                "topology",
                "missing key 'cores_per_socket': either nodes, or sockets and cores_per_socket",
                PRINTS,
            ),
        ),
        (
            {"sockets": 2, "nodes": [{"node": 0, "cores": 0}]},
            ("topology.sockets", "'nodes' says it all: leave it out, or this", None),
        ),
        (
            {"nodes": [{"node": 0, "cores": "0-3", "siblings": "8-10"}]},
            (
                "topology.nodes[0].siblings",
                "3 siblings for 4 cores; a core of a Xeon has one",
                None,
            ),
        ),
        (
            {"nodes": [{"node": 0, "cores": "0-3", "siblings": "2-5"}]},
            ("topology.nodes[0].siblings", "CPU 2 is a core and a sibling", None),
        ),
        (
            {"nodes": [{"node": 0, "cores": "3-0"}]},
            ("topology.nodes[0].cores", "the range 3-0 begins above its end", None),
        ),
        (
            {"nodes": [{"node": 0, "cores": "0-3,2"}]},
            ("topology.nodes[0].cores", "CPU 2 stands twice", None),
        ),
        (
            {"nodes": [{"node": 0, "cores": "0-3"}, {"node": 1, "cores": "3-5"}]},
            ("topology.nodes[1]", "CPU 3 stands twice", None),
        ),
        (
            {"nodes": [{"node": 0, "cores": "0"}, {"node": 0, "cores": "1"}]},
            ("topology.nodes[1]", "node 0 stands twice", None),
        ),
    ],
)
def test_a_topology_that_contradicts_itself_is_refused(
    topology: dict[str, object], expected: tuple[str, str, str | None]
) -> None:
    assert problems({"topology": topology}) == [expected]


@pytest.mark.parametrize(
    ("launch", "path"),
    [
        ({"topology": "host"}, "topology"),
        ({"topology": {"nodes": []}}, "topology.nodes"),
        ({"topology": {"nodes": [{"node": 0, "cores": "all"}]}}, "topology.nodes[0].cores"),
        ({"topology": {"sockets": 1, "cores_per_socket": 4, "threads_per_core": 4}},
         "topology.threads_per_core"),
        ({"runtime_version": "1.27rc1"}, "runtime_version"),
        ({"runtime_version": 1.27}, "runtime_version"),
        ({"allocator": "mimalloc"}, "allocator"),
        ({"service": {"command": []}}, "service.command"),
        ({"service": {"command": ["a\nb"]}}, "service.command[0]"),
        ({"service": {"folder": "models"}}, "service.folder"),
        ({"service": {"folder": "/a b"}}, "service.folder"),
        ({"service": {"image": "a b"}}, "service.image"),
        ({"service": {"memory": "4GB"}}, "service.memory"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_form_are_refused_where_they_stand(
    launch: dict[str, object], path: str
) -> None:
    assert [found for found, _, _ in problems(launch)] == [path]
