"""How names, types, numbers, tensors and attributes are written in the canonical text.

Nothing here depends on the machine, on numpy's print options or on the order of a dictionary.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir.nodes import AttrKind
from optc.ir.tensor import Described
from optc.ir.types import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from optc.ir.nodes import Attr
    from optc.ir.tensor import SparseTensor, Tensor
    from optc.ir.types import Dim, Shape, Type


class Literal(str):
    """The value of an attribute of which only the text is known: one read from canonical text."""

    __slots__ = ()


PRINTED_ELEMENTS: Final = 8
"""Tensors of at most this many elements are printed, larger ones are shown by their digest."""

PRINTED_ITEMS: Final = 64
"""Attribute lists of at most this many items are printed."""

PRINTED_BYTES: Final = 256
"""Strings of at most this many bytes are printed."""

_PLAIN_NAME = re.compile(r"[A-Za-z_/.$-][\w/.:$@-]*", re.ASCII)
_UNSAFE_DIM = re.compile(r'[\[\],"()]|[^\x20-\x7e]')
_DIGEST_DIGITS = 8
_EXACT = 2**24  # integers below are printed as they are: 448.0 in f8e4m3fn, though 450.0 is shorter

_ELEMENT_TYPES: Final = frozenset(
    {"to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision"}
)
_DTYPES: Final = {dtype.onnx: dtype for dtype in DType if dtype is not DType.UNDEFINED}


# ---- names and strings -------------------------------------------------------------------------


def quote(text: str) -> str:
    """A double-quoted string with JSON escapes; characters that do not print are escaped too."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isprintable() else json.dumps(text)


def format_name(name: str) -> str:
    """A name as it is where that is unambiguous, else quoted. Bare numbers are always quoted."""
    return name if _PLAIN_NAME.fullmatch(name) else quote(name)


def format_bytes(data: bytes) -> str:
    """An ONNX string: quoted when it is UTF-8, else in hexadecimal; long ones by digest."""
    if len(data) > PRINTED_BYTES:
        return f"bytes[{len(data)}] {_digest(data)}"
    try:
        return quote(data.decode())
    except UnicodeDecodeError:
        return 'b"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]}"


# ---- types -------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def format_type(type: Type | None) -> str:
    """A type as the IR writes it (``f32[N,3]``, ``seq(f32[*])``), odd dimension names quoted."""
    match type:
        case None:
            return "?"
        case SequenceType():
            return f"seq({format_type(type.element)})"
        case OptionalType():
            return f"optional({format_type(type.element)})"
        case MapType():
            return f"map({type.key.value}, {format_type(type.value)})"
        case OpaqueType():
            return f"opaque({format_name(type.domain)}, {format_name(type.name)})"
        case SparseTensorType():
            return f"sparse({type.dtype.value}{_format_shape(type.shape)})"
        case _:
            return f"{type.dtype.value}{_format_shape(type.shape)}"


def _format_shape(shape: Shape | None) -> str:
    return "[*]" if shape is None else "[" + ",".join(map(_format_dim, shape)) + "]"


def _format_dim(dim: Dim) -> str:
    if dim is None:
        return "?"
    if isinstance(dim, int):
        return str(dim)
    # "?", "*" and digits alone would read as an unknown or a fixed size.
    odd = not dim or _UNSAFE_DIM.search(dim) or dim in ("?", "*") or dim.lstrip("-").isdigit()
    return quote(dim) if odd else dim


# ---- numbers -----------------------------------------------------------------------------------


def format_float(value: float, digits: int | None = None) -> str:
    """The shortest decimal that gives this float32 value back: ``0.1``, ``1e-05``, ``-inf``.

    With `digits`, the value is rounded to so many significant digits first.
    """
    if digits is not None:
        value = float(f"{value:.{digits}g}")
    with np.errstate(over="ignore"):
        return _shortest(value, np.float32)


def _shortest(value: float, kind: Callable[[float], Any]) -> str:
    if not math.isfinite(value) or (value.is_integer() and abs(value) < _EXACT):
        return repr(value)
    target = kind(value)
    for digits in range(1, 17):
        candidate = float(f"{value:.{digits}g}")
        if kind(candidate) == target:
            return repr(candidate)
    return repr(value)


def format_elements(array: npt.NDArray[Any], dtype: DType) -> list[str]:
    """The elements of an array of this type, row-major."""
    flat = array.reshape(-1)
    if dtype is DType.STRING:
        return [format_bytes(item) for item in flat.tolist()]
    if dtype is DType.BOOL:
        return ["true" if item else "false" for item in flat.tolist()]
    if dtype in (DType.C64, DType.C128):
        part = DType.F32 if dtype is DType.C64 else DType.F64
        pairs = zip(format_elements(flat.real, part), format_elements(flat.imag, part), strict=True)
        return [f"{real}{imag if imag.startswith('-') else '+' + imag}j" for real, imag in pairs]
    if dtype.is_float:
        with np.errstate(over="ignore"):
            return [_format_float_element(item) for item in flat]
    return [str(int(item)) for item in flat]


def _format_float_element(item: Any) -> str:
    value = float(item)
    if not math.isnan(value):
        return _shortest(value, type(item))
    bits, usual = (_bits(x) for x in (item, type(item)(math.nan)))
    return "nan" if bits == usual else f"nan:0x{bits:x}"


def _bits(item: Any) -> int:
    return int.from_bytes(item.tobytes(), "little")


# ---- tensors and attributes --------------------------------------------------------------------


def format_tensor(tensor: Tensor, *, weights: bool = True) -> str:
    """Type and elements, or type and digest when it is large.

    ``i64[2] {1, -1}`` or ``f32[64,3,7,7] sha256:1a2b3c4d``. With ``weights=False`` a large tensor
    is its type alone.
    """
    if isinstance(tensor, Described):
        return tensor.text
    head = format_type(tensor.type)
    if tensor.elements <= PRINTED_ELEMENTS:
        return f"{head} {{{', '.join(format_elements(tensor.numpy(), tensor.dtype))}}}"
    return f"{head} sha256:{tensor.digest[:_DIGEST_DIGITS]}" if weights else head


def format_sparse(sparse: SparseTensor, *, weights: bool = True) -> str:
    """Dense type, then the values and their indices."""
    head = format_type(SparseTensorType(sparse.values.dtype, sparse.shape))
    values = format_tensor(sparse.values, weights=weights)
    return f"{head} values {values} indices {format_tensor(sparse.indices, weights=weights)}"


def format_attribute(
    attribute: Attr, name: str = "", *, weights: bool = True, digits: int | None = None
) -> str:
    """The value of an attribute that holds no subgraph; ``@name`` for a function's parameter.

    The number of an element type is shown as that type where `name` says that it is one. Floats
    are rounded to `digits` significant digits, where that is given.
    """
    if attribute.ref:
        return f"@{format_name(attribute.ref)}"
    value, kind = attribute.value, attribute.kind
    if isinstance(value, Literal):
        return str(value)
    match kind:
        case AttrKind.INT:
            dtype = _DTYPES.get(value) if name in _ELEMENT_TYPES else None
            return dtype.value if dtype else str(value)
        case AttrKind.FLOAT:
            return format_float(value, digits)
        case AttrKind.STRING:
            return format_bytes(value)
        case AttrKind.INTS:
            return _format_list("ints", [str(item) for item in value])
        case AttrKind.FLOATS:
            return _format_list("floats", [format_float(item, digits) for item in value])
        case AttrKind.STRINGS:
            return _format_list("strings", [format_bytes(item) for item in value])
        case _:
            return _format_object(kind, value, weights=weights)


def _format_object(kind: AttrKind, value: Any, *, weights: bool) -> str:
    match kind:
        case AttrKind.TENSOR:
            return format_tensor(value, weights=weights)
        case AttrKind.TENSORS:
            return _format_list("tensors", [format_tensor(t, weights=weights) for t in value])
        case AttrKind.SPARSE_TENSOR:
            return format_sparse(value, weights=weights)
        case AttrKind.SPARSE_TENSORS:
            return _format_list("sparse", [format_sparse(s, weights=weights) for s in value])
        case AttrKind.TYPE:
            return f"type {format_type(value)}"
        case AttrKind.TYPES:
            return _format_list("types", [format_type(item) for item in value])
        case _:
            raise ValueError(f"an attribute of kind {kind.name} holds subgraphs")


def _format_list(kind: str, items: Sequence[str]) -> str:
    if not items:
        return f"{kind}[]"  # without a word, the kind of an empty list would be lost
    text = ", ".join(items)
    if len(items) > PRINTED_ITEMS:
        return f"{kind}[{len(items)}] {_digest(text.encode())}"
    return f"[{text}]"
