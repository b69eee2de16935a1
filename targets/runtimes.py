"""The descriptor of one runtime, as read from ``runtimes/*.yaml``.

It says which precisions the runtime really computes and which knobs it really honours, each with
evidence: a launch config may only contain knobs that do something.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from optc.targets.capabilities import TABLE, Precision
from optc.targets.fact import Confidence, Descriptor, Fact, Flag, Name, Some, Text, Version

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


class LoweredForm(Descriptor):
    """The form of an operator that the runtime computes fastest, and the pass that writes it."""

    op: Text = Field(description="the operator, by its ONNX name")
    form: Text = Field(description="how it is written for this runtime")
    lowering: Name = Field(description="name of the pass that writes it so")
    options: dict[str, Text] = Field(default={}, description="options of that pass")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")


class Runtime(Descriptor):
    """One runtime: what it computes, and what it can be told at launch."""

    schema_version: Literal[1] = Field(description="version of this file format")
    id: Name = Field(description="the name of the runtime in recipes")
    title: Text = Field(description="name for people")
    package: Name = Field(description="name on the Python package index")
    versions: Versions = Field(description="versions described")
    precisions: dict[Precision, PrecisionSupport] = Field(description="by precision")
    knobs: tuple[Knob, ...] = Field(description="launch settings, honoured or not")
    forms: tuple[LoweredForm, ...] = Field(
        default=(), description="what graphs are lowered to, in the order of the passes"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := [name for name in PRECISIONS if name not in self.precisions]:
            raise ValueError(f"precisions: missing {', '.join(missing)}")
        names = [knob.name for knob in self.knobs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"knobs: listed twice: {', '.join(twice)}")
        return self

    def computes(self, precision: Precision) -> bool:
        """Whether the runtime is known to compute in `precision`; unknown counts as no."""
        return bool(self.precisions[precision].computes.value)

    def uses(self, capability: str) -> bool:
        """Whether the runtime has kernels that could use a capability of a CPU."""
        serves = TABLE[capability].serves
        return not serves or any(self.computes(precision) for precision in serves)

    def honours(self, knob: str) -> bool:
        """Whether a knob of this name does anything; a knob that is not listed does not."""
        return any(known.name == knob and known.honoured for known in self.knobs)
