"""What `smooth-activations` and `equalize-channels` share: find factors, and put them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from optc.passes.base import PassOptions
from optc.passes.channel_maps import channel_map
from optc.passes.linear import other_use, shape_of
from optc.passes.rescaling import best_rescaling
from optc.passes.shared_data import SharedDataPass
from optc.passes.upward import Move
from optc.passes.upward_norms import UpwardNorms
from optc.passes.weights import ChannelAffine, check_before, fold_before
from optc.rewrite.driver import Builder, replace_node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.layers import Layer, LayerData
    from optc.passes.rescaling import Rescaling
    from optc.rewrite.trace import Trace

_RULE = "rescale"


class RescaleOptions(PassOptions):
    """Options of the passes that rescale channels."""

    alphas: tuple[float, ...] = Field(
        default=(0.35, 0.5, 0.65),
        min_length=1,
        description="what to try: 1 moves all of the spread of activations into the weights that "
        "use them, 0 the other way round",
    )
    min_gain: float = Field(
        default=0.5,
        ge=0,
        description="signal-to-noise ratio in dB that an operation, quantized, has to gain",
    )
    symmetric: bool = Field(
        default=False,
        description="whether activations will be quantized symmetrically around zero",
    )


class RescaleChannels(SharedDataPass):
    """Base of the passes that rescale channels."""

    Options = RescaleOptions
    rule: ClassVar[str] = _RULE

    @property
    def may_insert(self) -> bool:
        """Whether factors that nothing takes may become a Mul."""
        return False

    def treat(
        self,
        graph: Graph,
        site: Sequence[Layer],
        data: Mapping[Node, LayerData],
        trace: Trace,
    ) -> None:
        """Find factors for the channels of the data, and put them in."""
        first, options = site[0], self.options
        assert isinstance(options, RescaleOptions)
        found = best_rescaling(site, data, options.alphas, symmetric=options.symmetric)
        if found is None or found.gain < options.min_gain:
            best = 0.0 if found is None else found.gain
            reason = f"factors gain {best:.2g} dB, less than {options.min_gain:g}"
            trace.refused(_RULE, first.node, reason)
            return
        if obstacle := self._obstacle(graph, site, found):
            trace.refused(_RULE, first.node, obstacle)
            return
        upward = _Together(graph, site)
        move = upward.plan_inverse(first, found)
        if isinstance(move, str) and not self.may_insert:
            trace.refused(_RULE, first.node, move)
            return
        _put(graph, site, found, upward, move, trace)

    @staticmethod
    def _obstacle(graph: Graph, site: Sequence[Layer], found: Rescaling) -> str | None:
        for layer in site:
            affine = ChannelAffine(found.scale, None)
            if reason := check_before(graph, layer.linear, affine, layer.node, with_others=True):
                return reason
        return None


class _Together(UpwardNorms):
    """Takes the data of a site as used by the site alone, however many layers that are."""

    def __init__(self, graph: Graph, site: Sequence[Layer]) -> None:
        super().__init__(graph)
        self._data = site[0].data
        self._users = [layer.node for layer in site]

    def is_alone(self, value: Value) -> bool:
        if value is self._data:
            return other_use(self.graph, value, self._users) is None
        return super().is_alone(value)

    def plan_inverse(self, layer: Layer, found: Rescaling) -> Move | str:
        """How the data is made with the inverse factors in it."""
        shape = shape_of(self.graph, self._data)
        if shape is None:
            return f"the rank of {self._data.name} is not known"
        factors = channel_map(1 / found.scale, None, len(shape) + layer.axis)
        return self.plan(self._data, factors, layer.node)


def _put(
    graph: Graph,
    site: Sequence[Layer],
    found: Rescaling,
    upward: _Together,
    move: Move | str,
    trace: Trace,
) -> None:
    """Make the data with the inverse factors, and fold the factors into the weights."""
    first = site[0]
    above = move.nodes if isinstance(move, Move) else ()
    parents = dict.fromkeys((*(layer.node for layer in site), *above))
    build = Builder(graph, trace.pass_name, tuple(parents))
    if isinstance(move, Move):
        data, how = move.make(build), "folded into what makes the data"
    else:
        shape = (-1,) + (1,) * (-first.axis - 1)
        inverse = np.reshape(1 / found.scale, shape)
        name = f"{first.data.name}_smoothing"
        factors = build.constant(inverse.astype(np.float32), name=name)
        data, how = build.Mul(first.data, factors), f"as a Mul, for {move}"
        graph.set_type(data, first.data.type)
    for layer in site:
        new = fold_before(build, layer.linear, ChannelAffine(found.scale, None), data)
        graph.set_type(new, layer.node.output.type)
        trace.applied(_RULE, layer.node)
        replace_node(graph, layer.node, [new], build.made)
        figures = {
            "alpha": found.alpha,
            "sqnr_db_before": found.before,
            "sqnr_db_after": found.after,
        }
        reason = f"prepared for int8: channels are rescaled, {how}"
        trace.decided(_RULE, new.node, "fp32", reason, figures)
    for old, made in upward.side:
        graph.replace_uses(old, made)
