"""Where the error of a model begins: the layers that make it, not those that pass it on.

The unit is the noise of the reference model, measured and not assumed: how far each channel of each
tensor moves when the model's inputs and weights move to neighbouring numbers, so that every
rounding falls out differently. A subtraction of nearly equal numbers or a steep Sigmoid amplifies
noise as it amplifies any error that comes in, so in this unit an error that is passed on stays what
it is, and only one that is made grows.

    jump        excess > 5 · max(1, incoming),   error > 2 · passed   and   error > bound

    excess      error by noise, of the channel where that is largest
    incoming    the largest excess among the nearest matched ancestors
    error       relative error of the worst channel
    passed      the largest relative error, of all channels together, among those ancestors
    bound       what `optc.numerics.roundings` derives for the operations since them

5 and 2 are margins. Noise is that of one runtime, and kernels of another round differently: over
ten fp32 networks on ONNX Runtime and OpenVINO, excess / max(1, incoming) of layers beyond their
bound stays below 3.5 (decision 0007). The bound is for kernels that compute an operation in another
way. Where both models run the same operation on the same runtime there is one kernel, whose noise
is measured, so the bound, which knows no blocking of sums and is ten times as wide, does not count.
When such a kernel is given the very same bits, noise is no excuse either: what remains is the
choice of a layout, for which the bound of that operation alone is wide enough.

    one kernel, same bits        jump        excess > 5   or   error > bound

Integers are equal or not. An error of e in what is rounded to 256 steps, 16 times its rms, lets
about 16 e of them differ by one.

    integers                     jump        unequal > max(1/64, 2 · 16 · passed)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.evidence.tensor_error import WEAK
from optc.numerics.tolerance import EXACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.evidence.layers import Layer, Network, Pair
    from optc.evidence.tensor_error import LayerError
    from optc.numerics.tolerance import Tolerance

FACTOR: Final = 5.0
GROWTH: Final = 2.0
_FLIPS: Final = 2.0**-6
_STEP: Final = 2.0**-4  # of a quantized tensor, against its rms
_MEANS: Final = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "AvgPool"})


@dataclass(frozen=True)
class Verdict:
    """What a tensor's error is held against, and the outcome.

    Attributes:
        excess: error by noise, of the channel where that is largest.
        incoming: largest excess of the nearest matched ancestors.
        bound: relative error that rounding may add by derivation.
        jumps: whether the error is made here.
    """

    excess: float
    incoming: float
    bound: float
    jumps: bool


@dataclass(frozen=True)
class _Before:
    """What is upstream of a tensor: the nearest tensors that were compared, roundings since."""

    keys: frozenset[str] = frozenset()
    relative: float = 0.0  # square of the derived relative error
    absolute: float = 0.0

    def bound(self, scale: float, averaged: float) -> float:
        """Relative error that rounding may make in a weak channel of a tensor of this size.

        Args:
            scale: root mean square of the tensor.
            averaged: that of what it is the mean of, if it is: roundings are relative to the terms,
                which may cancel.
        """
        if not scale:
            return math.sqrt(self.relative)
        shrunk = max(averaged / scale, 1.0)
        return shrunk * math.sqrt(self.relative) + self.absolute / (scale * math.sqrt(WEAK))


def judge(
    network: Network,
    pairs: Sequence[Pair],
    errors: Mapping[str, LayerError],
    noise: Mapping[str, LayerError],
    bounds: Mapping[str, Tolerance],
    *,
    same_runtime: bool,
) -> dict[str, Verdict]:
    """Judge every tensor that was compared.

    Args:
        network: the layers of A.
        pairs: what corresponds.
        errors: of B against A, by key of the tensor of A, of those that could be compared.
        noise: of the reference against itself, likewise.
        bounds: what rounding may add in the operation that makes a tensor of A, by key.
        same_runtime: whether both models ran on the same runtime, from files of the same format.

    Returns:
        Verdicts by key of the tensor of A.
    """
    by_key = {pair.port_a.key: pair for pair in pairs}
    before: dict[str, _Before] = {}
    found: dict[str, Verdict] = {}
    for layer in network.layers:
        for port in layer.outputs:
            if port is None:
                continue
            upstream = _upstream(layer, before, bounds.get(port.key, EXACT))
            if port.key not in errors:
                before[port.key] = upstream
                continue
            before[port.key] = _Before(frozenset([port.key]))
            one_kernel = same_runtime and _is_same_operation(by_key[port.key])
            sources = [(errors[key], noise[key]) for key in sorted(upstream.keys)]
            found[port.key] = _judge(
                layer, upstream, sources, errors[port.key], noise[port.key], one_kernel=one_kernel
            )
    return found


def _upstream(layer: Layer, before: Mapping[str, _Before], own: Tolerance) -> _Before:
    """The matched ancestors of what a layer makes, and the roundings since, its own included."""
    parts = [before[key] for key in layer.operands if key in before]
    return _Before(
        frozenset().union(*(part.keys for part in parts)),
        max((part.relative for part in parts), default=0.0) + own.relative**2,
        max([own.absolute, *(part.absolute for part in parts)]),
    )


def _is_same_operation(pair: Pair) -> bool:
    return not pair.b.sources and pair.a.op == pair.b.op


def _judge(
    layer: Layer,
    upstream: _Before,
    sources: Sequence[tuple[LayerError, LayerError]],
    error: LayerError,
    noise: LayerError,
    *,
    one_kernel: bool,
) -> Verdict:
    scale = max((source.stats.rms_signal for source, _ in sources), default=0.0)
    bound = upstream.bound(error.stats.rms_signal, scale if layer.op in _MEANS else 0.0)
    excess = error.excess(noise, bound)
    incoming = max((own.possible_excess(moved) for own, moved in sources), default=0.0)
    passed = max((source.passed_on for source, _ in sources), default=0.0)
    if error.exact:
        jumps = error.unequal > max(_FLIPS, GROWTH * passed / _STEP)
        return Verdict(excess, incoming, bound, jumps)
    jumps = excess > FACTOR * max(1.0, incoming) and error.level > GROWTH * passed
    if not one_kernel:
        jumps = jumps and error.level > bound
    elif not passed:
        jumps = jumps or error.level > bound
    return Verdict(excess, incoming, bound, jumps)
