"""The descriptor of one runtime, as read from ``runtimes/*.yaml``.

It says which precisions the runtime really computes and which knobs it really honours, each with
evidence: a launch config may only contain knobs that do something.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from optc.targets.capabilities import TABLE, Precision
from optc.targets.fact import (
    Confidence,
    Descriptor,
    Fact,
    Flag,
    Name,
    Pattern,
    Some,
    Text,
    Version,
    Versioned,
)

if TYPE_CHECKING:
    from collections.abc import Collection

KnobKind = Literal["environment", "session_option", "session_config", "property"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


class Versions(Descriptor):
    """Versions of the runtime that the descriptor speaks about."""

    minimum: Version = Field(description="oldest version that artefacts are made for")
    verified: Some[Version] = Field(
        description="versions on which the measured facts were measured"
    )


class PrecisionSupport(Descriptor):
    """Whether the runtime has kernels that compute in a precision, on x86-64 CPUs."""

    computes: Fact[bool] = Field(description="whether it computes natively in this precision")
    baseline_flags: tuple[Flag, ...] = Field(
        default=(), description="CPU flags that its lowest kernels for the precision need"
    )
    instead: Text | None = Field(
        default=None, description="what to write instead; required unless it computes"
    )

    @model_validator(mode="after")
    def _says_what_instead(self) -> Self:
        if self.computes.value and not self.baseline_flags:
            raise ValueError("a precision that is computed needs baseline_flags")
        if not self.computes.value and self.instead is None:
            raise ValueError("a precision that is not computed needs `instead`")
        return self


class Knob(Descriptor):
    """One setting that people try, and whether this runtime takes notice of it."""

    name: Text = Field(description="exact spelling")
    kind: KnobKind = Field(description="how it is passed")
    honoured: bool = Field(description="whether it has an effect")
    since: Version | None = Field(default=None, description="first version; null: all supported")
    effect: Text = Field(description="what it does, or what happens instead; defaults")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class PreferredForms(Descriptor):
    """The forms of an operator that the runtime computes fastest; `lower-operators` writes them."""

    op: Text = Field(description="the operator, by its ONNX name")
    forms: Some[Name] = Field(description="names of forms, the fastest first")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class LoweringPass(Descriptor):
    """A pass that pays on this runtime, with the options that it pays with."""

    name: Name = Field(description="name of the pass")
    options: dict[str, int | float | bool | str] = Field(
        default={}, description="options of the pass"
    )
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class PassDefaults(Descriptor):
    """Options of a pass that pay on this runtime, where a recipe does not give others."""

    name: Name = Field(description="name of the pass")
    where: Name | None = Field(
        default=None, description="capability of the CPUs that it holds for; null: all"
    )
    without: Name | None = Field(
        default=None, description="capability that these CPUs do not have; null: none"
    )
    options: dict[str, int | float | bool | str | tuple[str, ...]] = Field(
        description="options of the pass"
    )
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")

    def hold_for(self, capabilities: Collection[str]) -> bool:
        """Whether they speak of a CPU with these capabilities."""
        has = self.where is None or self.where in capabilities
        return has and (self.without is None or self.without not in capabilities)


class IndirectCosts(Descriptor):
    """What int8 convolutions cost on top whose channels the kernel does not take as they are.

    What each place of their kernel sees is copied together first, and multiplied as a matrix.
    Convolutions in groups are all such, but for those of one channel each.
    """

    inputs: int = Field(description="channels of the operand have to be a multiple of this")
    outputs: int = Field(description="channels of the result have to be a multiple of this")
    least: int = Field(description="fewest channels of the result")
    gather: float = Field(
        description="cycles for each row of the kernel, or each place of it in groups, and position"
    )
    element: float = Field(description="cycles for each element of the result")
    byte: float = Field(default=0.0, description="cycles for each element that is copied")


class WindowCosts(Descriptor):
    """What a pool on integers costs whose kernel is not vectorized."""

    result: float = Field(description="cycles for each element of the result")
    place: float = Field(
        description="cycles for each place of the window and element of the result"
    )
    planar: bool = Field(
        default=False,
        description="true: only where the channels are not the last axis, as they are behind a "
        "convolution on integers; there it costs what a move costs",
    )


class StepCosts(Descriptor):
    """Cycles of one core that kernels need beside, or instead of, the peak of their arithmetic.

    What is fp32 and int8 is told apart because only their difference decides.
    """

    efficiency: dict[Precision, float] = Field(
        description="share of the peak that large products reach, by precision"
    )
    result: dict[Precision, float] = Field(
        description="for each element of the result of a product"
    )
    depthwise: dict[Precision, float] = Field(
        description="for each multiply-add of a convolution that has one channel per group"
    )
    elementwise: dict[Precision, float] = Field(
        description="for each element of the result of any other operation"
    )
    several: dict[Text, int] = Field(
        default_factory=dict,
        description="how many operations the runtime computes an elementwise operator by, if not 1",
    )
    move: dict[Precision, float] = Field(
        description="for each element that is moved or reduced by pools"
    )
    windows: dict[Text, WindowCosts] = Field(
        default_factory=dict, description="pools that cost more than a move on integers"
    )
    quantize: float = Field(description="for each element of QuantizeLinear")
    dequantize: float = Field(description="for each element of DequantizeLinear")
    operation: dict[Precision, float] = Field(
        description="for each operation, whatever its size, by what it is computed in"
    )
    indirect: IndirectCosts | None = Field(
        default=None, description="int8 convolutions without a kernel of their own; null: none"
    )
    fused_behind: dict[Precision, tuple[Text, ...]] = Field(
        description="operators that are computed with the product before them, by the precision of "
        "the product; * stands for all that are elementwise"
    )
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")

    def fuses(self, op_type: str, precision: Precision) -> bool:
        """Whether an elementwise operator costs nothing behind a product of this precision."""
        return not {"*", op_type}.isdisjoint(self.fused_behind.get(precision, ()))


class CostsWhere(StepCosts):
    """What operations cost on CPUs with a capability."""

    where: Name | None = Field(
        default=None, description="capability of the CPUs that they hold for; null: all"
    )


class SwitchedOff(Versioned):
    """One of the runtime's own optimizers that makes models slower."""

    name: Text = Field(pattern=r"^\w+$", description="its name in the runtime")
    ops: Some[Text] = Field(description="it matters to graphs with one of these operators")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class LostMarks(Versioned):
    """Operators that the runtime computes in bf16 though the model says to keep them in fp32."""

    ops: Some[Text] = Field(description="the operators, by their ONNX names")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class HintTail(Descriptor):
    """What a precision hint lowers of a model: all but what follows the last products.

    Between the last operator of `after` and a float32 output the runtime leaves everything in fp32.
    """

    after: Some[Text] = Field(description="the operators, by their ONNX names")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class ExecutedName(Descriptor):
    """What the name of an executed kernel or operator says about its precision."""

    pattern: Pattern = Field(description="what the name holds")
    precision: Precision = Field(description="what is computed in then")
    evidence: Text = Field(description="where the names are from")


class Introspection(Descriptor):
    """How to read what the runtime tells of its own execution."""

    names: tuple[ExecutedName, ...] = Field(
        description="precision by name, the first pattern that fits: OpenVINO's primitiveType, or "
        "the operator of ONNX Runtime's optimized model"
    )
    layout: tuple[Text, ...] = Field(
        description="operators that only change layout or type; they belong to what they serve"
    )
    primitives: dict[Text, tuple[Text, ...]] = Field(
        default={},
        description="by layer type: kinds of oneDNN primitives that compute it, as in "
        "ONEDNN_VERBOSE",
    )
    unlogged: Pattern | None = Field(
        default=None, description="kernel names that ONEDNN_VERBOSE has no line for"
    )
    suffixes: tuple[Pattern, ...] = Field(
        default=(), description="what the runtime appends to the names of operations it rewrites"
    )

    def precision(self, name: str) -> Precision | None:
        """The precision that a name tells; None when it tells none."""
        found = (entry for entry in self.names if re.search(entry.pattern, name))
        return next((entry.precision for entry in found), None)

    def is_unlogged(self, kernel: str) -> bool:
        """Whether a kernel runs outside of oneDNN, so that ONEDNN_VERBOSE has no line for it."""
        return self.unlogged is not None and re.search(self.unlogged, kernel) is not None

    def stem(self, name: str) -> str:
        """The name that the runtime has appended its suffixes to."""
        while True:
            shorter = name
            for suffix in self.suffixes:
                shorter = re.sub(f"{suffix}$", "", shorter)
            if shorter == name:
                return name
            name = shorter


class Profile(Descriptor):
    """What operations cost on one machine, to plan with in place of a runtime's descriptor."""

    schema_version: Literal[1] = Field(description="version of this form")
    runtime: Name = Field(description="the name of the runtime in recipes")
    version: Version = Field(description="of the runtime")
    cpu: Text = Field(description="the machine that it was measured on")
    capabilities: tuple[Name, ...] = Field(description="what its CPU can do")
    costs: StepCosts = Field(description="what operations cost there")


class Runtime(Descriptor):
    """One runtime: what it computes, and what it can be told at launch."""

    schema_version: Literal[1] = Field(description="version of this file format")
    id: Name = Field(description="the name of the runtime in recipes")
    title: Text = Field(description="name for people")
    package: Name = Field(description="name on the Python package index")
    versions: Versions = Field(description="versions described")
    precisions: dict[Precision, PrecisionSupport] = Field(description="by precision")
    knobs: tuple[Knob, ...] = Field(description="launch settings, honoured or not")
    introspection: Introspection = Field(description="reading what was executed")
    domains: tuple[Text, ...] = Field(
        default=(), description="operator domains beside ONNX's own that it runs in ONNX models"
    )
    lowering: tuple[LoweringPass, ...] = Field(
        default=(), description="passes that run before operators get their forms, in order"
    )
    forms: tuple[PreferredForms, ...] = Field(
        default=(), description="the forms that it computes fastest, by operator"
    )
    lost_marks: tuple[LostMarks, ...] = Field(
        default=(), description="operators that it lowers to bf16 whatever their marks say"
    )
    hint_tail: HintTail | None = Field(
        default=None, description="what its precision hint does not lower; null: no such hint"
    )
    defaults: tuple[PassDefaults, ...] = Field(
        default=(), description="options of passes where a recipe does not give them"
    )
    costs: tuple[CostsWhere, ...] = Field(
        default=(), description="what operations cost, to weigh precisions; none: not known"
    )
    switched_off: tuple[SwitchedOff, ...] = Field(
        default=(), description="its own optimizers that are switched off at launch"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := [name for name in PRECISIONS if name not in self.precisions]:
            raise ValueError(f"precisions: missing {', '.join(missing)}")
        _listed_once("knobs", [knob.name for knob in self.knobs])
        _listed_once("forms", [entry.op for entry in self.forms])
        return self

    def computes(self, precision: Precision) -> bool:
        """Whether the runtime is known to compute in `precision`; unknown counts as no."""
        return bool(self.precisions[precision].computes.value)

    def uses(self, capability: str) -> bool:
        """Whether the runtime has kernels that could use a capability of a CPU."""
        serves = TABLE[capability].serves
        return not serves or any(self.computes(precision) for precision in serves)

    def loses_mark(self, op_type: str, version: str | None = None) -> bool:
        """Whether an operator that is to stay fp32 is lowered to bf16 all the same.

        Args:
            op_type: the operator.
            version: of the runtime; None: the newest that is described.
        """
        return any(op_type in e.ops and e.holds_for(version) for e in self.lost_marks)

    def options_for(
        self, name: str, capabilities: Collection[str]
    ) -> dict[str, int | float | bool | str | tuple[str, ...]]:
        """The options of a pass that pay on a CPU with these capabilities; later entries win."""
        found: dict[str, int | float | bool | str | tuple[str, ...]] = {}
        for entry in self.defaults:
            if entry.name == name and entry.hold_for(capabilities):
                found.update(entry.options)
        return found

    def costs_on(self, capabilities: Collection[str]) -> StepCosts | None:
        """What operations cost on a CPU with these capabilities; the last entry that holds."""
        held = [c for c in self.costs if c.where is None or c.where in capabilities]
        return held[-1] if held else None

    def with_costs(self, costs: StepCosts) -> Self:
        """The runtime with these costs on every CPU."""
        return self.model_copy(update={"costs": (CostsWhere(**costs.model_dump()),)})

    def honours(self, knob: str) -> bool:
        """Whether a knob of this name does anything; a knob that is not listed does not."""
        return any(known.name == knob and known.honoured for known in self.knobs)


def _listed_once(field: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{field}: listed twice: {', '.join(twice)}")
