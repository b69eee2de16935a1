"""How a quantized result is judged: against itself as it is written, and against the source.

A quantized result differs from its source by what quantization is: two questions take the place of
"is it equal?".

1. Do the runtime's kernels compute the graph that was emitted? They are held against the graph as
   it is written, QuantizeLinear and DequantizeLinear one by one around fp32 products; on a CPU
   whose sums saturate, against a simulation that saturates alike (`optc.simulation`).
2. Is quantization as good as it should be? The accuracy goals of the recipe say so. Without any,
   the signal-to-noise ratio of each output must reach what so many roundings leave at least
   (`optc.numerics.quantization_noise`).

What comes before the first pass that quantizes is held against the source by the bounds of
floating-point rounding, as ever. So is, as it is written, a result whose source came quantized,
where integer kernels of both do not compute the same: then the first question remains.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.errors import GoalMissed
from optc.ir.ops import Trait, info
from optc.numerics.compare import compare_outputs
from optc.numerics.comparison import Comparison
from optc.numerics.quantization_noise import floor, kernel_bounds, quantizers, roundings
from optc.numerics.stats import ErrorStats
from optc.numerics.traffic import precision
from optc.numerics.twin import twin
from optc.numerics.values import float_tensors
from optc.saturating import find_saturating
from optc.simulation import open_at
from optc.twins import open_emulation, open_twin, plain
from optc.verdict import OutputNoise, Quantized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.emitter import Emitter, Form
    from optc.ir import Graph
    from optc.numerics.noise import Runner
    from optc.numerics.tolerance import Tolerance
    from optc.numerics.values import Feeds
    from optc.passes.base import PassContext
    from optc.pipeline import PlannedStep
    from optc.samples import Samples
    from optc.saturating import Saturating

_NOT_SIMULATED: Final = (
    "this CPU has no VNNI, and sums of int8 products saturate on it in a way that is not known for "
    "all of them: what the kernels compute was not verified"
)


def first_quantizing(steps: Sequence[PlannedStep], source: Graph, result: Form) -> int | None:
    """The index of the first step that quantizes; None when none does, or none had any effect."""
    if quantizers(source) == quantizers(result.stated or result.graph):
        return None
    found = (i for i, step in enumerate(steps) if step.run is not None and step.run.quantizes)
    return next(found, None)


def open_written(form: Form) -> Runner:
    """A result as it is written, rounding by rounding.

    Raises:
        ModelError: it does not load.
    """
    if form.stated is not None:
        return open_twin(form.stated, optimize="none")
    return open_at(plain(form.graph), None)[0]


class Judge:
    """Judges one quantized result.

    Attributes:
        notes: what the user should know of this machine.
    """

    def __init__(
        self,
        emitter: Emitter,
        form: Form,
        source: Runner,
        samples: Samples,
        saturating: Saturating | None,
        *,
        given: bool = False,
    ) -> None:
        """Prepare.

        Args:
            emitter: wrote the result, and opens it.
            form: the graph that was emitted.
            source: the source model.
            samples: the inputs.
            saturating: products whose sums may saturate on this machine; None: there are none.
            given: whether the source is quantized itself.
        """
        self._given = given
        self._emitter, self._form = emitter, form
        self._source, self._samples = source, samples
        self._saturating = saturating
        self.notes: list[str] = []

    @cached_property
    def _counts(self) -> dict[str, int]:
        return roundings(self._form.stated or self._form.graph)

    @cached_property
    def _written(self) -> Runner:
        return open_written(self._form)

    @cached_property
    def _kernels(self) -> Runner:
        """The emitted model in its runtime; as it is written where it cannot be loaded here."""
        if self._form.stated is None:
            return self._emitter.open(self._artifact)
        found = open_emulation(self._emitter, self._artifact, self._form)
        self.notes += found.notes
        return found.runner or self._written

    def compare_kernels(self, artifact: Path, bounds: Mapping[str, Tolerance]) -> Comparison:
        """Hold the emitted model, in its runtime, against the quantized graph as it is written.

        Args:
            artifact: the emitted model.
            bounds: what floating-point rounding explains, by output.

        Raises:
            GoalMissed: ``kernels-differ``.
        """
        self._artifact = artifact
        saturated = None
        if self._saturating is not None and (saturated := self._saturating.open()) is None:
            self.notes.append(_NOT_SIMULATED)
            return Comparison(())
        found = []
        for feeds in self._samples.feeds:
            plainly = self._written.run(feeds)
            exact = self._source.run(feeds)
            allowed = kernel_bounds(bounds, exact, plainly, self._counts, given=self._given)
            wanted = plainly if saturated is None else saturated.run(feeds)
            found.append(compare_outputs(wanted, self._kernels.run(feeds), allowed))
        comparison = Comparison.merge(found)
        worst = comparison.worst
        if worst is not None and not comparison.passed:
            engine = self._emitter.engine_of(self._form)
            raise GoalMissed(
                "kernels-differ",
                f"on {self._samples.origin} {engine} does not compute the "
                f"quantized graph as it is written, output {worst.name}: {worst.reason}",
                hint="nothing was written; report it",
            )
        return comparison

    def judge(self, before: Graph, context: PassContext, *, as_written: bool) -> Quantized:
        """How much noise quantization adds, by output and by operation.

        Args:
            before: the graph that was quantized, without canonical operations.
            context: target and runtime.
            as_written: take the graph as it is written in place of the kernels of this machine.

        Raises:
            GoalMissed: ``quantization-too-noisy``, where no accuracy goal says what is enough.
        """
        feeds, recipe = self._samples.feeds, self._emitter.recipe
        counts = self._counts
        judged = self._written if as_written else self._kernels
        found = Quantized(
            output_noise(self._source, judged, feeds, counts),
            layer_noise(before, self._form.stated or self._form.graph, feeds),
        )
        there = find_saturating(self._form.in_fp32, recipe.runtime, context.described.capabilities)
        if there is not None and (model := there.open()) is not None:
            noise = output_noise(self._source, model, feeds, counts)
            found = replace(found, simulated=noise)
        if found.missed and not recipe.accuracy:
            raise _too_noisy(found, self._samples.origin)
        return found


def output_noise(
    source: Runner, result: Runner, feeds: Sequence[Feeds], counts: Mapping[str, int]
) -> tuple[OutputNoise, ...]:
    """The signal-to-noise ratio of each floating-point output.

    Args:
        source: the source model.
        result: what is judged.
        feeds: the inputs.
        counts: roundings by output.
    """
    stats: dict[str, ErrorStats] = {}
    for sample in feeds:
        _collect(stats, source.run(sample), result.run(sample))
    return tuple(
        OutputNoise(name, one.sqnr, floor(counts.get(name, 1))) for name, one in stats.items()
    )


def layer_noise(before: Graph, after: Graph, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The signal-to-noise ratio in dB of operations in int8, by label, in order.

    That of their results before they are quantized themselves, with all the noise that comes in.

    Args:
        before: the graph that was quantized, without canonical operations.
        after: what it became; what it states in bf16 is rounded alike.
        feeds: the inputs.

    Raises:
        ModelError: a graph does not load.
    """
    known = {node.label: node for node in before.nodes()}
    after = plain(after)
    pairs = {
        node.label: (known[node.label].output.name, node.output.name)
        for node in after.ordered()
        if node.label in known
        and known[node.label].operator == node.operator
        and precision(after, node) == "int8"
        and not info(node).has(Trait.QUANTIZE)
    }
    if not pairs:
        return {}
    old, old_ports = open_at(before, list(dict.fromkeys(name for name, _ in pairs.values())))
    rounded = plain(twin(after))
    new, new_ports = open_at(rounded, list(dict.fromkeys(name for _, name in pairs.values())))
    stats = {label: ErrorStats() for label in pairs}
    for sample in feeds:
        expected, actual = old.run(sample), new.run(sample)
        for label, (name, other) in pairs.items():
            a, b = expected[old_ports[name]], actual[new_ports[other]]
            if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape:
                stats[label].update(a, b)
    return {label: one.sqnr for label, one in stats.items() if one.count}


def _collect(stats: dict[str, ErrorStats], expected: Feeds, actual: Feeds) -> None:
    known = dict(float_tensors(actual))
    for name, array in float_tensors(expected):
        other = known.get(name)
        one = stats.setdefault(name, ErrorStats())
        if other is None or other.shape != array.shape:
            one.misplaced += max(array.size, 1)
        else:
            one.update(array, other)


def _too_noisy(found: Quantized, origin: str) -> GoalMissed:
    """The error for a result that is noisier than quantization explains."""
    outputs = ", ".join(map(str, found.missed))
    worst = f"; the noisiest operations: {found.worst()}" if found.layers else ""
    return GoalMissed(
        "quantization-too-noisy",
        f"quantization leaves too little of the source model on {origin}: {outputs}{worst}",
        hint="keep those operations in fp32 (`keep` of quantize-int8), calibrate on more data, or "
        "say under `accuracy` what is enough; nothing was written",
    )
