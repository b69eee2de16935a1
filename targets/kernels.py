"""Which kernel runs an operator in which types, as read from ``kernels/*.yaml``.

A route is one way to write an operator down: graph form and element types of activation, weight
and result. Its choices say what the runtime makes of it, the best CPU first. What looks like int8
in the graph is often something else when it runs: that is what this table is for.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from optc.targets.capabilities import TABLE
from optc.targets.fact import (
    Confidence,
    Descriptor,
    Name,
    Some,
    Text,
    Versioned,
)
from optc.targets.paths import PATH_NEEDS, ComputePath

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Element = Literal["f32", "f16", "bf16", "u8", "s8", "u4", "s4", "s32"]
"""Element types in the notation of oneDNN: f32, bf16, u8 (uint8), s8 (int8), …"""

Form = Literal[
    "plain",
    "pair",
    "hint",
    "qdq",
    "qdq-relu",
    "qdq-pair",
    "qoperator",
    "integer",
    "dynamic",
    "weight-only",
]
FORMS: Mapping[Form, str] = MappingProxyType(
    {
        "plain": "the operator on tensors of that type",
        "pair": "as plain, and the second operand is an activation, not a weight",
        "hint": "an fp32 model that the runtime is told to compute in that type",
        "qdq": "DequantizeLinear before the operator and QuantizeLinear behind it",
        "qdq-relu": "as qdq, with a Relu that the zero point behind it does not absorb",
        "qdq-pair": "as qdq, and the second operand is an activation, not a weight",
        "qoperator": "the operator that computes on quantized tensors (QLinearConv, QLinearMatMul)",
        "integer": "ConvInteger or MatMulInteger, with an int32 result",
        "dynamic": "DynamicQuantizeLinear, then the integer operator, then the scale",
        "weight-only": "DequantizeLinear on the weight alone",
    }
)
"""Every graph form with its meaning."""

Outcome = Literal["native", "emulated", "converted", "slow", "wrong", "rejected"]
OUTCOMES: Mapping[Outcome, str] = MappingProxyType(
    {
        "native": "computed in that type",
        "emulated": "emulated",
        "converted": "converted and computed in another type",
        "slow": "computed slowly",
        "wrong": "computed wrongly",
        "rejected": "not loaded",
    }
)
"""Every outcome in words for people; only `native` is a yes.

Emulated: by instructions that are not made for the type. Slow: slower than fp32, or near it.
"""

ZeroPoint = Literal["any", "symmetric", "lowest", "asymmetric"]
"""Zero points of activations: symmetric is 0 for s8 and 128 for u8, lowest is -128 and 0.

The lowest one goes by the route of asymmetric ones where the table does not tell them apart.
"""

Pairing = Literal["terms", "positions", "columns"]
PAIRINGS: Mapping[Pairing, str] = MappingProxyType(
    {
        "terms": "neighbours in the sum, channels innermost; the last term of an odd sum is alone",
        "positions": "as terms, but a convolution in one group begins anew at each kernel position",
        "columns": "as terms, but every convolution begins anew at each kernel position; of one "
        "channel, neighbours in the columns of its kernel",
    }
)
"""Which two products of a sum VPMADDUBSW adds in 16 bits, with saturation."""

OpName = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Z][A-Za-z0-9]*)$")]
"""An ONNX operator; ``*`` stands for every one that has no route of its own in these types."""


class Choice(Descriptor):
    """What runs where the CPU has the capabilities; the first choice that fits is taken."""

    needs: tuple[Name, ...] = Field(
        default=(), description="capabilities of the CPU, all of them; none: every x86-64 CPU"
    )
    outcome: Outcome = Field(default="native", description="what becomes of the operator")
    kernel: Text | None = Field(
        default=None, description="the kernel as the runtime names it; null when it is not known"
    )
    shown_as: Text | None = Field(
        default=None,
        description="how introspection shows the kernel, where that differs from its name",
    )
    path: ComputePath | None = Field(
        default=None, description="the peak that applies; null where none is known to apply"
    )
    saturates: Pairing | None = Field(
        default=None,
        description="which two products are added in 16 bits with saturation; null: none are",
    )
    note: Text | None = Field(default=None, description="cost, cause or consequence")
    evidence: Text | None = Field(
        default=None, description="measurement or document; null: that of the route"
    )
    confidence: Confidence | None = Field(
        default=None, description="how sure that is; null: as the route"
    )

    @property
    def isa(self) -> str:
        """The capabilities it needs, for people: ``amx_int8``; ``x86-64`` when it needs none."""
        return " and ".join(self.needs) or "x86-64"

    @model_validator(mode="after")
    def _needs_what_its_path_needs(self) -> Self:
        if unknown := [name for name in self.needs if name not in TABLE]:
            raise ValueError(f"needs: there is no capability {', '.join(unknown)}")
        if self.path is not None and PATH_NEEDS[self.path] not in self.needs:
            raise ValueError(f"path: {self.path} needs {PATH_NEEDS[self.path]}")
        if self.outcome == "native" and self.path is None and self.note is None:
            raise ValueError("a native kernel without a peak needs a note that says why")
        return self


class Condition(Descriptor):
    """What the artefact or the caller must do so that the route is taken."""

    text: Text = Field(description="the condition, as an instruction")
    where: Name | None = Field(
        default=None, description="capability of the CPUs it applies to; null: all"
    )


class Route(Versioned):
    """One way to write an operator down, and what the runtime makes of it."""

    ops: Some[OpName] = Field(description="ONNX operators")
    form: Form = Field(description="how it stands in the graph")
    activation: Element = Field(description="element type of the first operand")
    weight: Element | None = Field(
        default=None, description="element type of the second operand; null when there is none"
    )
    output: Element | None = Field(
        default=None, description="element type of the result; null: any that the form allows"
    )
    zero_point: ZeroPoint = Field(
        default="any",
        description="zero points of the activations; symmetric is 0 for s8 and 128 for u8, lowest "
        "is -128 and 0",
    )
    weight_zero_point: ZeroPoint = Field(
        default="any", description="zero points of the second operand, where they matter"
    )
    becomes: Text | None = Field(
        default=None, description="operator that introspection shows in its place"
    )
    choices: Some[Choice] = Field(description="by CPU, the best first")
    conditions: tuple[Condition, ...] = Field(default=(), description="what must hold besides")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")

    @property
    def types(self) -> str:
        """``u8 x s8 -> u8``; what may be anything is left out."""
        return spelled_types(self.activation, self.weight, self.output, self.weight_zero_point)

    @property
    def spelling(self) -> str:
        """Form, zero point and types: ``qdq-pair of symmetric s8 x s8``."""
        prefix = "" if self.zero_point == "any" else f"{self.zero_point} "
        return f"{self.form} of {prefix}{self.types}"

    def choice(self, capabilities: Collection[str]) -> Choice | None:
        """What runs on a CPU with these capabilities; None when no choice fits."""
        fitting = (choice for choice in self.choices if set(choice.needs) <= set(capabilities))
        return next(fitting, None)


def spelled_types(
    activation: Element,
    weight: Element | None,
    output: Element | None,
    weight_zero_point: ZeroPoint = "any",
) -> str:
    """``u8 x s8 -> u8``, or ``u8 x asymmetric s8 -> u8``; what may be anything is left out."""
    prefix = "asymmetric " if weight_zero_point == "asymmetric" else ""
    operands = activation if weight is None else f"{activation} x {prefix}{weight}"
    return operands if output is None else f"{operands} -> {output}"


class KernelTable(Descriptor):
    """All routes of one runtime, the recommended form of each operator first.

    ``ladders`` are lists of choices that several routes share; a route names one in `choices`.
    """

    schema_version: Literal[1] = Field(description="version of this file format")
    runtime: Name = Field(description="the runtime")
    ladders: dict[Name, Some[Choice]] = Field(default={}, description="choices by name")
    routes: Some[Route] = Field(description="routes; within an operator and type the best first")

    def find(
        self,
        op: str,
        form: Form,
        activation: Element,
        weight: Element | None = None,
        output: Element | None = None,
        zero_point: ZeroPoint = "any",
        *,
        weight_zero_point: ZeroPoint = "any",
        version: str | None = None,
    ) -> Route | None:
        """The route of an operator in exactly this spelling; None when the table has none.

        A pair of activations goes by the route of a weight, a clamp in front of the quantization
        by that of none, and weights with any zero points by one for all of them, where the table
        does not tell them apart; an operator without a route of its own goes by that of ``*``.
        """
        known = {route.form for route in self.routes}
        zeros = {"any", zero_point} | ({"asymmetric"} if zero_point == "lowest" else set())
        general: dict[Form, Form] = {"pair": "plain", "qdq-relu": "qdq"}
        forms = {form}
        if form == "pair" or form not in known:
            forms.add(general.get(form, form))
        fitting = [
            route
            for route in self.routes
            if route.form in forms
            and route.activation == activation
            and route.weight in {None, weight}
            and route.output in {None, output}
            and route.zero_point in zeros
            and route.weight_zero_point in {"any", weight_zero_point}
            and route.holds_for(version)
        ]
        fitting.sort(
            key=lambda r: (r.form != form, "*" in r.ops, r.weight_zero_point != weight_zero_point)
        )
        own = (route for route in fitting if op in route.ops or "*" in route.ops)
        return next(own, None)

    @model_validator(mode="before")
    @classmethod
    def _climb_ladders(cls, data: object) -> object:
        """Put the choices of a ladder where a route names it."""
        if not isinstance(data, dict):
            return data
        ladders, routes = data.get("ladders"), data.get("routes")
        if not isinstance(ladders, dict) or not isinstance(routes, list):
            return data
        named = [route.get("choices") if isinstance(route, dict) else None for route in routes]
        if missing := [name for name in named if isinstance(name, str) and name not in ladders]:
            raise ValueError(f"routes: there is no ladder {', '.join(missing)}")
        filled = [
            {**route, "choices": ladders[name]} if isinstance(name, str) else route
            for route, name in zip(routes, named, strict=True)
        ]
        return {**data, "routes": filled}

    @model_validator(mode="after")
    def _states_each_route_once(self) -> Self:
        seen: set[tuple[object, ...]] = set()
        for route in self.routes:
            span = (route.since, route.until)
            for op in route.ops:
                key = (op, route.spelling, *span)
                if key in seen:
                    raise ValueError(f"{op}, {route.spelling}: stated twice")
                seen.add(key)
        return self
