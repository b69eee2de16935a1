"""An observer on samples of a test, and what a graph computes from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from helpers.pass_checks import seeded
from optc.observer import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.values import Array
    from optc.numerics.values import Value as Datum

    T = TypeVar("T")


@dataclass
class SampleObserver:
    """Runs graphs on the samples that it is given, by input name; one seeded sample without any."""

    samples: Sequence[Mapping[str, Datum]] = ()
    origin: str = "samples of a test"
    real: bool = True

    @property
    def digest(self) -> str:
        """Of the samples."""
        parts = [np.asarray(item).tobytes() for sample in self.samples for item in sample.values()]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        look: Callable[[Mapping[str, Array]], T],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[T]:
        """See `optc.numerics.observe.Observer`."""
        probe = Probe(graph, values)
        for sample in list(self.samples or [seeded(graph)])[skip:]:
            yield look(probe.run(sample))

    def outputs(self, graph: Graph) -> list[Array]:
        """The first output of a graph for every sample."""
        value = graph.operand(graph.outputs[0], 0)
        assert value is not None
        return [arrays[value.name] for arrays in self.observe(graph, [value], dict)]
