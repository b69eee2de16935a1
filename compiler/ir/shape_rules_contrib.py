"""Shape rules of ONNX Runtime's contrib operators (domain ``com.microsoft``) that run on a CPU.

ONNX's own inference does not know them. Source: ContribOperators.md of ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import dims
from optc.ir.shape_rules import gemm, matmul, multiplied, same
from optc.ir.shape_rules_move import concatenated
from optc.ir.shape_rules_window import conv, global_pool, pool, qlinear_conv
from optc.ir.shape_site import normal_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.shape_site import Rule, Site
    from optc.ir.types import Dim, Shape

    Shapes = Sequence[Shape | None] | None


def fused_matmul(site: Site) -> Shapes:
    """FusedMatMul: MatMul of operands whose last two axes are perhaps swapped."""
    if site.integer("transBatchA") or site.integer("transBatchB"):
        return None
    a, b = site.shape(0), site.shape(1)
    if a is None or b is None:
        return None
    return multiplied(_swapped(a, site.integer("transA")), _swapped(b, site.integer("transB")))


def _swapped(shape: Shape, swap: int) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if swap and len(shape) > 1 else shape


def matmul_nbits(site: Site) -> Shapes:
    """MatMulNBits and its kin: the last axis becomes N."""
    shape, columns = site.shape(0), site.integer("N")
    return [(*shape[:-1], columns)] if shape and columns > 0 else None


def skip_norm(site: Site) -> Shapes:
    """SkipLayerNormalization: statistics keep all but the last axis; the sum has all."""
    shape = site.shape(0)
    if not shape:
        return None
    statistics = (*shape[:-1], 1)
    return [shape, statistics, statistics, shape]


def embed_norm(site: Site) -> Shapes:
    """EmbedLayerNormalization: ids [batch, sequence], word table [vocabulary, hidden]."""
    ids, table = site.shape(0), site.shape(2)
    if ids is None or len(ids) != 2 or not table:
        return None
    result = (*ids, table[-1])
    return [result, (ids[0],), result]


def attention(site: Site) -> Shapes:
    """Attention: [batch, sequence, hidden] with packed projection weights."""
    shape, weight = site.shape(0), site.shape(1)
    if shape is None or len(shape) != 3:
        return None
    sizes = site.int_list("qkv_hidden_sizes")
    hidden: Dim = sizes[2] if len(sizes) == 3 else None
    if not sizes and weight and len(weight) == 2:
        hidden = dims.floordiv(weight[1], 3)
    return [(*shape[:2], hidden)]


def multi_head_attention(site: Site) -> Shapes:
    """MultiHeadAttention: [batch, sequence, hidden of the values], when they are not packed."""
    query, value = site.shape(0), site.shape(2)
    if query is None or len(query) != 3 or value is None or len(value) not in (3, 4):
        return None
    hidden = value[2] if len(value) == 3 else dims.mul(value[1], value[3])
    return [(*query[:2], hidden)]


def grouped_attention(site: Site) -> Shapes:
    """GroupQueryAttention: the shape of the queries, when keys are not packed with them."""
    return None if site.value(1) is None else [site.shape(0)]


def expand_dims(site: Site) -> Shapes:
    """ExpandDims: one new axis."""
    shape, axes = site.shape(0), site.integers(1)
    if shape is None or axes is None or len(axes) != 1:
        return None
    axis = normal_axis(axes[0], len(shape) + 1)
    return None if axis is None else [(*shape[:axis], 1, *shape[axis:])]


def qlinear_binary(site: Site) -> Shapes:
    """QLinearAdd and QLinearMul: operands 0 and 3 broadcast."""
    return [dims.broadcast_shapes(site.shape(0), site.shape(3))]


def qlinear_where(site: Site) -> Shapes:
    """QLinearWhere: condition and operands 1 and 4 broadcast."""
    return [dims.broadcast_shapes(site.shape(0), site.shape(1), site.shape(4))]


def qlinear_concat(site: Site) -> Shapes:
    """QLinearConcat: scale and zero point of the result, then triples."""
    return concatenated(site.shapes()[2::3], site.integer("axis"))


def qgemm(site: Site) -> Shapes:
    """QGemm: as Gemm, the second matrix is operand 3."""
    a, b = site.shape(0), site.shape(3)
    rows = a[1 if site.integer("transA") else 0] if a and len(a) == 2 else None
    columns = b[0 if site.integer("transB") else 1] if b and len(b) == 2 else None
    return [(rows, columns)]


def _channels_first(rule: Rule) -> Rule:
    """The rule, for nodes that are not marked ``channels_last``."""
    return lambda site: None if site.integer("channels_last") else rule(site)


_SAME: Final = (
    "Gelu QuickGelu BiasGelu FastGelu BiasSoftmax GroupNorm Trilu RotaryEmbedding Inverse "
    "QuantizeLinear DequantizeLinear QLinearLeakyRelu QLinearSigmoid QLinearSoftmax"
)

RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(_SAME.split(), same),
    "FusedConv": conv,
    "QLinearConv": _channels_first(qlinear_conv),
    "QLinearAveragePool": _channels_first(pool),
    "QLinearGlobalAveragePool": _channels_first(global_pool),
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "GemmFastGelu": matmul,
    "MatMulIntegerToFloat": matmul,
    "DynamicQuantizeMatMul": matmul,
    "MatMulNBits": matmul_nbits,
    "MatMulBnb4": matmul_nbits,
    "FusedGemm": gemm,
    "QGemm": qgemm,
    "SkipLayerNormalization": skip_norm,
    "SkipSimplifiedLayerNormalization": skip_norm,
    "EmbedLayerNormalization": embed_norm,
    "Attention": attention,
    "MultiHeadAttention": multi_head_attention,
    "GroupQueryAttention": grouped_attention,
    "ExpandDims": expand_dims,
    "QLinearAdd": qlinear_binary,
    "QLinearMul": qlinear_binary,
    "QLinearWhere": qlinear_where,
    "QLinearConcat": qlinear_concat,
}

_FIRST: Final = (
    "Gelu QuickGelu BiasGelu FastGelu BiasSoftmax GroupNorm Trilu RotaryEmbedding Inverse "
    "QLinearLeakyRelu QLinearSigmoid QLinearSoftmax FusedConv QLinearAveragePool "
    "QLinearGlobalAveragePool FusedMatMul TransposeMatMul GemmFastGelu DynamicQuantizeMatMul "
    "MatMulNBits MatMulBnb4 FusedGemm SkipLayerNormalization SkipSimplifiedLayerNormalization "
    "Attention MultiHeadAttention GroupQueryAttention ExpandDims QLinearAdd QLinearMul"
)

DTYPE_OPERAND: Final[Mapping[str, int]] = {
    **dict.fromkeys(_FIRST.split(), 0),
    "QLinearConv": 7,
    "QLinearConcat": 1,
    "QLinearWhere": 1,
    "DequantizeLinear": 1,
    "EmbedLayerNormalization": 2,
    "MatMulIntegerToFloat": 2,
    "QuantizeLinear": 2,
}
"""The operand that has the element type of the first result."""
