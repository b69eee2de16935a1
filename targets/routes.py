"""Answers about an operator in a type: picks the routes, and says what becomes of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.errors import TargetError, did_you_mean
from optc.targets.answers import Answer
from optc.targets.kernels import FORMS, OUTCOMES
from optc.targets.paths import PRECISION_NEEDS
from optc.targets.query import targets_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from optc.targets.capabilities import Precision
    from optc.targets.kernels import Choice, KernelTable, Route
    from optc.targets.view import View

_COMBINATION: Final = re.compile(r"(bf16|f32|f16|[us]8|[us]4)(bf16|f32|f16|[us]8|[us]4)?(\w+)?")
_OUTPUTS: Final = ("f32", "bf16", "f16", "u8", "s8", "s32")
_INT8: Final = frozenset({"u8", "s8"})
_INT4: Final = frozenset({"u4", "s4"})
_FLOAT: Final = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_FLOAT_NAMES: Final[dict[str, Precision]] = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
TYPE_NAMES: Final = ("fp32", "fp16", "bf16", "int8", "int4")
"""Types that a question can name, besides combinations such as u8s8."""


@dataclass(frozen=True)
class Types:
    """The types that a question asks for.

    Attributes:
        name: as the user wrote them.
        activation: element type of the first operand; None: any that `name` stands for.
        weight: element type of the second operand; None: any.
        output: element type of the result; None: any.
    """

    name: str
    activation: str | None = None
    weight: str | None = None
    output: str | None = None

    @classmethod
    def parse(cls, name: str) -> Types:
        """Read ``int8``, ``u8s8`` or ``u8s8f32``.

        Raises:
            TargetError: it is neither a type nor a combination.
        """
        if name in TYPE_NAMES:
            return cls(name)
        match = _COMBINATION.fullmatch(name)
        if match is None or (match[3] is not None and match[3] not in _OUTPUTS):
            raise TargetError(
                "dtype-unknown",
                f"there is no type '{name}'; known: {', '.join(TYPE_NAMES)}, or element types of "
                "activation, weight and result such as u8s8 or u8s8f32",
                hint=did_you_mean(name, TYPE_NAMES),
            )
        return cls(name, match[1], match[2], match[3])

    @property
    def precision(self) -> Precision:
        """The precision that it is about."""
        if self.name in _FLOAT:
            return _FLOAT_NAMES[_FLOAT[self.name]]
        return _FLOAT_NAMES.get(self.activation or "", "int8")

    def include(self, route: Route) -> bool:
        """Whether a route is in these types."""
        if self.activation is not None:
            # A route without a weight has operands of one type.
            weight = route.weight or route.activation
            return (
                route.activation == self.activation
                and self.weight in {None, weight}
                and self.output in {None, route.output or self.output}
            )
        if self.name in _FLOAT:
            return route.activation == _FLOAT[self.name] and route.weight is None
        if self.name == "int4":
            return route.weight in _INT4
        return route.activation in _INT8 or (route.weight in _INT8 and route.form != "weight-only")


def find_routes(
    table: KernelTable, op: str, types: Types, version: str | None
) -> tuple[Route, ...]:
    """Routes of an operator in these types, the best first; those for ``*`` if it has none."""
    fitting = [r for r in table.routes if types.include(r) and r.holds_for(version)]
    own = tuple(route for route in fitting if op in route.ops)
    return own or tuple(route for route in fitting if "*" in route.ops)


def answer_op(view: View, table: KernelTable, op: str, types: Types, version: str | None) -> Answer:
    """Whether the runtime computes an operator in these types on the target, and how."""
    question = f"{op} in {types.name} on {view.place}"
    routes = find_routes(table, op, types, version)
    resolved = [(route, choice) for route in routes if (choice := route.choice(view.capabilities))]
    if not resolved:
        return Answer(yes=False, question=question, reason=_nothing_known(table, op, types, routes))
    native = (pair for pair in resolved if pair[1].outcome == "native")
    route, choice = next(native, resolved[0])
    yes = choice.outcome == "native"
    return Answer(
        yes=yes,
        question=question,
        reason=_sentence(route, choice),
        outcome=choice.outcome,
        kernel=choice.kernel,
        isa=choice.isa if choice.needs else None,
        form=f"{route.spelling} ({FORMS[route.form]})",
        becomes=route.becomes,
        conditions=tuple(_conditions(view, route, choice)),
        otherwise=tuple(_otherwise(route, choice, resolved)),
        path=choice.path,
        evidence=choice.evidence or route.evidence,
        confidence=choice.confidence or route.confidence,
        hint=None if yes else _way_out(view, table, op, types, version),
    )


def _nothing_known(table: KernelTable, op: str, types: Types, routes: Iterable[Route]) -> str:
    """Why there is no answer: silence of the descriptor, or a CPU below all of its choices."""
    subject = f"{op} in {types.name} with {table.runtime}"
    if any(routes):
        return f"unknown: no kernel for this CPU is described for {subject}"
    return f"unknown: the descriptor says nothing about {subject}"


def _sentence(route: Route, choice: Choice) -> str:
    """``as qdq of u8 x s8 it becomes QGemm: computed in that type by …``."""
    becomes = f" it becomes {route.becomes}" if route.becomes else ""
    return f"as {route.spelling}{becomes}: {_phrase(choice)}"


def _phrase(choice: Choice) -> str:
    """What happens, by which kernel on what, and why."""
    kernel = f" by {choice.kernel}" if choice.kernel else ""
    isa = f" on {choice.isa}" if choice.needs else ""
    note = f" ({choice.note})" if choice.note else ""
    return f"{OUTCOMES[choice.outcome]}{kernel}{isa}{note}"


def _conditions(view: View, route: Route, choice: Choice) -> Iterator[str]:
    """What must hold so that the route is taken and its result is right."""
    for condition in route.conditions:
        if condition.where is None or condition.where in view.capabilities:
            yield condition.text
    if _saturates(route, choice):
        yield (
            "keep weights within [-64, 63] or activations within [0, 127]: without VNNI, pairs of "
            "products saturate at 16 bits and the result is wrong"
        )
    yield from view.conditions(choice.needs)


def _saturates(route: Route, choice: Choice) -> bool:
    """Whether the kernel adds pairs of int8 products in 16 bits, as VPMADDUBSW does."""
    multiplies = route.weight in _INT8 and choice.outcome == "native"
    exact = {"avx512_vnni", "avx_vnni", "amx_int8"}
    return multiplies and bool(choice.needs) and not exact & set(choice.needs)


def _otherwise(
    route: Route, choice: Choice, resolved: Iterable[tuple[Route, Choice]]
) -> Iterator[str]:
    """What runs on lower CPUs, and what becomes of other ways to write it."""
    higher = choice
    for lower in route.choices[route.choices.index(choice) + 1 :]:
        missing = " and ".join(name for name in higher.needs if name not in lower.needs)
        yield f"without {missing}: {_phrase(lower)}"
        higher = lower
    for other, taken in resolved:
        if other is not route:
            yield f"as {other.spelling}: {_phrase(taken)}"


def _way_out(
    view: View, table: KernelTable, op: str, types: Types, version: str | None
) -> str | None:
    """What to write or choose instead; None when nothing better is known."""
    precision = types.precision
    if precision in {"bf16", "fp16"} and view.runtime is not None:
        if not view.runtime.computes(precision):
            return view.runtime.precisions[precision].instead
        needed = PRECISION_NEEDS[precision]
        if needed not in view.capabilities:
            return f"targets with {needed}: {', '.join(targets_with(needed))}; or keep fp32"
    for route in find_routes(table, op, Types("int8"), version):
        choice = route.choice(view.capabilities)
        if precision == "int8" and choice is not None and choice.outcome == "native":
            return f"write it as {route.spelling} ({FORMS[route.form]})"
    return None
