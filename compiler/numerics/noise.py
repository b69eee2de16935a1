"""How much rounding noise a model has by itself, measured and not assumed.

The same model on the same input gives other last bits when a runtime fuses and reorders its
operations, when another runtime has other kernels, and when each input element moves by one unit in
its last place. None is wrong: what comes out differently is below the model's own resolution, and a
rewrite of it may differ as much. A result in bfloat16 may differ as much as the model does when it
is rounded to bfloat16 itself, without any rewrite: as it is, and with weights that are off by as
much as such a rounding, since one set of roundings alone may be a lucky one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from optc.ir import Tensor, clone
from optc.ir.ops import Trait, info
from optc.ir.types import DType
from optc.numerics.compare import compare_outputs
from optc.numerics.draw import draw_range
from optc.numerics.tolerance import EXACT, Noise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc import ir
    from optc.numerics.comparison import OutputComparison
    from optc.numerics.values import Array, Feeds, Value

_NUDGED: Final = (np.float16, np.float32, np.float64)
_BF16: Final = 2.0**-8
"""Unit roundoff of bfloat16."""


class Runner(Protocol):
    """A model that is ready to run."""

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """Run the model once.

        Raises:
            ModelError: ``runtime-failed``.
        """


def measure_noise(
    plain: Runner,
    others: Sequence[Runner],
    feeds: Mapping[str, Value],
    *,
    rounded: Sequence[Runner] = (),
    seed: int = 0,
) -> dict[str, Noise]:
    """The noise of each output of a model on one input.

    Args:
        plain: the model, loaded with ``optimize="none"``.
        others: the same model, loaded with other optimizations or in other runtimes.
        feeds: the input.
        rounded: the same model in bfloat16, for a result that is, and with `perturbed_weights`;
            an output that overflows there tells nothing.
        seed: of the directions in which the input is moved.

    Returns:
        The largest of all effects by output. A sequence or map counts as one output.

    Raises:
        ModelError: the model does not run.
    """
    expected = plain.run(feeds)
    results = [*(other.run(feeds) for other in others), plain.run(nudge(feeds, seed=seed))]
    low = [model.run(feeds) for model in rounded]

    def noises(name: str, result: Feeds) -> Sequence[OutputComparison]:
        return compare_outputs({name: expected[name]}, {name: result[name]}, EXACT).outputs

    found = {name: [o for r in results for o in noises(name, r)] for name in expected}
    for name, known in found.items():
        known.extend(o for r in low for o in noises(name, r) if math.isfinite(o.relative))
    return {name: _largest(known) for name, known in found.items()}


def nudge(feeds: Mapping[str, Value], *, seed: int = 0) -> Feeds:
    """The inputs with every float element moved to a neighbour, up or down at random.

    Zeros, infinities and NaN stay: they carry meaning, as padding and masks. So do the largest
    finite numbers.
    """
    return {name: _nudge(value, f"nudge/{seed}/{name}") for name, value in feeds.items()}


def perturbed_weights(graph: ir.Graph, *, seed: int = 0) -> ir.Graph:
    """A copy whose float32 weights are off by up to a rounding to bfloat16, at random.

    Weights are constants that products read: of Conv, MatMul, Gemm, LSTM, …
    """
    copy = clone(graph)
    for nested in copy.walk():
        known: dict[ir.Value, ir.Value] = {}
        for node in nested.ordered():
            if not info(node).has(Trait.MAC):
                continue
            for index, value in enumerate(nested.operands(node)):
                if value is None or value.constant is None or value.constant.dtype is not DType.F32:
                    continue
                if value not in known:
                    moved = _perturbed(value.constant, f"perturbed/{seed}/{value.name}")
                    known[value] = nested.add_constant(moved, nested.fresh_name(value.name))
                nested.set_operand(node, index, known[value])
    return copy


def _perturbed(tensor: Tensor, stream: str) -> Tensor:
    weights = tensor.numpy()
    off = draw_range(stream, DType.F64, weights.shape, -_BF16, _BF16)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = (weights * (1 + off)).astype(np.float32)
    return Tensor.from_numpy(np.where(np.isfinite(moved), moved, weights))


def _largest(outputs: Iterable[OutputComparison]) -> Noise:
    found = list(outputs)
    exact = [output for output in found if output.relative == 0.0 and output.elements]
    return Noise(
        relative=max((output.relative for output in found), default=0.0),
        peak=max((output.peak for output in found), default=0.0),
        flips=max((output.mismatched / output.elements for output in exact), default=0.0),
        stable=all(output.compared for output in found),
    )


def _nudge(value: Value, stream: str) -> Value:
    if isinstance(value, list):
        return [_nudge(item, f"{stream}/{index}") for index, item in enumerate(value)]
    if not isinstance(value, np.ndarray) or value.dtype.type not in _NUDGED:
        return value
    up = draw_range(stream, DType.BOOL, value.shape, 0, 1)
    toward = np.where(up, np.inf, -np.inf).astype(value.dtype)
    fixed = (value == 0) | ~(np.abs(value) < np.finfo(value.dtype).max)
    with np.errstate(over="ignore"):  # of the elements that stay
        moved: Array = np.where(fixed, value, np.nextafter(value, toward))
    return moved
