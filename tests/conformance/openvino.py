"""Runs one case through the emitter of OpenVINO IR and judges the result.

The emitted file is held against what the case expects, else against OpenVINO's own result for the
source model; and what the descriptor calls rejected must be something that does not come out right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.runner import OLDEST, blank, compare, is_random, transform
from optc.emit.openvino import save_ir
from optc.errors import CapabilityError, ModelError
from optc.frontend.onnx import load_model
from optc.launch.engines import OpenVinoEngine
from optc.launch.options import LaunchOptions
from optc.targets.conversion import unconvertible
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conformance.cases import Case
    from optc.ir import Graph
    from optc.passes.base import Pass

_OPTIONS = LaunchOptions.default("openvino")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        how: ``expected`` when the result is what the case expects; ``source`` when it is what
            OpenVINO itself computes from the source model; ``refused`` by the descriptor;
            ``unable`` when OpenVINO itself fails on the source as well; ``failed``.
        reason: why it is none of the first two.
    """

    how: str
    reason: str = ""


def run_case(case: Case, passes: Sequence[Pass], folder: Path) -> Outcome:
    """Compile a case to IR and judge what it computes."""
    graph = transform(load_model(case.model, oldest_opset=OLDEST), passes)
    refused = unconvertible(graph, "openvino", library_version("openvino"))
    rejected = [found for found in refused if found.entry.outcome == "rejected"]
    why = next((f"{found.op}: {found.reason}" for found in (*rejected, *refused)), "")
    if refused and not rejected:
        return Outcome("refused", why)  # computed wrongly, if not from the data of every case
    found, reason = _emitted(case, graph, folder)
    right = found is not None and not (reason := compare(case, found, _expected(case)))
    if refused:
        return (
            Outcome("failed", f"refused without need: {why}") if right else Outcome("refused", why)
        )
    return Outcome("expected") if right else _compare_with_source(case, found, reason, folder)


def _emitted(case: Case, graph: Graph, folder: Path) -> tuple[list[Any] | None, str]:
    try:
        path, _ = save_ir(graph, folder / "model.xml")
    except CapabilityError as error:
        return None, error.message
    return _run(case, path)


def _compare_with_source(case: Case, found: list[Any] | None, reason: str, folder: Path) -> Outcome:
    source = folder / "source.onnx"
    source.write_bytes(case.model.SerializeToString())
    own, _ = _run(case, source)
    if own is None:
        return Outcome("unable" if found is None else "failed", reason)
    if found is None:
        return Outcome("failed", f"only the result fails: {reason}")
    difference = compare(case, found, own)
    if difference and is_random(case):  # all that can agree is types and shapes
        difference = compare(case, blank(found), blank(own))
    return Outcome("failed", difference) if difference else Outcome("source")


def _expected(case: Case) -> list[Any]:
    return [outputs for _, outputs in case.data_sets]


def _run(case: Case, path: Path) -> tuple[list[Any] | None, str]:
    """The outputs for each data set, or why there are none."""
    graph = case.model.graph
    defaults = {tensor.name for tensor in graph.initializer}
    names = [info.name for info in graph.input]
    required = [name for name in names if name not in defaults]
    try:
        engine = OpenVinoEngine(path, _OPTIONS)
        results = []
        for inputs, _ in case.data_sets:
            given = names if len(inputs) > len(required) else required
            feeds = {name: value for name, value in zip(given, inputs, strict=False)}
            results.append(_outputs(engine, feeds, [info.name for info in graph.output]))
    except ModelError as error:
        return None, error.message
    return results, ""


def _outputs(engine: OpenVinoEngine, feeds: dict[str, Any], names: list[str]) -> list[Any]:
    found = engine.run(feeds)
    if missing := [name for name in names if name not in found]:
        raise ModelError("runtime-failed", f"openvino: there is no output {', '.join(missing)}")
    return [np.asarray(found[name]) for name in names]
