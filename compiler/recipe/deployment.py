"""The parts of a recipe's `launch` that speak of the machine and of services on it."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from optc.launch import topology as machine
from optc.recipe.fields import Section, flaw


def _cpu_list(text: str) -> str:
    try:
        machine.parse_cpus(text)
    except ValueError as error:
        raise flaw("wrong-value", str(error)) from error
    return text


Cpus = (
    Annotated[int, Field(ge=0, le=99_999)]
    | Annotated[
        str,
        Field(pattern="^[0-9][0-9,-]*$", examples=["0-19", "0,2,4"]),
        AfterValidator(_cpu_list),
    ]
)
"""CPU numbers in the format of Linux."""


class NodeCores(Section):
    """The cores of one NUMA node of the machine."""

    node: int = Field(ge=0, le=1023, description="number of the NUMA node")
    cores: Cpus = Field(
        description="one CPU number per physical core, its first hardware thread, e.g. 0-19"
    )
    siblings: Cpus | None = Field(
        default=None,
        description="the other hardware threads of these cores, in the same order, e.g. 40-59; "
        "left out when Hyper-Threading is off",
    )

    @model_validator(mode="after")
    def _siblings_per_core(self) -> Self:
        cores, siblings = self._numbers
        if self.siblings is not None and len(siblings) != len(cores):
            message = f"{len(siblings)} siblings for {len(cores)} cores; a core of a Xeon has one"
            raise flaw("wrong-value", message, at=["siblings"])
        if both := sorted(set(cores) & set(siblings)):
            message = f"CPU {both[0]} is a core and a sibling"
            raise flaw("wrong-value", message, at=["siblings"])
        return self

    @property
    def _numbers(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        siblings = () if self.siblings is None else machine.parse_cpus(str(self.siblings))
        return machine.parse_cpus(str(self.cores)), siblings

    def resolve(self) -> machine.Node:
        """The node with its cores."""
        cores, siblings = self._numbers
        others = [siblings[index : index + 1] for index in range(len(cores))]
        found = sorted(map(machine.Core, cores, others), key=lambda core: core.cpu)
        return machine.Node(self.node, tuple(found))


class Topology(Section):
    """The machine that will run the model: as `launch.sh --topology` prints it, or by counts."""

    nodes: tuple[NodeCores, ...] | None = Field(
        default=None, min_length=1, description="its NUMA nodes; instead of the counts below"
    )
    sockets: int | None = Field(
        default=None, ge=1, le=64, description="sockets, each one NUMA node (no sub-NUMA clusters)"
    )
    cores_per_socket: int | None = Field(
        default=None, ge=1, le=1024, description="physical cores of a socket"
    )
    threads_per_core: int | None = Field(
        default=None, ge=1, le=2, description="hardware threads of a core; 1 when left out"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        counts = ("sockets", "cores_per_socket", "threads_per_core")
        given = [name for name in counts if getattr(self, name) is not None]
        if self.nodes is not None and given:
            raise flaw("wrong-value", "'nodes' says it all: leave it out, or this", at=given[:1])
        if self.nodes is None:
            missing = [name for name in counts[:2] if name not in given]
            if missing:
                message = f"missing key '{missing[0]}': either nodes, or {' and '.join(counts[:2])}"
                hint = "launch/launch.sh --topology prints the topology of the machine it runs on"
                raise flaw("missing-key", message, hint=hint)
        return self

    @field_validator("nodes")
    @classmethod
    def _each_once(cls, nodes: tuple[NodeCores, ...] | None) -> tuple[NodeCores, ...] | None:
        seen: dict[str, int] = {}
        for index, node in enumerate(nodes or ()):
            cores = node.resolve().cores
            cpus = [cpu for core in cores for cpu in (core.cpu, *core.siblings)]
            for name in (f"node {node.node}", *(f"CPU {cpu}" for cpu in cpus)):
                if name in seen:
                    raise flaw("wrong-value", f"{name} stands twice", at=[index])
                seen[name] = index
        return nodes

    def resolve(self) -> machine.Topology:
        """The cores of the machine."""
        if self.nodes is not None:
            nodes = sorted((node.resolve() for node in self.nodes), key=lambda node: node.number)
            return machine.Topology(tuple(nodes))
        assert self.sockets is not None
        assert self.cores_per_socket is not None
        return machine.sockets(self.sockets, self.cores_per_socket, self.threads_per_core or 1)


def _printable(word: str) -> str:
    if not word.isprintable():
        raise flaw("wrong-value", f"{word!r} holds characters that cannot be printed")
    return word


class Service(Section):
    """How the instances are run as services: systemd units, compose.yaml, kubernetes.yaml."""

    command: tuple[Annotated[str, AfterValidator(_printable)], ...] = Field(
        default=("serve",),
        min_length=1,
        description="the server that launch.sh starts once per instance, word by word",
    )
    folder: str | None = Field(
        default=None,
        pattern="^(/[A-Za-z0-9._+-]+)+$",
        examples=["/srv/models/ppocr-det"],
        description="where the output folder is put on the machine and in the image; "
        "/opt/optc/<name> when left out",
    )
    image: str | None = Field(
        default=None,
        pattern="^[a-z0-9][A-Za-z0-9._/:@-]*$",
        description="container image with the runtime and the server; <name>:latest when left out",
    )
    memory: str | None = Field(
        default=None,
        pattern="^[1-9][0-9]{0,8}(Mi|Gi)$",
        examples=["4Gi"],
        description="memory of one instance on Kubernetes; from the size of the model if left out",
    )
