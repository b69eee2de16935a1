"""How the result of a recipe is written, and opened again to be verified: ONNX or OpenVINO IR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optc.emit.onnx import save_model
from optc.errors import CapabilityError, ModelError
from optc.ir import clone
from optc.ir.ops import Trait, info
from optc.ir.types import DType
from optc.numerics.traffic import precision
from optc.passes import CastBf16
from optc.passes.assign_precision import PLACEMENT
from optc.passes.precision_tail import hint_tail
from optc.passes.selector import selected, unmatched
from optc.targets import load_runtime, missing_capability
from optc.targets.conversion import unconvertible
from optc.versions import library_version, tool_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.ir import Graph, Node
    from optc.numerics.noise import Runner
    from optc.passes.base import PassContext
    from optc.recipe import Recipe
    from optc.rewrite.decisions import Decisions
    from optc.targets import Runtime, Target

_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
_STORED = {"f32": DType.F32, "f16": DType.F16, "bf16": DType.BF16}
_SHOWN = 10


@dataclass(frozen=True)
class Form:
    """A graph in the form in which it is written.

    Attributes:
        graph: what is written.
        lowered: operations that it states in fp32, and that the runtime is to compute in bf16
            where the CPU can.
        stated: the graph that states bf16, which says what results are to be expected; None when
            nothing is computed in bf16.
        unreached: operations that the runtime computes in fp32 whatever it is told.
        free: operations that are fp32 to save conversions alone: bf16 would do them no harm.
    """

    graph: Graph
    lowered: frozenset[Node] = frozenset()
    stated: Graph | None = None
    unreached: frozenset[Node] = frozenset()
    free: frozenset[Node] = frozenset()

    @property
    def in_fp32(self) -> Graph:
        """What is computed on a CPU without bf16; ``graph`` where it does not state any."""
        from optc.numerics.twin import widen

        return self.graph if self.stated is None or self.lowered else widen(self.stated).graph

    @property
    def labels(self) -> dict[Node, str]:
        """What its operations are called in OpenVINO IR."""
        from optc.emit.openvino import unique_labels

        return unique_labels(self.graph)

    def lowered_on(self, target: Target, runtime: Runtime) -> frozenset[Node]:
        """The operations that are lowered on a target: none where it has no bf16 of its own."""
        missing = self.lowered and missing_capability("bf16", target, runtime)
        return frozenset() if missing else self.lowered


@dataclass(frozen=True)
class Emitter:
    """Writes graphs in the format that a recipe asks for.

    Attributes:
        recipe: the recipe.
    """

    recipe: Recipe

    @property
    def is_ir(self) -> bool:
        """Whether the format is OpenVINO IR."""
        return self.recipe.emit.format == "openvino"

    @property
    def by_hint(self) -> bool:
        """Whether bf16 is left to the runtime, which its precision hint tells."""
        return self.is_ir and self.recipe.emit.bf16 == "implicit"

    @property
    def engine(self) -> str:
        """The runtime that `open` loads an emitted model in."""
        return "openvino" if self.is_ir else "onnxruntime"

    def engine_of(self, form: Form) -> str:
        """The runtime that `open` loads a form in: onnxruntime computes nothing in bf16."""
        return self.engine if form.stated is None else "openvino"

    @property
    def model_file(self) -> str:
        """Name of the model file."""
        return _FILES[self.recipe.emit.format]

    @property
    def stored(self) -> DType:
        """Element type that float32 weights are stored in."""
        return _STORED[self.recipe.emit.weights]

    def versions(self) -> Mapping[str, str]:
        """Versions of what decides the bytes, by name."""
        found = dict(tool_versions())
        if self.is_ir:
            found["openvino"] = library_version("openvino") or "none"
        return found

    def check(self) -> None:
        """Refuse early what cannot be written here.

        Raises:
            CapabilityError: ``runtime-missing`` or ``runtime-too-old``: the format is written by
                its runtime.
        """
        if self.is_ir:
            from optc.launch.engines import require_runtime

            require_runtime("openvino")

    def form(self, graph: Graph, context: PassContext | None = None) -> Form:
        """The form that a graph is written in; it stays as it is.

        Args:
            graph: the final graph.
            context: with what was decided about precisions; IR that leaves bf16 to the runtime
                follows that as well where no pass wrote it into the graph.
        """
        from optc.numerics.twin import computing, widen

        stated = graph
        if next(computing(graph), None) is None:
            if context is None or not self.by_hint or not context.decisions.has("bf16"):
                return Form(graph)
            stated = clone(graph)
            if not CastBf16().apply(stated, context).changed:
                return Form(graph)
        if not self.by_hint:
            return Form(graph, stated=graph)
        wide = widen(stated)
        unreached = hint_tail(wide.graph, load_runtime("openvino"))
        lowered = wide.lowered - unreached
        if not lowered:
            return Form(wide.graph)
        free = frozenset() if context is None else _placed(wide.graph, context.decisions)
        return Form(wide.graph, lowered, stated, unreached, free)

    def check_form(self, form: Form, target: Target, runtime: Runtime) -> None:
        """Refuse a form that the converter of the format or the runtime cannot take.

        Raises:
            CapabilityError: ``not-convertible``, with every such operation and the reason;
                ``bf16-not-computed``: operations state bf16 where runtime or target have none.
        """
        if form.stated is not None and not form.lowered:
            self._check_stated(form.stated, target, runtime)
        if not self.is_ir:
            return
        refused = unconvertible(form.graph, "openvino", library_version("openvino"))
        if not refused:
            return
        lines = [f"{r.node} ({r.op}): {r.reason}; instead: {r.instead}" for r in refused[:_SHOWN]]
        if len(refused) > _SHOWN:
            lines.append(f"and {len(refused) - _SHOWN} more")
        count = "an operation" if len(refused) == 1 else f"{len(refused)} operations"
        raise CapabilityError(
            "not-convertible",
            f"OpenVINO IR cannot hold {count} of the graph\n  " + "\n  ".join(lines),
            location=str(self.recipe.model_path),
            hint="or write `emit: {format: onnx}` and `runtime: onnxruntime`",
        )

    def _check_stated(self, graph: Graph, target: Target, runtime: Runtime) -> None:
        support = runtime.precisions["bf16"]
        if not support.computes.value:
            why = f"{runtime.id} does not compute in bf16 ({support.computes.note})"
            instead = (
                f"{support.instead}. To halve the file of an fp32 model write "
                "`emit: {weights: bf16}`: it is computed in fp32"
            )
        elif missing := missing_capability("bf16", target, runtime):
            why = missing.message
            instead = (
                "guard the step that makes them with `when: bf16`, or write one IR for CPUs with "
                "and without bf16: `emit: {format: openvino, bf16: implicit}`"
            )
        else:
            return
        from optc.numerics.twin import computing

        found = list(computing(graph))
        first = f"{found[0].label} ({found[0].qualified_op})"
        count = "an operation states" if len(found) == 1 else f"{len(found)} operations state"
        raise CapabilityError(
            "bf16-not-computed",
            f"{count} bf16, {first} first; {why}",
            location=str(self.recipe.model_path),
            hint=instead,
        )

    def save(
        self, form: Form, folder: Path, metadata: Mapping[str, str] | None = None
    ) -> list[Path]:
        """Write a form into a folder.

        Returns:
            The files written, the model first.

        Raises:
            OptcError: as `save_model`, `store_weights` and `save_ir`.
        """
        emit, path = self.recipe.emit, folder / self.model_file
        if not self.is_ir:
            graph = form.graph
            if self.stored is not DType.F32:
                from optc.emit.storage import store_weights

                graph = store_weights(graph, self.stored)
            return save_model(graph, path, external_data=emit.external_data, metadata=metadata)
        from optc.emit.openvino import save_ir

        return save_ir(
            form.graph,
            path,
            weights=emit.weights,
            exact_bf16=bool(form.lowered),
            keep_f32=self._kept(form),
            shapes=self._bounds(),
            metadata=metadata,
        )

    def open(self, path: Path, form: Form | None = None, *, hint: str = "f32") -> Runner:
        """Load an emitted model in its runtime, on all CPUs of this process.

        Args:
            path: the model.
            form: what it holds; a model that states bf16 is loaded in OpenVINO.
            hint: what OpenVINO is told to compute fp32 operations in.

        Raises:
            ModelError: ``runtime-cannot-load``.
            CapabilityError: OpenVINO is needed, and not installed or too old.
        """
        from optc.numerics.evaluate import available_cpus, open_session

        if (self.engine if form is None else self.engine_of(form)) == "openvino":
            from optc.launch.engines import open_engine
            from optc.launch.options import LaunchOptions

            options = LaunchOptions.default("openvino", threads=available_cpus())
            told = {**options.properties, "INFERENCE_PRECISION_HINT": hint}
            return open_engine(path, options.model_copy(update={"properties": told}))
        return open_session(path, threads=0)

    def open_source(self) -> Runner | None:
        """The source model in the runtime of the format, where that is not onnxruntime.

        None when it does not load there as it is: what the converter takes is decided by the
        graph that is emitted.
        """
        if not self.is_ir:
            return None
        try:
            return self.open(self.recipe.model_path)
        except ModelError:
            return None

    def warnings(self, form: Form) -> list[str]:
        """What the recipe or the plan asks of the format, and does not get."""
        missing = unmatched(self.recipe.emit.keep_fp32, form.graph)
        found = [f"emit.keep_fp32: no node fits {selector}" for selector in missing]
        if form.lowered and (lost := self._lost(form)):
            found.append(
                f"{_count(len(lost))} to stay fp32, {lost[0].label} ({lost[0].op_type}) first, "
                "may run in bf16: OpenVINO does not keep the mark of "
                + ", ".join(sorted({node.op_type for node in lost}))
            )
        return found

    def kept_labels(self, form: Form) -> frozenset[str]:
        """Labels in the file of the operations that have to stay fp32."""
        return frozenset(form.labels[node] for node in self._needed(form))

    def _lost(self, form: Form) -> list[Node]:
        """The operations whose mark the runtime is known to lose."""
        runtime, version = load_runtime("openvino"), library_version("openvino")
        return [node for node in self._needed(form) if runtime.loses_mark(node.op_type, version)]

    def _needed(self, form: Form) -> list[Node]:
        """What stays fp32 because the recipe, the lists or the values say so."""
        chosen = self.recipe.emit.keep_fp32
        return [n for n in self._kept(form) if n not in form.free or selected(chosen, n)]

    def _kept(self, form: Form) -> list[Node]:
        """The operations that stay fp32 where the runtime is told to compute in bf16.

        Where the graph was planned in bf16 these are all others in fp32: not what computes in int8
        or on integers, and not the quantization around it, which has kernels of its own. What the
        hint does not reach needs no mark, and may run as a part of the product in front of it.
        """
        chosen = self.recipe.emit.keep_fp32
        unmarked = form.lowered | form.unreached
        return [
            node
            for nested in form.graph.walk()
            for node in nested.ordered()
            if selected(chosen, node)
            or (form.lowered and node not in unmarked and _is_fp32(nested, node))
        ]

    def _bounds(self) -> dict[str, str]:
        """Inputs with bounded dimensions, in the notation of OpenVINO."""
        found = {}
        for name, spec in self.recipe.inputs.items():
            if spec.shape and any(isinstance(dim, str) and ".." in dim for dim in spec.shape):
                found[name] = f"[{','.join(map(_dim, spec.shape))}]"
        return found


def _is_fp32(graph: Graph, node: Node) -> bool:
    return precision(graph, node) == "fp32" and not info(node).has(Trait.QUANTIZE)


def _placed(graph: Graph, decisions: Decisions) -> frozenset[Node]:
    """The operations that only went with their neighbours in fp32."""
    nodes = (node for nested in graph.walk() for node in nested.nodes())
    found = ((node, decisions.of(node)) for node in nodes)
    return frozenset(node for node, one in found if one is not None and one.rule == PLACEMENT)


def _count(number: int) -> str:
    return "an operation is" if number == 1 else f"{number} operations are"


def _dim(dim: Any) -> str:
    return str(dim) if isinstance(dim, int) or ".." in dim else "?"
