"""Reports to render: of real compiles, and made up where a compile would take too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

import optc

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<!--<script>",
    "'\u2028\u2029&amp;\\u003c</ScRiPt >",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u0000\u0007 \ud55c\uae00",
)


def compiled(model: Path | str, out: Path, targets: Sequence[str] = ("cascadelake",)) -> Path:
    """The folder of the first target, compiled without verification."""
    recipe = {"schema_version": 1, "model": str(model), "targets": list(targets)}
    optc.compile(recipe, output=out, verify=False)
    return out / targets[0]


def report_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def hostile_model(path: Path) -> Path:
    """A chain of operations, inputs and outputs with names that want to be markup."""
    names = list(HOSTILE)
    inputs = [f"in {names[0]}", *names[:-1]]
    nodes = [
        helper.make_node(
            "Erf", [inputs[i]], [name if i + 1 < len(names) else f"out {names[1]}"], name
        )
        for i, name in enumerate(names)
    ]
    graph = helper.make_graph(
        nodes,
        "<b>g</b>",
        [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(f"out {names[1]}", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def branching_model(path: Path) -> Path:
    """An If in a branch of an If, with captured values."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 18]>
        branches (bool c, float[2] x) => (float[2] y) {
          a = Erf (x)
          [outer] y = If (c) <
            then_branch = t () => (float[2] p) {
              [inner] p = If (c) <
                then_branch = tt () => (float[2] pp) { pp = Sin (a) },
                else_branch = te () => (float[2] pe) { pe = Cos (a) }>
            },
            else_branch = e () => (float[2] q) { q1 = Tan (x)  q = Sin (q1) }>
        }
        """
    )
    onnx.save(model, path)
    return path


def made_up(count: int, *, name: str = "layer.{}") -> dict[str, Any]:
    """A report of a transformer-like graph: blocks of eleven operations with two long edges."""
    source = [_row(i, name) for i in range(count)]
    nodes = [
        {**row, "reason": "element type", "made_by": ["fold-affine"], "sources": [row["name"]]}
        if i % 7 == 0
        else {**row, "reason": "element type"}
        for i, row in enumerate(source)
    ]
    table = {op: {"fp32": sum(r["op"] == op for r in nodes)} for op in {r["op"] for r in nodes}}
    by_type = {op: counts["fp32"] for op, counts in sorted(table.items())}
    ends = {
        "inputs": {"x": "f32[1,128,768]", "mask": "i64[1,128]"},
        "outputs": {"y": {"type": "f32[1,128,768]", "from": count - 1}},
    }
    return {
        "schema_version": 1,
        "name": "made-up",
        "recipe": {"model": {"path": "m.onnx"}, "targets": ["cascadelake"]},
        "target": "cascadelake",
        "runtime": "onnxruntime",
        "opset": 18,
        "operations": {
            "source": count,
            "result": count,
            "source_by_type": by_type,
            "result_by_type": by_type,
        },
        "precision": dict(sorted(table.items())),
        "passes": [],
        "predicted": {
            "microseconds": 0.0,
            "sizes": {},
            "gain": {"microseconds": 0.0, "counted": 0, "uncounted": 0},
        },
        "near_misses": [],
        "verification": {"verified": False},
        "warnings": [],
        "nodes": nodes,
        "ends": ends,
        "source": {**ends, "nodes": source},
    }


_BLOCK = (
    "LayerNormalization",
    *("MatMul", "MatMul", "MatMul", "MatMul"),
    *("Softmax", "MatMul", "Add", "MatMul", "Gelu", "Add"),
)


def _row(index: int, name: str) -> dict[str, Any]:
    block, at = divmod(index, len(_BLOCK))
    first = block * len(_BLOCK)
    feeds: tuple[tuple[object, ...], ...] = (
        (first - 1,),
        *((first,), (first,), (first,)),
        (first + 1, first + 2, "mask"),
        (first + 4,),
        (first + 5, first + 3),
        (first + 6, first - 1),
        (first + 7,),
        (first + 8,),
        (first + 9, first + 7),
    )
    inputs = list(dict.fromkeys("x" if feed == -1 else feed for feed in feeds[at]))
    kind = {"name": name.format(index), "op": _BLOCK[at], "precision": "fp32"}
    return {**kind, "type": "f32[1,128,768]", "inputs": inputs}
