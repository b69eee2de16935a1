"""An observer on samples of a test, and what a graph computes from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.observer import _array, _open, _port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.values import Array


@dataclass
class SampleObserver:
    """Runs graphs on the samples that it is given, by input name."""

    samples: Sequence[Mapping[str, Array]]
    origin: str = "samples of a test"
    real: bool = True

    @property
    def digest(self) -> str:
        """Of the samples."""
        parts = [array.tobytes() for sample in self.samples for array in sample.values()]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[Mapping[str, Array]]:
        """See `optc.numerics.observe.Observer`."""
        names = list(dict.fromkeys(value.name for value in values))
        session = _open(graph, [graph.value(name) for name in names])
        for sample in self.samples[skip:]:
            found = session.run(dict(sample), [_port(name) for name in names])
            yield {name: _array(found[_port(name)]) for name in names}

    def outputs(self, graph: Graph) -> list[Array]:
        """The first output of a graph for every sample."""
        value = graph.operand(graph.outputs[0], 0)
        assert value is not None
        return [arrays[value.name] for arrays in self.observe(graph, [value])]
