"""Renders the launch folder of an artefact: how to start it on its CPU with its runtime.

The bytes depend on the target, the runtime and the recipe, never on the machine that compiles:
which cores there are is found out by launch.sh when it starts, or stands in the recipe. Only
settings that the descriptor of the runtime lists as honoured are written.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.errors import InternalError
from optc.launch.needs import needs_of, tile_flags
from optc.launch.plan import stated_threads
from optc.launch.service import (
    dollar_word,
    host_name,
    instance_words,
    pod_of,
    reserved_cpus,
    systemd_text,
    systemd_word,
    yaml_word,
)
from optc.launch.settings import Settings, check_names, check_precision, slices_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import jinja2

    from optc.launch.plan import Demand, Slice
    from optc.launch.settings import Emitted
    from optc.targets import Knob, Runtime, Target
    from optc.targets.runtimes import SwitchedOff

_TEMPLATES = Path(__file__).parent / "templates"
_ALWAYS = (
    "launch.sh",
    "env",
    "kubernetes.yaml",
    "kubernetes-node.yaml",
    "host-tuning.sh",
    "ADVICE.md",
)
_TOPICS = ("hyper-threading", "turbo", "sub-numa", "c-states", "governor", "memory", "os")


@dataclass(frozen=True)
class _Dialect:
    """How a runtime is told its thread count.

    Attributes:
        threads_key: key in runtime.json that holds the count.
        thread_variables: environment variables that mean the same, written when honoured.
    """

    threads_key: str
    thread_variables: tuple[str, ...] = ()


_DIALECTS = {
    "onnxruntime": _Dialect("intra_op_num_threads", ("ORT_INTRA_OP_NUM_THREADS",)),
    "openvino": _Dialect("INFERENCE_NUM_THREADS"),
}


def render_launch(
    target: Target, runtime: Runtime, emitted: Emitted, settings: Settings | None = None
) -> dict[str, bytes]:
    """Render the launch folder.

    Args:
        target: the CPU the artefact is made for.
        runtime: the runtime that executes it.
        emitted: the model.
        settings: what the recipe says; None: all defaults.

    Returns:
        Contents by path in the folder; ``.sh`` files are to be made executable. Systemd units and
        compose.yaml name CPUs: they are there when the topology is declared.

    Raises:
        TargetError: an unknown mode, a number below one, more cores per instance than a socket of
            the target has, or instances that do not fit the declared topology: an instance never
            crosses a NUMA node.
        CapabilityError: target or runtime do not have the precision of the settings.
    """
    settings = settings or Settings()
    check_names(emitted)
    check_precision(target, runtime, settings)
    dialect = _DIALECTS.get(runtime.id)
    if dialect is None:
        raise InternalError("launch-runtime", f"no launch templates for runtime {runtime.id}")
    demand, slices = slices_of(target, settings)
    threads = len(slices[0].cpus) if slices else stated_threads(target, settings.mode, demand)
    variables = _variables(runtime, dialect, settings.runtime_version)
    context = {
        **_common(target, runtime, emitted, settings),
        **vars(demand),
        "threads": threads,
        "threads_key": dialect.threads_key,
        "variables": variables,
        "thread_variables": [knob.name for knob in variables],
        "switched_off": _switched_off(runtime, emitted, settings.runtime_version),
        "slices": slices,
    }
    context.update(_services(context, target, emitted, settings))
    context.update(_advice(target, runtime, settings, demand, slices, threads))
    return {name: text.encode() for name, text in _files(runtime.id, context)}


def _files(runtime: str, context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every file of the folder, by its path."""
    yield "runtime.json", _render(f"{runtime}.json.j2", context)
    for name in _ALWAYS:
        yield name, _render(f"{name}.j2", context)
    if not context["slices"]:
        return
    yield "compose.yaml", _render("compose.yaml.j2", context)
    unit = context["unit"]
    yield f"systemd/{unit}.target", _render("all.target.j2", context)
    pairs = zip(context["slices"], context["commands"], strict=True)
    for index, (part, words) in enumerate(pairs):
        own = {**context, "index": index, "slice": part, "words": words}
        yield f"systemd/{unit}-{index}.service", _render("instance.service.j2", own)


def _common(
    target: Target, runtime: Runtime, emitted: Emitted, settings: Settings
) -> dict[str, object]:
    """What templates say of the artefact."""
    service = settings.service.complete(emitted.name, emitted.model_bytes)
    precisions = emitted.precisions | {settings.precision}
    return {
        "name": emitted.name,
        "model_file": emitted.model_file,
        "precision": settings.precision,
        "planned": settings.planned,
        "target": target.id,
        "target_title": target.title,
        "runtime": runtime.id,
        "title": runtime.title,
        "short": runtime.title.partition(",")[0],
        "minimum_version": runtime.versions.minimum,
        "mode": settings.mode,
        "batch": settings.batch,
        "cores": settings.cores,
        "allocator": settings.allocator,
        "topology": settings.topology,
        "service": service,
        "place": f"{service.folder}/{target.id}",
        "needs": needs_of(target, runtime, precisions, saturates=emitted.saturates),
        "tile_flags": tile_flags(target, runtime, precisions),
    }


def _services(
    context: Mapping[str, Any], target: Target, emitted: Emitted, settings: Settings
) -> dict[str, object]:
    """Command lines and resources of the services."""
    service, place, topology = context["service"], context["place"], settings.topology
    return {
        "unit": f"optc-{host_name(emitted.name)}",
        "commands": instance_words(place, context["slices"], service.command),
        "reserved": reserved_cpus(topology) if topology else "",
        "pod": pod_of(
            emitted.name,
            place,
            service,
            context["threads"],
            target=target,
            topology=topology,
            instances=settings.instances,
            memory_stated=settings.service.memory is not None,
        ),
    }


def _advice(
    target: Target,
    runtime: Runtime,
    settings: Settings,
    demand: Demand,
    slices: tuple[Slice, ...],
    threads: int,
) -> dict[str, object]:
    """What ADVICE.md says; every entry carries its source."""
    rules = target.launch
    gain = rules.same_node_gain
    spread = "an unknown amount"
    if gain.value is not None:
        low, high = gain.value
        spread = f"{low:.0%} to {high:.0%} ({gain.source})"
    few = settings.mode == "throughput" and threads < (rules.throughput_cores.value or 0)
    topics = {topic: [a for a in target.advice if a.topic == topic] for topic in _TOPICS}
    total = settings.topology.cores if settings.topology else 0
    return {
        "rule": rules.online_cores if settings.mode == "online" else rules.latency_cores,
        "gain": spread,
        "few_cores": rules.throughput_cores if few and not demand.exact else None,
        "idle": total - sum(len(part.cpus) for part in slices),
        "advice": {topic: entries for topic, entries in topics.items() if entries},
        "silent": [topic for topic, entries in topics.items() if not entries],
        "software": [
            entry
            for entry in target.software
            if entry.software.startswith("Linux") or runtime.title.startswith(entry.software)
        ],
        "ignored": [knob for knob in runtime.knobs if not knob.honoured],
    }


def _variables(runtime: Runtime, dialect: _Dialect, version: str | None) -> list[Knob]:
    """Environment variables for the thread count that the runtime takes notice of.

    Older versions ignore a variable that they do not know, so it is left out only when the recipe
    says that such a version will run.
    """
    return [
        knob
        for knob in runtime.knobs
        if knob.name in dialect.thread_variables
        and knob.honoured
        and (version is None or knob.since is None or _numbers(version) >= _numbers(knob.since))
    ]


def _switched_off(runtime: Runtime, emitted: Emitted, version: str | None) -> list[SwitchedOff]:
    """The runtime's own optimizers that are harmful to this model, for the version that will run.

    Versions that do not have an optimizer ignore its name, so without a stated version all count.
    """
    return [
        entry
        for entry in runtime.switched_off
        if not emitted.ops.isdisjoint(entry.ops) and (version is None or entry.holds_for(version))
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _render(template: str, context: Mapping[str, object]) -> str:
    return _environment().get_template(template).render(context)


@cache
def _environment() -> jinja2.Environment:
    """The template engine: an undefined name is an error, values are quoted by filters."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "sh": lambda value: shlex.quote(str(value)),
        "json": json.dumps,
        "json_data": lambda items: json.dumps(
            [item if isinstance(item, str) else item.to_dict() for item in items]
        ),
        "yaml": yaml_word,
        "systemd_word": systemd_word,
        "systemd_text": systemd_text,
        "compose_word": dollar_word,
        "kubernetes_word": dollar_word,
    }
    return environment
