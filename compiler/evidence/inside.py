"""Models to look into, as they can be run here: what states bf16 goes by its fp32 twin.

onnxruntime computes nothing in bf16, and OpenVINO only on CPUs with AVX-512; it takes fp32 on
others. An ONNX model is replaced by its twin then, an IR is run as OpenVINO runs it, and both say
so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.evidence.layers_ir import IrModel
from optc.evidence.layers_onnx import OnnxModel
from optc.frontend.onnx import load_model
from optc.ir import DType, TensorType
from optc.launch.options import LaunchOptions
from optc.numerics.twin import computing, twin
from optc.passes import InferShapes
from optc.passes.base import PassContext
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from optc.evidence.expose import Inside
    from optc.evidence.subject import Subject

_HINT: Final = "INFERENCE_PRECISION_HINT"
_NO_KERNELS: Final = "onnxruntime has no bf16 arithmetic"
_NO_AVX512: Final = "OpenVINO computes bf16 in fp32 on this CPU, which has no AVX-512"


def open_inside(subject: Subject) -> Inside:
    """A model as it can be looked into on this machine.

    Raises:
        CapabilityError: the runtime of an IR is not installed or too old.
        ModelError: the model cannot be read.
    """
    emulates = subject.runtime == "openvino" and "avx512" in host_capabilities()
    if subject.is_ir:
        model = IrModel(subject)
        if not emulates and (subject.options.properties.get(_HINT) == "bf16" or _states(model)):
            model.note = _NO_AVX512
        return model
    graph = load_model(subject.model)
    if emulates or next(computing(graph), None) is None:
        return OnnxModel(subject, graph)
    InferShapes().apply(graph, PassContext())
    given = subject.options
    options = LaunchOptions.default(
        "onnxruntime", threads=given.threads, target=given.target, batch=given.batch
    )
    reason = _NO_AVX512 if subject.runtime == "openvino" else _NO_KERNELS
    note = f"its fp32 twin, which rounds as bf16 does: {reason}"
    return OnnxModel(subject.with_options(options), twin(graph), note)


def _states(model: IrModel) -> bool:
    """Whether layers of an IR compute in bf16."""
    types = (port.type for layer in model.network.layers for port in layer.outputs if port)
    return any(isinstance(type_, TensorType) and type_.dtype is DType.BF16 for type_ in types)
