"""The kernel tables: complete, consistent, and refused when they are not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from optc.ir.ops import OPS
from optc.targets import Precision, load_runtime, load_target, runtime_names, target_names
from optc.targets.kernels import FORMS, OUTCOMES, Choice, KernelTable, Route
from optc.targets.loading import shipped_kernels

OPERATORS = {name for _, name in OPS}


@pytest.mark.parametrize("name", runtime_names())
def test_routes_name_operators_that_exist(name: str) -> None:
    table = shipped_kernels(name)
    assert table.runtime == name
    assert {op for route in table.routes for op in route.ops} <= OPERATORS | {"*"}


@pytest.mark.parametrize("name", runtime_names())
def test_every_route_states_evidence_and_what_is_not_native_says_why(name: str) -> None:
    for route in shipped_kernels(name).routes:
        assert len(route.evidence) >= 8
        for choice in route.choices:
            assert choice.outcome == "native" or choice.note, route.spelling
            assert choice.kernel or choice.note, route.spelling


@pytest.mark.parametrize("name", runtime_names())
def test_tables_agree_with_the_precisions_that_the_runtime_computes(name: str) -> None:
    runtime, table = load_runtime(name), shipped_kernels(name)
    heavy = {"Conv", "MatMul", "Gemm", "*"}
    elements: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
    for precision, element in elements.items():
        native = any(
            choice.outcome == "native"
            for route in table.routes
            if route.activation == element and route.weight is None and heavy & set(route.ops)
            for choice in route.choices
        )
        assert native == bool(runtime.precisions[precision].computes.value)


@pytest.mark.parametrize("name", runtime_names())
@pytest.mark.parametrize("target", target_names())
def test_every_choice_is_reachable_and_its_peak_is_one_of_the_target(
    name: str, target: str
) -> None:
    cpu = load_target(target)
    for route in shipped_kernels(name).routes:
        choice = route.choice(cpu.capabilities)
        assert choice is not None, route.spelling
        assert choice.path is None or choice.path in cpu.compute.ops_per_cycle


@pytest.mark.parametrize("name", runtime_names())
def test_choices_get_weaker_down_the_list(name: str) -> None:
    for route in shipped_kernels(name).routes:
        needs = [set(choice.needs) for choice in route.choices]
        assert len({frozenset(item) for item in needs}) == len(needs), route.spelling
        assert all(needs[:-1]), route.spelling


def test_spellings_are_for_people() -> None:
    routes = shipped_kernels("openvino").routes
    assert "qdq of symmetric s8 x s8" in {route.spelling for route in routes}
    assert "plain of bf16" in {route.spelling for route in routes}
    assert all(FORMS[route.form] for route in routes)
    assert all(OUTCOMES.values())


def test_versions_limit_what_a_route_speaks_about() -> None:
    data = shipped_kernels("openvino").routes[0].model_dump()
    route = Route.model_validate({**data, "since": "2025.4", "until": "2026.4"})
    spoken = {v: route.holds_for(v) for v in ("2025.3", "2025.4", "2026.4.1", "2026.5", "2027.0")}
    assert spoken == {
        "2025.3": False,
        "2025.4": True,
        "2026.4.1": True,
        "2026.5": False,
        "2027.0": False,
    }
    assert not route.holds_for(None)
    assert Route.model_validate({**data, "since": "2025.4"}).holds_for(None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"needs": ["avx1024"]}, "needs: there is no capability avx1024"),
        ({"needs": ["avx512"], "path": "int8_vnni"}, "path: int8_vnni needs avx512_vnni"),
        ({"kernel": "some"}, "a native kernel without a peak needs a note that says why"),
        ({"outcome": "maybe"}, "Input should be 'native'"),
    ],
)
def test_broken_choices_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Choice.model_validate(change)


def test_broken_tables_are_refused() -> None:
    data: dict[str, Any] = shipped_kernels("openvino").model_dump()
    twice = copy.deepcopy(data)
    twice["routes"] = [*twice["routes"], twice["routes"][0]]
    with pytest.raises(ValidationError, match="Conv, plain of f32: stated twice"):
        KernelTable.model_validate(twice)
    data["routes"][0]["choices"] = "nowhere"
    data["routes"] = list(data["routes"])
    with pytest.raises(ValidationError, match="there is no ladder nowhere"):
        KernelTable.model_validate(data)


def test_a_ladder_stands_for_its_choices() -> None:
    table = KernelTable.model_validate(
        {
            "schema_version": 1,
            "runtime": "mine",
            "ladders": {"all": [{"kernel": "one", "note": "any"}]},
            "routes": [
                {
                    "ops": ["Add"],
                    "form": "plain",
                    "activation": "f32",
                    "choices": "all",
                    "evidence": "a document",
                    "confidence": "high",
                }
            ],
        }
    )
    assert table.routes[0].choices[0].kernel == "one"
