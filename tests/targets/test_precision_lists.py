"""The lists of operators for bf16: complete, consistent, with sources."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from optc.ir.ops import OPS, Trait
from optc.targets.precision_lists import PrecisionLists, shipped_precision_lists

LISTS = shipped_precision_lists("bf16")


def test_every_name_is_an_operator_of_onnx() -> None:
    known = {name for domain, name in OPS if not domain}
    assert set(LISTS.by_op) <= known


def test_every_product_in_floating_point_has_a_class() -> None:
    products = {
        info.op_type
        for info in OPS.values()
        if not info.domain and info.has(Trait.MAC) and not info.has(Trait.QUANTIZE)
    }
    # The two that no list names came with opset 26 and later: they stay fp32.
    assert products - set(LISTS.by_op) == {"CausalConvWithState", "LinearAttention"}


def test_what_moves_elements_is_indifferent() -> None:
    # Compress, MaxUnpool, … have no bf16 before opset 26, or never; the old Scatter neither.
    left = {"CenterCropPad", "Compress", "MaxUnpool", "Scatter", "TensorScatter"}
    moving = {
        info.op_type for info in OPS.values() if not info.domain and info.has(Trait.DATA_MOVEMENT)
    }
    assert {LISTS.by_op[op].op_class for op in moving - left} == {"clear"}


def test_every_class_has_sources_in_words() -> None:
    assert {entry.op_class for entry in LISTS.by_op.values()} == {"allow", "infer", "clear", "deny"}
    assert LISTS.by_op["MatMul"].source.startswith("TensorFlow, auto_mixed_precision_lists.h")


@pytest.mark.parametrize(
    ("mode", "op_class"), [(b"nearest", "clear"), (b"linear", "deny"), (None, "deny")]
)
def test_a_row_may_speak_of_some_operations_only(mode: bytes | None, op_class: str) -> None:
    attributes: dict[str, object] = {"mode": mode}
    found = LISTS.find("Resize", lambda name: attributes.get(name))
    assert found is not None
    assert found.op_class == op_class
    assert LISTS.find("Conv", lambda _: None) == LISTS.by_op["Conv"]
    assert LISTS.find("NoSuchOperator", lambda _: None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ["nobody"]}, "unknown sources: nobody"),
        ({"ops": ["Add", "Conv"]}, "operators that stand twice: Conv"),
        ({"ops": ["Add", "Add2"], "where": {"mode": "x"}}, "operators that stand twice: Add"),
    ],
)
def test_inconsistent_lists_are_refused(change: dict[str, object], message: str) -> None:
    data = LISTS.model_dump(by_alias=True, mode="json")
    row = {"class": "infer", "reason": "a test", "ops": ["Add"], "sources": ["tensorflow"]}
    special = row | {"where": {"mode": "x"}}
    data["lists"] = [data["lists"][0], special, row | change]
    with pytest.raises(ValidationError, match=message):
        PrecisionLists.model_validate(data)
