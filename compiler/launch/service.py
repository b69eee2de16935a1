"""The instances as services: command lines and resources for systemd, compose and Kubernetes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.errors import TargetError
from optc.launch.plan import Demand, plan_slices
from optc.launch.topology import Topology, format_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.launch.plan import Slice
    from optc.targets import Target

_GIB = 1 << 30
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


@dataclass(frozen=True)
class Service:
    """How the instances are run as services.

    Attributes:
        command: the server that each instance starts, word by word; printable text.
        folder: absolute path of the output folder on the machine and in the image; None:
            ``/opt/optc/<name>``.
        image: container image; None: ``<name>:latest``.
        memory: memory of one instance as a Kubernetes quantity; None: from the size of the model.
    """

    command: tuple[str, ...] = ("serve",)
    folder: str | None = None
    image: str | None = None
    memory: str | None = None

    def complete(self, name: str, model_bytes: int) -> Service:
        """The service with every default filled in.

        The memory is a first value: 1 GiB for the process and 3 times the model, for its file in
        the page cache, its prepacked weights and its activations.
        """
        return replace(
            self,
            folder=self.folder or f"/opt/optc/{name}",
            image=self.image or f"{host_name(name)}:latest",
            memory=self.memory or f"{1 + -(-3 * model_bytes // _GIB)}Gi",
        )


def host_name(name: str) -> str:
    """A name as Kubernetes, compose and images want it: RFC 1123, lower case, at most 50 bytes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:50].strip("-") or "model"


def launch_words(place: str, options: Sequence[str], command: Sequence[str]) -> tuple[str, ...]:
    """The command line that starts instances by launch.sh.

    Args:
        place: absolute folder of the artefact.
        options: options of launch.sh.
        command: the server.
    """
    return (f"{place}/launch/launch.sh", *options, "--", *command)


def instance_words(
    place: str, slices: Sequence[Slice], command: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """For each slice, the command line that starts the instance on exactly these CPUs.

    launch.sh sees to it that they are different cores of one node that the process may use: a
    topology that is declared wrong, or a cpuset that is not in force, ends in a refusal.
    """
    return tuple(
        launch_words(
            place,
            (
                "--instance",
                f"{index}/{len(slices)}",
                "--cpus",
                part.cpu_list,
                "--cores",
                str(len(part.cpus)),
            ),
            command,
        )
        for index, part in enumerate(slices)
    )


@dataclass(frozen=True)
class Pod:
    """What kubernetes.yaml says of a pod, with the reasons that stand beside it.

    Attributes:
        name: name of the deployment.
        command: command line of the container.
        cpus: CPU units of one instance; Kubernetes counts hardware threads.
        memory: memory of one instance.
        replicas: number of pods.
        cpus_why: where `cpus` is from.
        memory_why: where `memory` is from.
        replicas_why: where `replicas` is from.
    """

    name: str
    command: tuple[str, ...]
    cpus: int
    memory: str
    replicas: int
    cpus_why: str
    memory_why: str
    replicas_why: str


def pod_of(
    name: str,
    place: str,
    service: Service,
    threads: int,
    *,
    target: Target,
    topology: Topology | None,
    instances: int | None,
    memory_stated: bool,
) -> Pod:
    """The pod of one instance; `service` is complete."""
    per_core = topology.threads_per_core if topology else target.topology.threads_per_core.value
    cpus_why = f"{threads} core(s) of {per_core or 1}"
    if topology is None:
        cpus_why += f"; {threads} where Hyper-Threading is off"
    replicas, why = 1, "one; the nodes may hold more"
    if instances is not None:
        replicas, why = instances, "as launch.instances says"
    elif topology is not None:
        replicas = _fitting(topology, threads)
        why = "what one machine of the declared topology holds beside the system's core"
    options = ("--instances", "1", "--cores", str(threads))
    return Pod(
        name=host_name(name),
        command=launch_words(place, options, service.command),
        cpus=threads * (per_core or 1),
        memory=str(service.memory),
        replicas=replicas,
        cpus_why=cpus_why,
        memory_why="as launch.service.memory says"
        if memory_stated
        else "1 GiB and 3 times the model: a first value, measure",
        replicas_why=why,
    )


def reserved_cpus(topology: Topology) -> str:
    """The core that is kept for the system: the first one, with its siblings."""
    core = topology.nodes[0].cores[0]
    return format_cpus((core.cpu, *core.siblings))


def _fitting(topology: Topology, threads: int) -> int:
    """How many instances a machine holds beside the system's core."""
    first, *others = topology.nodes
    left = replace(first, cores=first.cores[1:])
    nodes = tuple(node for node in (left, *others) if node.cores)
    try:
        return len(plan_slices(Topology(nodes), Demand(threads, threads, threads)))
    except (TargetError, ValueError):
        return 1


def systemd_word(word: str) -> str:
    """A word of ExecStart=: specifiers and variables escaped, quoted where needed.

    Source: systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers".
    """
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + systemd_text(escaped).replace("$", "$$") + '"'


def systemd_text(text: str) -> str:
    """Text of a setting, with the specifiers escaped."""
    return text.replace("%", "%%")


def yaml_word(word: str) -> str:
    """A printable word as a YAML scalar: plain where that is safe, else in double quotes."""
    if re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./:@-]*[A-Za-z0-9_./@-]", word) and word.lower() not in {
        "null", "true", "false", "yes", "no", "on", "off",
    }:  # fmt: skip
        return word
    return json.dumps(word, ensure_ascii=False)


def dollar_word(word: str) -> str:
    """A YAML scalar of compose or Kubernetes, where a dollar sign starts a variable."""
    return yaml_word(word.replace("$", "$$"))
