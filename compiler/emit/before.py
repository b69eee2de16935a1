"""What a compile tells of its source model, beside what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.emit.drawing import Drawing

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.rewrite.trace import StepRecord


class Before:
    """The operations of a source model, with the types that are inferred for them later.

    A pipeline works on the graph that was read, so types are looked up as soon as a step has
    recorded some, and as long as all operations are there.

    Attributes:
        told: as `Drawing.describe` tells it.
    """

    def __init__(self) -> None:
        self.told: dict[str, object] = {}
        self._drawing: Drawing | None = None

    def read(self, graph: Graph) -> None:
        """Take down a graph as it is."""
        self._drawing = Drawing(graph)
        self.told = self._drawing.describe()

    def observe(self, step: StepRecord) -> None:
        """Look again after a step that inferred types."""
        if self._drawing is not None and "value-type" in step.counts:
            if self._drawing.is_whole:
                self.told = self._drawing.describe()
            self._drawing = None
