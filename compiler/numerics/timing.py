"""Predicted time of single operations, to weigh rewrites against each other.

Where sizes of inputs are open, some are assumed, the same on every machine: rewrites of a model are
compared with each other, not models, and without any number nothing could be said.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from optc.ir import TensorType, dims
from optc.ir.shape_site import input_symbol, shape_of
from optc.numerics.roofline import node_costs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optc.ir import Dim, Graph, Node, Type, Value
    from optc.targets import Runtime, Target

    Shapes = Mapping[str, tuple[Dim, ...]]

ASSUMED_GHZ: Final = 2.5
"""A clock that server cores of the generations here sustain under vector load, more or less."""
_BATCH: Final = 1
_IMAGE: Final = 224
_LENGTH: Final = 128


def timer(
    target: Target, *, runtime: Runtime | None = None, sizes: Mapping[str, int] | None = None
) -> Callable[[Graph, Node], float | None]:
    """A function that gives the least seconds of an operation on one core of a target.

    Where the descriptor does not say what the clock is under the load, `ASSUMED_GHZ` is taken. The
    function gives None when a size is not known, and for control flow.

    Args:
        target: the CPU.
        runtime: take the path of this runtime's kernels; None: the fastest path of the CPU.
        sizes: what symbols in shapes stand for.
    """
    known = node_costs(target, runtime)
    assumed = node_costs(target, runtime, ASSUMED_GHZ)

    def seconds(graph: Graph, node: Node) -> float | None:
        with sized(graph, node, sizes or {}):
            cost = known(graph, node)
            if cost.seconds is None and cost.cycles is not None:
                cost = assumed(graph, node)
        return cost.seconds

    return seconds


def assumed_sizes(graph: Graph, bounds: Shapes | None = None) -> dict[str, int]:
    """Sizes for the open dimensions of the inputs, by symbol.

    Args:
        graph: a root graph.
        bounds: smallest shapes of inputs that somebody gave.

    Returns:
        The given size; else 1 for a first dimension, 224 for the last two of four, and 128.
    """
    found: dict[str, int] = {}
    for value in graph.inputs:
        shape = value.type.shape if isinstance(value.type, TensorType) else None
        given = (bounds or {}).get(value.name)
        for axis, dim in enumerate(shape or ()):
            size = given[axis] if given is not None and axis < len(given) else None
            if not isinstance(size, int):
                image = len(shape or ()) == 4 and axis >= 2
                size = _IMAGE if image else _LENGTH if axis else _BATCH
            clean = dims.clean(dim)
            symbol = input_symbol(value.name, axis) if clean is None else clean
            if isinstance(symbol, str) and dims.symbols(symbol) == {symbol}:
                found.setdefault(symbol, size)
    return found


@contextmanager
def sized(graph: Graph, node: Node, sizes: Mapping[str, int]) -> Iterator[None]:
    """Give the values at an operation the types of these sizes while the block runs."""
    values = (*graph.operands(node), *graph.captures(node).values(), *node.outputs)
    changed: list[tuple[Value, Type | None]] = []
    for value in dict.fromkeys(values):
        type_ = None if value is None else value.type
        if value is None or not isinstance(type_, TensorType) or type_.is_static:
            continue
        shape = shape_of(graph, value)
        if shape is not None:
            given = tuple(dims.substitute(dim, sizes) for dim in shape)
            if graph.set_type(value, replace(type_, shape=given)):
                changed.append((value, type_))
    try:
        yield
    finally:
        for value, old in changed:
            graph.set_type(value, old)
