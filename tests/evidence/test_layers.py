"""Which layers correspond: by provenance, by tensor name in an IR, never by position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.evidence.layers import Layer, Network, Port, known_sources, match_layers

if TYPE_CHECKING:
    from collections.abc import Sequence


def layer(
    op: str,
    made: str,
    reads: str = "",
    *,
    label: str = "",
    sources: str = "",
    complete: bool = True,
    names: str | None = None,
) -> Layer:
    """A layer with one output; sources and names as words."""
    port = Port(made, frozenset((made if names is None else names).split()))
    return Layer(
        label or made, op, (port,), tuple(reads.split()), tuple(sources.split()), complete=complete
    )


def pairs(a: Sequence[Layer], b: Sequence[Layer], *, ir: bool = False) -> dict[str, str]:
    """Tensors of B by those of A."""
    found = match_layers(Network(a), Network(b, is_ir=ir)).pairs
    return {pair.port_a.key: pair.port_b.key for pair in found}


SOURCE = [
    layer("Conv", "c", "x", label="conv"),
    layer("BatchNormalization", "n", "c", label="bn"),
    layer("Relu", "r", "n", label="relu"),
]


def test_untouched_layers_are_matched_by_label_and_operator() -> None:
    assert pairs(SOURCE, SOURCE) == {"c": "c", "n": "n", "r": "r"}
    renamed = [layer("Relu", "other", "y", label="relu"), layer("Gemm", "g", "y", label="conv")]
    assert pairs(SOURCE, renamed) == {"r": "other"}


def test_what_was_fused_is_matched_at_its_end() -> None:
    fused = [
        layer("Conv", "n", "x", label="conv", sources="bn conv"),
        layer("Relu", "r", "n", label="relu"),
    ]
    found = match_layers(Network(SOURCE), Network(fused))
    assert [(pair.a.label, pair.b.label) for pair in found.pairs] == [
        ("bn", "conv"),
        ("relu", "relu"),
    ]
    assert [item.label for item in found.only_a] == ["conv"]
    assert found.only_b == ()
    assert pairs(fused, SOURCE) == {"n": "n", "r": "r"}  # the other way round
    assert pairs(fused, fused) == {"n": "n", "r": "r"}


def test_what_was_split_is_matched_at_its_end() -> None:
    split = [
        layer("Conv", "c", "x", label="conv"),
        layer("Mul", "n_mul", "c", label="bn", sources="bn"),
        layer("Add", "n", "n_mul", label="bn", sources="bn"),
        layer("Relu", "r", "n", label="relu"),
    ]
    assert pairs(SOURCE, split) == {"c": "c", "n": "n", "r": "r"}


def test_a_scale_that_was_moved_leaves_no_pair_in_between() -> None:
    # Conv -> Mul -> Add -> Mul became Conv' -> Add': Conv' has another scale than Conv.
    source = [
        layer("Conv", "c", "x"),
        layer("Mul", "m", "c"),
        layer("Add", "a", "m"),
        layer("Mul", "y", "a"),
    ]
    moved = [
        layer("Conv", "m", "x", label="c", sources="c m a y"),
        layer("Add", "y", "m", label="a", sources="c m a y"),
    ]
    assert pairs(source, moved) == {"y": "y"}


def test_of_several_ends_the_name_decides_or_nothing() -> None:
    source = [layer("Shape", "s", "x"), layer("Gather", "g", "s"), layer("Reshape", "y", "x")]
    by_name = [layer("Reshape", "y", "x", label="made", sources="s g y")]
    assert pairs(source, by_name) == {"y": "y"}
    nameless = [layer("Reshape", "new", "x", label="made", sources="s g y")]
    assert pairs(source, nameless) == {}


def test_a_list_of_sources_that_was_cut_proves_nothing_but_the_name_helps() -> None:
    fused = layer("Conv", "new", "x", label="conv", sources="conv", complete=False)
    assert pairs(SOURCE, [fused]) == {}
    named = layer("Conv", "n", "x", label="conv", sources="bn", complete=False)
    assert pairs(SOURCE, [named]) == {"n": "n"}


def test_labels_that_several_layers_have_are_told_apart_by_tensor() -> None:
    twice = [layer("Relu", "p", "x", label="same"), layer("Relu", "q", "p", label="same")]
    assert pairs(twice, twice) == {"p": "p", "q": "q"}
    renamed = [layer("Relu", "u", "x", label="same"), layer("Relu", "q", "u", label="same")]
    assert pairs(twice, renamed) == {"q": "q"}


def test_other_outputs_are_matched_by_number() -> None:
    a = Layer("s", "Split", (Port("a0", frozenset(["a0"])), None, Port("a2", frozenset(["a2"]))))
    b = Layer("s", "Split", (Port("b0", frozenset(["b0"])), None, Port("b2", frozenset(["b2"]))))
    assert pairs([a], [b]) == {"a0": "b0", "a2": "b2"}


def test_an_ir_is_matched_by_tensor_name_whatever_its_operators() -> None:
    ir = [
        layer("Convolution", "k0", "x", label="Multiply_7", names=""),
        layer("Add", "k1", "k0", label="bn", names="n"),
        layer("Relu", "k2", "k1", label="relu", names="r"),
    ]
    assert pairs(SOURCE, ir, ir=True) == {"n": "k1", "r": "k2"}


def test_values_that_became_one_are_matched_at_the_last() -> None:
    ir = [layer("Relu", "k", "x", names="p q")]
    source = [layer("Relu", "p", "x"), layer("Identity", "q", "p")]
    assert pairs(source, ir, ir=True) == {"q": "k"}


def test_a_name_that_openvino_left_on_a_scaled_convolution_is_no_pair() -> None:
    ir = [
        layer("GroupConvolution", "k0", "x", names="c"),
        layer("Add", "k1", "k0", names="n"),
    ]
    assert pairs(SOURCE, ir, ir=True) == {"n": "k1"}
    kept = [
        layer("GroupConvolution", "k0", "x", names="c"),
        layer("Multiply", "k1", "k0", names=""),
        layer("Add", "k2", "k1", names="n"),
    ]
    assert pairs(SOURCE, kept, ir=True) == {"c": "k0", "n": "k2"}


def test_provenance_in_an_ir_outweighs_the_name() -> None:
    # The emitter says that both layers stand for all of it: only the last is the source's result.
    source = [layer("Conv", "c", "x"), layer("Mul", "m", "c"), layer("Add", "y", "m")]
    ir = [
        layer("Convolution", "k0", "x", label="c", sources="c m y", names="m"),
        layer("Add", "k1", "k0", label="y", sources="c m y", names="y"),
    ]
    assert pairs(source, ir, ir=True) == {"y": "k1"}


def test_sources_as_models_carry_them() -> None:
    assert known_sources(["a", "b"]) == (("a", "b"), True)
    assert known_sources(["a", "… and 7 more"]) == (("a",), False)
    assert known_sources([]) == ((), True)
    assert known_sources({"a": 1}) == ((), True)
    assert known_sources(["a", 1]) == ((), True)
