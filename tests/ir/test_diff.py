"""Structural differences: what counts, what does not, and that changed nodes find their partner."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import graph_from_text
from optc.ir import DType, Graph, SparseTensor, Tensor, TensorType, clone
from optc.ir.diff import Change, GraphDiff, diff_graphs

BASE = """
g (float[1,3,8,8] x) => (float[1,4,8,8] y)
<float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] half = {0.5}> {
  [conv] c = Conv <pads = [0, 0, 0, 0]> (x, w)
  [relu] r = Relu (c)
  [mul] y = Mul (r, half)
}
"""


def diff(before: str, after: str) -> GraphDiff:
    return diff_graphs(graph_from_text(before), graph_from_text(after))


def changed(*replacements: tuple[str, str], base: str = BASE) -> list[str]:
    after = base
    for old, new in replacements:
        assert old in after
        after = after.replace(old, new)
    return diff(base, after).render().splitlines()[:-1]


def test_equal_models_have_no_difference() -> None:
    found = diff(BASE, BASE)
    assert found.is_empty
    assert found.render() == ""
    assert found.to_dict() == {
        "equal": True,
        "counts": {"added": 0, "removed": 0, "changed": 0},
        "changes": [],
    }


def test_a_clone_has_no_difference() -> None:
    graph = graph_from_text(BASE)
    assert diff_graphs(graph, clone(graph)).is_empty


def test_names_inside_the_graph_do_not_count() -> None:
    assert not changed(
        ("c =", "c2 ="), ("(c)", "(c2)"), ("r =", "_r ="), ("(r", "(_r"), ("[conv]", ""),
        (" w =", " weight ="), ("x, w)", "x, weight)"), ("half", "scale"),
    )  # fmt: skip


def test_attribute() -> None:
    assert changed(("pads = [0, 0, 0, 0]", "group = 1, pads = [1, 1, 1, 1]")) == [
        "~ node Conv conv",
        "    attribute group: _ -> 1",
        "    attribute pads: [0, 0, 0, 0] -> [1, 1, 1, 1]",
    ]


def test_operator() -> None:
    assert changed(("Relu", "Sigmoid")) == ["~ node Relu relu", "    operator: Relu -> Sigmoid"]


def test_operator_of_another_domain() -> None:
    before = BASE.replace("Relu", "LeakyRelu")
    header = '<ir_version: 10, opset_import: ["" : 21, "d" : 2]>'
    found = diff(header + before, header + before.replace("LeakyRelu", "d.LeakyRelu"))
    assert "    operator: LeakyRelu -> d::LeakyRelu" in found.render().splitlines()


def test_operand() -> None:
    assert changed(("Mul (r, half)", "Mul (c, half)")) == [
        "~ node Mul mul",
        "    operand 0: %r -> %c",
    ]
    assert changed(("(x, w)", "(x, w, half)")) == [
        "~ node Conv conv",
        "    operand 2: _ -> %half",
    ]


def test_contents_of_a_constant() -> None:
    digests = []
    for last in ("12", "13"):
        graph = graph_from_text(BASE.replace("12}", f"{last}}}"))
        tensor = graph.value("w").constant
        assert tensor is not None
        digests.append(tensor.digest[:8])
    assert changed(("12}", "13}")) == [
        "~ constant w",
        f"    f32[4,3,1,1] sha256:{digests[0]} -> f32[4,3,1,1] sha256:{digests[1]}",
    ]
    assert changed(("{0.5}", "{0.25}")) == [
        "~ constant half",
        "    f32[1] {0.5} -> f32[1] {0.25}",
    ]


def test_opset() -> None:
    header = "<ir_version: 10, opset_import: [{}]>"
    found = diff(
        header.format('"" : 20, "a" : 1, "b" : 1') + BASE,
        header.format('"" : 21, "b" : 1, "c" : 3') + BASE,
    )
    assert found.render().splitlines() == [
        "~ opset ai.onnx: 20 -> 21",
        "- opset a 1",
        "+ opset c 3",
        "1 added, 1 removed, 1 changed",
    ]


def test_recorded_type() -> None:
    a, b = graph_from_text(BASE), graph_from_text(BASE)
    b.set_type(b.value("r"), TensorType(DType.F32, (1, 4, "H", 8)))
    assert diff_graphs(a, b).render().splitlines()[:2] == [
        "~ node Relu relu",
        "    type of %r: ? -> f32[1,4,H,8]",
    ]


def test_inputs_and_outputs() -> None:
    assert changed(("float[1,3,8,8] x", "float[1,3,8,N] x")) == [
        "~ input x",
        "    f32[1,3,8,8] -> f32[1,3,8,N]",
    ]
    assert changed(("8] x)", "8] x2)"), ("(x,", "(x2,")) == ["~ input x", "    name: x -> x2"]
    assert changed(("8] x)", "8] x, float e)")) == ["+ input e", "    f32[]"]
    assert changed((" y =", " z ="), ("8] y)", "8] z)")) == ["~ output y", "    name: y -> z"]
    assert changed(("8] y)", "8] y, float[1,4,8,8] r)")) == [
        "+ output r",
        "    f32[1,4,8,8] = %r",
        "~ node Relu relu",
        "    type of %r: ? -> f32[1,4,8,8]",
    ]


def test_source_of_an_output() -> None:
    base = "g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) z = Abs (x) }"
    assert changed(("y = Relu (x) z = Abs (x)", "z = Relu (x) y = Abs (x)"), base=base) == [
        "~ output y",
        "    operand 0: %y of Relu -> %y of Abs",
        "~ output z",
        "    operand 0: %z of Abs -> %z of Relu",
    ]


def test_order_of_inputs_and_outputs() -> None:
    base = "g (float[2] a, float[2] b) => (float[2] y, float[2] z) { y = Sub (a, b) z = Abs (a) }"
    assert changed(("float[2] a, float[2] b", "float[2] b, float[2] a"), base=base) == [
        "~ input order",
        "    a, b -> b, a",
    ]
    assert changed(("float[2] y, float[2] z", "float[2] z, float[2] y"), base=base) == [
        "~ output order",
        "    y, z -> z, y",
    ]


def test_default_of_an_input() -> None:
    graphs = []
    for value in (1.0, 2.0):
        graph = Graph("g", {"": 21})
        default = Tensor.from_numpy([value], DType.F32)
        graph.add_input("x", default.type, default)
        graphs.append(graph)
    assert diff_graphs(*graphs).render().splitlines()[:2] == [
        "~ input x",
        "    f32[1] = f32[1] {1.0} -> f32[1] = f32[1] {2.0}",
    ]


def test_sparse_constants_are_compared_by_content() -> None:
    graphs = []
    for value in (1.0, 1.0, 2.0):
        graph = Graph("g", {"": 21})
        values, indices = Tensor.from_numpy([value], DType.F32), Tensor.from_numpy([3])
        made = graph.add_constant(SparseTensor(values, indices, (9,)), "s")
        graph.add_output(made, "y")
        graphs.append(graph)
    assert diff_graphs(graphs[0], graphs[1]).is_empty
    first = diff_graphs(graphs[0], graphs[2]).changes[0]
    assert str(first).startswith("~ constant s")


# ---- partners ----------------------------------------------------------------------------------


def test_an_inserted_node_is_the_only_one_added() -> None:
    after = BASE.replace("[relu] r = Relu (c)", "[clip] k = Clip (c) [relu] r = Relu (k)")
    assert diff(BASE, after).render().splitlines() == [
        "~ node Relu relu",
        "    operand 0: %c -> %k",
        "+ node Clip clip",
        "    (%c) -> %k",
        "1 added, 0 removed, 1 changed",
    ]


def test_a_fold_that_keeps_the_name_of_the_result_changes_one_node() -> None:
    """The consumer of the folded result reads a value of the same name and is not reported."""
    before = """
        g (float[1,3,8,8] x) => (float[1,4,8,8] y)
        <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] two = {2}> {
          [conv] c = Conv (x, w)
          [scale] s = Mul (c, two)
          [relu] y = Relu (s)
        }
    """
    after = """
        g (float[1,3,8,8] x) => (float[1,4,8,8] y)
        <float[4,3,1,1] w2 = {2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24}> {
          [conv] s = Conv (x, w2)
          [relu] y = Relu (s)
        }
    """
    lines = [line for line in diff(before, after).render().splitlines() if "sha256" not in line]
    assert lines == [
        "~ node Conv conv",
        "    operand 1: %w -> %w2",
        "- node Mul scale",
        "    (%c, %two) -> %s",
        "- constant two",
        "    f32[1] {2.0}",
        "- constant w",
        "+ constant w2",
        "1 added, 3 removed, 1 changed",
    ]


def layers(names: str, *, insert: int | None = None, change: int | None = None) -> Graph:
    """Forty layers whose values are numbered, as many exporters do."""
    graph = Graph("g", {"": 21})
    x = value = graph.add_input("x", TensorType(DType.F32, (9,)))
    number = 0
    for layer in range(40):
        data = np.full(9, layer, np.float32)
        weight = graph.add_constant(Tensor.from_numpy(data), names.format(f"w{layer}"))
        ops = ["Add", "Relu"]
        if layer == insert:
            ops.insert(1, "Neg")
        if layer == change:
            ops[1] = "Elu"
        for op in ops:
            number += 1
            operands = [value, weight] if op == "Add" else [value]
            value = graph.add(op, operands, outputs=[names.format(number)]).output
    graph.add_output(graph.add("Sub", [value, x], outputs=["y"]).output, "y")
    return graph


def test_shifted_numbers_are_no_difference() -> None:
    assert diff_graphs(layers("{}"), layers("{}", insert=3)).render().splitlines() == [
        '~ node Relu "8"',
        '    operand 0: %"7" -> %"8"',
        '+ node Neg "8"',
        '    (%"7") -> %"8"',
        "1 added, 0 removed, 1 changed",
    ]


def test_a_result_that_is_no_longer_there() -> None:
    graphs = []
    for outputs in (["a", "b"], ["a"]):
        graph = Graph("g", {"": 21})
        x = graph.add_input("x", None)
        graph.add_output(graph.add("MaxPool", [x], outputs=outputs, name="pool").output, "y")
        graphs.append(graph)
    assert diff_graphs(*graphs).render().splitlines()[:2] == [
        "~ node MaxPool pool",
        "    result 1: %b -> _",
    ]


@pytest.mark.parametrize("layer", [0, 20, 39])
def test_one_changed_node_is_found_in_a_model_where_every_name_differs(layer: int) -> None:
    found = diff_graphs(layers("a/{}"), layers("b/{}", change=layer))
    assert found.render().splitlines() == [
        f"~ node Relu a/{2 * layer + 2}",
        "    operator: Relu -> Elu",
        "0 added, 0 removed, 1 changed",
    ]


# ---- subgraphs and functions -------------------------------------------------------------------

BRANCHES = """
g (bool c, float[2] x, float[2] z) => (float[2] y) {
  [if] y = If (c) <
    then_branch = t () => (float[2] p) { [inner] p = Add (x, z) },
    else_branch = e () => (float[2] q) { q = Neg (x) }>
}
"""


def test_a_change_inside_a_subgraph_is_shown_with_its_path() -> None:
    assert changed(("Add (x, z)", "Sub (x, z)"), base=BRANCHES) == [
        "~ node If if/then_branch/Add inner",
        "    operator: Add -> Sub",
    ]


def test_captures() -> None:
    assert changed(("Add (x, z)", "Add (x, x)"), base=BRANCHES) == [
        "~ node If if",
        "    capture: %z -> _",
        "~ node If if/then_branch/Add inner",
        "    operand 1: %z -> %x",
    ]
    assert changed(("Neg (x)", "Neg (c)"), base=BRANCHES) == [
        "~ node If if",
        "    capture: _ -> %c",
        "~ node If if/else_branch/Neg q",
        "    operand 0: %x -> %c",
    ]


def test_names_inside_subgraphs_do_not_count() -> None:
    assert not changed(("p)", "r)"), ("p =", "r ="), base=BRANCHES)


def test_functions() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21, "d" : 1]>\n'
    graph = "g (float[2] x) => (float[2] y) { y = d.f (x) }\n"
    function = '<domain: "d", opset_import: ["" : 20]> f <alpha> (a) => (b) {{ b = {} (a) }}\n'
    base = header + graph + function.format("Relu")
    assert diff(base, base).is_empty
    after = header + graph + function.format("Abs").replace("20", "21").replace("alpha", "beta")
    assert diff(base, after).render().splitlines() == [
        "~ function d::f",
        "    attribute alpha: required -> _",
        "    attribute beta: _ -> required",
        "~ opset d::f/ai.onnx: 20 -> 21",
        "~ node d::f/Relu b",
        "    operator: Relu -> Abs",
        "0 added, 0 removed, 3 changed",
    ]
    more = base + function.format("Abs").replace(" f ", " h ")
    assert [str(change) for change in diff(base, more).changes] == ["+ function d::h"]
    assert [str(change) for change in diff(more, base).changes] == ["- function d::h"]


def test_as_data() -> None:
    found = GraphDiff((Change("changed", "node", "Conv conv", ("operand 0: %a -> %b",)),))
    assert json.loads(json.dumps(found.to_dict())) == {
        "equal": False,
        "counts": {"added": 0, "removed": 0, "changed": 1},
        "changes": [
            {
                "kind": "changed",
                "what": "node",
                "where": "Conv conv",
                "details": ["operand 0: %a -> %b"],
                "made_by": None,
            }
        ],
    }
