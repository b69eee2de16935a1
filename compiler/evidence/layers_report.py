"""The errors of all tensors that two models have in common, and where they begin."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.evidence.expose import groups
from optc.evidence.jump import judge
from optc.evidence.layers import match_layers
from optc.evidence.tensor_error import LayerError
from optc.ir.types import TensorType
from optc.numerics.comparison import json_number
from optc.numerics.noise import nudge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.evidence.expose import Inside, Tap
    from optc.evidence.feeds import Samples
    from optc.evidence.jump import Verdict
    from optc.evidence.layers import Matching, Pair
    from optc.numerics.values import Feeds, Value
    from optc.pipeline import Progress

_MOVED: Final = 2  # models with other roundings, each run on
_NOISE_RUNS: Final = 2  # so many batches
_DISTURBED: Final = 2.0**-3
_DISTURBS: Final = "as an output it changes what the runtime computes"
_NO_TENSOR: Final = "it is no tensor"


@dataclass(frozen=True)
class LayerDifference:
    """One tensor of A against the same of B, over all samples.

    Attributes:
        tensor: its name in A.
        layer: label of the operation of A that makes it.
        op: operator of that.
        layer_b: label of the layer of B.
        op_b: operator, or OpenVINO's type, of that.
        passes: passes of optc that made the layer of B, the last one first.
        sources: source operations that the layer of B stands for.
        problem: why the two cannot be compared; empty when they can.
        dtype: element type.
        is_exact: whether elements are integers, bools or strings: only `relative` tells then.
        cosine: cosine similarity.
        sqnr: signal-to-noise ratio in dB.
        max_abs_error: largest absolute difference.
        relative: rms(error) / rms(A); share of unequal elements for integers.
        channel: the same of the worst channel.
        excess: how many times the rounding noise of the reference model the error is, in the
            channel where that is most.
        incoming: the largest `excess` of the nearest tensors before it.
        jumps: whether the error is made here.
    """

    tensor: str
    layer: str
    op: str
    layer_b: str
    op_b: str
    passes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    problem: str = ""
    dtype: str = ""
    is_exact: bool = False
    cosine: float = 1.0
    sqnr: float = math.inf
    max_abs_error: float = 0.0
    relative: float = 0.0
    channel: float = 0.0
    excess: float = 0.0
    incoming: float = 0.0
    jumps: bool = False

    @property
    def compared(self) -> bool:
        """Whether the two can be compared."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; infinities and NaN are strings, figures that do not apply are null."""
        floats = ("cosine", "sqnr", "max_abs_error")
        numbers = ("relative", "channel", "excess", "incoming")
        given = {name: self.compared and not self.is_exact for name in floats}
        given |= dict.fromkeys(numbers, self.compared)
        return {
            "tensor": self.tensor,
            "layer": self.layer,
            "op": self.op,
            "layer_b": self.layer_b,
            "op_b": self.op_b,
            "passes": list(self.passes),
            "sources": list(self.sources),
            "problem": self.problem,
            "dtype": self.dtype,
            **{n: json_number(getattr(self, n)) if has else None for n, has in given.items()},
            "jumps": self.jumps,
        }


@dataclass(frozen=True)
class LayerComparison:
    """All tensors that two models have in common.

    Attributes:
        layers: in the order in which A computes them.
        only_a: labels of layers of A that nothing in B corresponds to.
        only_b: labels of layers of B that nothing in A corresponds to.
    """

    layers: tuple[LayerDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def first(self) -> LayerDifference | None:
        """The first layer that makes an error; None when none does."""
        return next((layer for layer in self.layers if layer.jumps), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "matched": len(self.layers),
            "first_jump": None if self.first is None else self.first.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


def compare_layers(
    a: Inside,
    b: Inside,
    samples: Samples,
    *,
    batch: int = 1,
    same_runtime: bool = False,
    progress: Progress | None = None,
) -> LayerComparison:
    """Compare all tensors that two models have in common.

    Args:
        a: the reference.
        b: the other model.
        samples: what both are run on, once per group of tensors.
        batch: samples per run where models and data leave the choice.
        same_runtime: whether the same runtime executes both, from files of the same format.
        progress: told before each group.

    Raises:
        ModelError: a model with more outputs does not load or run.
    """
    matching = match_layers(a.network, b.network)
    pairs = [pair for pair in matching.pairs if _is_tensor(pair)]
    run = _Run(a, b, samples, batch)
    facts = a.facts(run.first), b.facts(run.first)
    sizes = dict(facts[0].sizes)
    for pair in pairs:
        if pair.port_a.key not in sizes and pair.port_b.key in facts[1].sizes:
            sizes[pair.port_a.key] = facts[1].sizes[pair.port_b.key]
    done = 0
    for group in groups(pairs, sizes):
        if progress is not None:
            progress("layers", done, len(pairs))
        run.measure(group)
        done += len(group)
    compared = {pair.port_a.key for pair in pairs if run.errors[pair.port_a.key].compared}
    errors = {key: run.errors[key] for key in compared}
    verdicts = judge(
        a.network, pairs, errors, run.noise, facts[0].bounds, same_runtime=same_runtime
    )
    return _report(matching, run.errors, verdicts)


def _is_tensor(pair: Pair) -> bool:
    return all(p.type is None or isinstance(p.type, TensorType) for p in (pair.port_a, pair.port_b))


class _Run:
    """Runs both models, and the reference with other roundings."""

    def __init__(self, a: Inside, b: Inside, samples: Samples, batch: int) -> None:
        self._a, self._b = a, b
        self._samples, self._batch = samples, batch
        self.first = next(iter(samples.batches(batch))).feeds
        self._plain = self._outputs(a), self._outputs(b)
        # Of an IR the weights cannot be moved, so the other model tells how sensitive both are.
        self._of_b = a.network.is_ir and not b.network.is_ir
        self._moved = [(b if self._of_b else a).nudged(seed) for seed in range(_MOVED)]
        self.errors: dict[str, LayerError] = defaultdict(LayerError)
        self.noise: dict[str, LayerError] = defaultdict(LayerError)

    def _outputs(self, model: Inside) -> Feeds:
        """What the model computes as it is; nothing when that is another thing each time."""
        tap = model.open()
        found = tap.run(self.first)
        return {} if _is_disturbed(tap, found, self.first) else found

    def measure(self, group: Sequence[Pair]) -> None:
        """Add the errors of a group of tensors over all samples, and the noise.

        Tensors that change the model's own outputs when they become outputs are rejected.
        """
        parts = [list(group)]
        while parts:
            part = parts.pop()
            with tempfile.TemporaryDirectory(prefix="optc-") as folder:
                a = self._a.expose([pair.port_a for pair in part], Path(folder))
                b = self._b.expose([pair.port_b for pair in part], Path(folder))
                disturbed = _is_disturbed(a, self._plain[0], self.first) or _is_disturbed(
                    b, self._plain[1], self.first
                )
                if not disturbed:
                    self._add_errors(part, a, b)
                    self._add_noise(part, b if self._of_b else a, Path(folder))
                elif len(part) == 1:
                    self.errors[part[0].port_a.key].reject(_DISTURBS)
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]

    def _add_errors(self, group: Sequence[Pair], a: Tap, b: Tap) -> None:
        for batch in self._samples.batches(self._batch):
            found_a, found_b = batch.trim(a.run(batch.feeds)), batch.trim(b.run(batch.feeds))
            for pair in group:
                key = pair.port_a.key
                _update(self.errors[key], found_a[key], found_b[pair.port_b.key])

    def _add_noise(self, group: Sequence[Pair], still: Tap, folder: Path) -> None:
        ports = {p.port_a.key: p.port_b if self._of_b else p.port_a for p in group}
        for seed, model in enumerate(self._moved):
            moved = model.expose([*ports.values()], folder)
            for number, batch in enumerate(islice(self._samples.batches(self._batch), _NOISE_RUNS)):
                expected = still.run(batch.feeds)
                actual = moved.run(nudge(batch.feeds, seed=seed * _NOISE_RUNS + number))
                for key, port in ports.items():
                    _update(self.noise[key], expected[port.key], actual[port.key])


def _is_disturbed(tap: Tap, plain: Feeds, feeds: Feeds) -> bool:
    """Whether a model with more outputs computes something else.

    Without fusions the last bits differ, and where it computes in bf16 or int8 a few steps do. Seen
    with OpenVINO 2026.4: when the result of an int8 convolution is an output, all that follows is
    wrong.
    """
    found = tap.run(feeds)
    for name, expected in plain.items():
        error = LayerError()
        _update(error, expected, found[name])
        if error.compared and not error.exact and error.relative > _DISTURBED:
            return True
    return False


def _update(error: LayerError, expected: Value, actual: Value) -> None:
    if isinstance(expected, np.ndarray) and isinstance(actual, np.ndarray):
        error.update(expected, actual)
    else:
        error.reject(_NO_TENSOR)


def _report(
    matching: Matching, errors: Mapping[str, LayerError], verdicts: Mapping[str, Verdict]
) -> LayerComparison:
    layers = []
    for pair in matching.pairs:
        key = pair.port_a.key
        found = _names(pair)
        if key in verdicts:
            error, verdict = errors[key], verdicts[key]
            found = replace(
                found,
                dtype=error.dtype,
                is_exact=error.exact,
                cosine=error.stats.cosine,
                sqnr=error.stats.sqnr,
                max_abs_error=error.stats.max_abs_error,
                relative=error.relative,
                channel=error.level,
                excess=verdict.excess,
                incoming=verdict.incoming,
                jumps=verdict.jumps,
            )
        else:
            found = replace(found, problem=errors[key].problem if key in errors else _NO_TENSOR)
        layers.append(found)
    return LayerComparison(
        tuple(layers),
        tuple(layer.label for layer in matching.only_a),
        tuple(layer.label for layer in matching.only_b),
    )


def _names(pair: Pair) -> LayerDifference:
    return LayerDifference(
        tensor=_name(pair),
        layer=pair.a.label,
        op=pair.a.op,
        layer_b=pair.b.label,
        op_b=pair.b.op,
        passes=pair.b.passes,
        sources=pair.b.sources,
    )


def _name(pair: Pair) -> str:
    """The tensor's name; a tensor of an IR has several, among them one that optc made up."""
    names = pair.port_a.names - {pair.port_a.key}
    return min(names) if names else pair.port_a.key
