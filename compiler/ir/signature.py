"""Whether a node fits the schema of its operator: arity, attributes and element types.

The answer depends on the operator, the opset, which operands and results there are and their
element types, and on the names and kinds of the attributes; it is computed once for each such
combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.errors import did_you_mean
from optc.ir.nodes import CANONICAL, AttrKind
from optc.ir.ops import SCHEMALESS, first_opset, schema
from optc.ir.types import DType, MapType, OptionalType, SequenceType, SparseTensorType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx.defs import OpSchema

    from optc.ir.types import Type

Token: TypeAlias = DType | str | None
"""The type of an operand or result without its shape: an element type for a tensor, a text like
``seq(f32)`` for others, None when not known, and `ABSENT` for one that is left out."""

ABSENT: Final = ""

_CLOSED_DOMAINS: Final = frozenset({"", CANONICAL, "ai.onnx.ml", "ai.onnx.preview.training"})
"""Domains that ONNX owns: an operator that has no schema there does not exist."""

_ELEMENTS: Final = {
    "float": DType.F32,
    "double": DType.F64,
    "float16": DType.F16,
    "bfloat16": DType.BF16,
    "float8e4m3fn": DType.F8E4M3FN,
    "float8e4m3fnuz": DType.F8E4M3FNUZ,
    "float8e5m2": DType.F8E5M2,
    "float8e5m2fnuz": DType.F8E5M2FNUZ,
    "float8e8m0": DType.F8E8M0,
    "float4e2m1": DType.F4E2M1,
    "float6e2m3": DType.F6E2M3,
    "float6e3m2": DType.F6E3M2,
    "int2": DType.I2,
    "int4": DType.I4,
    "int8": DType.I8,
    "int16": DType.I16,
    "int32": DType.I32,
    "int64": DType.I64,
    "uint2": DType.U2,
    "uint4": DType.U4,
    "uint8": DType.U8,
    "uint16": DType.U16,
    "uint32": DType.U32,
    "uint64": DType.U64,
    "bool": DType.BOOL,
    "string": DType.STRING,
    "complex64": DType.C64,
    "complex128": DType.C128,
}


def token(type: Type | None) -> Token:
    """The token of a type. A sparse tensor counts as a dense one, as everywhere in ONNX."""
    if isinstance(type, TensorType | SparseTensorType):
        return None if type.dtype is DType.UNDEFINED else type.dtype
    match type:
        case SequenceType():
            return _wrapped("seq", token(type.element))
        case OptionalType():
            return _wrapped("optional", token(type.element))
        case MapType():
            value = _text(token(type.value))
            return value and f"map({type.key.value}, {value})"
        case _:
            return None


def _wrapped(word: str, inner: Token) -> str | None:
    text = _text(inner)
    return text and f"{word}({text})"


def _text(found: Token) -> str | None:
    return found.value if isinstance(found, DType) else found


# ---- schemas in tokens -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Formal:
    name: str
    variable: str  # type variable; operands with equal variables have equal types
    allowed: frozenset[Token]
    required: bool
    variadic: bool
    homogeneous: bool


@dataclass(frozen=True, slots=True)
class _Signature:
    name: str
    deprecated: bool
    operands: tuple[_Formal, ...]
    results: tuple[_Formal, ...]
    operand_count: tuple[int, int]
    result_count: tuple[int, int]
    attributes: Mapping[str, tuple[int, bool]]  # ONNX attribute type, required


@cache
def _signature(op_type: str, domain: str, opset: int) -> _Signature | None:
    found = schema(op_type, domain, opset)
    if found is None:
        return None
    return _Signature(
        f"{op_type}-{found.since_version}",
        found.deprecated,
        tuple(_formal(item) for item in found.inputs),
        tuple(_formal(item) for item in found.outputs),
        (found.min_input, found.max_input),
        (found.min_output, found.max_output),
        {name: (int(item.type.value), item.required) for name, item in found.attributes.items()},
    )


def _formal(item: OpSchema.FormalParameter) -> _Formal:
    option = item.option.name
    return _Formal(
        item.name,
        item.type_str,
        frozenset(_parse(text) for text in item.types),
        required=option == "Single",
        variadic=option == "Variadic",
        homogeneous=item.is_homogeneous,
    )


@cache
def _parse(text: str) -> Token:
    """The token of a type as schemas write it, e.g. ``optional(seq(tensor(float)))``."""
    head, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    if head == "tensor":
        return _ELEMENTS[inner]
    if head == "map":
        key, _, value = inner.partition(",")
        return f"map({_ELEMENTS[key.strip()].value}, {_text(_parse(value.strip()))})"
    return _wrapped(head, _parse(inner))


# ---- checking ----------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def signature_problems(
    op_type: str,
    domain: str,
    opset: int,
    operands: tuple[Token, ...],
    results: tuple[Token, ...],
    attributes: tuple[tuple[str, AttrKind], ...],
) -> tuple[str, ...]:
    """What does not fit the operator's schema; empty when all does.

    Operators of domains that ONNX does not own are taken as they are.

    Args:
        op_type: operator name.
        domain: its domain.
        opset: imported version of that domain.
        operands: a token for each operand.
        results: a token for each result.
        attributes: names and kinds of the attributes.
    """
    found = _signature(op_type, domain, opset)
    if found is None:
        return _unknown(op_type, domain, opset)
    if found.deprecated:
        return (f"{op_type} is deprecated since opset {found.name.rpartition('-')[2]}",)
    return (
        *_count_problems("operand", len(operands), found.operand_count, found),
        *_count_problems("result", len(results), found.result_count, found),
        *_missing_operands(operands, found),
        *_attribute_problems(attributes, found),
        *_type_problems(operands, results, found),
    )


def _unknown(op_type: str, domain: str, opset: int) -> tuple[str, ...]:
    if domain not in _CLOSED_DOMAINS or (not domain and op_type in SCHEMALESS):
        return ()
    first = first_opset(op_type, domain)
    since = f"; it exists since {first}" if first is not None and first > opset else ""
    return (f"{domain or 'ai.onnx'} {opset} has no operator {op_type}{since}",)


def _count_problems(
    what: str, count: int, bounds: tuple[int, int], found: _Signature
) -> Iterator[str]:
    low, high = bounds
    if count < low:
        yield f"{found.name} needs at least {low} {what}{'s' if low != 1 else ''}, found {count}"
    elif count > high:
        yield f"{found.name} has at most {high} {what}{'s' if high != 1 else ''}, found {count}"


def _missing_operands(operands: tuple[Token, ...], found: _Signature) -> Iterator[str]:
    # One beyond the last operand is reported by the count already.
    for index, (operand, formal) in enumerate(zip(operands, found.operands, strict=False)):
        if operand == ABSENT and formal.required:
            yield f"operand {index} ({formal.name}) of {found.name} is left out but required"


def _attribute_problems(
    attributes: tuple[tuple[str, AttrKind], ...], found: _Signature
) -> Iterator[str]:
    for name, kind in attributes:
        entry = found.attributes.get(name)
        if entry is None:
            hint = did_you_mean(name, sorted(found.attributes))
            yield f"{found.name} has no attribute {name}" + (f", {hint}" if hint else "")
        elif entry[0] != kind.value:
            wanted = AttrKind(entry[0]).name
            yield f"attribute {name} of {found.name} is {wanted}, found {kind.name}"
    present = {name for name, _ in attributes}
    for name, (_, required) in sorted(found.attributes.items()):
        if required and name not in present:
            yield f"attribute {name} of {found.name} is required"


def _type_problems(
    operands: tuple[Token, ...], results: tuple[Token, ...], found: _Signature
) -> Iterator[str]:
    bound: dict[str, tuple[Token, str]] = {}
    for what, tokens, formals in (
        ("operand", operands, found.operands),
        ("result", results, found.results),
    ):
        for index, given in enumerate(tokens):
            formal = _formal_at(formals, index)
            if formal is None or given is None or given == ABSENT:
                continue
            place = f"{what} {index} ({formal.name})"
            if given not in formal.allowed:
                yield f"{place} of {found.name} may not be {_text(given)}"
                continue
            if not formal.homogeneous:
                continue
            first, where = bound.setdefault(formal.variable, (given, place))
            if first != given:
                yield f"{place} is {_text(given)} but {where} is {_text(first)}"


def _formal_at(formals: tuple[_Formal, ...], index: int) -> _Formal | None:
    if index < len(formals):
        return formals[index]
    return formals[-1] if formals and formals[-1].variadic else None
