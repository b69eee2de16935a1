"""The passes, one file each. `ALL_PASSES` is the registry: recipes and documents are made from it.

Third parties add passes by the entry-point group ``optc.passes``; see `optc.recipe`.
"""

from optc.passes.base import Pass, PassContext, PassOptions, PassResult, RewritePass
from optc.passes.describe import describe
from optc.passes.fold_affine import FoldAffine
from optc.passes.fold_batchnorm import FoldBatchnorm
from optc.passes.fold_constants import FoldConstants
from optc.passes.fold_shapes import FoldShapes
from optc.passes.freeze_initializers import FreezeInitializers
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_operators import LowerOperators
from optc.passes.merge_transposes import MergeTransposes
from optc.passes.move_affine import MoveAffine
from optc.passes.orient_convolutions import OrientConvolutions
from optc.passes.remove_dead import RemoveDead
from optc.passes.remove_duplicates import RemoveDuplicates
from optc.passes.remove_identity import RemoveIdentity
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
    FoldBatchnorm,
    FoldAffine,
    MoveAffine,
    UpgradeOpset,
    LowerOperators,
    OrientConvolutions,
    WidenConvolutions,
)

__all__ = [
    "ALL_PASSES",
    "FoldAffine",
    "FoldBatchnorm",
    "FoldConstants",
    "FoldShapes",
    "FreezeInitializers",
    "InferShapes",
    "LowerOperators",
    "MergeTransposes",
    "MoveAffine",
    "OrientConvolutions",
    "Pass",
    "PassContext",
    "PassOptions",
    "PassResult",
    "RemoveDead",
    "RemoveDuplicates",
    "RemoveIdentity",
    "RewritePass",
    "UpgradeOpset",
    "WidenConvolutions",
    "describe",
]
