"""Patterns written as the subgraph that they match, and the rules that use them.

A rule's `pattern` method is called once with a recorder and one variable per argument::

    def pattern(self, op, x, weight, bias, factor):
        return op.Mul(op.Conv(x, weight, optional(bias)), const(factor))

Matching starts at the returned operation and walks up the operands. Commutative operations are
tried in both orders. A variable binds one value, and where it stands twice, the same value.
Numbers stand for constants (``op.Mul(x, number(0.5))``), `either` for several spellings, and
`output` for a result other than the first.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from optc.ir import DType, Kind, Value, ops
from optc.rewrite.trace import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Tensor, Use
    from optc.rewrite.driver import Builder


@dataclass(frozen=True)
class Variable:
    """Matches any value and binds it by name; with `constant`, only a dense constant."""

    name: str
    constant: bool = False


@dataclass(frozen=True)
class OptionalOperand:
    """Matches a left-out operand (the variable is then None), or what the inner pattern does."""

    variable: Variable


@dataclass(frozen=True)
class Number:
    """Matches a dense constant all of whose elements are one number.

    Exporters write numbers in the element type of the model and with few digits, so what differs
    by less than 1e-6 of the number (4e-3, a step of bf16, in the 16-bit types) is taken for it.

    Attributes:
        value: the number.
    """

    value: float

    def fits(self, tensor: Tensor) -> bool:
        """Whether every element of a constant is the number."""
        if (
            not tensor.elements
            or not tensor.is_small
            or not (tensor.dtype.is_float or tensor.dtype.is_integer)
        ):
            return False
        digits = _COARSE if tensor.dtype in (DType.F16, DType.BF16) else _FINE
        elements = tensor.numpy().astype(np.float64)
        return bool((np.abs(elements - self.value) <= digits * abs(self.value)).all())


_FINE, _COARSE = 1e-6, 4e-3


@dataclass(frozen=True)
class Either:
    """Matches what one of several patterns does, the first that fits."""

    patterns: tuple[Pattern, ...]


@dataclass(frozen=True)
class Output:
    """Matches a result of an operation by its index."""

    operation: Operation
    index: int


@dataclass(frozen=True)
class Operation:
    """Matches the first output of an operation.

    Attributes:
        op_types: operator names that match.
        operands: a pattern per operand; operands beyond these must be left out.
        name: how the match names the node; default the first operator name.
        domain: operator domain.
    """

    op_types: tuple[str, ...]
    operands: tuple[Pattern, ...]
    name: str
    domain: str = ""

    @property
    def wanted(self) -> str:
        """The operator names for messages."""
        return " or ".join(self.op_types)


Pattern: TypeAlias = Variable | OptionalOperand | Operation | Number | Either | Output


def const(variable: Pattern) -> Variable:
    """The variable, but only for a dense constant."""
    assert isinstance(variable, Variable)
    return Variable(variable.name, constant=True)


def optional(variable: Pattern) -> OptionalOperand:
    """An operand that may be left out."""
    assert isinstance(variable, Variable)
    return OptionalOperand(variable)


def number(value: float) -> Number:
    """A constant whose elements all are this number."""
    return Number(value)


def either(*patterns: Pattern) -> Either:
    """One of several spellings; a pattern may also end in this, with operations."""
    return Either(patterns)


def output(operation: Pattern, index: int) -> Output:
    """A result of an operation other than the first."""
    assert isinstance(operation, Operation)
    return Output(operation, index)


class Recorder:
    """Turns ``op.Conv(x, w)`` into a pattern. ``op.any('A', 'B')(x)`` matches either operator."""

    def __getattr__(self, op_type: str) -> _Recorded:
        return _Recorded((op_type,))

    def any(self, *op_types: str) -> _Recorded:
        """A pattern for several operators of the same operands."""
        return _Recorded(op_types)


@dataclass(frozen=True)
class _Recorded:
    op_types: tuple[str, ...]

    def __call__(self, *operands: Pattern, name: str = "", domain: str = "") -> Operation:
        return Operation(self.op_types, operands, name or self.op_types[0], domain)


@dataclass
class Match:
    """A place where a pattern was found.

    Attributes:
        rule: name of the rule.
        graph: the graph.
        root: the node that the pattern ends at.
        nodes: matched operations by name, the root first.
        values: bound values by variable; None for an optional operand that is left out.
    """

    rule: str
    graph: Graph
    root: Node
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Value | None] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        """A matched operation by its name in the pattern."""
        return self.nodes[name]

    def value(self, variable: str) -> Value:
        """A bound value; ValueError when it was optional and is left out."""
        value = self.values[variable]
        if value is None:
            raise ValueError(f"{variable} is left out")
        return value

    def tensor(self, variable: str) -> Tensor | None:
        """The constant bound to a variable; None when left out or not constant."""
        value = self.values[variable]
        return None if value is None else value.constant

    def array(self, variable: str) -> npt.NDArray[np.float64]:
        """The constant bound to a variable, in float64: weight arithmetic is done in that."""
        tensor = self.tensor(variable)
        if tensor is None:
            raise ValueError(f"{variable} is not constant")
        return tensor.numpy().astype(np.float64)

    def attribute(self, node: str, name: str) -> Any:
        """An attribute of a matched operation, or its default in the graph's opset."""
        return ops.attribute(self.graph, self.nodes[node], name)

    def not_constant(self, *variables: str) -> str | None:
        """The first of these variables that is bound to something not constant."""
        for variable in variables:
            value = self.values[variable]
            if value is not None and value.constant is None:
                return variable
        return None

    def other_use(self, name: str) -> Use | None:
        """A use of an output of a matched operation outside the match, graph outputs included."""
        inside = set(self.nodes.values())
        for value in self.nodes[name].outputs:
            for use in self.graph.uses(value) if value is not None else ():
                if use.node not in inside:
                    return use
        return None

    def shared(self, variable: str) -> Use | None:
        """A use of a bound value outside the match."""
        value = self.values[variable]
        if value is None:
            return None
        inside = set(self.nodes.values())
        return next((use for use in self.graph.uses(value) if use.node not in inside), None)

    def refuse(self, reason: str) -> Refusal:
        """A refusal of this match."""
        return Refusal(self.rule, self.root.label, reason)

    def refuse_use(self, name: str, use: Use) -> Refusal:
        """The refusal for an output of a matched operation that something else uses."""
        if use.node.kind is Kind.OUTPUT:
            return self.refuse(f"{name} output is the graph output {use.node.name}")
        if isinstance(use.key, str):
            return self.refuse(f"{name} output is captured by a subgraph of {use.node.label}")
        return self.refuse(f"{name} output also feeds {use.node.label}")


class Rule:
    """Pattern, check and rewrite. A subclass `ConvBatchnorm` is the rule ``conv-batchnorm``.

    Attributes:
        family: the idea that several rules are forms of; `optc plan` groups near misses by it.
            Left out, it is the name of the rule without a last letter that counts forms.
    """

    family: str = ""

    def __init__(self) -> None:
        self.name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        self.family = type(self).family or re.sub(r"-[a-z]$", "", self.name)
        variables = list(inspect.signature(self.pattern).parameters)[1:]
        root = self.pattern(Recorder(), *(Variable(name) for name in variables))
        ends = root.patterns if isinstance(root, Either) else (root,)
        operations = [end for end in ends if isinstance(end, Operation)]
        assert len(operations) == len(ends), f"{self.name}: a pattern ends in an operation"
        self.root = root
        self.roots = tuple((end.domain, name) for end in operations for name in end.op_types)
        self.variables = tuple(variables)

    def pattern(self, *args: Any, **kwargs: Any) -> Pattern:
        """The subgraph to find, as ``pattern(self, op, x, weight, …)``.

        Called once, with a recorder and a variable per further argument.
        """
        raise NotImplementedError

    def check(self, match: Match) -> Refusal | None:
        """Is the rewrite legal here? None means yes. Must not change anything."""
        raise NotImplementedError

    def rewrite(self, match: Match, build: Builder) -> Value | Sequence[Value]:
        """Build the replacement; return what takes the place of the root's outputs."""
        raise NotImplementedError


def as_values(result: Value | Sequence[Value]) -> tuple[Value, ...]:
    """What a rewrite returned, as a tuple."""
    return (result,) if isinstance(result, Value) else tuple(result)
