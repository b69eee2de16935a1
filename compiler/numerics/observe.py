"""What a pass that needs data asks for: the values inside its graph, sample by sample.

Passes know neither recipes nor runtimes. One that quantizes or looks at ranges is given an
`Observer` in its context; `optc.observer` makes it from the calibration data of a recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.values import Array

    T = TypeVar("T")


class Observer(Protocol):
    """Runs graphs on calibration data.

    One that has an attribute `store` (`optc.numerics.statistics.Store`) lets statistics be kept
    there.
    """

    @property
    def origin(self) -> str:
        """What the data is, for reports: ``split calib of x.npz``, ``seeded inputs (seed 0)``."""

    @property
    def real(self) -> bool:
        """Whether it is data of the user; False for seeded inputs, whose ranges mean little."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the inputs; equal digests give equal inputs."""

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        look: Callable[[Mapping[str, Array]], T],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[T]:
        """One run of `graph` per sample, in order.

        Memory is bounded by the samples that run at a time, a few: what was yielded is not kept.

        Args:
            graph: the top-level graph of a model as it stands between two passes; it stays as it
                is. Canonical operations are computed in a form that the runtime has.
            values: values of it to look at, in any order; constants are not allowed.
            look: what is wanted of the arrays of a sample, by name of the value; `dict` for all
                that there is. Threads call it right after a run.
            activity: what progress calls this.
            skip: runs to leave out, from the first on.

        Yields:
            What `look` returns.

        Raises:
            DataError: the data does not fit the model.
            ModelError: the graph does not run.
        """
