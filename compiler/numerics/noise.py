"""How much rounding noise a model has by itself, measured and not assumed.

The same model on the same input gives other last bits when a runtime fuses and reorders its
operations, when another runtime has other kernels, and when each input element moves by one unit in
its last place. None is wrong: what comes out differently is below the model's own resolution, and a
rewrite of it may differ as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from optc.ir.types import DType
from optc.numerics.compare import compare_outputs
from optc.numerics.draw import draw_range
from optc.numerics.tolerance import EXACT, Noise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc.numerics.comparison import OutputComparison
    from optc.numerics.values import Array, Feeds, Value

_NUDGED: Final = (np.float16, np.float32, np.float64)


class Runner(Protocol):
    """A model that is ready to run."""

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """Run the model once.

        Raises:
            ModelError: ``runtime-failed``.
        """


def measure_noise(
    plain: Runner, others: Sequence[Runner], feeds: Mapping[str, Value], *, seed: int = 0
) -> dict[str, Noise]:
    """The noise of each output of a model on one input.

    Args:
        plain: the model, loaded with ``optimize="none"``.
        others: the same model, loaded with other optimizations or in other runtimes.
        feeds: the input.
        seed: of the directions in which the input is moved.

    Returns:
        The largest of all effects by output. A sequence or map counts as one output.

    Raises:
        ModelError: the model does not run.
    """
    expected = plain.run(feeds)
    results = (*(other.run(feeds) for other in others), plain.run(nudge(feeds, seed=seed)))
    return {
        name: _largest(
            output
            for result in results
            for output in compare_outputs({name: value}, {name: result[name]}, EXACT).outputs
        )
        for name, value in expected.items()
    }


def nudge(feeds: Mapping[str, Value], *, seed: int = 0) -> Feeds:
    """The inputs with every float element moved to a neighbour, up or down at random.

    Zeros, infinities and NaN stay: they carry meaning, as padding and masks. So do the largest
    finite numbers.
    """
    return {name: _nudge(value, f"nudge/{seed}/{name}") for name, value in feeds.items()}


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
