"""The twin of single operators agrees with the bfloat16 kernels of PyTorch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bf16_kernels.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bf16_kernels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bf16_kernels"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


kernels = load()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("case", kernels.CASES, ids=lambda case: case.name)
def test_all_but_a_thousandth_are_one_unit_apart_at_most(case: Any) -> None:
    found = kernels.measure(case)
    assert found.close >= 0.999
    assert found.equal >= 0.99


def test_the_cases_cover_what_is_worth_computing_in_bf16() -> None:
    operators = {case.body.partition(" ")[0] for case in kernels.CASES}
    assert {"Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Mul", "Softmax"} <= operators
