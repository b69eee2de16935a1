"""Runs the graph that a pass works on, on the calibration data of the recipe."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from optc.emit.folder import file_digest
from optc.emit.onnx import save_model
from optc.errors import DataError
from optc.frontend.onnx import read_tensor
from optc.ir import clone
from optc.numerics.data import open_dataset
from optc.numerics.evaluate import available_cpus, open_session
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import synthetic_inputs, workable_sizes
from optc.numerics.sequences import loader_version
from optc.numerics.statistics_store import GivenStatistics
from optc.passes.base import PassContext
from optc.pipeline import run_pipeline
from optc.prepare import lowering_steps
from optc.rewrite.trace import recorded_by
from optc.samples import data_hints, input_hints
from optc.targets import load_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from optc.ir import Graph, Value
    from optc.numerics.evaluate import Session
    from optc.numerics.statistics import Store
    from optc.numerics.values import Array, Feeds
    from optc.numerics.values import Value as Datum
    from optc.pipeline import Progress
    from optc.recipe import Recipe

    T = TypeVar("T")

SEEDED_SAMPLES: Final = 8
"""Seeded inputs when a recipe has no calibration data: their ranges converge at once."""
ABREAST: Final = 2
"""Samples that run at a time, each on its share of the CPUs: the many small operations of a network
do not keep all of them busy. More would cost memory, which every sample takes anew."""


@dataclass(frozen=True)
class Part:
    """A share of the runs: every `of`-th, from number `index` on."""

    index: int
    of: int

    def holds(self, run: int) -> bool:
        """Whether the run of this number is in."""
        return run % self.of == self.index


WHOLE: Final = Part(0, 1)


class CalibrationObserver:
    """Runs graphs in onnxruntime on `data.calibration` of a recipe, or on seeded inputs.

    Attributes:
        store: where statistics are kept; None: nowhere.
    """

    def __init__(
        self,
        recipe: Recipe,
        progress: Progress | None = None,
        *,
        part: Part = WHOLE,
        store: Store | None = None,
    ) -> None:
        self.store = store if store is not None else _given(recipe)
        self._recipe = recipe
        self._progress = progress
        self._part = part
        self._seeded: list[Feeds] | None = None

    @property
    def real(self) -> bool:
        """Whether the recipe has calibration data."""
        return self._recipe.data.calibration is not None

    @property
    def origin(self) -> str:
        """What the data is."""
        data = self._recipe.data.calibration
        if data is None:
            return f"seeded inputs (seed {self._recipe.verify.seed})"
        split = f"split {data.split} of " if data.split else ""
        return f"{split}{Path(data.path).name}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the data and of what the recipe says about it and about inputs."""
        content = self._recipe.content()
        known = {key: content[key] for key in ("inputs",)} | {"seed": self._recipe.verify.seed}
        sha = hashlib.sha256()
        data = self._recipe.data.calibration
        if data is not None:
            known["calibration"] = data.model_dump(mode="json", exclude={"path", "statistics"})
            if data.loader is not None:
                known["package"] = loader_version(data.loader.name)
            for name, file in self._files(self._recipe.locate(data.path)):
                sha.update(f"{name}\0{file_digest(file)}\n".encode())
        sha.update(json.dumps(known, sort_keys=True).encode())
        return sha.hexdigest()

    @staticmethod
    def _files(path: Path) -> list[tuple[str, Path]]:
        if not path.is_dir():
            return [("", path)] if path.is_file() else []
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [(file.relative_to(path).as_posix(), file) for file in files]

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        look: Callable[[Mapping[str, Array]], T],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[T]:
        """One run of `graph` per sample; see `optc.numerics.observe.Observer`."""
        probe = Probe(graph, values)

        def wanted() -> Iterator[Feeds]:
            for run, (number, total, feeds) in enumerate(self._feeds(graph, probe.session)):
                if run < skip or not self._part.holds(run):
                    continue
                if self._progress is not None:
                    self._progress(activity, number, total)
                yield feeds

        yield from probe.run_all(wanted(), look)

    def _feeds(self, graph: Graph, session: Session) -> Iterator[tuple[int, int, Feeds]]:
        data = self._recipe.data.calibration
        types, limits = required_inputs(graph), index_limits(graph)
        if data is None:
            if self._seeded is None:
                seed = self._recipe.verify.seed
                hints = input_hints(self._recipe, limits)
                sizes = workable_sizes(session, types, hints=hints, seed=seed)
                self._seeded = synthetic_inputs(
                    types, seed=seed, samples=SEEDED_SAMPLES, hints=hints, sizes=sizes
                )
            for number, feeds in enumerate(self._seeded):
                yield number, len(self._seeded), feeds
            return
        dataset = open_dataset(
            self._recipe.locate(data.path),
            types,
            split=data.split or "",
            limit=data.samples,
            hints=data_hints(self._recipe, limits),
            read_value=read_tensor,
            source=data.source,
        )
        for batch in dataset.batches(1):
            yield batch.start, dataset.samples, batch.feeds


def _given(recipe: Recipe) -> Store | None:
    """The statistics that the recipe names."""
    data = recipe.data.calibration
    if data is None or data.statistics is None:
        return None
    return GivenStatistics(recipe.locate(data.statistics))


class Probe:
    """A graph between two passes, open in onnxruntime with values of it as outputs.

    Its threads are a share of the CPUs, for samples that run abreast.

    Attributes:
        session: what runs it; outputs have names of their own.
    """

    def __init__(self, graph: Graph, values: Iterable[Value]) -> None:
        """Open a copy of a graph.

        Args:
            graph: a top-level graph; canonical operations get a form that the runtime has.
            values: values of it, of which each is computed once; constants are not allowed.

        Raises:
            ModelError: ``runtime-cannot-load``.
        """
        self._ports = {value.name: _port(value.name) for value in values}
        self.session = _open(graph, [graph.value(name) for name in self._ports])

    def run(self, feeds: Mapping[str, Datum]) -> dict[str, Array]:
        """The arrays of the values, by name.

        Raises:
            DataError: a value is no tensor.
            ModelError: ``runtime-failed``.
        """
        found = self.session.run(feeds, list(self._ports.values()))
        return {name: _array(found[port]) for name, port in self._ports.items()}

    def run_all(
        self, samples: Iterable[Mapping[str, Datum]], look: Callable[[Mapping[str, Array]], T]
    ) -> Iterator[T]:
        """What `look` sees in the arrays of each sample, in order; a few samples run at a time."""
        started: deque[Future[T]] = deque()
        with ThreadPoolExecutor(_abreast()) as pool:
            try:
                for feeds in samples:
                    started.append(pool.submit(lambda given: look(self.run(given)), feeds))
                    if len(started) > _abreast():  # one waits, so that no thread does
                        yield started.popleft().result()
                while started:
                    yield started.popleft().result()
            finally:  # whoever asked may have seen enough
                for run in started:
                    run.cancel()


def _port(name: str) -> str:
    """The output that carries a value: a name of its own, for an output may bear another's."""
    return f"optc.observed/{name}"


def _open(graph: Graph, values: Sequence[Value]) -> Session:
    """A session that computes values of a graph."""
    runtime = load_runtime("onnxruntime")

    def source() -> Graph:
        copy = clone(graph)
        for value in values:
            copy.add_output(copy.value(value.name), _port(value.name), value.type)
        return copy

    steps = lowering_steps(runtime, domains=runtime.domains)
    with recorded_by(None):  # not what the pass that observes does
        lowered = run_pipeline(source, steps, PassContext(runtime=runtime.id)).graph
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        file = Path(folder) / "model.onnx"
        save_model(lowered, file)
        threads = available_cpus() // _abreast()
        return open_session(file, threads=threads, exact_integers=True)


def _abreast() -> int:
    """Samples that run at a time here."""
    return min(ABREAST, available_cpus())


def _array(value: object) -> Array:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise DataError("data-format", "only tensors can be observed")
    return value
