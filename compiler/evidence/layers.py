"""Which tensor of one model is the same as which of another: by provenance, never by position.

Every operation stands for operations of the source model: those that ``optc.sources`` lists where a
pass made it, else itself. Two operations compute the same value when each is the last of those that
stand for anything the other stands for:

    A   conv ─▶ bn ─▶ relu            what B's Conv stands for ends in A with bn,
    B   Conv{conv, bn} ─▶ relu        and what bn is part of ends in B with Conv: a pair

so the parts of something that was split, moved or fused are no pair, but their ends are. Where
nothing was rewritten, the label and the operator must be equal. A label that several operations
have, and a set that has several ends, is decided by the name of the tensor or not at all.

Layers of an OpenVINO IR bear other operators and names of OpenVINO's own, but their tensors keep
the names that the values had: those without provenance are matched by tensor name. One trap is
known: OpenVINO moves a scale into the weights of the convolution before it and leaves the tensor
its name (seen with grouped convolutions, 2025.4 and 2026.4). A pair whose only consumer in A scales
it, and does not do so in the IR, is therefore none.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from optc.ir.types import Type

_CUT: Final = "… and "
_SCALING: Final = frozenset({"BatchNormalization", "Mul", "Div", "Multiply", "Divide"})


@dataclass(frozen=True)
class Port:
    """A tensor that a layer makes.

    Attributes:
        key: identifies it in its model.
        names: the names it goes by, in the runtime too.
        type: what is known about it; None for nothing.
    """

    key: str
    names: frozenset[str]
    type: Type | None = None


@dataclass(frozen=True)
class Layer:
    """One operation of a model.

    Attributes:
        label: how the model calls it; not always unique.
        op: qualified operator.
        outputs: what it makes; None where an optional output is left out.
        operands: keys of the tensors it reads, constants included.
        sources: labels of the source operations it stands for; empty when no pass made it.
        complete: False when the list of sources was cut.
        passes: names of the passes that made it, the last one first.
    """

    label: str
    op: str
    outputs: tuple[Port | None, ...]
    operands: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    complete: bool = True
    passes: tuple[str, ...] = ()

    @property
    def stands_for(self) -> tuple[str, ...]:
        """Labels of source operations."""
        return self.sources or (self.label,)

    @property
    def names(self) -> frozenset[str]:
        """Names of all its tensors."""
        return frozenset().union(*(port.names for port in self.outputs if port is not None))


def known_sources(labels: object) -> tuple[tuple[str, ...], bool]:
    """The list of sources that a model carries, and whether it is complete.

    What is no list of labels counts as none. `optc.emit.protos.provenance` cuts long lists and says
    so in the last entry.
    """
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return (), True
    if labels and labels[-1].startswith(_CUT):
        return tuple(labels[:-1]), False
    return tuple(labels), True


class Network:
    """The layers of a model in execution order, and how they hang together.

    Attributes:
        layers: operations that are not constants, in topological order.
        is_ir: whether operators and labels are OpenVINO's.
    """

    def __init__(self, layers: Iterable[Layer], *, is_ir: bool = False) -> None:
        self.layers = tuple(layers)
        self.is_ir = is_ir
        self.index = {id(layer): number for number, layer in enumerate(self.layers)}
        self._maker: dict[str, int] = {}
        self._users: dict[str, list[Layer]] = defaultdict(list)
        self._before: list[int] = []  # by layer: bit n is set when layer n is an ancestor
        for number, layer in enumerate(self.layers):
            before = 0
            for key in layer.operands:
                self._users[key].append(layer)
                if (maker := self._maker.get(key)) is not None:
                    before |= self._before[maker] | 1 << maker
            self._before.append(before)
            self._maker.update((port.key, number) for port in layer.outputs if port is not None)
        self._standing: dict[str, list[Layer]] = defaultdict(list)
        for layer in self.layers:
            for label in layer.stands_for:
                self._standing[label].append(layer)

    def users(self, port: Port) -> Sequence[Layer]:
        """The layers that read a tensor."""
        return self._users.get(port.key, ())

    def relatives(self, layer: Layer) -> list[Layer]:
        """The layers here that stand for anything that `layer`, of another network, stands for."""
        found = {
            id(own): own for label in layer.stands_for for own in self._standing.get(label, ())
        }
        return list(found.values())

    def ends(self, layers: Collection[Layer]) -> list[Layer]:
        """Those of which no other one depends."""
        before = 0
        for layer in layers:
            before |= self._before[self.index[id(layer)]]
        return [layer for layer in layers if not before >> self.index[id(layer)] & 1]

    def tensors(self) -> Iterator[tuple[Layer, int, Port]]:
        """Every tensor with its layer and the number of the output."""
        for layer in self.layers:
            for index, port in enumerate(layer.outputs):
                if port is not None:
                    yield layer, index, port


@dataclass(frozen=True)
class Pair:
    """A tensor of A and the same of B."""

    a: Layer
    b: Layer
    port_a: Port
    port_b: Port


@dataclass(frozen=True)
class Matching:
    """What corresponds.

    Attributes:
        pairs: tensors that correspond, in the order in which A computes them.
        only_a: layers of A without a pair.
        only_b: layers of B without a pair.
    """

    pairs: tuple[Pair, ...]
    only_a: tuple[Layer, ...]
    only_b: tuple[Layer, ...]


def match_layers(a: Network, b: Network) -> Matching:
    """Match the layers of two models; see the module docstring."""
    found: dict[str, Pair] = {}
    for layer in b.layers:
        partner = _partner(a, b, layer)
        if partner is not None:
            for pair in _paired(partner, layer):
                found.setdefault(pair.port_a.key, pair)
    if a.is_ir or b.is_ir:
        _match_by_name(a, b, found)
    pairs = [found[port.key] for _, _, port in a.tensors() if port.key in found]
    of_a, of_b = {id(p.a) for p in pairs}, {id(p.b) for p in pairs}
    return Matching(
        tuple(pairs),
        tuple(layer for layer in a.layers if id(layer) not in of_a),
        tuple(layer for layer in b.layers if id(layer) not in of_b),
    )


def _partner(a: Network, b: Network, layer: Layer) -> Layer | None:
    """The layer of A that computes what this one of B does, by provenance."""
    relatives = a.relatives(layer)
    if not layer.sources and any(not other.sources for other in relatives):
        if a.is_ir or b.is_ir:
            return None
        alike = [other for other in relatives if not other.sources and other.op == layer.op]
        alone = len(alike) == 1 and sum(o.label == layer.label for o in b.relatives(layer)) == 1
        return alike[0] if alone else _namesake(alike, layer)
    partner = _end(a, layer)
    return partner if partner is not None and _end(b, partner) is layer else None


def _end(network: Network, other: Layer) -> Layer | None:
    """The one layer here that ends what `other`, of the other network, stands for."""
    ends = network.ends(network.relatives(other))
    if len(ends) == 1 and other.complete:
        return ends[0]
    # Several ends, or a list that was cut: the name that rewritten values inherit decides.
    return _namesake(ends, other)


def _namesake(layers: Iterable[Layer], other: Layer) -> Layer | None:
    """The one layer with a tensor that has the name of one of `other`'s."""
    found = [layer for layer in layers if layer.names & other.names]
    return found[0] if len(found) == 1 else None


def _paired(a: Layer, b: Layer) -> Iterator[Pair]:
    """Outputs by number; those of an IR by name where they have the same ones."""
    for index, port in enumerate(a.outputs):
        if port is None:
            continue
        same = [other for other in b.outputs if other is not None and other.names & port.names]
        other = b.outputs[index] if index < len(b.outputs) else None
        if len(same) == 1:
            other = same[0]
        if other is not None:
            yield Pair(a, b, port, other)


# ---- by name of the tensor ---------------------------------------------------------------------


def _match_by_name(a: Network, b: Network, found: dict[str, Pair]) -> None:
    """Add the pairs of layers that no pass made and whose tensors share a name."""
    by_name: dict[str, tuple[Layer, Port]] = {}
    for layer, _, port in a.tensors():
        # Of values that became one (a Reshape that does nothing), the last has the final shape.
        by_name.update((name, (layer, port)) for name in port.names if not layer.sources)
    taken = {pair.port_b.key for pair in found.values()}
    named: list[Pair] = []
    for layer, _, port in b.tensors():
        if layer.sources or port.key in taken:
            continue
        owners = [by_name[name] for name in port.names if name in by_name]
        owners = [owner for owner in owners if owner[1].key not in found]
        if owners:
            last = max(owners, key=lambda owner: a.index[id(owner[0])])
            named.append(Pair(last[0], layer, last[1], port))
    known = {pair.port_a.key: pair for pair in [*named, *found.values()]}
    for pair in named:
        if not _scale_was_moved(a, b, pair, known):
            found[pair.port_a.key] = pair


def _scale_was_moved(a: Network, b: Network, pair: Pair, known: dict[str, Pair]) -> bool:
    """Whether a scale that follows in one model is in the weights of the other."""
    return _scales(a, pair.port_a) != _scales(b, pair.port_b) and any(
        user.outputs and user.outputs[0] is not None and user.outputs[0].key in known
        for user in a.users(pair.port_a)
    )


def _scales(network: Network, port: Port) -> bool:
    """Whether a tensor has one user, which multiplies it."""
    users = network.users(port)
    return len(users) == 1 and users[0].op in _SCALING
