"""Element types and value types of the IR: frozen, compared by structure.

Source: ONNX IR specification, "Standard data types" and TypeProto (onnx.proto).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import ml_dtypes
import numpy as np


class DType(Enum):
    """An ONNX element type. The value is the short name that the canonical text prints."""

    UNDEFINED = "?"
    F32 = "f32"
    U8 = "u8"
    I8 = "i8"
    U16 = "u16"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    STRING = "str"
    BOOL = "bool"
    F16 = "f16"
    F64 = "f64"
    U32 = "u32"
    U64 = "u64"
    C64 = "c64"
    C128 = "c128"
    BF16 = "bf16"
    F8E4M3FN = "f8e4m3fn"
    F8E4M3FNUZ = "f8e4m3fnuz"
    F8E5M2 = "f8e5m2"
    F8E5M2FNUZ = "f8e5m2fnuz"
    U4 = "u4"
    I4 = "i4"
    F4E2M1 = "f4e2m1"
    F8E8M0 = "f8e8m0"
    U2 = "u2"
    I2 = "i2"
    F6E2M3 = "f6e2m3"
    F6E3M2 = "f6e3m2"

    __hash__ = object.__hash__  # members are singletons: identity hashing keeps dict lookups fast

    @property
    def onnx(self) -> int:
        """The number of this type in ``TensorProto.DataType``."""
        return _ONNX[self]

    @property
    def bits(self) -> int:
        """Bits per element as stored (4-bit types are packed two to a byte); 0 for strings."""
        return _BITS.get(self, 0)

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype that holds unpacked elements (ml_dtypes for the small floats)."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        """True for real floating-point types of any width."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers of any width; bool is not one."""
        return self in _INTEGERS

    @classmethod
    def from_onnx(cls, number: int) -> DType:
        """The type with this ``TensorProto.DataType`` number.

        Raises:
            ValueError: the number is not one that this version knows.
        """
        try:
            return _FROM_ONNX[number]
        except KeyError:
            raise ValueError(f"unknown element type number {number}") from None

    @classmethod
    def from_numpy(cls, dtype: np.dtype[np.generic]) -> DType:
        """The type whose elements numpy stores as `dtype`; object and str arrays are strings.

        Raises:
            ValueError: ONNX has no such type.
        """
        if dtype.kind in "OUST":
            return cls.STRING
        found = _FROM_NUMPY.get(dtype)
        if found is None:
            raise ValueError(f"ONNX has no element type for numpy {dtype}")
        return found


_ONNX = {dtype: number for number, dtype in enumerate(DType)}
_FROM_ONNX = {number: dtype for dtype, number in _ONNX.items()}

_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.F32: np.dtype(np.float32),
    DType.U8: np.dtype(np.uint8),
    DType.I8: np.dtype(np.int8),
    DType.U16: np.dtype(np.uint16),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.STRING: np.dtype(object),
    DType.BOOL: np.dtype(np.bool_),
    DType.F16: np.dtype(np.float16),
    DType.F64: np.dtype(np.float64),
    DType.U32: np.dtype(np.uint32),
    DType.U64: np.dtype(np.uint64),
    DType.C64: np.dtype(np.complex64),
    DType.C128: np.dtype(np.complex128),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.F8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.F8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.F8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.U4: np.dtype(ml_dtypes.uint4),
    DType.I4: np.dtype(ml_dtypes.int4),
    DType.F4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DType.F8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DType.U2: np.dtype(ml_dtypes.uint2),
    DType.I2: np.dtype(ml_dtypes.int2),
    DType.F6E2M3: np.dtype(ml_dtypes.float6_e2m3fn),
    DType.F6E3M2: np.dtype(ml_dtypes.float6_e3m2fn),
}
_FROM_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}
_PACKED = {
    DType.U4: 4,
    DType.I4: 4,
    DType.F4E2M1: 4,
    DType.U2: 2,
    DType.I2: 2,
    DType.F6E2M3: 6,
    DType.F6E3M2: 6,
}
_BITS = {d: n.itemsize * 8 for d, n in _NUMPY.items() if d is not DType.STRING} | _PACKED
_FLOATS = frozenset(
    d for d in DType if d is not DType.BF16 and d.value[0] == "f" and d.value[1].isdigit()
) | {DType.BF16}
_INTEGERS = frozenset(d for d in DType if d.value[0] in "ui" and d.value[1:].isdigit())

Dim: TypeAlias = int | str | None
"""One dimension: its size, the name or expression of a symbolic size, or None when unknown."""

Shape: TypeAlias = tuple[Dim, ...]
"""The dimensions of a tensor. Where a shape may be None, None means that the rank is unknown."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor value.

    Attributes:
        dtype: element type; UNDEFINED when not known.
        shape: dimensions, or None when the rank is not known.
        denotation: what the tensor means (ONNX type denotation); carried, never interpreted.
        dim_denotations: what each dimension means, or empty; carried, never interpreted.
    """

    dtype: DType
    shape: Shape | None = None
    denotation: str = field(default="", compare=False)
    dim_denotations: tuple[str, ...] = field(default=(), compare=False)

    @property
    def rank(self) -> int | None:
        """Number of dimensions, or None."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        """True when every dimension is a number."""
        return static(self.shape)

    @property
    def elements(self) -> int | None:
        """Number of elements, or None when a dimension is not a number."""
        return element_count(self.shape)

    @property
    def nbytes(self) -> int | None:
        """Size of the packed data in bytes, or None when the element count or width is unknown."""
        count = self.elements
        if count is None or not self.dtype.bits:
            return None
        return (count * self.dtype.bits + 7) // 8

    def __str__(self) -> str:
        return f"{self.dtype.value}{format_shape(self.shape)}"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """The type of a sparse tensor value (COO)."""

    dtype: DType
    shape: Shape | None = None
    denotation: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"sparse({self.dtype.value}{format_shape(self.shape)})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence of values of one type; `element` is None when it is not known."""

    element: Type | None
    denotation: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"seq({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent; `element` is None when it is not known."""

    element: Type | None
    denotation: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"optional({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map from keys of an integer or string type to values of one type (ONNX-ML)."""

    key: DType
    value: Type | None
    denotation: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"map({self.key.value}, {self.value or '?'})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type of a custom domain that only its own runtime understands (ONNX-ML)."""

    domain: str
    name: str
    denotation: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"opaque({self.domain}, {self.name})"


Type: TypeAlias = TensorType | SparseTensorType | SequenceType | OptionalType | MapType | OpaqueType
"""Any ONNX value type. Where a type may be None, None means that nothing is known."""


def static(shape: Shape | None) -> bool:
    """True when the rank and every dimension are known numbers."""
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def element_count(shape: Shape | None) -> int | None:
    """Product of the dimensions; None unless static, except that a zero anywhere gives zero."""
    if shape is None:
        return None
    sizes = [dim for dim in shape if isinstance(dim, int)]
    if 0 in sizes:
        return 0
    return math.prod(sizes) if len(sizes) == len(shape) else None


def format_shape(shape: Shape | None) -> str:
    """``[1,N,?]``; ``[*]`` when the rank is unknown, ``[]`` for a scalar."""
    if shape is None:
        return "[*]"
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"
