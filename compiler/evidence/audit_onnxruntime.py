"""What ONNX Runtime executes: the optimized model it saves, and its profile.

The model is run with its operations named by their labels. The optimized model keeps those names,
with suffixes, for what it rewrites, and the names of tensors. The runtime shows no instruction
set: that follows from the CPU's flags and the kernel table, and says so.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.emit.onnx import save_model
from optc.emit.owners import names_of
from optc.evidence.executed import Execution, Kernel
from optc.frontend.onnx import load_model
from optc.ir import Kind
from optc.launch.engines import open_engine, require_runtime
from optc.targets import load_runtime
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from optc.ir import Graph, Node
    from optc.launch.options import LaunchOptions
    from optc.numerics.values import Feeds

_FLOATS: Final = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
_SILENT: Final = 4
_EVENT: Final = "_kernel_time"
_EVIDENCE: Final = "optimized model and profile of onnxruntime"


def execute(
    graph: Graph,
    labels: Mapping[Node, str],
    options: LaunchOptions,
    feeds: Feeds,
    *,
    runs: int = 10,
) -> Execution:
    """Run a graph and say what was executed.

    Args:
        graph: the model.
        labels: a name for each operation.
        options: what it is loaded with.
        feeds: one input.
        runs: executions that the times are the mean of.

    Raises:
        CapabilityError: onnxruntime is too old.
        ModelError: the runtime rejects the model or the input.
    """
    require_runtime("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="optc-audit-") as folder:
        place = Path(folder)
        save_model(graph, place / "model.onnx", node_names=labels)
        asked = {
            "optimized_model_filepath": str(place / "optimized.onnx"),
            "enable_profiling": 1,
            "profile_file_prefix": str(place / "profile"),
            "log_severity_level": _SILENT,  # it warns of saving what is made for one CPU
        }
        outside = {"session.optimized_model_external_initializers_file_name": "optimized.data"}
        engine = open_engine(
            place / "model.onnx",
            options.model_copy(
                update={
                    "session_options": {**options.session_options, **asked},
                    "session_config": {**options.session_config, **outside},
                }
            ),
        )
        for _ in range(runs + 1):
            engine.run(feeds)
        profile = Path(engine.native.end_profiling())
        events = json.loads(profile.read_text(encoding="utf-8"))
        optimized = load_model(place / "optimized.onnx", oldest_opset=1)
        steps = _Steps(graph, labels, optimized)
        kernels = tuple(steps.kernels(_times(events, runs)))
    return Execution(library_version("onnxruntime") or "", "", kernels)


def _times(events: Iterable[Mapping[str, Any]], runs: int) -> dict[str, _Timing]:
    """By name of the step: its mean time without the first run, and type of its results."""
    found: dict[str, _Timing] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(_EVENT):
            continue
        timing = found.setdefault(name.removesuffix(_EVENT), _Timing())
        timing.add(event)
    return found


class _Timing:
    """The executions of one step."""

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.precision: str | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Add one execution; times are in microseconds."""
        self.durations.append(event["dur"] * 1e-6)
        types = [name for item in event["args"].get("output_type_shape", ()) for name in item]
        self.precision = next((_FLOATS[name] for name in types if name in _FLOATS), None)

    @property
    def seconds(self) -> float:
        """Mean of all but the first execution, which allocates."""
        rest = self.durations[1:] or self.durations
        return sum(rest) / len(rest)


class _Steps:
    """The nodes of an optimized model, and the operations that each names."""

    def __init__(self, graph: Graph, labels: Mapping[Node, str], optimized: Graph) -> None:
        self._reading = load_runtime("onnxruntime").introspection
        self._names = names_of(labels)
        self._ops = {label: node for node, label in labels.items()}
        self._optimized = optimized
        self._steps = list(optimized.ordered())
        self._named: dict[str, Node] = {}
        # Layout steps come last: they only claim what nothing computes.
        for step in sorted(self._steps, key=self._is_layout):
            for label in self._direct(step):
                self._named.setdefault(label, self._behind_layout(step))

    def _direct(self, step: Node) -> Iterator[str]:
        """Operations that a step names: by its own name, then by the tensors that it makes."""
        tensors = [value.name for value in step.outputs if value is not None]
        for name in (self._reading.stem(step.name), *tensors):
            if name in self._names:
                yield self._names[name]

    def _is_layout(self, step: Node) -> bool:
        """Whether a step only changes the layout, and is not an operation of the graph."""
        if step.op_type not in self._reading.layout:
            return False
        return all(self._ops[label].op_type != step.op_type for label in self._direct(step))

    def _behind_layout(self, step: Node) -> Node:
        """The step that computes what a change of layout only passes on."""
        while self._is_layout(step):
            value = self._optimized.operand(step, 0)
            if value is None or value.node.kind is not Kind.OP:
                break
            step = value.node
        return step

    def kernels(self, times: Mapping[str, _Timing]) -> Iterator[Kernel]:
        """The steps with what they name."""
        counts = Counter(step.name for step in self._steps if step.name)
        used: set[str] = set()
        for step in self._steps:
            nodes = [label for label, owner in self._named.items() if owner is step]
            timing = times.get(step.name) if step.name else next(_unnamed(step, times, used), None)
            by_type = timing.precision if timing else None
            precision = self._reading.precision(step.op_type) or by_type
            yield Kernel(
                name=step.name or step.op_type,
                op=step.op_type,
                kernel=step.qualified_op,
                precision=None if self._is_layout(step) else precision,
                isa=None,
                evidence=_EVIDENCE,
                nodes=tuple(nodes),
                # Steps of one name share their counter.
                seconds=timing.seconds / max(counts[step.name], 1) if timing else 0.0,
            )


def _unnamed(step: Node, times: Mapping[str, _Timing], used: set[str]) -> Iterator[_Timing]:
    """The counter of a step without a name: ``<operator>_<number>``, in order of execution."""
    for name, timing in times.items():
        stem, _, number = name.rpartition("_")
        if stem == step.op_type and number.isdecimal() and name not in used:
            used.add(name)
            yield timing
