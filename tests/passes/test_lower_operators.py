"""lower-operators: the preferred form that the model can hold, and no canonical operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.errors import InternalError
from optc.ir import DType, Graph, TensorType
from optc.ir.nodes import CANONICAL
from optc.ir.text import print_graph
from optc.passes.forms import MICROSOFT, ONNX, PRIMITIVES
from optc.passes.lower_operators import LowerOperators, LowerOperatorsOptions, form_names
from optc.rewrite.driver import Builder, to_attr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOMAIN = "com.microsoft"
X = TensorType(DType.F32, (2, 6, 4))
OPERATORS: list[tuple[str, dict[str, object], int]] = [
    ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20),
    ("HardSwish", {}, 14),
    ("Mish", {}, 18),
    ("Swish", {}, 24),
    ("Swish", {"alpha": 1.702}, 24),
    ("LayerNormalization", {"epsilon": 1e-3}, 17),
    ("LayerNormalization", {"axis": 1}, 17),
    ("LayerNormalization", {"axis": 2, "bias": True}, 17),
    ("RMSNormalization", {"epsilon": 1e-3}, 23),
    ("GroupNormalization", {"num_groups": 3, "bias": True}, 21),
]


def model(op: str, attributes: Mapping[str, object], opset: int, *, domain: str = "") -> Graph:
    """One operation between an input and an output."""
    graph = Graph("g", {"": opset})
    x = graph.add_input("x", X)
    operands = [x]
    given = dict(attributes)
    bias = given.pop("bias", False)
    build = Builder(graph, "", (x.node,))
    if op.endswith("Normalization"):
        shape: tuple[int, ...] = (6,) if op == "GroupNormalization" else (4,)
        if given.get("axis") == 1:
            shape = (6, 4)
        rng = np.random.default_rng(5)
        operands += [
            build.constant(rng.uniform(0.5, 2, shape).astype(np.float32), name=name)
            for name in (["scale", "bias"] if bias else ["scale"])
        ]
    made = graph.add(
        op,
        operands,
        outputs=["y"],
        domain=domain,
        name="n",
        attributes={name: to_attr(value) for name, value in given.items()},
        types=[X],
    )
    graph.add_output(made.output, "y", X)
    return graph


def lower(forms: Mapping[str, Sequence[str]] | None = None, *domains: str) -> LowerOperators:
    return LowerOperators(
        LowerOperatorsOptions.model_validate({"forms": forms or {}, "domains": domains})
    )


@pytest.mark.parametrize(("op", "attributes", "since"), OPERATORS)
@pytest.mark.parametrize("opset", [13, 18])
def test_canonical_operations_become_primitives_that_compute_the_same(
    op: str, attributes: dict[str, object], since: int, opset: int
) -> None:
    graph = model(op, attributes, opset, domain=CANONICAL)
    result = run_pass(lower(), graph)
    assert result.changed
    assert all(not node.domain for node in graph.nodes())
    exact = model(op, attributes, since)
    feeds = seeded(exact)
    # A dozen roundings on numbers around 1.
    np.testing.assert_allclose(run(graph, feeds)["y"], run(exact, feeds)["y"], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("op", "attributes", "since"), OPERATORS)
def test_canonical_operations_become_the_operator_where_the_opset_has_it(
    op: str, attributes: dict[str, object], since: int
) -> None:
    graph = model(op, attributes, since, domain=CANONICAL)
    run_pass(lower(), graph)
    assert print_graph(graph) == print_graph(model(op, attributes, since))
    assert not run_pass(lower(), graph).changed


@pytest.mark.parametrize(
    ("op", "attributes", "since", "expected"),
    [
        ("Gelu", {}, 20, "com.microsoft::Gelu"),
        ("Gelu", {"approximate": "tanh"}, 20, "com.microsoft::FastGelu"),
        ("Swish", {"alpha": 1.702}, 24, "com.microsoft::QuickGelu"),
        ("LayerNormalization", {"bias": True}, 17, "LayerNormalization"),
        ("RMSNormalization", {}, 23, "SimplifiedLayerNormalization"),
    ],
)
def test_the_operators_of_onnxruntime_where_they_are_allowed(
    op: str, attributes: dict[str, object], since: int, expected: str
) -> None:
    graph = model(op, attributes, 13, domain=CANONICAL)
    step = lower({op: [MICROSOFT]}, DOMAIN)
    result = run_pass(step, graph)
    assert [node.qualified_op for node in graph.nodes()] == [expected]
    assert not refused(result)
    exact = model(op, attributes, since)
    feeds = seeded(exact)
    # QuickGelu's Sigmoid is an approximation by a rational function, good to 1e-6.
    np.testing.assert_allclose(run(graph, feeds)["y"], run(exact, feeds)["y"], rtol=5e-6, atol=1e-6)


def test_a_form_of_a_domain_that_is_not_allowed_is_refused() -> None:
    graph = model("Gelu", {}, 13, domain=CANONICAL)
    result = run_pass(lower({"Gelu": [MICROSOFT, ONNX]}), graph)
    assert "Erf" in {node.op_type for node in graph.nodes()}
    assert refused(result) == {
        "gelu": "microsoft: com.microsoft is not among the domains that may be used; "
        "onnx: opset 13 does not have Gelu"
    }


def test_an_operator_is_rewritten_only_where_a_form_is_preferred() -> None:
    before = print_graph(model("Gelu", {}, 20))
    graph = model("Gelu", {}, 20)
    assert not run_pass(lower(), graph).changed
    assert print_graph(graph) == before
    assert run_pass(lower({"Gelu": [PRIMITIVES]}), graph).changed
    assert "Gelu" not in {node.op_type for node in graph.nodes()}


def test_statistics_that_are_used_need_the_operator_itself() -> None:
    graph = Graph("g", {"": 13})
    x = graph.add_input("x", X)
    scale = Builder(graph, "", (x.node,)).constant(np.ones(4, np.float32))
    node = graph.add("LayerNormalization", [x, scale], outputs=["y", "m"], domain=CANONICAL)
    graph.add_output(node.outputs[0], "y")  # type: ignore[arg-type]
    graph.add_output(node.outputs[1], "m")  # type: ignore[arg-type]
    with pytest.raises(InternalError, match="mean or deviation are used"):
        lower().apply(graph, None)  # type: ignore[arg-type]


def test_formats_that_do_not_go_by_opsets_keep_canonical_operations() -> None:
    graph = model("HardSwish", {}, 12, domain=CANONICAL)
    forms = {"HardSwish": ("onnx", "canonical")}
    step = LowerOperators(
        LowerOperatorsOptions.model_validate({"forms": forms, "keep_canonical": True})
    )
    assert not run_pass(step, graph).changed
    assert run_pass(lower(forms), graph).changed
    assert [node.op_type for node in graph.ordered()] == ["HardSigmoid", "Mul"]


def test_f16_statistics_are_taken_in_f32() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13, "optc" : 1]>
        g (float16[2,8] x, float16[8] s) => (float16[2,8] y) { y = Identity (x) }
        """
    )
    build = Builder(graph, "", (graph.value("x").node,))
    made = build.LayerNormalization(graph.value("x"), graph.value("s"))
    graph.set_type(made, graph.value("x").type)
    graph.replace_uses(graph.value("y"), made)
    graph.remove(graph.value("y").node)
    run_pass(lower(), graph)
    casts = [node.get("to") for node in graph.ordered() if node.is_op("Cast")]
    assert casts == [DType.F32.onnx, DType.F16.onnx]


def test_every_operator_has_primitives() -> None:
    for op, _, _ in OPERATORS:
        assert PRIMITIVES in form_names(op)
