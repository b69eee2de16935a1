"""The answers of all targets with all runtimes, as a table that a reviewer can read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optc.targets import load_target, runtime_names, target_names
from optc.targets.capabilities import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.targets import Answer

GOLDEN = Path(__file__).parent / "golden" / "queries.txt"
COLUMNS = ("target", "runtime", "op or isa", "dtype", "answer", "on", "ops/cycle", "reason")
QUESTIONS = (
    ("Conv", "fp32"),
    ("Conv", "bf16"),
    ("Conv", "fp16"),
    ("Conv", "int8"),
    ("Conv", "u8u8"),
    ("ConvTranspose", "int8"),
    ("MatMul", "fp32"),
    ("MatMul", "bf16"),
    ("MatMul", "int8"),
    ("MatMul", "s8s8"),
    ("MatMul", "u8u8"),
    ("MatMul", "int4"),
    ("Gemm", "int8"),
    ("LSTM", "int8"),
    ("Softmax", "bf16"),
    ("Softmax", "int8"),
    ("Concat", "bf16"),
    ("Concat", "int8"),
    ("Add", "int8"),
)


def rows() -> Iterator[tuple[str, ...]]:
    for target in target_names():
        for runtime in runtime_names():
            for op, dtype in QUESTIONS:
                answer = load_target(target).query(op=op, dtype=dtype, runtime=runtime)
                yield row(target, runtime, op, dtype, answer)
            for isa in TABLE:
                answer = load_target(target).query(isa=isa, runtime=runtime)
                yield row(target, runtime, isa, "", answer)


def row(target: str, runtime: str, subject: str, dtype: str, answer: Answer) -> tuple[str, ...]:
    peak = ""
    if answer.peak is not None:
        rate = answer.peak.ops_per_cycle.value
        peak = "unknown" if rate is None else f"{rate:g}"
    said = "yes" if answer else "no"
    return (target, runtime, subject, dtype, said, answer.isa or "", peak, answer.reason)


def render() -> str:
    table = [COLUMNS, *rows()]
    widths = [max(len(line[index]) for line in table) for index in range(len(COLUMNS) - 1)]
    lines = []
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        lines.append(" | ".join([*cells, line[-1]]))
    return "\n".join(lines) + "\n"


def test_answers_equal_the_golden_table(update_golden: bool) -> None:
    found = render()
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(found, encoding="utf-8")
    assert found.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_the_table_is_large_enough_and_every_row_gives_a_reason() -> None:
    table = list(rows())
    assert len(table) >= 60
    assert all(line[-1] and "\n" not in line[-1] for line in table)
    assert not [line for line in table if line[-1].startswith("unknown")]


@pytest.mark.parametrize(
    ("target", "runtime", "op", "dtype", "yes"),
    [
        ("sapphirerapids", "openvino", "MatMul", "int8", True),
        ("sapphirerapids", "openvino", "MatMul", "bf16", True),
        ("sapphirerapids", "onnxruntime", "MatMul", "bf16", False),
        ("cascadelake", "openvino", "MatMul", "bf16", False),
        ("cooperlake", "openvino", "Conv", "bf16", True),
        ("icelake", "openvino", "Conv", "bf16", False),
        ("skylake", "onnxruntime", "Conv", "int8", True),
        ("cascadelake", "openvino", "Conv", "u8u8", False),
        ("cascadelake", "onnxruntime", "MatMul", "u8u8", False),
    ],
)
def test_answers_that_must_never_change(
    target: str, runtime: str, op: str, dtype: str, yes: bool
) -> None:
    assert bool(load_target(target).query(op=op, dtype=dtype, runtime=runtime)) is yes
