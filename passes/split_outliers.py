"""Keep the few channels with the largest values in fp32, and the rest of a product on integers.

    x @ W  →  (x · m) @ (m W) + x[c] @ W[c]        m: 0 for the channels c, 1 for all others

Activations have one scale for the whole tensor. Where single channels are a hundred times as large
as all others, as in later layers of transformers, the others are left with two or three levels.
`smooth-activations` is the first remedy, as it costs nothing at run time; this one costs a small
product, a Mul and an Add per product. Both are to run before `quantize-int8`, which leaves the
small product in fp32.
Source: Dettmers et al.: LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from optc.ir import DType, TensorType
from optc.passes.base import PassOptions
from optc.passes.layers import decibels, energy, outputs_of
from optc.passes.linear import shape_of
from optc.passes.rescaling import fake_activations, fake_weights
from optc.passes.shared_data import SharedDataPass
from optc.passes.weights import ChannelAffine, check_before, fold_before
from optc.rewrite.driver import Builder, replace_node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Node
    from optc.passes.layers import Layer, LayerData
    from optc.rewrite.trace import Trace

_NAME: Final = "split-outliers"
_NEAR: Final = 0.5
"""dB that fewer channels may be behind the best number."""


class SplitOutliersOptions(PassOptions):
    """Options of `split-outliers`."""

    min_gain: float = Field(
        default=6.0,
        ge=0,
        description="signal-to-noise ratio in dB that an operation, quantized, has to gain",
    )
    max_share: float = Field(
        default=0.02,
        gt=0,
        le=0.25,
        description="the largest share of the channels that stays fp32; one channel always may",
    )
    symmetric: bool = Field(
        default=False,
        description="whether activations will be quantized symmetrically around zero",
    )


@dataclass(frozen=True)
class _Split:
    """Channels that stay fp32, and what that gains.

    Attributes:
        channels: in ascending order.
        before: signal-to-noise ratio of the quantized layers with all channels, in dB.
        after: that without these.
    """

    channels: npt.NDArray[np.int64]
    before: float
    after: float

    @property
    def gain(self) -> float:
        """In dB."""
        return self.after - self.before


class SplitOutliers(SharedDataPass):
    """Compute the channels with the largest values of matrix products apart, in fp32.

    Refuses: data that was not finite or had no element; channels whose splitting gains less than
    `min_gain`; a weight that cannot be rewritten, see `fold-affine`.
    """

    name: ClassVar[str] = _NAME
    Options = SplitOutliersOptions
    operators: ClassVar[tuple[str, ...]] = ("MatMul", "Gemm")
    rule: ClassVar[str] = "split"

    def treat(
        self,
        graph: Graph,
        site: Sequence[Layer],
        data: Mapping[Node, LayerData],
        trace: Trace,
    ) -> None:
        """Split the data, once for all that multiply it."""
        first, options = site[0], self.options
        assert isinstance(options, SplitOutliersOptions)
        most = max(1, int(options.max_share * first.linear.inputs))
        found = _best(site, data, most, options.symmetric)
        if found.gain < options.min_gain:
            reason = f"splitting gains {found.gain:.2g} dB, less than {options.min_gain:g}"
            trace.refused(self.rule, first.node, reason)
            return
        mask = np.ones(first.linear.inputs)
        mask[found.channels] = 0.0
        for layer in site:
            affine = ChannelAffine(mask, None)
            obstacle = check_before(graph, layer.linear, affine, layer.node, with_others=True)
            if obstacle is not None:
                trace.refused(self.rule, layer.node, obstacle)
                return
        _write(graph, site, found, mask, trace)


def is_outlier_product(graph: Graph, node: Node) -> bool:
    """Whether an operation multiplies the channels that this pass has split off."""
    data = graph.operand(node, 0)
    if not node.is_op("MatMul") or data is None or not data.node.is_op("Gather"):
        return False
    origin = data.node.origin
    return origin is not None and _NAME in origin.passes()


# ---- search ------------------------------------------------------------------------------------


def _best(
    site: Sequence[Layer], data: Mapping[Node, LayerData], most: int, symmetric: bool
) -> _Split:
    """The fewest channels, up to `most`, that gain nearly as much as the best number of them."""
    peaks = data[site[0].node].peaks
    order = np.argsort(-peaks, kind="stable")
    signal = sum(energy(outputs_of(data[layer.node].rows, layer.matrix)) for layer in site)
    before = _sqnr(site, data, signal, order[:0], symmetric)
    counts = sorted({min(2**power, most) for power in range(most.bit_length() + 1)})
    found = [
        _Split(np.sort(order[:c]), before, _sqnr(site, data, signal, order[:c], symmetric))
        for c in counts
    ]
    best = max(split.after for split in found)
    return next(split for split in found if split.after >= best - _NEAR)


def _sqnr(
    site: Sequence[Layer],
    data: Mapping[Node, LayerData],
    signal: float,
    channels: npt.NDArray[np.int64],
    symmetric: bool,
) -> float:
    """Signal-to-noise ratio of the quantized layers in dB, with channels in fp32, rounded."""
    noise = 0.0
    for layer in site:
        seen = data[layer.node]
        mask = np.ones(len(seen.peaks), np.float32)
        mask[channels] = 0.0
        low, high = float((seen.low * mask).min()), float((seen.high * mask).max())
        inner = seen.rows * mask
        weight = layer.matrix * mask[:, None]
        real = outputs_of(inner, weight)
        got = outputs_of(fake_activations(inner, low, high, symmetric), fake_weights(weight))
        noise += energy(got - real)
    return decibels(signal, noise)


# ---- construction ------------------------------------------------------------------------------


def _write(
    graph: Graph,
    site: Sequence[Layer],
    found: _Split,
    mask: npt.NDArray[np.float64],
    trace: Trace,
) -> None:
    data, count = site[0].data, len(found.channels)
    build = Builder(graph, trace.pass_name, tuple(layer.node for layer in site))
    channels = build.constant(
        found.channels.tolist(), dtype=DType.I64, name=f"{data.name}_outliers"
    )
    chosen = build.Gather(data, channels, axis=-1)
    keep = build.constant(mask.astype(np.float32), name=f"{data.name}_mask")
    rest = build.Mul(data, keep)
    shape = shape_of(graph, data)
    if shape is not None:
        graph.set_type(chosen, TensorType(DType.F32, (*shape[:-1], count)))
    graph.set_type(rest, data.type)
    for layer in site:
        alpha = layer.node.get("alpha", 1.0) if layer.node.is_op("Gemm") else 1.0
        rows = (layer.matrix[0][found.channels] * alpha).astype(np.float32)
        small = build.MatMul(chosen, build.constant(rows, name=f"{layer.node.key}_outliers"))
        main = fold_before(build, layer.linear, ChannelAffine(mask, None), rest)
        made = build.Add(main, small)
        for value in (small, main, made):
            graph.set_type(value, layer.node.output.type)
        trace.applied(SplitOutliers.rule, layer.node)
        replace_node(graph, layer.node, [made], build.made)
        figures = {
            "channels": float(count),
            "sqnr_db_before": found.before,
            "sqnr_db_after": found.after,
        }
        reason = f"{count} of {len(mask)} channels with the largest values are computed apart"
        trace.decided(SplitOutliers.rule, small.node, "fp32", reason, figures)
