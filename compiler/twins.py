"""Models that compute in bf16 on machines that cannot: their fp32 twins, ready to run.

OpenVINO computes in bf16 where the CPU has AVX-512, natively or by emulation, and says so; without
it takes fp32 instead, whatever the model states or the hint asks for. onnxruntime computes nothing
in bf16. The twin has the roundings of bf16 on any CPU.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.emit.onnx import save_model
from optc.emit.owners import names_of, owners_of
from optc.errors import CapabilityError
from optc.ir import clone
from optc.numerics.evaluate import open_session
from optc.numerics.twin import twin
from optc.passes import InferShapes, LowerOperators
from optc.passes.base import PassContext
from optc.targets import host_capabilities, load_runtime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from optc.emitter import Emitter, Form
    from optc.ir import Graph
    from optc.numerics.evaluate import Optimization, Session
    from optc.numerics.noise import Runner

_BF16: Final = "bf16"
_SHOWN: Final = 10
_NOT_HERE: Final = (
    "this CPU has no AVX-512, so OpenVINO computes the written model in fp32: what bf16 gives was "
    "judged by the fp32 twin, which rounds alike"
)


def open_twin(graph: Graph, *, threads: int = 0, optimize: Optimization = "all") -> Session:
    """The fp32 twin of a root graph that states bf16, in onnxruntime.

    Args:
        graph: it stays as it is; canonical operations are rounded once, as one operator is.
        threads: as of `open_session`.
        optimize: as of `open_session`; the roundings are the same at every level.

    Raises:
        ModelError: ``runtime-cannot-load``.
    """
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        file = Path(folder) / "model.onnx"
        save_model(plain(twin(graph)), file)
        return open_session(file, threads=threads, optimize=optimize)


def plain(graph: Graph) -> Graph:
    """The graph without canonical operations, which only IR holds; a copy where it has any."""
    if not any(node.is_canonical for nested in graph.walk() for node in nested.nodes()):
        return graph
    made, context = clone(graph), PassContext()
    LowerOperators().apply(made, context)
    InferShapes().apply(made, context)
    return made


@dataclass(frozen=True)
class Emulation:
    """An emitted model in its runtime, beside its twin.

    Attributes:
        runner: the model; None where it cannot be opened here.
        notes: what it computes in on this CPU, and what OpenVINO makes of its marks.
        rounds: whether it computes in bf16 on this CPU, as the twin does, and not in fp32.
    """

    runner: Runner | None
    notes: tuple[str, ...] = ()
    rounds: bool = True


def open_emulation(emitter: Emitter, artifact: Path, form: Form) -> Emulation:
    """Open an emitted model that computes in bf16, in bf16 where OpenVINO does so on this CPU.

    Raises:
        ModelError: OpenVINO rejects it.
    """
    emulates = "avx512" in host_capabilities()
    hint = _BF16 if form.lowered and emulates else "f32"
    try:
        runner: Any = emitter.open(artifact, form, hint=hint)
    except CapabilityError as error:
        return Emulation(None, (f"the written model was not loaded: {error.message}",))
    if not emulates:
        return Emulation(runner, (_NOT_HERE,), rounds=False)
    if not form.lowered:
        return Emulation(runner)
    reported = runner.native.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if reported != _BF16:
        note = f"OpenVINO was told to compute in bf16 and computes in {reported}"
        return Emulation(runner, (note,), rounds=False)
    lost = lost_marks(_layers(runner.native), emitter.kept_labels(form), names_of(form.labels))
    many = (
        "operations that have to stay fp32 run"
        if len(lost) > 1
        else "operation that has to stay fp32 runs"
    )
    shown = f"{len(lost)} {many} in bf16: {', '.join(lost[:_SHOWN])}"
    return Emulation(runner, (shown,) if lost else ())


def lost_marks(
    layers: Iterable[Mapping[str, str]], kept: Collection[str], known: Mapping[str, str]
) -> tuple[str, ...]:
    """The operations that have to stay fp32 and whose layer is executed in bf16.

    Args:
        layers: runtime info of the executed layers: ``layerType``, ``runtimePrecision`` and
            ``originalLayersNames`` as OpenVINO gives them.
        kept: labels of the operations that have to stay fp32.
        known: label of an operation by every name that a layer may have.
    """
    skipped = {*load_runtime("openvino").introspection.layout, "Input", "Output", "Const"}
    found = {
        label
        for layer in layers
        if layer["runtimePrecision"] == _BF16 and layer["layerType"] not in skipped
        for label in owners_of(layer["originalLayersNames"], known)
    }
    return tuple(sorted(found & set(kept)))


def _layers(compiled: Any) -> Iterator[Mapping[str, str]]:
    """Runtime info of what OpenVINO executes."""
    keys = ("layerType", "runtimePrecision", "originalLayersNames")
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        yield {key: str(info[key].value) if key in info else "" for key in keys}
