"""Selectors of nodes."""

import pytest
from pydantic import ValidationError

from optc.ir import DType, Graph, Node, TensorType
from optc.passes.selector import Selector, selected, unmatched

F32 = TensorType(DType.F32, (2,))


@pytest.fixture
def graph() -> Graph:
    graph = Graph("g", {"": 17, "com.acme": 1})
    value = graph.add_input("x", F32)
    for name, op, domain in (
        ("conv_1", "Relu", ""),
        ("conv_10", "Softmax", ""),
        ("/head/a", "Softmax", "com.acme"),
        ("", "Abs", "ai.onnx"),
    ):
        node = graph.add(op, [value], outputs=[f"{value.name}_"], domain=domain, name=name)
        value = node.output
    graph.add_output(value, "y")
    return graph


def names(graph: Graph, *selectors: object) -> list[str]:
    chosen = [Selector.model_validate(selector) for selector in selectors]
    return [node.name or "-" for node in graph.ordered() if selected(chosen, node)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("conv_1", ["conv_1"]),
        ("conv_.*", ["conv_1", "conv_10"]),
        ("head", []),
        (".*head.*", ["/head/a"]),
        (".*", ["conv_1", "conv_10", "/head/a", "-"]),
        ({"op": "Softmax"}, ["conv_10", "/head/a"]),
        ({"op": "softmax"}, []),
        ({"op": "Softmax", "name": "conv_.*"}, ["conv_10"]),
        ({"domain": "com.acme"}, ["/head/a"]),
        ({"domain": "ai.onnx"}, ["conv_1", "conv_10", "-"]),
        ({"domain": ""}, ["conv_1", "conv_10", "-"]),
    ],
)
def test_all_given_keys_match_and_names_match_whole(
    selector: object, expected: list[str], graph: Graph
) -> None:
    assert names(graph, selector) == expected


def test_any_of_several_selectors_is_enough(graph: Graph) -> None:
    assert names(graph, "conv_1", {"domain": "com.acme"}) == ["conv_1", "/head/a"]


def test_the_selector_that_fits_is_named(graph: Graph) -> None:
    wide = Selector(op="Softmax", name="conv_.*")
    node = next(node for node in graph.nodes() if node.name == "conv_10")
    assert selected([Selector(name="x"), wide], node) is wide
    assert str(wide) == "op 'Softmax', name 'conv_.*'"


def test_inputs_and_outputs_are_never_selected(graph: Graph) -> None:
    everything = Selector(name=".*")
    others: list[Node] = [graph.inputs[0].node, *graph.outputs]
    assert not any(everything.matches(node) for node in others)


def test_selectors_that_fit_nothing_are_found(graph: Graph) -> None:
    known, unknown = Selector(op="Softmax"), Selector(name="conv")
    assert unmatched([known, unknown], graph) == (unknown,)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({}, "at least one of op, name and domain"),
        ("a(", "'a\\(' is not a regular expression: .* at position 1"),
        ("(" * 999, "is not a regular expression: it is too large"),
        ("a{99999999999999999999}", "is not a regular expression: it is too large"),
        ("x" * 1001, "at most 1000 characters"),
        ({"opset": 3}, "opset"),
        (3, "Selector"),
    ],
)
def test_what_is_no_selector(selector: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Selector.model_validate(selector)
