"""What optc knows about operators: traits here, signatures from the ONNX operator schemas.

The one table of op knowledge. Passes ask for a trait instead of listing operator names, so a new
operator is one row here. An operator that is not in the table is never folded, merged or moved.
Arity, attributes, defaults and type constraints are not repeated: `schema` reads them from
`onnx.defs`. What a node costs is in `optc.ir.cost`.

Source of the traits: the ONNX operator pages, and the contrib operator page of ONNX Runtime for
the domain ``com.microsoft``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from optc.ir.nodes import CANONICAL, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx.defs import OpSchema

    from optc.ir.graph import Graph
    from optc.ir.model import Function
    from optc.ir.nodes import Node

    _Functions: TypeAlias = Mapping[tuple[str, str, str], Function]

ML: Final = "ai.onnx.ml"
MICROSOFT: Final = "com.microsoft"


class Trait(Flag):
    """What holds for an operator whatever its attributes, unless the trait says "may"."""

    NONE = 0
    ELEMENTWISE = auto()
    """An output element depends on the elements at its place in the broadcast operands only."""
    UNARY = auto()
    """Elementwise in operand 0 alone: its shape is the result's, other operands are parameters."""
    COMMUTATIVE = auto()
    """Operands may be permuted, and the result keeps every bit (so Sum, which rounds, is not)."""
    DATA_MOVEMENT = auto()
    """Result elements are operand elements or a fill value: moved, not computed."""
    REDUCTION = auto()
    """Reduces whole axes of operand 0 to one element, or drops them."""
    POOLING = auto()
    """Reduces windows or regions of the spatial axes of operand 0."""
    NORMALIZATION = auto()
    """Scales by a statistic of the operand, e.g. Softmax. Not BatchNormalization: an affine map."""
    MAC = auto()
    """Time goes into multiply-accumulates: the convolution, matmul, recurrent, attention family."""
    RANDOM = auto()
    """May give other results on each run; `is_deterministic` decides for one node."""
    CONTROL_FLOW = auto()
    """Runs subgraphs."""
    QUANTIZE = auto()
    """Converts between real and quantized numbers, or is computed on quantized ones."""
    GROWS = auto()
    """Generates or repeats data: the result may be far larger than all operands together."""
    SELECTS = auto()
    """Result elements are operand elements, their negatives or zero: chosen, nothing is rounded."""
    SHAPE_ONLY = auto()
    """Depends on the shape of operand 0, not on its elements."""


@dataclass(frozen=True, slots=True)
class OpInfo:
    """One row of the table.

    Attributes:
        op_type: operator name; empty for operators that optc does not know.
        domain: operator domain, empty for ONNX's own.
        traits: what holds for it.
        known: False for an operator that is not in the table: nothing may be assumed about it.
    """

    op_type: str
    domain: str
    traits: Trait
    known: bool = True

    def has(self, traits: Trait) -> bool:
        """Whether it has all these traits."""
        return traits in self.traits


UNKNOWN: Final = OpInfo("", "", Trait.NONE, known=False)
"""The row of every operator that is not in the table."""

_E, _U, _C = Trait.ELEMENTWISE, Trait.UNARY, Trait.COMMUTATIVE
_MOVE, _GROWS, _RANDOM, _QUANTIZE = (
    Trait.DATA_MOVEMENT,
    Trait.GROWS,
    Trait.RANDOM,
    Trait.QUANTIZE,
)

_ROWS: Final[tuple[tuple[str, Trait, str], ...]] = (
    # ---- ONNX's own domain, all versions -------------------------------------------------------
    ("", _E | _U, "Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log"),
    ("", _E | _U | Trait.SELECTS, "Abs Neg Relu Clip"),
    ("", _E | _U, "Reciprocal Round Sign Sin Sinh Sqrt Tan Tanh IsInf IsNaN Not BitwiseNot"),
    ("", _E | _U, "Celu Elu Gelu HardSigmoid HardSwish LeakyRelu Mish Selu Shrink"),
    ("", _E | _U, "Sigmoid Softplus Softsign Swish ThresholdedRelu RegexFullMatch"),
    ("", _E | _U, "Cast CastLike BitCast"),
    ("", _E | _U | _MOVE, "Identity"),
    ("", _E | _U | _RANDOM, "Bernoulli Dropout"),
    ("", _E | _C, "Add Mul And Or Xor BitwiseAnd BitwiseOr BitwiseXor Equal"),
    ("", _E | _C | Trait.SELECTS, "Max Min"),
    ("", _E, "Sub Div Pow Mod BitShift PRelu SwiGLU Sum Mean StringConcat"),
    ("", _E, "Greater GreaterOrEqual Less LessOrEqual"),
    ("", _E | _MOVE, "Where"),
    ("", _MOVE, "Reshape Transpose Squeeze Unsqueeze Flatten Concat Split Slice"),
    ("", _MOVE, "Gather GatherElements GatherND Scatter ScatterElements ScatterND TensorScatter"),
    ("", _MOVE, "DepthToSpace SpaceToDepth ReverseSequence Compress Trilu"),
    ("", _MOVE | _GROWS, "Expand Tile Pad CenterCropPad MaxUnpool"),
    ("", Trait.REDUCTION, "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean"),
    ("", Trait.REDUCTION, "ReduceProd ReduceSum ReduceSumSquare ArgMax ArgMin"),
    ("", Trait.REDUCTION | Trait.SELECTS, "ReduceMax ReduceMin"),
    ("", Trait.REDUCTION | Trait.POOLING, "GlobalAveragePool GlobalLpPool"),
    ("", Trait.REDUCTION | Trait.POOLING | Trait.SELECTS, "GlobalMaxPool"),
    ("", Trait.POOLING, "AveragePool LpPool MaxRoiPool RoiAlign"),
    ("", Trait.POOLING | Trait.SELECTS, "MaxPool"),
    ("", Trait.NORMALIZATION, "Softmax LogSoftmax LayerNormalization RMSNormalization LRN"),
    ("", Trait.NORMALIZATION, "GroupNormalization InstanceNormalization LpNormalization"),
    ("", Trait.NORMALIZATION, "MeanVarianceNormalization"),
    ("", Trait.MAC, "Conv ConvTranspose DeformConv CausalConvWithState MatMul Gemm Einsum"),
    ("", Trait.MAC, "LSTM GRU RNN Attention LinearAttention"),
    ("", Trait.MAC | _QUANTIZE, "ConvInteger MatMulInteger QLinearConv QLinearMatMul"),
    ("", _QUANTIZE, "QuantizeLinear DequantizeLinear DynamicQuantizeLinear"),
    ("", _RANDOM | _GROWS, "RandomNormal RandomUniform Multinomial"),
    ("", _RANDOM | Trait.SHAPE_ONLY, "RandomNormalLike RandomUniformLike"),
    ("", Trait.SHAPE_ONLY, "Shape Size"),
    ("", Trait.SHAPE_ONLY | _GROWS, "EyeLike"),
    ("", _GROWS, "ConstantOfShape Range OneHot Resize Upsample AffineGrid ImageDecoder"),
    ("", _GROWS, "BlackmanWindow HammingWindow HannWindow MelWeightMatrix"),
    ("", Trait.CONTROL_FLOW, "If Loop Scan SequenceMap"),
    ("", Trait.NONE, "Constant BatchNormalization RotaryEmbedding GridSample Col2Im DFT STFT Det"),
    ("", Trait.NONE, "CumSum CumProd Hardmax TopK Unique NonZero NonMaxSuppression"),
    ("", Trait.NONE, "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"),
    ("", Trait.NONE, "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert"),
    ("", Trait.NONE, "SequenceLength SplitToSequence ConcatFromSequence"),
    ("", Trait.NONE, "Optional OptionalGetElement OptionalHasElement"),
    ("", Trait.NONE, "StringNormalizer StringSplit TfIdfVectorizer"),
    ("", Trait.NORMALIZATION, "SimplifiedLayerNormalization"),  # see SCHEMALESS
    ("ai.onnx.preview", Trait.MAC | Trait.CONTROL_FLOW, "FlexAttention"),
    ("ai.onnx.preview.training", Trait.NONE, "Adagrad Adam Momentum"),
    # ---- ONNX-ML -------------------------------------------------------------------------------
    (ML, _E | _U, "Binarizer CategoryMapper LabelEncoder"),
    (ML, _MOVE, "ArrayFeatureExtractor"),
    (ML, Trait.NORMALIZATION, "Normalizer"),
    (ML, _GROWS, "OneHotEncoder"),
    (ML, Trait.NONE, "CastMap DictVectorizer FeatureVectorizer Imputer Scaler ZipMap"),
    (ML, Trait.NONE, "LinearClassifier LinearRegressor SVMClassifier SVMRegressor"),
    (ML, Trait.NONE, "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor"),
    # ---- ONNX Runtime contrib operators that run on a CPU --------------------------------------
    (MICROSOFT, _E | _U, "Gelu QuickGelu"),
    (MICROSOFT, _E, "BiasGelu FastGelu"),
    (MICROSOFT, _MOVE, "ExpandDims Trilu"),
    (MICROSOFT, _MOVE | _GROWS, "Pad"),
    (MICROSOFT, _GROWS, "Range"),
    (MICROSOFT, Trait.NORMALIZATION, "BiasSoftmax EmbedLayerNormalization GroupNorm SkipGroupNorm"),
    (MICROSOFT, Trait.NORMALIZATION, "SkipLayerNormalization SkipSimplifiedLayerNormalization"),
    (MICROSOFT, Trait.MAC, "FusedConv NhwcFusedConv FusedMatMul TransposeMatMul FusedGemm"),
    (MICROSOFT, Trait.MAC, "FusedMatMulActivation GemmFastGelu AttnLSTM"),
    (MICROSOFT, Trait.MAC, "Attention MultiHeadAttention GroupQueryAttention"),
    (MICROSOFT, Trait.MAC, "DecoderMaskedMultiHeadAttention SparseAttention"),
    (MICROSOFT, Trait.MAC | _QUANTIZE, "MatMulIntegerToFloat DynamicQuantizeMatMul"),
    (MICROSOFT, Trait.MAC | _QUANTIZE, "QLinearConv QGemm QAttention DynamicQuantizeLSTM"),
    (MICROSOFT, Trait.MAC | _QUANTIZE, "MatMulInteger16 MatMulNBits MatMulBnb4 MatMulFpQ4"),
    (MICROSOFT, _QUANTIZE, "QuantizeLinear DequantizeLinear GatherBlockQuantized"),
    (MICROSOFT, _QUANTIZE, "QLinearAdd QLinearMul QLinearLeakyRelu QLinearSigmoid QLinearSoftmax"),
    (MICROSOFT, _QUANTIZE, "QLinearConcat QLinearWhere QLinearAveragePool QLinearReduceMean"),
    (MICROSOFT, _QUANTIZE, "QLinearGlobalAveragePool QEmbedLayerNormalization MulInteger"),
    (MICROSOFT, Trait.NONE, "RotaryEmbedding Inverse CDist Irfft Rfft GridSample"),
)

OPS: Final[Mapping[tuple[str, str], OpInfo]] = MappingProxyType(
    {
        (domain, name): OpInfo(name, domain, traits)
        for domain, traits, names in _ROWS
        for name in names.split()
    }
)
"""Every known operator, by (domain, operator name)."""

SCHEMALESS: Final = frozenset(
    {
        "ATen",
        "Affine",
        "ConstantFill",
        "Crop",
        "DynamicSlice",
        "GRUUnit",
        "GivenTensorFill",
        "ImageScaler",
        "LayerNormalization",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
    }
)
"""Operators that models use in ONNX's own domain where ONNX has no schema for them.

ONNX Runtime has its own LayerNormalization below opset 17 and SimplifiedLayerNormalization; the
others are from before ONNX had versions, and onnx.checker lets them pass.
"""

_REDUCING: Final = frozenset({"ScatterElements", "ScatterND"})


def info(node: Node) -> OpInfo:
    """What holds for a node; `UNKNOWN` unless the table knows its operator.

    A scatter that reduces (attribute `reduction`) computes, so it is no data movement.
    """
    if node.kind is not Kind.OP or node.overload:
        return UNKNOWN
    found = OPS.get(node.operator, UNKNOWN)
    if found.op_type in _REDUCING and node.get("reduction", b"none") != b"none":
        return OpInfo(found.op_type, found.domain, Trait.NONE)
    return found


def is_deterministic(graph: Graph, node: Node) -> bool:
    """Whether equal operands always give equal results.

    True only when it is certain. Subgraphs and model-local functions are looked into; Dropout
    counts as random unless it is in inference mode.
    """
    return _is_deterministic(graph, node, graph.model.functions, ())


def _is_deterministic(
    graph: Graph, node: Node, functions: _Functions, calls: tuple[Graph, ...]
) -> bool:
    function = functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        body = function.body
        return body not in calls and _all_deterministic(body, functions, (*calls, body))
    traits = info(node)
    if not traits.known:
        return False
    if node.is_op("Dropout"):
        return is_inference_dropout(graph, node)
    if traits.has(Trait.RANDOM):
        return False
    return all(_all_deterministic(inner, functions, calls) for _, inner in node.subgraphs())


def _all_deterministic(graph: Graph, functions: _Functions, calls: tuple[Graph, ...]) -> bool:
    return all(_is_deterministic(graph, node, functions, calls) for node in graph.nodes())


def is_inference_dropout(graph: Graph, node: Node) -> bool:
    """Whether a Dropout passes its operand through.

    Since opset 12 the operand `training_mode` decides (left out: inference); Dropout-7 and -10
    are inference only; before, the attribute `is_test` decides.
    """
    mode = graph.operand(node, 2)
    if mode is not None:
        return mode.constant is not None and not mode.constant.numpy().any()
    return graph.opset >= 7 or bool(attribute(graph, node, "is_test"))


# ---- schemas -----------------------------------------------------------------------------------


@cache
def schema(op_type: str, domain: str, opset: int) -> OpSchema | None:
    """The schema of an operator as of this opset version of its domain, or None.

    A schema may be marked `deprecated`. A version newer than the installed onnx package knows
    gives the newest schema, and so does the domain of canonical operations.
    """
    from onnx import defs

    if domain == CANONICAL:
        opset, domain = defs.onnx_opset_version(), ""
    try:
        return defs.get_schema(op_type, opset, domain)
    except defs.SchemaError:
        return None


def since(op_type: str, opset: int, domain: str = "") -> int | None:
    """The opset version that introduced the form of this operator which `opset` uses, or None."""
    found = schema(op_type, domain, opset)
    return None if found is None else int(found.since_version)


def version(graph: Graph, node: Node) -> int:
    """The opset version that a node's operator is of; 0 when its domain is not imported."""
    return newest_opset() if node.is_canonical else graph.opsets.get(node.domain, 0)


@cache
def newest_opset() -> int:
    """The newest version of ONNX's own domain that the installed onnx package knows."""
    from onnx import defs

    return int(defs.onnx_opset_version())


_FORM_SINCE: Final[Mapping[str, int]] = MappingProxyType({"GroupNormalization": 21})
"""Opsets that brought the form that passes write, where an older one has another meaning."""


def domain_of(graph: Graph, op_type: str) -> str:
    """Where a pass writes an operator of ONNX's own domain: there, or as a canonical one.

    A name that ONNX does not have is taken as it is.
    """
    first = _FORM_SINCE.get(op_type) or first_opset(op_type)
    return CANONICAL if first is not None and first > graph.opset else ""


def first_opset(op_type: str, domain: str = "") -> int | None:
    """The opset version in which the operator appeared, or None when it is not a standard one."""
    return _first_opsets().get((domain, op_type))


@cache
def _first_opsets() -> Mapping[tuple[str, str], int]:
    from onnx import defs

    found: dict[tuple[str, str], int] = {}
    for entry in defs.get_all_schemas_with_history():
        key = (entry.domain, entry.name)
        found[key] = min(entry.since_version, found.get(key, entry.since_version))
    return MappingProxyType(found)


def attribute(graph: Graph, node: Node, name: str) -> Any:
    """The value of an attribute: as written, else the schema's default at the graph's opset.

    Strings are bytes, lists are tuples. None when the attribute is neither written nor has a
    default, and for one that a function call supplies.
    """
    written = node.attributes.get(name)
    if written is not None:
        return written.value
    return _defaults(node.op_type, node.domain, version(graph, node)).get(name)


@cache
def _defaults(op_type: str, domain: str, opset: int) -> Mapping[str, Any]:
    found = schema(op_type, domain, opset)
    if found is None:
        return {}
    values = {name: _default(entry) for name, entry in found.attributes.items()}
    return {name: value for name, value in values.items() if value is not None}


def _default(entry: OpSchema.Attribute) -> Any:
    # The schema keeps a default as an attribute message; its populated field depends on the type.
    message = entry.default_value
    field = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}.get(message.type)
    if field is None:
        return None
    value = getattr(message, field)
    return tuple(value) if message.type >= 6 else value
