"""Operations that stay float32 under `INFERENCE_PRECISION_HINT: bf16`, where their mark gets lost.

The CPU plugin goes by a mark on each operation (`optc.emit.irxml`). Two of its own passes lose it:

- Softmax of opset 8 is fused with the products around it, or rebuilt without the mark. Softmax of
  opset 1 computes the same, and neither happens.
- A bias is fused into a product with constant weights, and the product that comes out of that has
  no mark. A Clamp to all finite numbers in between, marked as well, prevents the fusion; later the
  Clamp, the bias and what follows all become part of the product's kernel.

Measured on version 2026.4.1 on Cascade Lake; `lost_marks` in ``targets/runtimes/openvino.yaml``
lists the operators for which nothing of the kind is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.numerics.backends import import_openvino

if TYPE_CHECKING:
    from collections.abc import Collection

_FINITE: Final = float(np.finfo(np.float32).max)


def protect(model: Any, keep_f32: Collection[str], labels: Collection[str]) -> None:
    """Rewrite operations that are to be marked so that their marks hold; computes the same.

    Args:
        model: an ``openvino.Model`` as it was read from ONNX, before any pass fuses its operations.
        keep_f32: labels of the operations that are to be marked.
        labels: labels of all operations.
    """
    import_openvino()
    for op in list(model.get_ordered_ops()):
        if _owner(op.get_friendly_name(), labels) not in keep_f32:
            continue
        kind = op.get_type_name()
        if kind == "Softmax" and op.get_type_info().version_id == "opset8":
            _older_softmax(op)
        elif kind == "MatMul" and _has_bias(op):
            _clamp(op)


def _owner(name: str, labels: Collection[str]) -> str:
    """The operation that an operation of this name was made from: the longest head of the name."""
    while name and name not in labels:
        name = name.rpartition("/")[0]
    return name


def _older_softmax(op: Any) -> None:
    from openvino import opset1

    rank = op.get_output_partial_shape(0).rank
    axis = op.get_attributes()["axis"]
    if axis < 0 and rank.is_dynamic:
        return
    made = opset1.softmax(op.input_value(0), axis if axis >= 0 else axis + rank.get_length())
    made.set_friendly_name(op.get_friendly_name())
    made.output(0).set_names(op.output(0).get_names())
    _move_uses(op, made)


def _has_bias(op: Any) -> bool:
    """Whether a product with constant weights is scaled and shifted, and used for nothing else."""
    uses = list(op.output(0).get_target_inputs())
    if op.input_value(1).get_node().get_type_name() != "Constant" or len(uses) != 1:
        return False
    user = uses[0].get_node()
    kind = user.get_type_name()
    return kind == "Add" or (kind == "Multiply" and _has_constant(user) and _feeds_add(user))


def _has_constant(op: Any) -> bool:
    return any(v.get_node().get_type_name() == "Constant" for v in op.input_values())


def _feeds_add(op: Any) -> bool:
    uses = list(op.output(0).get_target_inputs())
    return len(uses) == 1 and uses[0].get_node().get_type_name() == "Add"


def _clamp(op: Any) -> None:
    from openvino import opset1

    uses = list(op.output(0).get_target_inputs())
    made = opset1.clamp(op.output(0), -_FINITE, _FINITE)
    made.set_friendly_name(f"{op.get_friendly_name()}/Clamp")
    for use in uses:
        use.replace_source_output(made.output(0))


def _move_uses(old: Any, new: Any) -> None:
    for use in list(old.output(0).get_target_inputs()):
        use.replace_source_output(new.output(0))
