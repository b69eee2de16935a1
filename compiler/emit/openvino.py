"""Graphs of the IR to OpenVINO IR: ``model.xml`` and ``model.bin``.

The graph goes to OpenVINO as ONNX and through the passes that `openvino.convert_model` runs, so
that stride propagation and the fusions of the model optimizer are in the file: compiling the ONNX
file itself skips them and loses int8 kernels. The converter's own front end is not called: it
sends usage data and writes into the home folder (decision 0006).

Layers bear the labels of the operations they compute (`optc.emit.irxml`), and the file says which
source nodes those stand for: runtime info ``optc/sources`` and ``optc/passes``, JSON by label.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from optc.emit.irxml import finish_xml
from optc.emit.onnx import save_model
from optc.emit.openvino_marks import protect
from optc.emit.protos import provenance
from optc.emit.storage import is_matrix, narrowed
from optc.errors import CapabilityError
from optc.files import replacing_file, unwritable
from optc.ir import DType, Kind
from optc.numerics.backends import import_openvino
from optc.numerics.evaluate import openvino_reason
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from optc.ir import Graph, Node

WeightStorage = Literal["f32", "f16", "bf16"]
"""How float32 weights lie in the file; they are computed with as float32 all the same."""

SECTION: Final = "optc"
"""Section of the model's runtime info that optc writes."""


def save_ir(
    graph: Graph,
    path: str | Path,
    *,
    weights: WeightStorage = "f32",
    exact_bf16: bool = False,
    keep_f32: Collection[Node] = (),
    shapes: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write a graph as OpenVINO IR.

    Both files are written beside their place and then moved there. The same graph and versions
    give the same bytes.

    Args:
        graph: a root graph.
        path: the ``.xml`` file; the weights go to the ``.bin`` file beside it.
        weights: how float32 weights are stored. ``f16`` is OpenVINO's own compression, which
            leaves values out of range alone; ``bf16`` rounds matrices and kernels to nearest even.
        exact_bf16: store matrices and kernels whose numbers bfloat16 holds as they are as bfloat16.
        keep_f32: operations that stay float32 where the runtime is told to compute in bf16.
        shapes: shape of an input in the notation of OpenVINO, e.g. ``[1..8,3,224,224]``.
        metadata: added to the runtime info of the model; dots in a key make sections.

    Returns:
        The files written, the ``.xml`` first.

    Raises:
        CapabilityError: ``runtime-missing``; ``not-convertible``: OpenVINO's converter rejects the
            graph.
        OutputError: a file cannot be written.
        ModelError: external data of the source cannot be read.
    """
    path = Path(path)
    labels = unique_labels(graph)
    with _beside(path) as place:
        keep = {labels[node] for node in keep_f32}
        model = _convert(graph, place, labels, shapes or {}, keep)
        _name_interface(model, graph)
        if weights == "bf16" or exact_bf16:
            store_bf16(model, only_exact=weights != "bf16")
        for key, value in {**(metadata or {}), **_provenance(labels)}.items():
            model.set_rt_info(value, key.split("."))
        draft = place / "draft.xml"
        _write(model, draft, half=weights == "f16")
        constants = {value.name for nested in graph.walk() for value in nested.constants()}
        text = finish_xml(draft.read_bytes(), _producers(graph, labels), keep, constants)
        target = path.with_suffix(".bin")
        with ExitStack() as stack:
            # Entered in reverse: the weights are in place before the file that describes them.
            stack.enter_context(replacing_file(path)).write(text)
            stack.enter_context(replacing_file(target, draft.with_suffix(".bin")))
    return [path, target]


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder for drafts, on the file system of `path`."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=".ir-", dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    with folder as place:
        yield Path(place)


def _write(model: Any, draft: Path, *, half: bool) -> None:
    try:
        _openvino().save_model(model, str(draft), compress_to_fp16=half)
    except RuntimeError as error:
        raise unwritable(draft, OSError(openvino_reason(error))) from error


def unique_labels(graph: Graph) -> dict[Node, str]:
    """A name for every operation: its label, numbered where several have the same one."""
    nodes = [node for nested in graph.walk() for node in nested.ordered()]
    own = {node.label for node in nodes}
    found: dict[Node, str] = {}
    taken: set[str] = set()
    for node in nodes:
        name, number = node.label, 1
        while name in taken or (number > 1 and name in own):
            name, number = f"{node.label}_{number}", number + 1
        taken.add(name)
        found[node] = name
    return found


def convert(model: Any) -> None:
    """Run the passes of `openvino.convert_model` over a model that OpenVINO has read."""
    from openvino._offline_transformations import (
        apply_moc_transformations,
        compress_quantize_weights_transformation,
    )

    apply_moc_transformations(model, cf=False, smart_reshape=True)
    compress_quantize_weights_transformation(model)


def store_bf16(model: Any, *, only_exact: bool = False) -> None:
    """Let float32 matrices and kernels lie in the file as bfloat16, rounded to nearest even.

    OpenVINO's own conversion on the host adds half of the last kept bit and so rounds a quarter of
    all values the wrong way; ml_dtypes rounds right. Vectors (biases, scales) and constants with
    values that bfloat16 turns into infinity, such as masks of -3.4e38, stay as they are.

    Args:
        model: an ``openvino.Model``.
        only_exact: leave alone what would be rounded.
    """
    openvino = _openvino()
    from openvino import opset13 as ops

    for constant in model.get_ordered_ops():
        is_constant = constant.get_type_name() == "Constant"
        if not is_constant or constant.get_element_type() != openvino.Type.f32:
            continue
        data = constant.get_data()
        rounded = narrowed(data, DType.BF16) if is_matrix(data.shape) else None
        if rounded is None or (only_exact and not np.array_equal(rounded, data)):
            continue
        tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(list(data.shape)))
        np.asarray(tensor.data).view(np.uint16)[...] = rounded.view(np.uint16)
        stored = ops.constant(tensor)
        stored.set_friendly_name(constant.get_friendly_name())
        wide = ops.convert(stored, "f32")
        for use in list(constant.output(0).get_target_inputs()):
            use.replace_source_output(wide.output(0))


def _openvino() -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise CapabilityError(
            "runtime-missing",
            "openvino is not installed, and the model is to be written in its format",
            hint="pip install 'optc[openvino]'",
        ) from error


def _convert(
    graph: Graph,
    place: Path,
    labels: Mapping[Node, str],
    shapes: Mapping[str, str],
    keep_f32: Collection[str],
) -> Any:
    openvino = _openvino()
    file = place / "model.onnx"
    # Weights outside: OpenVINO maps that file instead of copying it.
    save_model(graph, file, external_data="always", node_names=labels, plain_canonical=True)
    try:
        model = openvino.Core().read_model(file)
        if shapes:
            model.reshape({name: openvino.PartialShape(text) for name, text in shapes.items()})
        if keep_f32:
            protect(model, keep_f32, frozenset(labels.values()))
        convert(model)
    except RuntimeError as error:
        version = library_version("openvino")
        raise CapabilityError(
            "not-convertible",
            f"OpenVINO {version} cannot convert the model: {_why(error)}",
            hint="write `emit: {format: onnx}`, or report which operation it is",
        ) from error
    return model


def _why(error: Exception) -> str:
    """Which operation the converter stumbles over first, and why, where it says so."""
    text = str(error)
    node = re.search(r"<Node\((.*?)\): (.*?)>", text)
    detail = text.partition("FrontEnd API failed with GeneralFailure:\n")[2].partition("\n")[0]
    summary = openvino_reason(error).removeprefix("-- ")
    if node is None:
        return summary
    reason = f": {detail}" if detail else ""
    return f"{summary}; first at {node[2]} ({node[1]}){reason}"


def _name_interface(model: Any, graph: Graph) -> None:
    """Give inputs and outputs their names back, which OpenVINO changes where one is the other."""
    names = [value.name for value in graph.inputs if value.node.tensor is None]
    parameters = model.get_parameters()
    # An input with a default is a constant there.
    for parameter, name in zip(parameters, names, strict=False):
        if len(names) == len(parameters):
            parameter.set_friendly_name(name)
    for result, node in zip(model.get_results(), graph.outputs, strict=True):
        result.set_friendly_name(f"{node.name}/sink_port_0")


def _provenance(labels: Mapping[Node, str]) -> dict[str, str]:
    """Passes and source nodes by label, of the operations that passes made."""
    entries = {label: provenance(node.origin) for node, label in labels.items()}
    made = {label: entry for label, entry in sorted(entries.items()) if entry}
    if not made:
        return {}
    passes = {label: entry["optc.pass"] for label, entry in made.items()}
    sources = {label: json.loads(entry["optc.sources"]) for label, entry in made.items()}
    return {
        f"{SECTION}.passes": json.dumps(passes, ensure_ascii=False),
        f"{SECTION}.sources": json.dumps(sources, ensure_ascii=False),
    }


def _producers(graph: Graph, labels: Mapping[Node, str]) -> dict[str, str]:
    """The label of the operation that makes a tensor, by each name the tensor may have."""
    found: dict[str, str] = {}
    for nested in graph.walk():
        for node in nested.outputs:
            value = nested.operand(node, 0)
            if value is not None and value.node.kind is Kind.OP:
                found.setdefault(node.name, labels[value.node])
    for node, label in labels.items():
        found.update((value.name, label) for value in node.outputs if value is not None)
    return found
