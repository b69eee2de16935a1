"""Gates over an audit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optc.errors import CapabilityError, GoalMissed
from optc.evidence.audit_result import Audit, NodeFate
from optc.evidence.executed import Execution

CONV = NodeFate(
    label="conv",
    op="Conv",
    planned="int8",
    planned_isa="avx512_vnni",
    ran="int8",
    isa="avx512_vnni",
    kernel="brgconv",
    step="conv",
    fused_into=None,
    evidence="a test",
    seconds=1.0,
    heavy=True,
    form="qdq of u8 x s8",
    verdict="as planned",
    reason="",
)
ADD = replace(CONV, label="add", op="Add", planned="fp32", ran="fp32", isa="avx2", heavy=False)


def audit(*nodes: NodeFate) -> Audit:
    return Audit("m", "openvino", None, "a CPU", (), Execution("1", "", ()), nodes)


@pytest.mark.parametrize(
    "expected", [["int8"], ["int8", "avx512_vnni"], ["avx512"], ["avx2", "int8"], ["avx512_vnni"]]
)
def test_met(expected: list[str]) -> None:
    audit(CONV, ADD).check(expected)


@pytest.mark.parametrize(
    ("node", "expected", "reason"),
    [
        (replace(CONV, ran="fp32", reason="u8 weights"), ["int8"], "ran in fp32: u8 weights"),
        (replace(CONV, isa="avx2"), ["int8", "avx512_vnni"], "ran on avx2"),
        (replace(CONV, isa=None), ["avx2"], "ran on an unknown instruction set"),
        (CONV, ["int8", "amx_int8"], "ran on avx512_vnni"),
        (replace(CONV, ran=None), ["int8"], "ran in an unknown precision"),
    ],
)
def test_missed(node: NodeFate, expected: list[str], reason: str) -> None:
    with pytest.raises(GoalMissed) as caught:
        audit(node, ADD).check(expected)
    assert caught.value.exit_code == 4
    assert caught.value.message.endswith(f"conv (Conv): {reason}")


def test_a_higher_instruction_set_is_as_good() -> None:
    audit(replace(CONV, isa="amx_int8")).check(["int8", "avx512_vnni"])


def test_nothing_to_judge_is_a_miss() -> None:
    with pytest.raises(GoalMissed, match="no operation is planned in bf16"):
        audit(CONV).check(["bf16"])
    with pytest.raises(GoalMissed, match="no operation is planned in int8"):
        audit(replace(CONV, verdict="not executed")).check(["int8"])


def test_a_word_that_names_nothing() -> None:
    with pytest.raises(CapabilityError) as caught:
        audit(CONV).check(["avx512_vni"])
    assert caught.value.hint == "did you mean 'avx512_vnni'?"
