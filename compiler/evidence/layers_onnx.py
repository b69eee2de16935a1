"""The layers of an ONNX model, and the model with tensors of them as outputs."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.emit.onnx import save_model
from optc.emit.protos import provenance
from optc.errors import ModelError
from optc.evidence.expose import Facts, Tap
from optc.evidence.layers import Layer, Network, Port, known_sources
from optc.ir import DType, Tensor, TensorType, clone
from optc.ir.bind import bind_inputs
from optc.ir.ops import Trait, info
from optc.launch.engines import open_engine
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.noise import nudge
from optc.numerics.roundings import own_tolerances
from optc.passes import InferShapes
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.evidence.subject import Subject
    from optc.ir import Graph, Node, Type, Value
    from optc.numerics.tolerance import Tolerance
    from optc.numerics.values import Value as Datum

_NUDGED: Final = (DType.F16, DType.F32, DType.F64)
_NUDGED_BYTES: Final = 1 << 30


class OnnxModel:
    """An ONNX model whose layers can be looked at.

    Attributes:
        outputs: its outputs, in order.
        runtime: what executes it.
        note: what it stands for, where it is not the model itself.
    """

    def __init__(self, subject: Subject, graph: Graph, note: str = "") -> None:
        """Look at a model.

        Args:
            subject: the model.
            graph: its graph; or with a note another one that stands for it.
            note: what that is.
        """
        self._subject = subject
        self._graph = graph
        self.runtime = subject.runtime
        self.note = note
        names = [node.name for node in self._graph.outputs]
        self.outputs = tuple(Port(name, frozenset([name])) for name in names)

    @cached_property
    def network(self) -> Network:
        """Its layers."""
        return Network(_layers(self._graph))

    def open(self) -> Tap:
        """Open it as it is; results have the keys of `outputs`.

        Raises:
            CapabilityError: the runtime is not installed or too old.
            ModelError: ``runtime-cannot-load``.
        """
        if not self.note:
            return self._tap(self._subject.model, self._graph)
        with tempfile.TemporaryDirectory(prefix="optc-") as folder:
            return self.expose((), Path(folder))

    def _tap(self, file: Path, graph: Graph) -> Tap:
        engine = open_engine(file, self._subject.options)
        return Tap(engine, self._subject.runtime, [[node.name] for node in graph.outputs])

    def inputs(self, engine: Tap) -> Mapping[str, Type]:
        """Types of its inputs: the model's own, which tell scalars from tensors."""
        del engine
        return required_inputs(self._graph)

    def limits(self) -> Mapping[str, int]:
        """For inputs that are indices, one more than the greatest valid one, where it is known."""
        return index_limits(self._graph)

    def facts(self, feeds: Mapping[str, Datum]) -> Facts:
        """What is known of its tensors for inputs of these shapes."""
        graph = clone(self._graph)
        known = {value.name for value in graph.inputs if isinstance(value.type, TensorType)}
        shapes = {name: array.shape for name, array in _tensors(feeds) if name in known}
        with suppress(ModelError):  # recorded shapes that the runtime does not insist on
            bind_inputs(graph, shapes)
        InferShapes().apply(graph, PassContext())
        tolerances = own_tolerances(graph)
        sizes: dict[str, int] = {}
        bounds: dict[str, Tolerance] = {}
        for node in graph.ordered():
            for value in filter(None, node.outputs):
                bounds[value.name] = tolerances[node]
                size = value.type.nbytes if isinstance(value.type, TensorType) else None
                if size is not None:
                    sizes[value.name] = size
        return Facts(sizes, bounds)

    def expose(self, ports: Sequence[Port], folder: Path) -> Tap:
        """Open it in its runtime with these tensors as outputs.

        Args:
            ports: tensors of its layers.
            folder: where a model file can be written; it may go once the model is open.

        Raises:
            ModelError: ``runtime-cannot-load``.
        """
        graph = clone(self._graph)
        have = {node.name for node in graph.outputs}
        for port in ports:
            if port.key not in have:
                graph.add_output(graph.value(port.key), port.key)
        file = folder / "model.onnx"
        save_model(graph, file)
        return self._tap(file, graph)

    def nudged(self, seed: int) -> OnnxModel:
        """The same with each weight moved to a neighbouring number, up or down at random.

        Weights are constants of operations that multiply and accumulate or normalize, and embedding
        tables; only the first GiB of them. Other constants may be sizes or exponents.
        """
        graph = clone(self._graph)
        left = _NUDGED_BYTES
        for value in list(graph.constants()):
            tensor = value.constant
            if tensor is None or tensor.dtype not in _NUDGED or tensor.nbytes > left:
                continue
            if any(_is_weight(use.node, use.key, tensor) for use in graph.uses(value)):
                left -= tensor.nbytes
                moved = nudge({value.name: tensor.numpy()}, seed=seed)[value.name]
                name = graph.fresh_name(value.name)
                other = graph.add_constant(Tensor.from_numpy(np.asarray(moved), tensor.dtype), name)
                graph.replace_uses(value, other)
                graph.remove(value.node)
        return OnnxModel(self._subject, graph, self.note)


def _tensors(feeds: Mapping[str, Datum]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in feeds.items() if hasattr(value, "shape")]


def _is_weight(node: Node, key: int | str, tensor: Tensor) -> bool:
    traits = info(node)
    if node.is_op("Gather"):
        return key == 0 and len(tensor.shape) >= 2
    if node.is_op("BatchNormalization") or traits.has(Trait.NORMALIZATION):
        return True
    return traits.has(Trait.MAC)


def _layers(graph: Graph) -> Iterator[Layer]:
    for node in graph.ordered():
        entries = node.metadata if "optc.sources" in node.metadata else provenance(node.origin)
        operands = [*graph.operands(node), *graph.captures(node).values()]
        yield Layer(
            node.label,
            node.qualified_op,
            tuple(map(_port, node.outputs)),
            tuple(value.name for value in operands if value is not None),
            *known_sources(_parsed(entries.get("optc.sources", "[]"))),
            passes=tuple(filter(None, entries.get("optc.pass", "").split(","))),
        )


def _port(value: Value | None) -> Port | None:
    return None if value is None else Port(value.name, frozenset([value.name]), value.type)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
