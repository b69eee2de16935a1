"""What OpenVINO's CPU plugin executes: its runtime model, its counters, and oneDNN's own log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.emit.owners import owners_of
from optc.errors import InternalError, ModelError
from optc.evidence.executed import Execution, Kernel
from optc.evidence.feeds_file import write_feeds
from optc.evidence.verbose import created_primitives, onednn_version
from optc.launch.engines import require_runtime
from optc.targets import load_runtime
from optc.targets.loading import shipped_extensions
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.evidence.verbose import Primitive
    from optc.launch.options import LaunchOptions
    from optc.numerics.values import Feeds

_NOT_EXECUTED: Final = frozenset({"Input", "Output", "Const", "Constant", "Parameter", "Result"})
_COMMAND: Final = (sys.executable, "-P", "-m", "optc.evidence.openvino_worker")
_FEEDS: Final = "feeds.npz"
_BYTES: Final = frozenset({"u8", "s8"})
_LIMIT: Final = 3600.0  # seconds for one process


def execute(
    model: Path,
    options: LaunchOptions,
    feeds: Feeds,
    known: Mapping[str, str],
    *,
    runs: int = 10,
) -> Execution:
    """Run a model and say what was executed.

    Two processes: one with ONEDNN_VERBOSE for the implementations, one without for the times,
    which printing would distort.

    Args:
        model: ONNX or IR; its layers bear the labels of operations.
        options: what it is loaded with.
        feeds: one input.
        known: label of an operation by every name that a layer may have.
        runs: executions that the times are the median of.

    Raises:
        CapabilityError: OpenVINO is not installed or too old.
        ModelError: the runtime rejects the model or the input; ``map-input``.
    """
    require_runtime("openvino")
    with tempfile.TemporaryDirectory(prefix="optc-audit-") as folder:
        place = Path(folder)
        table = write_feeds(place / _FEEDS, [feeds])
        given = {"model": str(model), "options": options.model_dump(mode="json"), "table": table}
        job = {**given, "runs": runs}
        _, log = _work(place, {**job, "runs": 1}, {"ONEDNN_VERBOSE": "profile_create"})
        found, _ = _work(place, job, {})
    lines = log.splitlines()
    primitives = created_primitives(lines)
    onednn = onednn_version(lines)
    version = library_version("openvino") or ""
    return Execution(
        version,
        f"oneDNN {onednn}" if onednn else "",
        tuple(_kernels(found, primitives, onednn or "", known)),
    )


def _work(
    place: Path, job: Mapping[str, object], variables: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """One run of the worker: what it wrote, and what oneDNN printed."""
    result, asked = place / "result.json", place / "job.json"
    asked.write_text(
        json.dumps({**job, "feeds": str(place / _FEEDS), "result": str(result)}),
        encoding="utf-8",
    )
    result.unlink(missing_ok=True)
    own = {name: text for name, text in os.environ.items() if not name.startswith("ONEDNN_VERBOSE")}
    done = subprocess.run(
        [*_COMMAND, str(asked)],
        env={**own, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT,
        check=False,
    )
    if done.returncode < 0:
        raise ModelError(
            "runtime-crashed",
            f"openvino ends the process with signal {-done.returncode}",
            location=str(job["model"]),
            hint="report it to OpenVINO with the model",
        )
    if not result.exists():
        raise InternalError("audit-worker", "the worker of the audit failed", detail=done.stderr)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if error := found.get("error"):
        raise ModelError(
            error["code"], error["message"], location=error["location"], hint=error["hint"]
        )
    return found, done.stdout


def _kernels(
    found: Mapping[str, Any],
    primitives: Sequence[Primitive],
    onednn: str,
    known: Mapping[str, str],
) -> list[Kernel]:
    reading = load_runtime("openvino").introspection
    layers = [layer for layer in found["layers"] if layer["layerType"] not in _NOT_EXECUTED]
    layers.sort(key=lambda layer: int(layer["execOrder"] or 0))
    logged = _aligned(layers, primitives)
    kernels = []
    for index, layer in enumerate(layers):
        kind, shown = layer["layerType"], layer["primitiveType"]
        heavy = kind in reading.primitives
        primitive = logged.get(index)
        isa = primitive.isa(onednn) if primitive else None
        evidence = f"ONEDNN_VERBOSE: {primitive.implementation}" if primitive else ""
        if isa is None and (isa := _shown_isa(shown)) is not None:
            evidence = evidence or f"primitiveType: {shown}"
        nodes = owners_of(layer["originalLayersNames"], known)
        precision = reading.precision(shown)
        kernels.append(
            Kernel(
                name=layer["name"],
                op=kind,
                kernel=primitive.implementation if primitive else shown,
                precision=None if kind in reading.layout else precision,
                isa=isa,
                evidence=evidence or f"primitiveType: {shown}",
                nodes=nodes,
                seconds=float(found["times"].get(layer["name"], 0.0)),
                heavy=heavy,
            )
        )
    return kernels


def _aligned(
    layers: Sequence[Mapping[str, Any]], primitives: Sequence[Primitive]
) -> dict[int, Primitive]:
    """The primitive that computes each multiply-accumulate layer, by index of the layer.

    A primitive fits when its kind and its element types do, and the number of its result elements
    where both are known. Both lists have the order of the graph, so of several that fit the first
    one is taken that no layer has; layers that are alike share one, and then the last is taken.
    """
    reading = load_runtime("openvino").introspection
    found: dict[int, Primitive] = {}
    taken: set[int] = set()
    for index, layer in enumerate(layers):
        kinds = reading.primitives.get(layer["layerType"], ())
        if not kinds or reading.is_unlogged(layer["primitiveType"]):
            continue
        fitting = [
            position
            for position, primitive in enumerate(primitives)
            if primitive.kind in kinds and _fits(primitive, layer)
        ]
        if fitting:
            position = next((place for place in fitting if place not in taken), fitting[-1])
            taken.add(position)
            found[index] = primitives[position]
    return found


def _fits(primitive: Primitive, layer: Mapping[str, Any]) -> bool:
    """Whether a primitive has the types and the size of a layer."""
    size = layer["elements"]
    if size is not None and primitive.elements not in (None, size):
        return False
    quantized = str(layer["primitiveType"]).lower().endswith("_i8")
    return (primitive.src in _BYTES) == quantized


def _shown_isa(shown: str) -> str | None:
    """The capability that OpenVINO's name of a kernel proves; None when it proves none."""
    rows = shipped_extensions().extensions.items()
    proven = [name for name, row in rows if row.shown_by(shown)]
    return proven[-1] if proven else None
