"""Operations that stay float32 under `INFERENCE_PRECISION_HINT: bf16`, where their mark gets lost.

The CPU plugin goes by a mark on each operation (`optc.emit.irxml`). What it puts in the place of an
operation has none:

- Operations of newer opsets are replaced by those of older ones, where their kernels are; Softmax
  of opset 8 also by fusion with the products around it. So the older operation is written where it
  computes the same: Softmax-1, MaxPool-1, Pad-1, Broadcast-1, Interpolate-4.
- a / b becomes a * b^-1, and a - b becomes a + b * -1. So that is what is written, with a PRelu of
  slope 1 around b^-1 and b * -1, which changes nothing and prevents that it is made a division or
  subtraction again.
- A bias is fused into a product with constant weights. A Clamp to all finite numbers in between,
  marked as well, prevents the fusion; later the Clamp, the bias and what follows all become part of
  the product's kernel.

Measured on version 2026.4.1 on Cascade Lake and Zen 4; `lost_marks` in
``targets/runtimes/openvino.yaml`` lists the operators for which nothing of the kind is known, and
tests/emit/test_openvino_marks.py holds both against the runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.numerics.backends import import_openvino

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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
        info = op.get_type_info()
        if form := _FORMS.get((info.name, info.version_id)):
            _replace(op, form(op))
        elif info.name == "MatMul" and _has_bias(op):
            _clamp(op)


def _owner(name: str, labels: Collection[str]) -> str:
    """The operation that an operation of this name was made from: the longest head of the name."""
    while name and name not in labels:
        name = name.rpartition("/")[0]
    return name


def _replace(op: Any, made: Any) -> None:
    """Let an operation take the place and the names of another; None: there is none that could."""
    if made is None:
        return
    made.set_friendly_name(op.get_friendly_name())
    made.output(0).set_names(op.output(0).get_names())
    for use in list(op.output(0).get_target_inputs()):
        use.replace_source_output(made.output(0))


# ---- other forms -------------------------------------------------------------------------------


def _softmax(op: Any) -> Any:
    from openvino import opset1

    rank = op.get_output_partial_shape(0).rank
    axis = op.get_attributes()["axis"]
    if axis < 0 and rank.is_dynamic:
        return None
    return opset1.softmax(op.input_value(0), axis if axis >= 0 else axis + rank.get_length())


def _max_pool(op: Any) -> Any:
    from openvino import opset1

    known = op.get_attributes()
    if op.output(1).get_target_inputs() or set(known["dilations"]) != {1}:
        return None
    if known["rounding_type"] not in ("floor", "ceil"):
        return None
    return opset1.max_pool(
        op.input_value(0),
        known["strides"],
        known["pads_begin"],
        known["pads_end"],
        known["kernel"],
        known["rounding_type"],
        known["auto_pad"],
    )


def _pad(op: Any) -> Any:
    from openvino import opset1

    sizes = [_constant(op, index) for index in (1, 2)]
    if any(found is None or (found < 0).any() for found in sizes):
        return None  # the older one cuts nothing off
    fill = op.input_value(3) if op.get_input_size() > 3 else None
    operands = (op.input_value(index) for index in range(3))
    return opset1.pad(*operands, op.get_attributes()["pad_mode"], fill)


def _broadcast(op: Any) -> Any:
    from openvino import opset1

    shape = op.get_output_partial_shape(0)
    if not shape.is_static or op.get_attributes()["mode"] not in ("numpy", "bidirectional"):
        return None
    return opset1.broadcast(op.input_value(0), np.array(list(shape.to_shape()), np.int64))


def _interpolate(op: Any) -> Any:
    from openvino import opset10

    known = op.get_attributes()
    count = op.get_input_partial_shape(1)
    rank = op.get_input_partial_shape(0).rank
    is_size = known["shape_calculation_mode"] == "sizes"
    if count.is_dynamic or known["mode"] not in ("nearest", "linear", "linear_onnx", "cubic"):
        return None
    if op.get_input_size() < 3 and rank.is_dynamic:
        return None
    number = count.to_shape()[0]
    # The older one has both operands, and by its mode looks at one of them.
    sizes = op.input_value(1) if is_size else np.ones(number, np.int64)
    scales = np.ones(number, np.float32) if is_size else op.input_value(1)
    axes = op.input_value(2) if op.get_input_size() > 2 else np.arange(number, dtype=np.int64)
    options = {name: known[name] for name in _INTERPOLATION}
    return opset10.interpolate(op.input_value(0), sizes, scales, axes=axes, **options)


def _quotient(op: Any) -> Any:
    from openvino import opset1

    if op.get_output_element_type(0) != import_openvino().Type.f32:
        return None
    above, below = _constant(op, 0), _constant(op, 1)
    if below is not None:
        with np.errstate(divide="ignore"):
            return opset1.multiply(op.input_value(0), np.float32(1) / below)
    inverse = opset1.power(op.input_value(1), np.float32(-1))
    if above is not None and above.size == 1 and above.item() == 1:
        return inverse
    return opset1.multiply(op.input_value(0), _kept(op, inverse))


def _difference(op: Any) -> Any:
    from openvino import opset1

    if op.get_output_element_type(0) != import_openvino().Type.f32:
        return None
    taken = _constant(op, 1)
    if taken is not None:
        return opset1.add(op.input_value(0), -taken)
    negative = opset1.multiply(op.input_value(1), np.float32(-1))
    return opset1.add(op.input_value(0), _kept(op, negative))


def _kept(op: Any, made: Any) -> Any:
    """What an operation is made of first, so that no pass makes it that operation again."""
    from openvino import opset1

    name = op.get_friendly_name()
    made.set_friendly_name(f"{name}/{made.get_type_name()}")
    same = opset1.prelu(made, np.ones(1, np.float32))
    same.set_friendly_name(f"{name}/PRelu")
    return same


def _constant(op: Any, index: int) -> Any:
    """An operand as array, where it is a constant."""
    node = op.input_value(index).get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


_INTERPOLATION: Final = (
    "mode",
    "shape_calculation_mode",
    "pads_begin",
    "pads_end",
    "coordinate_transformation_mode",
    "nearest_mode",
    "antialias",
    "cube_coeff",
)
_FORMS: Final[Mapping[tuple[str, str], Callable[[Any], Any]]] = {
    ("Softmax", "opset8"): _softmax,
    ("MaxPool", "opset8"): _max_pool,
    ("MaxPool", "opset14"): _max_pool,
    ("Pad", "opset12"): _pad,
    ("Broadcast", "opset3"): _broadcast,
    ("Interpolate", "opset11"): _interpolate,
    ("Divide", "opset1"): _quotient,
    ("Subtract", "opset1"): _difference,
}


# ---- products with a bias ----------------------------------------------------------------------


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
