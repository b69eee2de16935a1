"""How the result of a recipe is written, and opened again to be verified: ONNX or OpenVINO IR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optc.emit.onnx import save_model
from optc.errors import CapabilityError, ModelError
from optc.ir.types import DType
from optc.launch.engines import open_engine, require_runtime
from optc.launch.options import LaunchOptions
from optc.numerics.evaluate import available_cpus, open_session
from optc.passes.selector import selected, unmatched
from optc.targets.conversion import unconvertible
from optc.versions import library_version, tool_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.ir import Graph, Node
    from optc.numerics.noise import Runner
    from optc.recipe import Recipe

_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
_STORED = {"f32": DType.F32, "f16": DType.F16, "bf16": DType.BF16}
_SHOWN = 10


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
            require_runtime("openvino")

    def check_graph(self, graph: Graph) -> None:
        """Refuse a graph that the format's converter cannot take.

        Raises:
            CapabilityError: ``not-convertible``, with every such operation and the reason.
        """
        if not self.is_ir:
            return
        refused = unconvertible(graph, "openvino", library_version("openvino"))
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

    def save(
        self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None
    ) -> list[Path]:
        """Write a graph into a folder.

        Returns:
            The files written, the model first.

        Raises:
            OptcError: as `save_model` and `save_ir`.
        """
        emit, path = self.recipe.emit, folder / self.model_file
        if not self.is_ir:
            return save_model(graph, path, external_data=emit.external_data, metadata=metadata)
        from optc.emit.openvino import save_ir

        return save_ir(
            graph,
            path,
            weights=emit.weights,
            keep_f32=self._kept(graph),
            shapes=self._bounds(),
            metadata=metadata,
        )

    def open(self, path: Path) -> Runner:
        """Load an emitted model in its runtime, on all CPUs of this process, computing in fp32.

        Raises:
            ModelError: ``runtime-cannot-load``.
        """
        if self.is_ir:
            options = LaunchOptions.default("openvino", threads=available_cpus())
            return open_engine(path, options)
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

    def warnings(self, graph: Graph) -> list[str]:
        """What the recipe asks for and the graph does not have, and what is left as it was."""
        found, opset = [], self.recipe.emit.opset
        if opset is not None and graph.opset != opset:
            why = (
                "is not lowered" if graph.opset > opset else "could not be raised: see the refusals"
            )
            found.append(f"emit.opset asks for {opset}; the model has {graph.opset} and {why}")
        if graph.model.functions:
            names = ", ".join(sorted(name for _, name, _ in graph.model.functions))
            found.append(f"bodies of model-local functions are carried, not optimized: {names}")
        missing = unmatched(self.recipe.emit.keep_fp32, graph)
        return found + [f"emit.keep_fp32: no node fits {selector}" for selector in missing]

    def _kept(self, graph: Graph) -> list[Node]:
        nodes = (node for nested in graph.walk() for node in nested.nodes())
        return [node for node in nodes if selected(self.recipe.emit.keep_fp32, node)]

    def _bounds(self) -> dict[str, str]:
        """Inputs with bounded dimensions, in the notation of OpenVINO."""
        found = {}
        for name, spec in self.recipe.inputs.items():
            if spec.shape and any(isinstance(dim, str) and ".." in dim for dim in spec.shape):
                found[name] = f"[{','.join(map(_dim, spec.shape))}]"
        return found


def _dim(dim: Any) -> str:
    return str(dim) if isinstance(dim, int) or ".." in dim else "?"
