"""Runs one case through a pipeline and judges the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from conformance.roundtrip import assert_same_model
from optc.emit.onnx import serialize
from optc.errors import ModelError
from optc.frontend.onnx import load_model
from optc.ir.ops import info, is_deterministic
from optc.ir.verify import verify
from optc.numerics.evaluate import open_session, reference_run
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from conformance.cases import Case
    from optc.ir import Graph
    from optc.passes.base import Pass

Array: TypeAlias = "npt.NDArray[Any]"
_Run: TypeAlias = "Callable[[bytes, dict[str, Any]], Sequence[Any]]"

OLDEST = 1  # cases come in opsets that optc compiles no more but carries through


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        how: ``expected`` when the result gives what the case expects, ``source`` when source and
            result agree on something else, ``unable`` when nothing runs the source, ``failed``.
        runner: ``onnxruntime`` or ``reference``; empty when neither.
        reason: what failed.
    """

    how: str
    runner: str = ""
    reason: str = ""


def transform(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Apply the passes in order; the graph verifies before and after each."""
    assert verify(graph) == ()
    for step in passes:
        step.apply(graph, PassContext())
        assert verify(graph) == (), step.name
    return graph


def run_case(case: Case, passes: Sequence[Pass]) -> Outcome:
    """Compile a case and compare what the result computes.

    The result must be as valid as the source, and without passes say what the source says.
    """
    graph = transform(load_model(case.model, oldest_opset=OLDEST), passes)
    data = serialize(graph)
    result = onnx.ModelProto.FromString(data)
    if not passes:
        assert_same_model(case.model, result)
    _check_as_valid(case.model, result)
    return _judge(case, data)


def _check_as_valid(source: onnx.ModelProto, result: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(source, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return
    onnx.checker.check_model(result, full_check=True)


def _judge(case: Case, data: bytes) -> Outcome:
    source = case.model.SerializeToString()
    for name, run in (("onnxruntime", _onnxruntime), ("reference", _reference)):
        try:
            results = _outputs(case, data, run)
        except ModelError as error:
            if _runs(case, source, run):
                return Outcome("failed", name, f"only the result fails: {error}")
            continue
        expected = [outputs for _, outputs in case.data_sets]
        reason = compare(case, results, expected)
        if not reason:
            return Outcome("expected", name)
        return _compare_with_source(case, name, source, run, results)
    return Outcome("unable")


def _compare_with_source(
    case: Case, name: str, source: bytes, run: _Run, results: list[Sequence[Any]]
) -> Outcome:
    first = _outputs(case, source, run)
    reason = compare(case, results, first)
    if reason and is_random(case):  # all that can agree is types and shapes
        reason = compare(case, blank(results), blank(first))
    return Outcome("failed", name, reason) if reason else Outcome("source", name)


def is_random(case: Case) -> bool:
    """Whether a case computes something else each time."""
    graph = load_model(case.model, oldest_opset=OLDEST)
    return any(
        info(node).known and not is_deterministic(nested, node)
        for nested in graph.walk()
        for node in nested.nodes()
    )


# ---- running -----------------------------------------------------------------------------------


def _onnxruntime(model: bytes, feeds: dict[str, Any]) -> Sequence[Any]:
    return list(open_session(model, optimize="none").run(feeds).values())


def _reference(model: bytes, feeds: dict[str, Any]) -> Sequence[Any]:
    return list(reference_run(model, feeds).values())


def _outputs(case: Case, model: bytes, run: _Run) -> list[Sequence[Any]]:
    graph = case.model.graph
    names = [info.name for info in graph.input]
    defaults = {tensor.name for tensor in graph.initializer}
    required = [name for name in names if name not in defaults]
    return [
        run(
            model,
            dict(zip(names if len(inputs) > len(required) else required, inputs, strict=False)),
        )
        for inputs, _ in case.data_sets
    ]


def _runs(case: Case, model: bytes, run: _Run) -> bool:
    try:
        _outputs(case, model, run)
    except ModelError:
        return False
    return True


# ---- comparing ---------------------------------------------------------------------------------


def compare(case: Case, found: Any, wanted: Any) -> str:
    """Why two values differ by more than the case allows; empty when they do not."""
    if isinstance(wanted, (list, tuple)):
        if len(found) < len(wanted):
            return f"{len(found)} values instead of {len(wanted)}"
        reasons = (compare(case, *pair) for pair in zip(found, wanted, strict=False))
        return next((reason for reason in reasons if reason), "")
    if wanted is None or found is None:
        return "" if wanted is found else f"{found} instead of {wanted}"
    if isinstance(wanted, dict):
        if found.keys() != wanted.keys():
            return f"keys {list(found)} instead of {list(wanted)}"
        return compare(case, list(found.values()), [wanted[key] for key in found])
    return _compare_arrays(case, np.asarray(found), np.asarray(wanted))


def _compare_arrays(case: Case, found: Array, wanted: Array) -> str:
    if found.shape != wanted.shape:
        return f"shape {found.shape} instead of {wanted.shape}"
    if wanted.dtype.kind in "OUS":
        same = [_text(item) for item in found.flat] == [_text(item) for item in wanted.flat]
        return "" if same else "other strings"
    if found.dtype != wanted.dtype:
        return f"type {found.dtype} instead of {wanted.dtype}"
    # The rules of onnx.backend.test.runner: bfloat16 may be two units in the last place off.
    rtol = max(case.rtol, 2**-6) if wanted.dtype.name == "bfloat16" else case.rtol
    if not wanted.dtype.isbuiltin or wanted.dtype.isbuiltin == 2:  # numpy cannot compare them
        found, wanted = found.astype(np.float32), wanted.astype(np.float32)
    with np.errstate(all="ignore"):
        close = np.isclose(found, wanted, rtol=rtol, atol=case.atol, equal_nan=True)
    if close.all():
        return ""
    worst = np.abs(found.astype(np.complex128) - wanted.astype(np.complex128)).max()
    return f"{close.size - close.sum()} of {close.size} elements differ, by up to {worst}"


def _text(item: object) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def blank(value: Any) -> Any:
    """The value with every number set to zero."""
    if isinstance(value, (list, tuple)):
        return [blank(item) for item in value]
    return np.zeros_like(value) if isinstance(value, np.ndarray) else value
