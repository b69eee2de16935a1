from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import graph_from_text
from helpers.linear_models import LinearModel, Step, build, linear_models, majorant, run
from helpers.promises import refused, run_pass
from optc.emit.onnx import serialize
from optc.frontend.onnx import load_model
from optc.ir.text import print_graph
from optc.passes.fold_batchnorm import FoldBatchnorm

# s = gamma / sqrt(variance + epsilon) = {2, 1},  t = beta - mean * s = {-5, 1}
NORM = "float[2] g = {4, 4}, float[2] b = {1, 1}, float[2] m = {3, 0}, float[2] v = {3, 15}"
BN = "BatchNormalization <epsilon = 1.0>"


def fold(text: str) -> str:
    """The body of the canonical text after the pass, which must have changed something."""
    graph = graph_from_text(text)
    assert run_pass(FoldBatchnorm(), graph).changed
    return body(print_graph(graph))


def body(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines()[3:-1])


def refusal(text: str) -> dict[str, str]:
    graph = graph_from_text(text)
    result = run_pass(FoldBatchnorm(), graph)
    assert not result.changed
    return refused(result)


FORMS = {
    "Conv with bias": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y)
        <float[2,1,1,1] w = {{1, 2}}, float[2] c = {{1, 2}}, {NORM}>
        {{ z = Conv(x, w, c)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[1,1,4,4]
        %0 = const f32[2,1,1,1] {2.0, 2.0}
        %1 = const f32[2] {-3.0, 3.0}
        %2 = Conv(%x, %0, %1) : f32[1,2,4,4]
        output y = %2 : f32[1,2,4,4]""",
    ),
    "Conv without bias, one spatial axis": (
        f"""g (float[1,1,4] x) => (float[1,2,4] y) <float[2,1,1] w = {{1, 2}}, {NORM}>
        {{ z = Conv(x, w)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[1,1,4]
        %0 = const f32[2,1,1] {2.0, 2.0}
        %1 = const f32[2] {-5.0, 1.0}
        %2 = Conv(%x, %0, %1) : f32[1,2,4]
        output y = %2 : f32[1,2,4]""",
    ),
    "grouped ConvTranspose: output channel 1 is in the second group": (
        f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,1,1,1] w = {{3, 4}}, {NORM}>
        {{ z = ConvTranspose <group = 2> (x, w)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[1,2,4,4]
        %0 = const f32[2,1,1,1] {6.0, 4.0}
        %1 = const f32[2] {-5.0, 1.0}
        %2 = ConvTranspose(%x, %0, %1, group=2) : f32[1,2,4,4]
        output y = %2 : f32[1,2,4,4]""",
    ),
    "ConvTranspose: output channels are the second axis of the weight": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y) <float[1,2,1,1] w = {{3, 4}}, {NORM}>
        {{ z = ConvTranspose (x, w)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[1,1,4,4]
        %0 = const f32[1,2,1,1] {6.0, 4.0}
        %1 = const f32[2] {-5.0, 1.0}
        %2 = ConvTranspose(%x, %0, %1) : f32[1,2,4,4]
        output y = %2 : f32[1,2,4,4]""",
    ),
    "Gemm: beta goes into the bias, alpha stays": (
        f"""g (float[M,1] x) => (float[M,2] y) <float[2,1] w = {{1, 2}}, float c = {{4}}, {NORM}>
        {{ z = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, c)
          y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[M,1]
        %0 = const f32[2,1] {2.0, 2.0}
        %1 = const f32[2] {11.0, 9.0}
        %2 = Gemm(%x, %0, %1, alpha=0.5, transB=1) : f32[M,2]
        output y = %2 : f32[M,2]""",
    ),
    "MatMul: the shift becomes an Add": (
        f"""g (float[M,1] x) => (float[M,2] y) <float[1,2] w = {{1, 2}}, {NORM}>
        {{ z = MatMul(x, w)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[M,1]
        %0 = const f32[1,2] {2.0, 2.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[2] {-5.0, 1.0}
        %3 = Add(%1, %2) : f32[M,2]
        output y = %3 : f32[M,2]""",
    ),
    "MatMul with bias": (
        f"""g (float[M,1] x) => (float[M,2] y)
        <float[1,2] w = {{1, 2}}, float[1,2] c = {{1, 2}}, {NORM}>
        {{ z = MatMul(x, w)  a = Add(c, z)  y = {BN}(a, g, b, m, v) }}""",
        """input %x : f32[M,1]
        %0 = const f32[1,2] {2.0, 2.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[1,2] {-3.0, 3.0}
        %3 = Add(%1, %2) : f32[M,2]
        output y = %3 : f32[M,2]""",
    ),
    "MatMul with the weight on the left": (
        f"""g (float[N,1,4] x) => (float[N,2,4] y) <float[2,1] w = {{1, 2}}, {NORM}>
        {{ z = MatMul(w, x)  y = {BN}(z, g, b, m, v) }}""",
        """input %x : f32[N,1,4]
        %0 = const f32[2,1] {2.0, 2.0}
        %1 = MatMul(%0, %x)
        %2 = const f32[2,1] {-5.0, 1.0}
        %3 = Add(%1, %2) : f32[N,2,4]
        output y = %3 : f32[N,2,4]""",
    ),
    "before a Conv that does not pad": (
        f"""g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[1,2,1,1] w = {{1, 2}}, float[1] c = {{7}}, {NORM}>
        {{ z = {BN}(x, g, b, m, v)  y = Conv(z, w, c) }}""",
        """input %x : f32[1,2,4,4]
        %0 = const f32[1,2,1,1] {2.0, 2.0}
        %1 = const f32[1] {4.0}
        %2 = Conv(%x, %0, %1) : f32[1,1,4,4]
        output y = %2 : f32[1,1,4,4]""",
    ),
    "before a Gemm: alpha scales the shift": (
        f"""g (float[M,2] x) => (float[M,1] y) <float[2,1] w = {{1, 2}}, {NORM}>
        {{ z = {BN}(x, g, b, m, v)  y = Gemm <alpha = 2.0> (z, w) }}""",
        """input %x : f32[M,2]
        %0 = const f32[2,1] {2.0, 2.0}
        %1 = const f32[1] {-6.0}
        %2 = Gemm(%x, %0, %1, alpha=2.0) : f32[M,1]
        output y = %2 : f32[M,1]""",
    ),
    "before a MatMul with bias": (
        f"""g (float[M,2] x) => (float[M,1] y)
        <float[2,1] w = {{1, 2}}, float c = {{7}}, {NORM}>
        {{ z = {BN}(x, g, b, m, v)  a = MatMul(z, w)  y = Add(a, c) }}""",
        """input %x : f32[M,2]
        %0 = const f32[2,1] {2.0, 2.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[] {4.0}
        %3 = Add(%1, %2) : f32[M,1]
        output y = %3 : f32[M,1]""",
    ),
    "before a MatMul with the weight on the left": (
        f"""g (float[N,2,4] x) => (float[N,1,4] y) <float[1,2] w = {{1, 2}}, {NORM}>
        {{ z = {BN}(x, g, b, m, v)  y = MatMul(w, z) }}""",
        """input %x : f32[N,2,4]
        %0 = const f32[1,2] {2.0, 2.0}
        %1 = MatMul(%0, %x) : f32[N,1,4]
        %2 = const f32[1,1] {-3.0}
        %3 = Add(%1, %2) : f32[N,1,4]
        output y = %3 : f32[N,1,4]""",
    ),
}


@pytest.mark.parametrize(("before", "after"), FORMS.values(), ids=FORMS)
def test_folds(before: str, after: str) -> None:
    assert fold(before) == "\n".join(line.strip() for line in after.splitlines())


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 15, 22])
def test_folds_at_every_opset(opset: int) -> None:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]> '
    assert "BatchNormalization" not in fold(header + FORMS["Conv with bias"][0])


def test_a_zero_shift_passes_a_padding_conv() -> None:
    zero = NORM.replace("b = {1, 1}", "b = {6, 0}")  # t = beta - mean * s = 0
    text = fold(f"""g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[1,2,3,3] w = {{{", ".join("1" * 18)}}}, {zero}>
        {{ z = {BN}(x, g, b, m, v)  y = Conv <pads = [1, 1, 1, 1]> (z, w) }}""")
    assert "%1 = Conv(%x, %0, pads=[1, 1, 1, 1])" in text


def test_prefers_the_operation_before_which_may_pad() -> None:
    graph = graph_from_text(f"""g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float[2,1,1,1] w = {{1, 2}}, float[1,2,1,1] u = {{1, 2}}, {NORM}>
        {{ [first] z = Conv(x, w)  n = {BN}(z, g, b, m, v)
          [second] y = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (n, u) }}""")
    assert run_pass(FoldBatchnorm(), graph).counts == {"conv-batchnorm": 1}
    assert [node.name for node in graph.ordered()] == ["first", "second"]


def test_records_where_the_new_operation_comes_from() -> None:
    graph = graph_from_text(f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y)
        <float[2,1,1,1] w = {{1, 2}}, {NORM}>
        {{ [conv] z = Conv(x, w)  [norm] y = {BN}(z, g, b, m, v) }}""")
    run_pass(FoldBatchnorm(), graph)
    (conv,) = graph.ordered()
    assert conv.name == "conv"
    assert conv.origin is not None
    assert conv.origin.made_by == "fold-batchnorm"
    assert conv.origin.sources() == ("norm", "conv")


CONV = "z = Conv(x, w)"
WEIGHT = "float[2,1,1,1] w = {1, 2}"
REFUSALS = {
    "the result is used elsewhere": (
        f"{{ [c] {CONV}  [r] q = Relu(z)  y = {BN}(z, g, b, m, v) }}",
        "Conv output also feeds r",
    ),
    "the result is a graph output": (
        f"{{ [c] q = Conv(x, w)  y = {BN}(q, g, b, m, v) }}",
        "Conv output is the graph output q",
    ),
    "the result is captured": (
        f"""{{ {CONV}  y = {BN}(z, g, b, m, v)
          [if] q = If (k) <then_branch = t () => (float[1,2,4,4] i) {{ i = Relu(z) }},
                           else_branch = e () => (float[1,2,4,4] j) {{ j = Neg(z) }}> }}""",
        "Conv output is captured by a subgraph of if",
    ),
    "the weight is shared": (
        f"{{ {CONV}  [other] q = Conv(x, w)  y = {BN}(z, g, b, m, v) }}",
        "weight is shared by other",
    ),
    "the weight is an input": (
        f"{{ z = Conv(x, u)  q = Relu(x)  y = {BN}(z, g, b, m, v) }}",
        "weight u is not constant",
    ),
    "the bias is an input": (
        f"{{ z = Conv(x, w, a)  q = Relu(x)  y = {BN}(z, g, b, m, v) }}",
        "bias a is not constant",
    ),
    "parameters of another size": (
        f"{{ {CONV}  q = Relu(x)  y = {BN}(z, g3, b, m, v) }}",
        "gamma f32[3] does not fit 2 channels",
    ),
    "a variance that is not positive": (
        f"{{ {CONV}  q = Relu(x)  y = {BN}(z, g, b, m, neg) }}",
        "scale is not finite",
    ),
    "training mode": (
        f"{{ {CONV}  q = Relu(x)  y = BatchNormalization <training_mode = 1> (z, g, b, m, v) }}",
        "BatchNormalization is in training mode",
    ),
}


@pytest.mark.parametrize(("nodes", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(nodes: str, reason: str) -> None:
    head = "g (float[1,1,4,4] x, float[2,1,1,1] u, float[2] a, bool k) => (y, q)"
    extra = "float[3] g3 = {1, 1, 1}, float[2] neg = {-3, 1}"
    assert refusal(f"{head} <{WEIGHT}, {NORM}, {extra}> {nodes}") == {"conv-batchnorm": reason}


def test_a_parameter_that_is_not_constant_is_a_near_miss() -> None:
    graph = graph_from_text(f"""g (float[1,1,4,4] x, float[2] mean) => (y) <{WEIGHT}, {NORM}>
        {{ {CONV}  y = {BN}(z, g, b, mean, v) }}""")
    result = run_pass(FoldBatchnorm(), graph)
    assert not result.changed
    assert ("conv-batchnorm", "mean is mean, which is not constant") in {
        (item.rule, item.reason) for item in result.refusals if item.miss
    }


def test_an_input_with_a_default_is_not_constant() -> None:
    graph = graph_from_text(f"""g (float[1,1,4,4] x, float[2,1,1,1] w = {{1, 2}}) => (y) <{NORM}>
        {{ {CONV}  y = {BN}(z, g, b, m, v) }}""")
    result = run_pass(FoldBatchnorm(), graph)
    assert refused(result) == {"conv-batchnorm": "weight w is not constant"}


@pytest.mark.parametrize(
    ("opset", "bn", "reason"),
    [
        (7, "BatchNormalization <spatial = 0>", "has parameters per place (spatial = 0)"),
        (13, "BatchNormalization", "has the outputs of the training form"),
        (15, "BatchNormalization <training_mode = 1>", "is in training mode"),
    ],
)
def test_refuses_the_training_forms_of_each_opset(opset: int, bn: str, reason: str) -> None:
    outputs = "y, q" if "outputs" in reason else "y"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[1,1,4,4] x) => ({outputs}) <{WEIGHT}, {NORM}>
        {{ {CONV}  {outputs} = {bn}(z, g, b, m, v) }}"""
    if "outputs" in reason:
        text = text.replace("=> (y, q)", "=> (y)").replace("y, q =", "y, mean, var, sm, sv =")
    assert refusal(text) == {"conv-batchnorm": f"BatchNormalization {reason}"}


BEFORE = {
    "a Conv that pads": (
        "y = Conv <pads = [0, 0, 0, 1], kernel_shape = [1, 1]> (z, w)",
        "batchnorm-conv",
        "Conv pads its input: the shift would not reach the border",
    ),
    "a ConvTranspose with a stride": (
        "y = ConvTranspose <strides = [2, 2]> (z, w2)",
        "batchnorm-conv-transpose",
        "ConvTranspose is not pointwise: the shift would not reach every place alike",
    ),
    "a MatMul over another axis": (
        "y = MatMul(z, e)",
        "batchnorm-matmul",
        "BatchNormalization's channels are axis 1, the operation's are axis 3",
    ),
    "a second use": (
        "[r] q = Relu(z)  y = Conv(z, w)",
        "batchnorm-conv",
        "BatchNormalization output also feeds r",
    ),
}


def test_the_normalized_value_as_weight_is_no_match() -> None:
    text = f"""g (float[1,2,4,4] x, float[1,2,8,8] i) => (y) <{NORM}>
        {{ z = {BN}(x, g, b, m, v)  y = Conv(i, z) }}"""
    assert refusal(text) == {}


@pytest.mark.parametrize(("nodes", "rule", "reason"), BEFORE.values(), ids=BEFORE)
def test_refuses_before(nodes: str, rule: str, reason: str) -> None:
    text = f"""g (float[1,2,4,4] x, float[1,2,8,8] i) => (y)
        <float[1,2,1,1] w = {{1, 2}}, float[2,1,1,1] w2 = {{1, 2}},
         float[4,1] e = {{1, 2, 3, 4}}, {NORM}>
        {{ z = {BN}(x, g, b, m, v)  {nodes} }}"""
    assert refusal(text) == {rule: reason}


def test_refuses_a_matmul_of_unknown_rank() -> None:
    text = f"""g (float[] x) => (y) <float[1,2] w = {{1, 2}}, {NORM}>
        {{ k = Identity(x)  z = MatMul(k, w)  y = {BN}(z, g, b, m, v) }}"""
    reason = (
        "rank of the normalized value is not known, so BatchNormalization's channel axis is not"
    )
    assert refusal(text) == {"matmul-batchnorm": reason}


def test_folds_in_a_subgraph() -> None:
    graph = graph_from_text(f"""g (bool k, float[1,1,4,4] x) => (float[1,2,4,4] y)
        {{ y = If (k) <
            then_branch = t () => (float[1,2,4,4] i) <{WEIGHT}, {NORM}>
                {{ {CONV}  i = {BN}(z, g, b, m, v) }},
            else_branch = e () => (float[1,2,4,4] j) <{WEIGHT}> {{ j = Conv(x, w) }}> }}""")
    assert run_pass(FoldBatchnorm(), graph).counts == {"conv-batchnorm": 1}


def norms() -> st.SearchStrategy[tuple[Step, ...]]:
    return st.sampled_from([(), (("BatchNormalization", "", False),)])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(linear_models(norms(), norms()))
def test_results_agree(model: LinearModel) -> None:
    proto, x = build(model)
    graph = load_model(proto)
    run_pass(FoldBatchnorm(), graph)
    # An element sums `taps` products; a normalization rounds about five times. Both sides round,
    # each time by at most 2^-24 of the sum of magnitudes, which the majorant bounds.
    bound = 2 * (model.taps + 8 + 5 * model.depth) * 2.0**-24 * run(majorant(proto), np.abs(x))
    difference = run(proto, x).astype(np.float64) - run(serialize(graph), x)
    assert (np.abs(difference) <= bound).all()
