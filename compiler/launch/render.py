"""Renders the launch folder of an artefact: how to start it on its CPU with its runtime.

The bytes depend on the target, the runtime and the recipe, never on the machine that compiles: how
many cores there are is found out by launch.sh when it starts. Only settings that the descriptor of
the runtime lists as honoured are written.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import InternalError, TargetError, did_you_mean

if TYPE_CHECKING:
    import jinja2

    from optc.targets import Runtime, Target
    from optc.targets.model import LaunchRules

MODES = ("latency", "online", "throughput")
"""latency: small instances on all cores, one request each; online: a service of medium size;
throughput: one instance per NUMA node, for large batches."""

_TEMPLATES = Path(__file__).parent / "templates"


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
    target: Target,
    runtime: Runtime,
    *,
    model_file: str,
    mode: str = "latency",
    batch: int = 1,
    instances: int | None = None,
    cores: int | None = None,
) -> dict[str, bytes]:
    """Render the launch folder.

    Args:
        target: the CPU the artefact is made for.
        runtime: the runtime that executes it.
        model_file: file name of the model in the folder above the launch folder.
        mode: one of `MODES`.
        batch: batch size, handed to the command that is started.
        instances: number of instances; None: as many as the cores of the machine allow.
        cores: physical cores of each instance, exactly; None: what the mode wants, fewer on a
            machine that has fewer.

    Returns:
        Contents by file name: ``launch.sh`` (to be made executable) and ``runtime.json``.

    Raises:
        TargetError: an unknown mode, a number below one, or more cores per instance than a socket
            of the target has: an instance never crosses a NUMA node.
    """
    _check(target, mode, {"batch": batch, "instances": instances, "cores": cores})
    dialect = _DIALECTS.get(runtime.id)
    if dialect is None:
        raise InternalError("launch-runtime", f"no launch templates for runtime {runtime.id}")
    wanted, threads = (cores, cores) if cores else _cores_of_mode(target.launch, mode)
    context = {
        "target": target.id,
        "runtime": runtime.id,
        "title": runtime.title,
        "mode": mode,
        "batch": batch,
        "model_file": model_file,
        "instances": instances,
        "cores": cores,
        "wanted": wanted,
        "threads": threads,
        "threads_key": dialect.threads_key,
        "thread_variables": [n for n in dialect.thread_variables if runtime.honours(n)],
        "flags": runtime.precisions["fp32"].baseline_flags,
    }
    files = {"launch.sh": "launch.sh.j2", "runtime.json": f"{runtime.id}.json.j2"}
    return {
        name: _environment().get_template(template).render(context).encode()
        for name, template in files.items()
    }


def _check(target: Target, mode: str, numbers: dict[str, int | None]) -> None:
    """Refuse settings that no machine of this target can honour."""
    if mode not in MODES:
        raise TargetError(
            "launch-invalid",
            f"launch.mode: there is no mode '{mode}'; known: {', '.join(MODES)}",
            hint=did_you_mean(mode, MODES),
        )
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise TargetError("launch-invalid", f"launch.{name}: must be at least 1, not {number}")
    most = target.topology.max_cores_per_socket.value
    cores = numbers["cores"]
    if cores is not None and most is not None and cores > most:
        raise TargetError(
            "launch-invalid",
            f"launch.cores: {cores} cores per instance, but a socket of {target.id} has {most}",
            hint="an instance never crosses a NUMA node: use fewer cores and more instances",
        )


def _cores_of_mode(rules: LaunchRules, mode: str) -> tuple[int, int]:
    """Cores an instance wants in a mode (0: a whole NUMA node), and the count runtime.json states.

    launch.sh replaces the stated count where the machine gives another one.
    """
    if mode == "latency":
        latency = _known(rules.latency_cores.value)
        return latency, latency
    if mode == "online":
        fewest, _ = rules.online_cores.value or (None, None)
        return _known(fewest), _known(fewest)
    return 0, _known(rules.throughput_cores.value)


def _known(value: int | None) -> int:
    """A launch rule that every descriptor of the package gives."""
    if value is None:
        raise TargetError(
            "launch-rule-unknown",
            "the target does not say how many cores an instance gets in this mode",
            hint="set launch.cores in the recipe",
        )
    return value


@cache
def _environment() -> jinja2.Environment:
    """The template engine: an undefined name is an error, values are quoted by `sh` and `json`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["json"] = json.dumps
    return environment
