"""The conversion tables: valid, each entry refuses what it is about, and OpenVINO agrees."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
import pytest
import yaml
from onnx import TensorProto, helper
from pydantic import ValidationError

from conformance.cases import Case, all_cases
from helpers import graph_from_text
from optc.errors import ModelError
from optc.frontend.onnx import load_model
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.targets.conversion import Unconvertible, unconvertible
from optc.targets.conversion_table import Conversion, ConversionTable
from optc.targets.loading import CONVERTED_NAMES, shipped_conversions

if TYPE_CHECKING:
    from collections.abc import Iterable

OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
TABLE = shipped_conversions("openvino")
OLD = "2025.4.1"  # the oldest version that the table was measured on
NO_RULE = "OpenVINO has no conversion rule"
_CHOICE = re.compile(r"⟦(.*?)\|(.*?)⟧", re.DOTALL)


@dataclass(frozen=True)
class Pair:
    """Two models of one operation, the first of which is refused."""

    reason: str
    inputs: str
    line: str
    constants: str = ""
    opset: int = 21
    functions: str = ""

    def model(self, *, refused: bool) -> onnx.ModelProto:
        constants = f"<{self.constants}> " if self.constants else ""
        domains = f'"" : {self.opset}, "com.microsoft" : 1, "own" : 1'
        text = (
            f"<ir_version: 10, opset_import: [{domains}]>\n"
            f"g ({self.inputs}) => (y) {constants}{{ {self.line} }}\n{self.functions}"
        )
        return onnx.parser.parse_model(_CHOICE.sub(r"\1" if refused else r"\2", text))

    def entries(self, *, refused: bool) -> list[Conversion]:
        """The entries that refuse one of the models, for the oldest or the newest version."""
        found = (
            item.entry
            for version in (None, OLD)
            for item in refusals(self.model(refused=refused), version)
        )
        return [entry for entry in found if entry.reason.startswith(self.reason)]


@cache
def pairs() -> tuple[Pair, ...]:
    rows = yaml.safe_load(Path(__file__).with_name("conversion_models.yaml").read_text("utf-8"))
    return tuple(Pair(**row) for row in rows)


def name(pair: Pair) -> str:
    return f"{pair.line.split('= ', 1)[1].split()[0]}-{pair.reason}".replace(" ", "-")


def refusals(model: onnx.ModelProto, version: str | None = None) -> tuple[Unconvertible, ...]:
    graph = load_model(model, oldest_opset=1)
    InferShapes().apply(graph, PassContext())
    return unconvertible(graph, "openvino", version)


def without_rule() -> Iterable[tuple[Conversion, str]]:
    """Every operator that has no conversion rule; one of a whole domain stands for all."""
    for entry in TABLE.conversions:
        if not (entry.operands or entry.results or entry.attributes or entry.types):
            for op in () if entry.function or entry.captures or entry.opset_since else entry.ops:
                if entry.outcome == "rejected" and "GroupQuery" not in op:
                    yield entry, op.replace("::*", "::Conv")


def one_node(op: str) -> onnx.ModelProto:
    domain, _, op_type = op.rpartition("::")
    node = helper.make_node(op_type, ["x"], ["y"], domain=domain)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    newest = {
        "": onnx.defs.onnx_opset_version(),
        "ai.onnx.ml": 5 if op_type == "TreeEnsemble" else 4,  # which puts an end to others
    }
    opsets = [helper.make_opsetid(key, newest.get(key, 1)) for key in sorted({"", domain})]
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


# ---- the descriptor ----------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", CONVERTED_NAMES)
def test_tables_are_valid_and_state_evidence(runtime: str) -> None:
    table = shipped_conversions(runtime)
    assert table.runtime == runtime
    assert all(len(entry.evidence) >= 8 for entry in table.conversions)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ops": []}, "needs at least one entry"),
        ({"ops": ["conv"]}, "ops"),
        ({"ops": ["*"]}, "without a condition would refuse every graph"),
        ({"types": ["float"]}, "there is no type float"),
        ({"operands": [{"index": 1}]}, "needs something to hold"),
        ({"operands": [{"index": 1, "present": False, "min_rank": 1}]}, "has no other properties"),
        ({"attributes": [{"name": "axis"}]}, "needs something to hold"),
        ({"outcome": "slow"}, "Input should be 'rejected' or 'wrong'"),
        ({"severity": 1}, "Extra inputs are not permitted"),
    ],
)
def test_broken_entries_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Conversion.model_validate(entry_data() | change)


def test_an_entry_is_stated_once() -> None:
    with pytest.raises(ValidationError, match="Conv: stated twice"):
        table_of(entry_data(), entry_data())


def entry_data(**change: Any) -> dict[str, Any]:
    return {
        "ops": ["Conv"],
        "outcome": "rejected",
        "reason": "it is not known",
        "instead": "another",
        "evidence": "a document",
        "confidence": "high",
    } | change


def table_of(*entries: dict[str, Any]) -> ConversionTable:
    data = {"schema_version": 1, "runtime": "mine", "conversions": list(entries)}
    return ConversionTable.model_validate(data)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("pair", pairs(), ids=name)
def test_an_entry_refuses_what_fits_it_and_nothing_else(pair: Pair) -> None:
    assert pair.entries(refused=True)
    assert not pair.entries(refused=False)


def test_every_entry_has_models() -> None:
    shown = {id(entry) for pair in pairs() for entry in pair.entries(refused=True)}
    shown |= {id(entry) for entry, _ in without_rule()}
    assert [entry.reason for entry in TABLE.conversions if id(entry) not in shown] == []


def test_operators_without_a_rule_are_refused_by_name() -> None:
    for entry, op in without_rule():
        version = OLD if entry.until else None
        (item,) = unconvertible(load_model(one_node(op), oldest_opset=1), "openvino", version)
        assert (item.node, item.op, item.entry) == ("y", op, entry)


def test_what_no_entry_names_passes() -> None:
    assert refusals(one_node("Relu")) == ()
    assert refusals(one_node("of.somebody::Novel")) == ()


def test_runtimes_that_run_onnx_refuse_nothing() -> None:
    graph = load_model(one_node("com.microsoft::QGemm"))
    assert unconvertible(graph, "onnxruntime") == ()


def test_a_refusal_names_node_reason_and_repair() -> None:
    graph = graph_from_text(
        'g (float[4] x) => (float[6] y) <int64[2] p = {1, 1}> { y = Pad <mode = "wrap"> (x, p) }'
    )
    (item,) = unconvertible(graph, "openvino", "2026.4.1-22982-e213a147257")
    assert (item.node, item.op) == ("y", "Pad")
    assert item.reason == "mode wrap is not supported"
    assert item.instead == "Slice and Concat"


def test_subgraphs_and_function_bodies_are_looked_into() -> None:
    graph = graph_from_text(
        '<ir_version: 10, opset_import: ["" : 21, "own" : 1]> g (bool p, float[2,2] x) => (y) {'
        " a = own.Own (x)"
        " y = If (p) <then_branch = t () => (u) { u = Det (x) },"
        " else_branch = e () => (v) { v = Identity (a) }> }\n"
        '<domain: "own", opset_import: ["" : 21]> Own (q) => (r) { r = Det (q) }'
    )
    assert [item.node for item in unconvertible(graph, "openvino")] == ["a", "u", "r"]


def test_versions_limit_what_is_refused() -> None:
    model = one_node("LpPool")
    assert refusals(model, "2025.4.1")
    assert refusals(model, "2026.4.1") == ()
    assert refusals(model) == ()


@pytest.mark.parametrize(
    ("axes", "refused"),
    [
        ("a", True),
        ("Add (a, c)", True),
        ("Shape (k)", False),  # the shapes may be known
        ("Add (c, c)", False),
    ],
)
def test_only_data_from_the_inputs_are_not_constant(axes: str, refused: bool) -> None:
    line = f"b = {axes} y = Unsqueeze (x, b)" if "(" in axes else f"y = Unsqueeze (x, {axes})"
    graph = graph_from_text(
        f"g (float[2] x, int64[1] a, float[1] k) => (y) <int64[1] c = {{0}}> {{ {line} }}"
    )
    assert bool(unconvertible(graph, "openvino")) is refused


def test_a_type_that_is_not_known_refuses_nothing() -> None:
    graph = graph_from_text(
        '<ir_version: 10, opset_import: ["" : 21, "own" : 1]>'
        " g (int32[2] x) => (y) { h = own.Novel (x) y = Celu (h) }"
    )
    assert unconvertible(graph, "openvino") == ()


# ---- OpenVINO agrees ---------------------------------------------------------------------------


def failure(model: onnx.ModelProto, folder: Path) -> str:
    """What OpenVINO says when it converts, saves and loads a model; empty when it takes it."""
    import openvino

    from optc.emit.openvino import convert

    core = openvino.Core()
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    try:
        read = core.read_model(file)
        convert(read)
        openvino.save_model(read, folder / "model.xml", compress_to_fp16=False)
        core.compile_model(core.read_model(folder / "model.xml"), "CPU")
    except RuntimeError as error:
        return str(error)
    return ""


def installed() -> str:
    import openvino

    return str(openvino.__version__)


@OPENVINO
@pytest.mark.parametrize("pair", pairs(), ids=name)
def test_openvino_rejects_what_is_refused_and_takes_the_other(pair: Pair, tmp_path: Path) -> None:
    found = [item.entry for item in refusals(pair.model(refused=True), installed())]
    rejected = [entry for entry in found if entry.outcome == "rejected"]
    # What ends the process cannot be shown in this one.
    if rejected and not any("process" in entry.reason for entry in rejected):
        assert failure(pair.model(refused=True), tmp_path)
    taken = pair.model(refused=False)
    if not refusals(taken, installed()):
        assert failure(taken, tmp_path) == ""


@OPENVINO
def test_openvino_knows_no_operator_that_the_table_says_it_does_not(tmp_path: Path) -> None:
    wrong = {
        op: message
        for entry, op in without_rule()
        if entry.holds_for(installed())
        and op.rpartition("::")[2]
        not in (message := failure(one_node(op), tmp_path)).partition("operations: ")[2]
    }
    assert wrong == {}


@OPENVINO
@pytest.mark.slow
def test_no_case_of_onnx_is_refused_that_openvino_takes(tmp_path: Path) -> None:
    refused = [case for case in sample() if is_rejected(case)]
    assert len(refused) >= 20
    assert [case.name for case in refused if not failure(case.model, tmp_path)] == []


def sample() -> list[Case]:
    cases = all_cases()
    own = [case for case in cases if case.name.startswith("simple/")]
    return own + [case for case in cases if case.name.startswith("node/")][::10]


def is_rejected(case: Case) -> bool:
    try:
        graph = load_model(case.model, oldest_opset=1)
    except ModelError:
        return False
    found = unconvertible(graph, "openvino", installed())
    return any(item.entry.outcome == "rejected" for item in found)
