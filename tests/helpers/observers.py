"""An observer of given inputs, for tests of passes that look at values."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from optc.emit.onnx import serialize
from optc.ir import clone
from optc.numerics.evaluate import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.values import Array, Feeds


class FixedObserver:
    """Runs graphs in onnxruntime on the inputs that it was made with."""

    origin: str = "the inputs of the test"
    real: bool = True
    digest: str = "0"

    def __init__(self, *samples: Mapping[str, Array]) -> None:
        self._samples = samples
        self.runs = 0

    def observe(
        self, graph: Graph, values: Sequence[Value], *, activity: str = "calibrate", skip: int = 0
    ) -> Iterator[Mapping[str, Array]]:
        """See `optc.numerics.observe.Observer`."""
        del activity
        copy = clone(graph)
        for value in values:
            copy.add_output(copy.value(value.name), f"seen/{value.name}", value.type)
        session = open_session(serialize(copy), optimize="none")
        for feeds in self._samples[skip:]:
            self.runs += 1
            found = session.run(cast("Feeds", feeds))
            yield {value.name: cast("Array", found[f"seen/{value.name}"]) for value in values}
