"""Tensors of the inside of a model as outputs, some at a time so that memory stays bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from optc.launch.engines import port_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.evidence.layers import Network, Pair, Port
    from optc.ir.types import Type
    from optc.launch.engines import Engine
    from optc.numerics.tolerance import Tolerance
    from optc.numerics.values import Feeds, Value

_GROUP_BYTES: Final = 128 << 20  # of one side; up to three are there at a time
_UNKNOWN_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class Facts:
    """What is known of the tensors of a model, by key.

    Attributes:
        sizes: bytes, as far as shapes are known.
        bounds: what rounding in the operation that makes it may add.
    """

    sizes: Mapping[str, int]
    bounds: Mapping[str, Tolerance]


class Inside(Protocol):
    """A model whose layers can be looked at: `OnnxModel` or `IrModel`.

    Attributes:
        runtime: what executes it.
        note: what was run in its place, or in what precision, for the user; may be empty.
    """

    runtime: str
    note: str

    @property
    def outputs(self) -> Sequence[Port]:
        """Its outputs, in order."""

    @property
    def network(self) -> Network:
        """Its layers."""

    def open(self) -> Tap:
        """Open it as it is; results have the keys of `outputs`.

        Raises:
            CapabilityError: the runtime is not installed or too old.
            ModelError: ``runtime-cannot-load``.
        """

    def inputs(self, engine: Tap) -> Mapping[str, Type]:
        """Types of its inputs, as far as the model or the engine tells."""

    def limits(self) -> Mapping[str, int]:
        """For inputs that are indices, one more than the greatest valid one, where it is known."""

    def facts(self, feeds: Mapping[str, Value]) -> Facts:
        """What is known of its tensors for inputs of these shapes."""

    def expose(self, ports: Sequence[Port], folder: Path) -> Tap:
        """Open it in its runtime with these tensors as further outputs, by their keys.

        Raises:
            ModelError: ``runtime-cannot-load``.
        """

    def nudged(self, seed: int) -> Inside:
        """The same with weights that differ in their last place, by chance."""


class Tap:
    """A model that is open, with results by keys of our own."""

    def __init__(self, engine: Engine, runtime: str, outputs: Sequence[Collection[str]]) -> None:
        """Name the results.

        Args:
            engine: the open model.
            runtime: what executes it.
            outputs: keys for each output of the model, in order; for ONNX Runtime its name.
        """
        self._engine = engine
        # By place: OpenVINO renames outputs that turn out to be the same value.
        names: Sequence[str] = [key for keys in outputs for key in keys]
        if runtime == "openvino":
            names = [port_name(port) for port in engine.native.outputs]
        self._names = {key: name for keys, name in zip(outputs, names, strict=True) for key in keys}

    @property
    def inputs(self) -> Mapping[str, Type]:
        """Types of the inputs that a run must be given, by name."""
        return self._engine.inputs

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """The outputs by key.

        Raises:
            ModelError: ``runtime-failed``.
        """
        found = self._engine.run(feeds)
        return {key: found[name] for key, name in self._names.items()}


def groups(pairs: Sequence[Pair], sizes: Mapping[str, int]) -> Iterator[list[Pair]]:
    """The pairs in order, as many at a time as memory allows.

    Args:
        pairs: what is to be compared.
        sizes: bytes by key of the tensor of A.
    """
    group: list[Pair] = []
    total = 0
    for pair in pairs:
        size = sizes.get(pair.port_a.key, _UNKNOWN_BYTES)
        if group and total + size > _GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(pair)
        total += size
    if group:
        yield group
