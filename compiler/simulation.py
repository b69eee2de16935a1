"""A model as a CPU without VNNI computes it, on any CPU.

The graph is computed as it is written, in onnxruntime without its rewriting; the products whose
sums may saturate are cut out and computed exactly as such a CPU does (`optc.numerics.products`).
Products go by level: those that depend on no other such product first, in one run of what leads to
them, then those behind them. Beside saturation everything is as written, so the difference between
this and the graph as written is the error that saturation makes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optc.emit.onnx import save_model
from optc.ir import clone
from optc.numerics.evaluate import open_session
from optc.passes import RemoveDead
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc.ir import Graph, Node
    from optc.numerics.evaluate import Session
    from optc.numerics.products import IntegerProduct
    from optc.numerics.saturating import Risk
    from optc.numerics.values import Array, Feeds, Value
    from optc.targets.kernels import Pairing


@dataclass(frozen=True)
class _Cut:
    """A product that is computed here: its operation, and the name of its result."""

    product: IntegerProduct
    pairing: Pairing
    result: str


@dataclass(frozen=True)
class _Stage:
    """What leads to the products of one level, or to the outputs of the model.

    Attributes:
        session: computes it; None where all that is wanted is known already.
        ports: its outputs by the value or output that they carry.
        cuts: the products that follow; none behind the last level.
    """

    session: Session | None
    ports: Mapping[str, str]
    cuts: Sequence[_Cut]


class SaturatingModel:
    """A graph with products whose sums saturate; runs like any model.

    Attributes:
        simulated: labels of the products that saturate here.
        left_out: labels of the others, which are not understood or in subgraphs.
    """

    def __init__(self, graph: Graph, risks: Iterable[Risk]) -> None:
        """Prepare the stages.

        Args:
            graph: a graph without canonical operations, as it is emitted.
            risks: products of it; see `optc.numerics.saturating.saturation_risks`.

        Raises:
            ModelError: onnxruntime does not load the graph.
        """
        self._graph = graph
        own, found = set(graph.nodes()), list(risks)
        cuts = {
            risk.node: _Cut(risk.product, risk.pairing, risk.node.output.name)
            for risk in found
            if risk.product is not None and risk.node in own
        }
        self.simulated = tuple(node.label for node in cuts)
        self.left_out = tuple(risk.node.label for risk in found if risk.node not in cuts)
        levels = _levels(graph, cuts)
        stages = sorted(set(levels.values()))
        done: list[str] = []
        self._stages: list[_Stage] = []
        for level in stages:
            here = [cut for node, cut in cuts.items() if levels[node] == level]
            asked = dict.fromkeys(v.name for cut in here for v in cut.product.observed)
            wanted = [name for name in asked if name not in done]
            self._stages.append(_stage(graph, done, wanted, here))
            done += [cut.result for cut in here]
        self._stages.append(_stage(graph, done, None, ()))

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """Run the model once.

        Raises:
            ModelError: ``runtime-failed``.
        """
        known: dict[str, Array] = {}
        for stage in self._stages:
            values: Feeds = {}
            if stage.session is not None:
                given = {_known(name): array for name, array in known.items()}
                found = stage.session.run({**feeds, **given}, list(stage.ports.values()))
                values = {name: found[port] for name, port in stage.ports.items()}
            if not stage.cuts:
                return values
            arrays = known | {name: _array(value) for name, value in values.items()}
            for cut in stage.cuts:
                known[cut.result] = cut.product.compute(self._graph, arrays, cut.pairing)
        raise AssertionError("the last stage has no cuts")


def _levels(graph: Graph, cuts: Mapping[Node, _Cut]) -> dict[Node, int]:
    """How many cuts lie on the longest way to each cut."""
    depth: dict[Node, int] = {}
    for node in graph.ordered():
        before = [value for value in graph.operands(node) if value is not None]
        before.extend(graph.captures(node).values())
        depth[node] = max(
            (depth.get(v.node, 0) + (v.node in cuts) for v in before),
            default=0,
        )
    return {node: depth[node] for node in cuts}


def _stage(
    graph: Graph, known: Sequence[str], wanted: Sequence[str] | None, cuts: Sequence[_Cut]
) -> _Stage:
    """The part of a graph between known values and wanted ones; None wants its outputs."""
    if wanted is not None and not wanted:
        return _Stage(None, {}, cuts)
    session, ports = open_at(graph, wanted, known)
    return _Stage(session, ports, cuts)


def open_at(
    graph: Graph, wanted: Sequence[str] | None, known: Sequence[str] = ()
) -> tuple[Session, dict[str, str]]:
    """A session that computes values of a graph as it is written.

    Args:
        graph: a graph without canonical operations; it stays as it is.
        wanted: names of values; None: the outputs.
        known: names of values that each run is given, as inputs that `_known` names.

    Returns:
        The session, and its outputs by the name of what they carry.

    Raises:
        ModelError: ``runtime-cannot-load``.
    """
    copy = clone(graph)
    for name in known:
        value = copy.value(name)
        copy.replace_uses(value, copy.add_input(_known(name), value.type))
    if wanted is None:
        ports = {output.name: output.name for output in copy.outputs}
    else:
        ports = {name: f"optc.observed/{name}" for name in wanted}
        for output in list(copy.outputs):
            copy.remove(output)
        for name, port in ports.items():
            value = copy.value(name)
            copy.add_output(value, port, value.type)
    RemoveDead().apply(copy, PassContext())
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        file = Path(folder) / "model.onnx"
        save_model(copy, file)
        return open_session(file, threads=0, optimize="none"), ports


def _known(name: str) -> str:
    """The input that takes a result that was computed outside."""
    return f"optc.known/{name}"


def _array(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value
