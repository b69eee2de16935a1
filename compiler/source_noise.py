"""Bounds for outputs that a model rounds more than can be derived: as wide as its own noise.

The models that noise is measured with are loaded when a bound is first missed, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from optc.errors import CapabilityError, ModelError
from optc.ir import clone
from optc.numerics.noise import measure_noise, perturbed_weights
from optc.passes.assign_precision import AssignPrecisionOptions, assign
from optc.passes.precision_search import rounded
from optc.rewrite.decisions import Decisions
from optc.twins import open_twin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.emitter import Emitter
    from optc.ir import Graph
    from optc.numerics.evaluate import Optimization, Session
    from optc.numerics.noise import Runner
    from optc.numerics.tolerance import Tolerance
    from optc.numerics.values import Feeds
    from optc.passes.base import PassContext

_AS_LISTED: Final = AssignPrecisionOptions(ranges=False, search=False)


@dataclass(frozen=True)
class SourceNoise:
    """The rounding noise of a source model.

    Attributes:
        emitter: writes what is judged; its runtime computes the source model as well, where it can.
        graph: the graph of the source model, with the types of its values.
        open_source: loads the source model, without the optimizations of the runtime or with all.
        optimized: the source model as it is compared with.
        context: target and runtime that bfloat16 is planned for; None: what is judged has none.
    """

    emitter: Emitter
    graph: Graph
    open_source: Callable[[Optimization], Session]
    optimized: Session
    context: PassContext | None

    def widen(self, feeds: Feeds, bounds: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
        """The bounds on one input, at least as wide as the noise on it.

        Raises:
            ModelError: the source model does not run.
        """
        plain, others = self._runners
        rounded = self._rounded
        noise = measure_noise(plain, others, feeds, rounded=rounded)
        bf16 = bool(rounded)
        return {name: bound.widened(noise[name], bf16=bf16) for name, bound in bounds.items()}

    @cached_property
    def _runners(self) -> tuple[Session, list[Runner]]:
        """The source model without rewriting, and as each runtime rewrites it."""
        plain, native = self.open_source("none"), self.emitter.open_source()
        return plain, [self.optimized] if native is None else [self.optimized, native]

    @cached_property
    def _rounded(self) -> tuple[Session, ...]:
        """The source model as the lists would have it in bfloat16, before any pass."""
        if self.context is None:
            return ()
        graph = clone(self.graph)
        context = replace(self.context, observer=None, decisions=Decisions())
        try:
            low = rounded(graph, assign(graph, context, _AS_LISTED).low)
            models = (low, perturbed_weights(low))
            return tuple(open_twin(model, optimize="none") for model in models)
        except (CapabilityError, ModelError):
            return ()
