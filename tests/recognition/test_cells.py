"""What is recognised in what exporters write: one cell per idea, exporter and construct.

A folder is an idea. Its ``cells.yaml`` names the passes that raise it and, for each text file, the
exporter, the construct it was exported from, and what is expected: counts of operators (an
operator that is left out may occur as often as it likes), or a refusal.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from optc import run_passes
from optc.ir import Graph, clone

HERE = Path(__file__).parent
BEFORE = ["freeze-initializers", "infer-shapes", "fold-constants", "fold-shapes", "remove-identity"]
AFTER = ["remove-identity", "infer-shapes"]

IDEAS: dict[str, dict[str, Any]] = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(HERE.glob("*/cells.yaml"))
}
CELLS = [(idea, name) for idea, table in IDEAS.items() for name in table["cells"]]


def _count(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for inner in graph.walk() for node in inner.nodes())


@pytest.mark.parametrize(("idea", "name"), CELLS, ids=[f"{idea}/{name}" for idea, name in CELLS])
def test_cell(idea: str, name: str) -> None:
    table = IDEAS[idea]
    cell = table["cells"][name]
    source = graph_from_text((HERE / idea / name).read_text(encoding="utf-8"))
    result = run_passes(clone(source), [*BEFORE, *table["pipeline"], *AFTER])
    found = _count(result.graph)
    for op_type, count in cell.get("expects", {}).items():
        assert found[op_type] == count, f"{op_type}: {result.refusals}"
    if wanted := cell.get("refuses"):
        reasons = [item.reason for item in result.refusals if item.rule == wanted["rule"]]
        assert any(wanted["reason"] in reason for reason in reasons), reasons
    feeds = seeded(source)
    before, after = run(source, feeds), run(result.graph, feeds)
    for key, array in before.items():
        # float32 sums of at most 64 products, taken in another order: 64 steps of 2**-24
        np.testing.assert_allclose(after[key], array, rtol=4e-6, atol=4e-6, err_msg=key)


def test_every_file_is_a_cell() -> None:
    files = {(path.parent.name, path.name) for path in HERE.glob("*/*.txt")}
    assert files == set(CELLS)
    for idea, name in CELLS:
        cell = IDEAS[idea]["cells"][name]
        assert cell["exporter"]
        assert cell["construct"]
        assert ("expects" in cell) != ("refuses" in cell)
