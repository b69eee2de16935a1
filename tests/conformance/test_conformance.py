"""Every case of the onnx package, through every pipeline.

The cases are dealt to shards, so that the suite can spread them over processes and a failure names
its cases. `exceptions.yaml` lists the cases that nothing here can run, with the reason of each.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from conformance.cases import all_cases
from conformance.runner import Outcome, run_case
from optc.prepare import lowering_steps
from optc.recipe import resolve_pipeline
from optc.targets import load_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.cases import Case
    from optc.passes.base import Pass

_SHARDS = 32
_PIPELINES: dict[str, Callable[[], Sequence[Pass]]] = {
    "empty": list,
    "fp32": lambda: [
        *(step.create() for step in resolve_pipeline("fp32")),
        *(step.run for step in lowering_steps(load_runtime("onnxruntime")) if step.run),
    ],
}


@cache
def exceptions() -> dict[str, str]:
    """Cases that neither onnxruntime nor the reference evaluator runs, with the reason."""
    text = Path(__file__).with_name("exceptions.yaml").read_text(encoding="utf-8")
    listed: dict[str, str] = yaml.safe_load(text)
    return listed


def judge(case: Case, passes: Sequence[Pass]) -> tuple[Outcome, str]:
    """What became of a case, and what is wrong with that; the latter is empty when all is well."""
    try:
        outcome = run_case(case, passes)
    except AssertionError as error:
        outcome = Outcome("failed", reason=str(error))
    if outcome.how == "failed":
        return outcome, f"{case.name}: {outcome.reason}"
    if outcome.how == "unable" and case.name not in exceptions():
        return outcome, f"{case.name}: nothing here runs it; add it to exceptions.yaml"
    if outcome.how != "unable" and case.name in exceptions():
        return outcome, f"{case.name}: {outcome.runner} runs it; take it out of exceptions.yaml"
    return outcome, ""


@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("pipeline", sorted(_PIPELINES))
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_cases_compute_what_they_did(
    pipeline: str, shard: int, record_property: Callable[[str, object], None]
) -> None:
    passes = _PIPELINES[pipeline]()
    judged = [judge(case, passes) for case in all_cases()[shard::_SHARDS]]
    counts = Counter(f"{outcome.how} {outcome.runner}".strip() for outcome, _ in judged)
    record_property("conformance", json.dumps({"pipeline": pipeline, "counts": counts}))
    problems = [problem for _, problem in judged if problem]
    assert not problems, "\n\n".join(problems)


def test_exceptions_name_cases_and_give_reasons() -> None:
    known = {case.name for case in all_cases()}
    assert exceptions().keys() <= known
    assert all(len(reason) > 10 for reason in exceptions().values())


def test_no_case_is_missing() -> None:
    counts = Counter(case.name.partition("/")[0] for case in all_cases())
    assert counts["node"] > 1500
    assert counts["simple"] > 20
    assert counts["pytorch-converted"] > 75
    assert counts["pytorch-operator"] > 30
    assert counts["light"] == 9
