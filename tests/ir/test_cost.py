"""MACs and bytes of single nodes, with the arithmetic of each expectation in sight."""

from __future__ import annotations

import math

import pytest

from helpers import graph_from_text
from optc.ir import Attr, AttrKind, DType, Graph, TensorType, Value
from optc.ir.cost import bytes_moved, macs
from optc.ir.ops import MICROSOFT

F32 = DType.F32


def costs(text: str) -> tuple[int | None, int | None]:
    graph = graph_from_text(text)
    (node,) = graph.nodes()
    return macs(graph, node), bytes_moved(graph, node)


def contrib(
    op_type: str,
    operands: list[tuple[int, ...] | None],
    result: tuple[int, ...],
    **attributes: int | tuple[int, ...],
) -> int | None:
    graph = Graph("g", {"": 21, MICROSOFT: 1})
    values: list[Value | None] = [
        None if shape is None else graph.add_input(f"x{i}", TensorType(F32, shape))
        for i, shape in enumerate(operands)
    ]
    node = graph.add(
        op_type,
        values,
        outputs=["y"],
        domain=MICROSOFT,
        types=[TensorType(F32, result)],
        attributes={
            name: Attr(AttrKind.INTS if isinstance(value, tuple) else AttrKind.INT, value)
            for name, value in attributes.items()
        },
    )
    return macs(graph, node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "g (float[1,3,8,8] x, float[16,3,3,3] w) => (float[1,16,8,8] y)"
            " {y = Conv <pads=[1,1,1,1]> (x, w)}",
            16 * 8 * 8 * 3 * 3 * 3,
        ),
        (
            "g (float[1,8,8,8] x, float[8,1,3,3] w) => (float[1,8,6,6] y)"
            " {y = Conv <group=8> (x, w)}",
            8 * 6 * 6 * 3 * 3,
        ),
        (
            "g (float[2,4,5,5] x, float[4,3,2,2] w) => (float[2,3,6,6] y)"
            " {y = ConvTranspose (x, w)}",
            2 * 4 * 5 * 5 * 3 * 2 * 2,
        ),
        (
            "g (uint8[1,3,4,4] x, float s, uint8 z, int8[2,3,1,1] w, float t, int8 v, float u,"
            " uint8 q) => (uint8[1,2,4,4] y) {y = QLinearConv (x, s, z, w, t, v, u, q)}",
            2 * 4 * 4 * 3,
        ),
        ("g (float[7,2,3] a, float[3,5] b) => (float[7,2,5] y) {y = MatMul (a, b)}", 7 * 2 * 5 * 3),
        ("g (float[3] a, float[3] b) => (float y) {y = MatMul (a, b)}", 3),
        ("g (float[4,3] a, float[3,5] b) => (float[4,5] y) {y = Gemm (a, b)}", 4 * 5 * 3),
        (
            "g (float[3,4] a, float[3,5] b) => (float[4,5] y) {y = Gemm <transA=1> (a, b)}",
            4 * 5 * 3,
        ),
        (
            "g (float[2,3] a, float[3,5] b) => (float[2,5] y)"
            ' {y = Einsum <equation="ij,jk"> (a, b)}',
            2 * 3 * 5,
        ),
        (
            "g (float[7,2,3] a, float[3,5] b) => (float[7,2,5] y)"
            ' {y = Einsum <equation="...ij, jk -> ...ik"> (a, b)}',
            7 * 2 * 3 * 5,
        ),
        ('g (float[2,3] a) => (float[3,2] y) {y = Einsum <equation="ij->ji"> (a)}', 0),
        (
            "g (float[9,2,4] x, float[1,20,4] w, float[1,20,5] r) => (float[9,1,2,5] y)"
            " {y = LSTM <hidden_size=5> (x, w, r)}",
            9 * 2 * (20 * 4 + 20 * 5),
        ),
        ("g (float[2,3] x) => (float[2,3] y) {y = Relu (x)}", 0),
        ("g (float[N,3] x, float[3,4] w) => (float[N,4] y) {y = MatMul (x, w)}", None),
        ("g (float[N,3,8,8] x, float[4,3,1,1] w) => (float[N,4,8,8] y) {y = Conv (x, w)}", None),
        (
            "g (float[N,2] x, float[2,2] w) => (float[2] y)"
            ' {y = Einsum <equation="ij,jk->k"> (x, w)}',
            None,
        ),
    ],
)
def test_macs(text: str, expected: int | None) -> None:
    assert costs(text)[0] == expected


@pytest.mark.parametrize(
    ("operands", "past", "expected"),
    [
        # scores: B*Hq*Lq*Lk*d; their product with V: B*Hq*Lq*Lk*dv
        ("float[2,8,10,16] q, float[2,4,12,16] k, float[2,4,12,20] v", "", 2 * 8 * 10 * 12 * 36),
        (
            "float[2,8,10,16] q, float[2,4,12,16] k, float[2,4,12,20] v",
            ", float[2,4,30,16] pk, float[2,4,30,20] pv",
            2 * 8 * 10 * 42 * 36,
        ),
        ("float[2,10,128] q, float[2,12,64] k, float[2,12,80] v", "", 2 * 8 * 10 * 12 * 36),
        ("float[2,10,128] q, float[2,N,64] k, float[2,N,80] v", "", None),
    ],
)
def test_macs_of_attention(operands: str, past: str, expected: int | None) -> None:
    heads = "<q_num_heads=8, kv_num_heads=4>"
    names = "q, k, v" + (', "", pk, pv' if past else "")
    shape = "2,8,10,20" if "8,10,16" in operands else "2,10,160"
    attributes = "" if "8,10,16" in operands else heads
    text = f"""
        <ir_version: 10, opset_import: ["" : 23]>
        g ({operands}{past}) => (float[{shape}] y) {{
          y{", k1, v1" if past else ""} = Attention {attributes} ({names})
        }}"""
    graph = graph_from_text(text)
    assert macs(graph, next(graph.nodes())) == expected


def test_macs_of_contrib_operators() -> None:
    assert contrib("FusedMatMul", [(4, 3), (4, 5)], (3, 5), transA=1) == 3 * 5 * 4
    assert contrib("MatMulNBits", [(7, 64), (32, 2, 16), (64,)], (7, 32), K=64, N=32) == 7 * 32 * 64
    # projection 2*6*(16*48), then two products of 6 by 6 scores with 16 channels
    packed = 2 * 6 * 16 * 48 + 2 * 2 * 6 * 6 * 16
    assert contrib("Attention", [(2, 6, 16), (16, 48), (48,)], (2, 6, 16), num_heads=4) == packed
    sizes = 2 * 6 * 16 * 40 + 2 * 6 * 6 * (16 + 8)
    assert (
        contrib(
            "Attention",
            [(2, 6, 16), (16, 40), (40,)],
            (2, 6, 8),
            num_heads=4,
            qkv_hidden_sizes=(16, 16, 8),
        )
        == sizes
    )
    qkv = [(2, 6, 16), (2, 9, 16), (2, 9, 16)]
    assert contrib("MultiHeadAttention", [*qkv], (2, 6, 16), num_heads=4) == 2 * 6 * 9 * 32
    assert contrib("MultiHeadAttention", [(2, 6, 16), None, None], (2, 6, 16), num_heads=4) is None
    assert contrib("SparseAttention", [*qkv], (2, 6, 16), num_heads=4, kv_num_heads=4) is None


def test_nothing_is_claimed_of_unknown_operators_and_control_flow() -> None:
    assert contrib("Frobnicate", [(1,)], (1,)) is None
    text = """
        g (bool c, float[2] x) => (float[2] y) {
          y = If (c) <then_branch = t () => (float[2] a) { a = Relu (x) },
                      else_branch = e () => (float[2] b) { b = Abs (x) }>
        }"""
    found, moved = costs(text)
    assert found is None
    assert moved == 1 + 8 + 8  # the condition, the captured value, the result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[2,3] x, float[3] b) => (float[2,3] y) {y = Add (x, b)}", 4 * (6 + 3 + 6)),
        ("g (float[2,3] x) => (float[3,2] y) {y = Transpose (x)}", 4 * (6 + 6)),
        ("g (float[2,3] x, int64[1] s) => (float[6] y) {y = Reshape (x, s)}", 0),
        ("g (float[1000,4] x, int64[3] i) => (float[3,4] y) {y = Gather (x, i)}", 2 * 48 + 24),
        ("g (float[1000,4] x) => (int64[2] y) {y = Shape (x)}", 16),
        ("g (float[N,4] x) => (int64[2] y) {y = Shape (x)}", 16),
        ("g (float[N,4] x) => (float[N,4] y) {y = Relu (x)}", None),
        ("g (string[4] x) => (string[4] y) {y = Identity (x)}", 0),
        ("g (string[4] x, string[4] y) => (string[4] z) {z = StringConcat (x, y)}", None),
    ],
)
def test_bytes_moved(text: str, expected: int | None) -> None:
    assert costs(text)[1] == expected


def test_real_network_adds_up() -> None:
    graph = graph_from_text(
        """
        g (float[1,1,28,28] x, float[8,1,3,3] w, float[5408,10] v) => (float[1,10] y) {
          c = Conv (x, w)
          r = Relu (c)
          f = Flatten (r)
          y = Gemm (f, v)
        }"""
    )
    for name, shape in (("c", (1, 8, 26, 26)), ("r", (1, 8, 26, 26)), ("f", (1, 5408))):
        graph.set_type(graph.value(name), TensorType(F32, shape))
    total = sum(macs(graph, node) or 0 for node in graph.nodes())
    assert total == math.prod((8, 26, 26)) * 9 + 5408 * 10


def test_shapes_that_are_missing_give_no_count() -> None:
    for text in (
        "g (x, float[4,3,3,3] w) => (y) { y = ConvTranspose (x, w) }",
        "g (x, float[1,20,4] w, float[1,20,5] r) => (y) { y = LSTM <hidden_size=5> (x, w, r) }",
        "g (float[2,3] x, float[3,4] w) => (y) { y = MatMul (x, w) }",
    ):
        assert costs(text)[0] is None
    ranks = [(2, 6, 16), (2, 9, 16), (2, 4, 9, 4)]
    assert contrib("MultiHeadAttention", [*ranks], (2, 6, 16), num_heads=4) is None
    past = [(2, 6, 16), (16, 48), (48,), None, (2, 2, 4, 5, 4)]
    assert contrib("Attention", [*past], (2, 6, 16), num_heads=4) is None


def test_grouped_query_attention_with_packed_operands_and_with_a_cache() -> None:
    heads = {"num_heads": 8, "kv_num_heads": 2}
    plain = contrib(
        "GroupQueryAttention",
        [(1, 5, 8 * 16), (1, 5, 2 * 16), (1, 5, 2 * 16)],
        (1, 5, 128),
        **heads,
    )
    assert plain == 5 * 5 * 8 * 2 * 16
    packed = contrib("GroupQueryAttention", [(1, 5, 12 * 16)], (1, 5, 128), **heads)
    assert packed == plain
    cache = (1, 2, 7, 16)
    operands = [(1, 1, 128), (1, 1, 32), (1, 1, 32), cache, cache]
    assert contrib("GroupQueryAttention", [*operands], (1, 1, 128), **heads) == 8 * 8 * 2 * 16


def test_multi_head_attention_with_packed_keys_and_values() -> None:
    wanted = 2 * 5 * 7 * 2 * 64
    apart = contrib(
        "MultiHeadAttention", [(2, 5, 64), (2, 7, 64), (2, 7, 64)], (2, 5, 64), num_heads=4
    )
    packed = contrib("MultiHeadAttention", [(2, 5, 64), (2, 7, 4, 2, 16)], (2, 5, 64), num_heads=4)
    split = contrib(
        "MultiHeadAttention", [(2, 5, 64), (2, 4, 7, 16), (2, 4, 7, 16)], (2, 5, 64), num_heads=4
    )
    assert apart == packed == split == wanted
    all_in_one = contrib("MultiHeadAttention", [(2, 5, 4, 3, 16)], (2, 5, 64), num_heads=4)
    assert all_in_one == 2 * 5 * 5 * 2 * 64


def test_attention_with_grouped_heads() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[1,8,5,16] q, float[1,2,7,16] k, float[1,2,7,16] v) => (float[1,8,5,16] y)
    { y = Attention (q, k, v) }
    """
    flat = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[1,5,128] q, float[1,7,32] k, float[1,7,32] v) => (float[1,5,128] y)
    { y = Attention <q_num_heads = 8, kv_num_heads = 2> (q, k, v) }
    """
    assert costs(text)[0] == costs(flat)[0] == 8 * 5 * 7 * 2 * 16


def test_a_rotary_embedding_reads_the_rows_of_its_positions() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[1,4,5,16] x, float[512,8] c, float[512,8] s, int64[1,5] p) => (float[1,4,5,16] y)
    { y = RotaryEmbedding (x, c, s, p) }
    """
    assert costs(text) == (0, 2 * 4 * 4 * 5 * 16 + 2 * 4 * 5 * 8 + 8 * 5)
