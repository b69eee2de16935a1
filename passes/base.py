"""What every pass is: options, requirements, and `apply` on a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from optc.rewrite.decisions import Decisions
from optc.rewrite.driver import apply_rules
from optc.rewrite.trace import Trace
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph
    from optc.numerics.observe import Observer
    from optc.rewrite.pattern import Rule
    from optc.rewrite.trace import Decision, Refusal
    from optc.targets import Runtime, Target


class PassOptions(BaseModel):
    """Base of the typed options of a pass: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class AccuracyGoal(NamedTuple):
    """What a result has to reach.

    Attributes:
        metric: name of the metric, see `optc.numerics.metrics`.
        limit: the value to reach.
    """

    metric: str
    limit: float


@dataclass(frozen=True)
class PassContext:
    """What a pass may know beside the graph and its options.

    Attributes:
        target: name of the CPU target, e.g. ``cascadelake``.
        runtime: name of the runtime that will execute the model, e.g. ``onnxruntime``.
        observer: runs the graph on calibration data; None where there is none to run on. Only for
            passes with `observes`.
        decisions: what earlier steps decided about precisions; ask it with ``decisions.of(node)``.
        cpu: descriptor of the target; None: the one that is shipped under its name.
        engine: descriptor of the runtime; None: the one that is shipped under its name.
        reference: the graph as it was before a pass lowered its precision; None where none did.
            Only for passes with `needs_reference`.
        goals: accuracy goals of the recipe; only with an observer.
        by_hint: whether the runtime is left to lower the model to bf16, told by its precision hint,
            and not by types in the model.
    """

    target: str = "cascadelake"
    runtime: str = "onnxruntime"
    observer: Observer | None = None
    decisions: Decisions = field(default_factory=Decisions)
    cpu: Target | None = None
    engine: Runtime | None = None
    reference: Graph | None = None
    goals: tuple[AccuracyGoal, ...] = ()
    by_hint: bool = False

    @property
    def described(self) -> Target:
        """Descriptor of the target.

        Raises:
            TargetError: there is no such target.
        """
        return load_target(self.target) if self.cpu is None else self.cpu

    @property
    def executes(self) -> Runtime:
        """Descriptor of the runtime.

        Raises:
            TargetError: there is no such runtime.
        """
        return load_runtime(self.runtime) if self.engine is None else self.engine


@dataclass(frozen=True)
class PassResult:
    """What one run of a pass did.

    Attributes:
        changed: whether the graph is different now; a promise that tests hold every pass to.
        counts: how often each rule applied, by rule name; only rules that applied.
        refusals: matches that were not legal to rewrite, and the nearest miss of each rule.
        decisions: the precision that operations are to be computed in, and why.
        warnings: what the user should look at, e.g. a selector that fits nothing; the name of the
            pass is put before each.
        figures: what the run as a whole comes to, by name; the same on every machine.
    """

    changed: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


class Pass:
    """One step of the pipeline.

    Subclasses set `name`, and `Options` when they have any, and implement `apply`. A pass is a
    function of graph, options and context, with the data behind it, only; it changes the graph only
    through its mutators, and does not verify: the pipeline does.

    Attributes:
        name: kebab-case name in recipes; the class is the same in CamelCase.
        Options: the pydantic model of the step's options.
        requires: capabilities (see `optc.targets`) that target and runtime must have.
        asks_target: whether the result may depend on the context; targets with equal steps share
            the graph otherwise.
        observes: whether it uses the observer of the context: the result then depends on the
            calibration data.
        quantizes: whether results differ from those before it by more than floating-point
            rounding: they are then judged by their signal-to-noise ratio.
        retypes: whether it changes element types of operations where they stand: what it saves is
            then seen on the whole graph only.
        needs_reference: whether it looks at the graph before precision was lowered.
        keeps_interface: whether graph inputs and outputs keep their types; where none may change
            them, verification takes another type for an error.
    """

    name: ClassVar[str]
    Options: ClassVar[type[PassOptions]] = PassOptions
    requires: ClassVar[tuple[str, ...]] = ()
    asks_target: ClassVar[bool] = False
    observes: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False
    retypes: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    keeps_interface: ClassVar[bool] = True

    def __init__(self, options: PassOptions | None = None) -> None:
        self.options = options if options is not None else self.Options()

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite `graph` in place and say what was done and what was refused."""
        raise NotImplementedError


class RewritePass(Pass):
    """A pass that is a set of pattern / check / rewrite rules, applied until none applies."""

    rules: ClassVar[tuple[Rule, ...]]

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Apply the rules to the graph and all its subgraphs, to a fixed point."""
        trace = Trace(self.name)
        changed = apply_rules(graph, self.rules, trace)
        return PassResult(changed, trace.counts, trace.refusals, trace.decisions)
