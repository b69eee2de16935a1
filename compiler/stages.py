"""Keeps the graph after each step of a pipeline, so that a change in the fifth re-uses four.

The key of a step is a digest of everything that its result depends on: the model and its external
data, the shapes that inputs are given, optc itself and its libraries, and name and options of this
step and all before it. The target counts from the first step on that asks for it, so what is before
serves all targets; likewise calibration data, and the kind of CPU, from the first that observes. A
step that changes nothing keeps no graph, only its record.

Tensors of the source model are kept as its tensors; those that passes made go into one pack per
step, each once. Read back, a graph is the same to the order of insertion (`optc.ir.dump`), so that
a compile with a cache gives the bytes of one without.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any, Final

from optc.cache import as_bytes, digest_of
from optc.ir.dump import Origins, all_tensors, dump_graph
from optc.ir.restore import load_graph
from optc.ir.tensor import Tensor
from optc.ir.types import DType
from optc.pipeline import Resumed
from optc.recipe.steps import canonical
from optc.rewrite.trace import Decision, Gain, Refusal, Sources, StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.cache import Store
    from optc.ir import Graph
    from optc.pipeline import PlannedStep

STEP: Final = "step"
GRAPH: Final = "graph"
PACK: Final = "pack"
_INLINE: Final = 256
_ALIGN: Final = 64
_LARGEST: Final = 1 << 30  # bytes of new tensors of one step; beyond, nothing is kept from there on


def step_keys(
    source: str, steps: Sequence[PlannedStep], target: str, data: str | None = None
) -> list[str]:
    """The keys of steps.

    Args:
        source: digest of the model, its shapes, and of what runs the steps.
        steps: the steps; one that is skipped has the key of the one before.
        target: digest of what steps that ask the target can learn.
        data: digest of what steps that observe can learn.
    """
    keys, key = [], source
    for step in steps:
        if step.run is not None:
            asked = [target if step.run.asks_target else None, data if step.run.observes else None]
            options = canonical(step.run.options.model_dump())
            key = digest_of("step", key, step.name, options, asked)
        keys.append(key)
    return keys


def _reference_at(steps: Sequence[PlannedStep]) -> int | None:
    """Which step lowers precision first, where one behind it looks at the graph before that."""
    runs = [step.run for step in steps]
    lowers = (i for i, run in enumerate(runs) if run is not None and run.quantizes)
    first = next(lowers, None)
    if first is None or not any(run is not None and run.needs_reference for run in runs[first:]):
        return None
    return first


class Stages:
    """The steps of one pipeline in a store; a `Memo` of `optc.pipeline.run_pipeline`."""

    def __init__(
        self,
        store: Store,
        source: str,
        keys: Sequence[str],
        costs: Sequence[str],
        steps: Sequence[PlannedStep],
    ) -> None:
        """Nothing is read yet.

        Args:
            store: where stages are kept.
            source: as for `step_keys`.
            keys: `step_keys` of the steps.
            costs: what the cost functions of the run are made from, one digest each.
            steps: what will run.
        """
        self._store = store
        self._source = source
        self._steps = steps
        self._keys = keys
        self._costs = costs
        self._origins = Origins()
        self._tensors = _Packs(store, [])
        self._names: dict[str, int] = {}  # numbers of used-up names, as they were last kept
        self._off = False

    @property
    def key(self) -> str:
        """Digest of everything that decides the last graph."""
        return self._keys[-1] if self._keys else self._source

    # ---- reading -------------------------------------------------------------------------------

    def resume(self, source: Callable[[], Graph]) -> Resumed | None:
        """The longest beginning of the pipeline that is known; None when nothing is."""
        rows = self._rows()
        before = _reference_at(self._steps)
        if before is not None and len(rows) <= len(self._steps):
            rows = rows[: before + 1]  # what is left may ask for the graph as it was there
        while len(rows) > 1:
            found = self._restored(rows, source)
            if found is not None:
                return found
            rows = rows[: self._last_graph(rows)]
        return None

    def _rows(self) -> list[dict[str, Any]]:
        """What is kept of the source and of the first steps, without a gap."""
        rows: list[dict[str, Any]] = []
        first = self._get(STEP, self._source)
        if first is not None:
            rows.append(first)
            for step, key in zip(self._steps, self._keys, strict=True):
                row = {} if step.run is None else self._get(STEP, key)
                if row is None or not (step.run is None or self._has_costs(row)):
                    break
                rows.append(row)
        return rows

    def _has_costs(self, row: Mapping[str, Any]) -> bool:
        return all(cost in row["gains"] for cost in self._costs)

    @staticmethod
    def _last_graph(rows: Sequence[Mapping[str, Any]]) -> int:
        """Index of the last row with a graph of its own; 0, the source, when none has one."""
        return next((i for i in range(len(rows) - 1, 0, -1) if rows[i].get("graph")), 0)

    def _restored(
        self, rows: Sequence[dict[str, Any]], source: Callable[[], Graph]
    ) -> Resumed | None:
        at = self._last_graph(rows)
        if at == 0 and not rows[0]["graph"]:
            return None  # nothing but looking has been done so far
        self._origins = Origins()
        for row in rows:
            self._origins.learn(row.get("origins", ()))
        data = self._get(GRAPH, self._source if at == 0 else self._keys[at - 1])
        if data is None:
            return None
        self._tensors = _Packs(self._store, all_tensors(source()))
        try:
            graph = load_graph(data, self._tensors, self._origins)
        except KeyError:
            return None  # a pack is gone
        for row in rows[at:]:
            graph._suffix.update(row.get("names", {}))
        self._names = dict(graph._suffix)
        records = [self._record(rows[0]["record"])] if rows[0]["record"] else []
        gains: list[tuple[Mapping[str, Gain], ...]] = [()] * len(records)
        for step, row in zip(self._steps, rows[1:], strict=False):
            if step.run is None:
                records.append(StepRecord(step.name, skipped=step.skipped))
                gains.append(())
            else:
                records.append(self._record(row["record"]))
                gains.append(tuple(_gains(row["gains"][cost]) for cost in self._costs))
        return Resumed(graph, tuple(records), tuple(gains), len(rows) - 1)

    def _record(self, data: Mapping[str, Any]) -> StepRecord:
        refusals = tuple(
            Refusal(rule, node, reason, miss, family, depth, self._origins.origin(origin))
            for rule, node, reason, miss, family, depth, origin in data["refusals"]
        )
        before, after = data["nodes"]
        decisions = tuple(
            Decision(node, precision, rule, reason, figures, self._origins.origin(origin), value)
            for node, precision, rule, reason, figures, origin, value in data["decisions"]
        )
        return StepRecord(
            data["name"],
            data["changed"],
            data["counts"],
            refusals,
            before,
            after,
            decisions=decisions,
            warnings=tuple(data["warnings"]),
            figures=data["figures"],
        )

    def _get(self, kind: str, key: str) -> dict[str, Any] | None:
        data = self._store.get(kind, key)
        return None if data is None else json.loads(zlib.decompress(data))

    # ---- writing -------------------------------------------------------------------------------

    def begin(self, graph: Graph, tensors: Sequence[Tensor], records: Sequence[StepRecord]) -> None:
        """Keep the source graph as it goes into the first step.

        Args:
            graph: the graph.
            tensors: `all_tensors` of the graph as it was read.
            records: what was done to it; at most one record.
        """
        self._origins = Origins()
        self._tensors = _Packs(self._store, tensors)
        self._names = {}
        self._off = False
        self._keep(self._source, records[0] if records else None, (), graph)

    def keep(
        self, index: int, record: StepRecord, gains: Sequence[Mapping[str, Gain]], graph: Graph
    ) -> None:
        """Keep the graph after a step, which was verified.

        Args:
            index: number of the step.
            record: what it did.
            gains: what that saves, one mapping per cost function.
            graph: the graph now.
        """
        if not self._off:
            self._keep(self._keys[index], record, gains, graph)

    def _keep(
        self,
        key: str,
        record: StepRecord | None,
        gains: Sequence[Mapping[str, Gain]],
        graph: Graph,
    ) -> None:
        changed = record is not None and record.changed
        row = {
            "record": None if record is None else self._record_data(record),
            "gains": self._known_gains(key)
            | {cost: _gain_data(found) for cost, found in zip(self._costs, gains, strict=False)},
            "graph": changed,
            "names": {n: c for n, c in graph._suffix.items() if self._names.get(n) != c},
        }
        if changed:
            self._tensors.start(key)
            data = dump_graph(graph, self._tensors, self._origins)
            if not self._tensors.finish():
                self._off = True
                return
            self._put(GRAPH, key, data)
        self._names = dict(graph._suffix)
        # Last: who finds the row finds the graph, as a rule.
        self._put(STEP, key, row | {"origins": self._origins.news()})

    def _known_gains(self, key: str) -> dict[str, Any]:
        """Gains that the same step had with other cost functions."""
        row = self._get(STEP, key)
        return {} if row is None else row["gains"]

    def _record_data(self, record: StepRecord) -> dict[str, Any]:
        return {
            "name": record.name,
            "changed": record.changed,
            "counts": dict(record.counts),
            "nodes": [record.nodes_before, record.nodes_after],
            "refusals": [
                [r.rule, r.node, r.reason, r.miss, r.family, r.depth, self._number(r)]
                for r in record.refusals
            ],
            "decisions": [
                [d.node, d.precision, d.rule, d.reason, dict(d.figures), self._number(d), d.value]
                for d in record.decisions
            ],
            "warnings": list(record.warnings),
            "figures": dict(record.figures),
        }

    def _number(self, found: Refusal | Decision) -> int | None:
        assert not isinstance(found.origin, Sources)  # that is of a result, not of a run
        return self._origins.number(found.origin)

    def _put(self, kind: str, key: str, data: Mapping[str, Any]) -> None:
        self._store.put(kind, key, zlib.compress(as_bytes(data), 1))


def _gain_data(gains: Mapping[str, Gain]) -> dict[str, Any]:
    return {rule: [gain.seconds, gain.counted, gain.uncounted] for rule, gain in gains.items()}


def _gains(data: Mapping[str, Any]) -> dict[str, Gain]:
    return {rule: Gain(*row) for rule, row in data.items()}


class _Packs:
    """Tensors as references: to the source model, to packs in a store, or written out when small.

    A pack holds the data of the tensors that one step made. Equal tensors are kept once.
    """

    def __init__(self, store: Store, source: Sequence[Tensor]) -> None:
        self._store = store
        # Tensors that a reference is known for; held, so that no other object gets the identity.
        self._held = list(source)
        self._known: dict[int, Any] = {id(tensor): i for i, tensor in enumerate(source)}
        self._source = source
        self._packs: dict[str, memoryview] = {}
        self._places: dict[str, tuple[str, int]] = {}  # by digest of the tensor: pack and offset
        self._key = ""
        self._fresh: list[tuple[Tensor, int]] = []
        self._size = 0

    def start(self, key: str) -> None:
        """Begin the pack of a step."""
        self._key, self._fresh, self._size = key, [], 0

    def dump(self, tensor: Tensor) -> Any:
        """A reference to a tensor."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known
        about = [tensor.dtype.value, list(tensor.shape), tensor.doc, list(tensor.metadata)]
        if tensor.dtype is DType.STRING:
            return [*about, [item.decode("latin-1") for item in tensor.strings]]
        if tensor.nbytes <= _INLINE:
            return [*about, tensor.raw().decode("latin-1")]
        place = self._places.get(tensor.digest)
        if place is None:
            start = self._size + -self._size % _ALIGN
            place = self._places[tensor.digest] = (self._key, start)
            self._fresh.append((tensor, start))
            self._size = start + tensor.nbytes
        return [*about, *place]

    def finish(self) -> bool:
        """Write the pack, where anything is new; False when it would be too large."""
        if self._size > _LARGEST:
            return False
        if self._fresh:
            parts, end = [], 0
            for tensor, start in self._fresh:
                parts += [bytes(start - end), tensor.raw()]
                end = start + tensor.nbytes
            self._store.put(PACK, self._key, b"".join(parts))
        self._fresh = []
        return True

    def load(self, data: Any) -> Tensor:
        """The tensor of a reference; KeyError when its pack is gone."""
        if isinstance(data, int):
            return self._source[data]
        name, shape, doc, metadata, content, *start = data
        dtype, more = DType(name), tuple((key, text) for key, text in metadata)
        if start:
            count = math.prod(shape) * dtype.bits
            view = self._pack(content)[start[0] : start[0] + (count + 7) // 8]
            tensor = Tensor(dtype, shape, view, doc, more)
            self._known[id(tensor)] = data
            self._held.append(tensor)
            return tensor
        strings = isinstance(content, list)
        packed = tuple(s.encode("latin-1") for s in content) if strings else _bytes(content)
        return Tensor(dtype, shape, packed, doc, more)

    def _pack(self, key: str) -> memoryview:
        if key not in self._packs:
            found = self._store.get(PACK, key)
            if found is None:
                raise KeyError(key)
            self._packs[key] = memoryview(found)
        return self._packs[key]


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
