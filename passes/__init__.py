"""The passes, one file each. `ALL_PASSES` is the registry: recipes and documents are made from it.

Third parties add passes by the entry-point group ``optc.passes``; see `optc.recipe`.
"""

from optc.passes.assign_precision import AssignPrecision
from optc.passes.base import Pass, PassContext, PassOptions, PassResult, RewritePass
from optc.passes.cast_bf16 import CastBf16
from optc.passes.cast_interface import CastInterface
from optc.passes.common_factors import CommonFactors
from optc.passes.correct_bias import CorrectBias
from optc.passes.describe import describe
from optc.passes.equalize_channels import EqualizeChannels
from optc.passes.fall_back import FallBack
from optc.passes.fold_affine import FoldAffine
from optc.passes.fold_batchnorm import FoldBatchnorm
from optc.passes.fold_branches import FoldBranches
from optc.passes.fold_constants import FoldConstants
from optc.passes.fold_norm_scale import FoldNormScale
from optc.passes.fold_pads import FoldPads
from optc.passes.fold_shapes import FoldShapes
from optc.passes.freeze_initializers import FreezeInitializers
from optc.passes.fuse_convolutions import FuseConvolutions
from optc.passes.fuse_requantize import FuseRequantize
from optc.passes.fuse_siblings import FuseSiblings
from optc.passes.fuse_transpose_matmul import FuseTransposeMatmul
from optc.passes.guard_convolutions import GuardConvolutions
from optc.passes.hoist_lookups import HoistLookups
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_affine import LowerAffine
from optc.passes.lower_conv_transpose import LowerConvTranspose
from optc.passes.lower_operators import LowerOperators
from optc.passes.lower_pads import LowerPads
from optc.passes.merge_casts import MergeCasts
from optc.passes.merge_reshapes import MergeReshapes
from optc.passes.merge_resizes import MergeResizes
from optc.passes.merge_slices import MergeSlices
from optc.passes.merge_transposes import MergeTransposes
from optc.passes.merge_upsampling import MergeUpsampling
from optc.passes.move_affine import MoveAffine
from optc.passes.move_transposes import MoveTransposes
from optc.passes.narrow_dequantize import NarrowDequantize
from optc.passes.omit_zero_points import OmitZeroPoints
from optc.passes.orient_convolutions import OrientConvolutions
from optc.passes.pad_kernels import PadKernels
from optc.passes.quantize_int8 import QuantizeInt8
from optc.passes.raise_activations import RaiseActivations
from optc.passes.raise_attention import RaiseAttention
from optc.passes.raise_gather import RaiseGather
from optc.passes.raise_gemm import RaiseGemm
from optc.passes.raise_group_norms import RaiseGroupNorms
from optc.passes.raise_matmul import RaiseMatmul
from optc.passes.raise_norms import RaiseNorms
from optc.passes.raise_pools import RaisePools
from optc.passes.raise_rotary import RaiseRotary
from optc.passes.raise_shuffles import RaiseShuffles
from optc.passes.raise_softmax import RaiseSoftmax
from optc.passes.raise_split import RaiseSplit
from optc.passes.remove_broadcasts import RemoveBroadcasts
from optc.passes.remove_dead import RemoveDead
from optc.passes.remove_duplicates import RemoveDuplicates
from optc.passes.remove_identity import RemoveIdentity
from optc.passes.round_weights import RoundWeights
from optc.passes.smooth_activations import SmoothActivations
from optc.passes.split_outliers import SplitOutliers
from optc.passes.unroll_loops import UnrollLoops
from optc.passes.upgrade_opset import UpgradeOpset
from optc.passes.widen_convolutions import WidenConvolutions

ALL_PASSES: tuple[type[Pass], ...] = (
    FreezeInitializers,
    InferShapes,
    FoldConstants,
    FoldShapes,
    RemoveDead,
    RemoveIdentity,
    RemoveDuplicates,
    MergeTransposes,
    MergeUpsampling,
    FoldBatchnorm,
    FoldAffine,
    RaiseGemm,
    MoveAffine,
    FoldNormScale,
    FuseConvolutions,
    FuseSiblings,
    CommonFactors,
    UpgradeOpset,
    LowerAffine,
    LowerConvTranspose,
    LowerPads,
    PadKernels,
    GuardConvolutions,
    OmitZeroPoints,
    LowerOperators,
    RaiseActivations,
    RaiseNorms,
    RaiseGroupNorms,
    RaiseSoftmax,
    RaiseRotary,
    RaiseAttention,
    RaiseGather,
    RaiseMatmul,
    HoistLookups,
    OrientConvolutions,
    WidenConvolutions,
    MoveTransposes,
    RaiseSplit,
    RaisePools,
    MergeReshapes,
    MergeCasts,
    MergeResizes,
    FoldPads,
    RemoveBroadcasts,
    FuseTransposeMatmul,
    MergeSlices,
    RaiseShuffles,
    FoldBranches,
    UnrollLoops,
    QuantizeInt8,
    AssignPrecision,
    CastBf16,
    CastInterface,
    NarrowDequantize,
    FuseRequantize,
    EqualizeChannels,
    SmoothActivations,
    SplitOutliers,
    RoundWeights,
    CorrectBias,
    FallBack,
)

__all__ = [
    "ALL_PASSES",
    "AssignPrecision",
    "CastBf16",
    "CastInterface",
    "CommonFactors",
    "CorrectBias",
    "EqualizeChannels",
    "FallBack",
    "FoldAffine",
    "FoldBatchnorm",
    "FoldBranches",
    "FoldConstants",
    "FoldNormScale",
    "FoldPads",
    "FoldShapes",
    "FreezeInitializers",
    "FuseConvolutions",
    "FuseRequantize",
    "FuseSiblings",
    "FuseTransposeMatmul",
    "GuardConvolutions",
    "HoistLookups",
    "InferShapes",
    "LowerAffine",
    "LowerConvTranspose",
    "LowerOperators",
    "LowerPads",
    "MergeCasts",
    "MergeReshapes",
    "MergeResizes",
    "MergeSlices",
    "MergeTransposes",
    "MergeUpsampling",
    "MoveAffine",
    "MoveTransposes",
    "NarrowDequantize",
    "OmitZeroPoints",
    "OrientConvolutions",
    "PadKernels",
    "Pass",
    "PassContext",
    "PassOptions",
    "PassResult",
    "QuantizeInt8",
    "RaiseActivations",
    "RaiseAttention",
    "RaiseGather",
    "RaiseGemm",
    "RaiseGroupNorms",
    "RaiseMatmul",
    "RaiseNorms",
    "RaisePools",
    "RaiseRotary",
    "RaiseShuffles",
    "RaiseSoftmax",
    "RaiseSplit",
    "RemoveBroadcasts",
    "RemoveDead",
    "RemoveDuplicates",
    "RemoveIdentity",
    "RewritePass",
    "RoundWeights",
    "SmoothActivations",
    "SplitOutliers",
    "UnrollLoops",
    "UpgradeOpset",
    "WidenConvolutions",
    "describe",
]
