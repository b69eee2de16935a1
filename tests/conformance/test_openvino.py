"""Every case of the onnx package, compiled to OpenVINO IR with preset fp32 and the lowering.

`exceptions_openvino.yaml` lists the cases that OpenVINO itself cannot bring to a result, with the
reason of each; what its descriptor refuses is counted, and the refusals are checked.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from conformance.cases import all_cases
from conformance.openvino import Outcome, run_case
from optc.prepare import lowering_steps
from optc.recipe import resolve_pipeline
from optc.targets import load_runtime
from optc.targets.fact import version_key
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.cases import Case
    from optc.passes.base import Pass

_SHARDS = 32

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


@cache
def exceptions() -> dict[str, str]:
    """Cases without a result, with the reason; measured on the newest version described."""
    text = Path(__file__).with_name("exceptions_openvino.yaml").read_text(encoding="utf-8")
    listed: dict[str, str] = yaml.safe_load(text)
    return listed


def passes() -> list[Pass]:
    """What a compile with the default preset runs for OpenVINO."""
    lowering = (step.run for step in lowering_steps(load_runtime("openvino"), keep_canonical=True))
    preset = [step.create() for step in resolve_pipeline("fp32")]
    return [*preset, *(run for run in lowering if run is not None)]


def judge(case: Case, steps: Sequence[Pass], folder: Path) -> tuple[Outcome, str]:
    """What became of a case, and what is wrong with that; the latter is empty when all is well."""
    folder.mkdir()
    try:
        outcome = run_case(case, steps, folder)
    except AssertionError as error:
        outcome = Outcome("failed", str(error))
    if outcome.how == "failed":
        return outcome, f"{case.name}: {outcome.reason}"
    if outcome.how == "unable" and case.name not in exceptions():
        return outcome, f"{case.name}: OpenVINO itself fails; list it: {outcome.reason}"
    if outcome.how != "unable" and case.name in exceptions():
        return outcome, f"{case.name}: it works; take it out of exceptions_openvino.yaml"
    return outcome, ""


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_cases_compute_what_they_did(
    shard: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    newest = load_runtime("openvino").versions.verified[-1]
    found = library_version("openvino") or ""
    if version_key(found) < version_key(newest):
        pytest.skip(f"the exceptions are those of openvino {newest}; this is {found}")
    steps = passes()
    cases = all_cases()[shard::_SHARDS]
    judged = [judge(case, steps, tmp_path / str(i)) for i, case in enumerate(cases)]
    counts = Counter(outcome.how for outcome, _ in judged)
    record_property("conformance", json.dumps({"pipeline": "openvino", "counts": counts}))
    problems = [problem for _, problem in judged if problem]
    assert not problems, "\n\n".join(problems)


def test_exceptions_name_cases_and_give_reasons() -> None:
    known = {case.name for case in all_cases()}
    assert exceptions().keys() <= known
    assert all(len(reason) > 10 for reason in exceptions().values())
