"""What verification found: errors per output, accuracy goals, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from optc.errors import GoalMissed
from optc.numerics.comparison import json_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.numerics.batches import Batch
    from optc.numerics.comparison import Comparison
    from optc.numerics.metrics import Accumulator, Metric
    from optc.numerics.values import Feeds
    from optc.recipe import Goal


class GoalTerms(Protocol):
    """A goal of a recipe: what of it counts once it was measured."""

    @property
    def metric(self) -> str:
        """Name of the metric."""

    @property
    def limit(self) -> float:
        """The value to reach."""

    @property
    def higher_is_better(self) -> bool:
        """Whether greater values are better."""

    @property
    def on_miss(self) -> str:
        """``fail`` or ``keep``."""

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""


@dataclass(frozen=True)
class MeasuredGoal:
    """A goal as it is read back: it was measured, and what it asked for is known.

    Attributes:
        metric: name of the metric.
        limit: the value to reach.
        higher_is_better: whether greater values are better.
        on_miss: ``fail`` or ``keep``.
        was_met: the verdict on the value that was measured.
    """

    metric: str
    limit: float
    higher_is_better: bool
    on_miss: str
    was_met: bool

    def met(self, value: float) -> bool:
        """Whether the value that was measured reached it."""
        return self.was_met


@dataclass(frozen=True)
class GoalResult:
    """One accuracy goal and what was measured.

    Attributes:
        goal: the goal.
        unit: unit of the value; ``1`` for a ratio.
        value: measured on the result.
        source: the same metric of the source model, where it is judged against labels.
    """

    goal: GoalTerms
    unit: str
    value: float
    source: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value reaches the goal."""
        return self.goal.met(self.value)

    @property
    def figures(self) -> str:
        """The value beside its goal, e.g. ``top1 0.974 (goal ≥ 0.98, source 0.974)``."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        sign = "≥" if self.goal.higher_is_better else "≤"
        source = "" if self.source is None else f", source {self.source:.4g}"
        goal = f"goal {sign} {self.goal.limit:g}{unit}"
        return f"{self.goal.metric} {self.value:.4g}{unit} ({goal}{source})"

    @property
    def error(self) -> GoalMissed:
        """The error for a goal that is missed."""
        hint = (
            "the result was kept, as the recipe says"
            if self.goal.on_miss == "keep"
            else "nothing was written; `on_miss: keep` beside the goal writes the result "
            "nevertheless"
        )
        message = f"accuracy goal missed: {self.figures}"
        return GoalMissed("accuracy-goal-missed", message, hint=hint)

    def __str__(self) -> str:
        return f"{self.figures}: {'met' if self.met else 'MISSED'}"


class Score:
    """A metric of the result and, where labels judge, of the source model as well."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.own = metric.start()
        self.base: Accumulator | None = metric.start() if metric.needs_labels else None

    def update(self, expected: Feeds, actual: Feeds, batch: Batch) -> None:
        """Take in the outputs of both for a batch."""
        self.own.update(expected, actual, batch.labels)
        if self.base is not None:
            self.base.update(expected, expected, batch.labels)

    def result(self, goal: Goal) -> GoalResult:
        """What was measured, beside its goal."""
        base = None if self.base is None else self.base.compute()
        return GoalResult(goal, self.metric.unit, self.own.compute(), base)


@dataclass(frozen=True)
class OutputNoise:
    """What quantization made of an output.

    Attributes:
        name: the output.
        sqnr: signal-to-noise ratio against the source model in dB.
        floor: what so many roundings leave at least, in dB.
    """

    name: str
    sqnr: float
    floor: float

    @property
    def met(self) -> bool:
        """Whether it is no noisier than quantization explains."""
        return self.sqnr >= self.floor

    def __str__(self) -> str:
        return f"{self.name} {self.sqnr:.1f} dB (at least {self.floor:.1f} dB)"


@dataclass(frozen=True)
class Quantized:
    """How good a quantized result is.

    Attributes:
        outputs: floating-point outputs.
        layers: signal-to-noise ratio in dB by label of the operations in int8, in order.
        simulated: outputs as a target computes them whose sums saturate; empty where none do.
    """

    outputs: tuple[OutputNoise, ...]
    layers: Mapping[str, float]
    simulated: tuple[OutputNoise, ...] = ()

    @property
    def missed(self) -> tuple[OutputNoise, ...]:
        """The outputs that are noisier than quantization explains."""
        return tuple(output for output in self.outputs if not output.met)

    def worst(self, count: int = 3) -> str:
        """The noisiest operations, for people."""
        found = sorted(self.layers.items(), key=lambda item: item[1])[:count]
        return ", ".join(f"{label} {sqnr:.0f} dB" for label, sqnr in found)

    def lines(self) -> list[str]:
        """What to print."""
        rows = [f"quantization leaves {', '.join(map(str, self.outputs))}"]
        if self.layers:
            rows.append(f"noisiest operations: {self.worst()}")
        if self.simulated:
            rows.append(f"where sums saturate it leaves {', '.join(map(str, self.simulated))}")
        return rows if self.outputs else rows[1:]

    def to_dict(self) -> dict[str, Any]:
        """As data, with measured figures."""
        return {
            "outputs": {
                o.name: {"sqnr": json_number(o.sqnr), "floor": o.floor} for o in self.outputs
            },
            "simulated": {o.name: json_number(o.sqnr) for o in self.simulated},
            "layers": {label: json_number(sqnr) for label, sqnr in self.layers.items()},
        }


@dataclass(frozen=True)
class Verification:
    """What the comparison of source and result gave.

    Attributes:
        data: what it was made on, in words.
        samples: how many samples were compared output by output.
        comparison: per output, the worst sample; of a quantized result, its kernels against its
            graph as it is written.
        scored: how many samples the goals were measured on.
        goals: accuracy goals with what was measured.
        missed: the first goal that was missed.
        keep: whether the recipe keeps a result that misses its goals.
        warnings: what the user should know.
        notes: what the user should know of this machine; it stays out of the output folder.
        quantized: how good a quantized result is; None for others.
    """

    data: str
    samples: int
    comparison: Comparison
    scored: int = 0
    goals: tuple[GoalResult, ...] = ()
    missed: GoalMissed | None = None
    keep: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    quantized: Quantized | None = None

    @property
    def layers(self) -> Mapping[str, float]:
        """Signal-to-noise ratio in dB of operations in int8, by label."""
        return {} if self.quantized is None else self.quantized.layers

    def lines(self) -> list[str]:
        """What to print."""
        worst = self.comparison.worst
        found = "no outputs"
        if worst is not None:
            found = f"largest error {worst.max_abs_error:.2g} at {worst.name}"
            explained = "rounding" if self.quantized is None else "quantization"
            found += f" ({worst.used:.0%} of what {explained} allows)"
        rows = [f"verified on {_samples(self.samples)} of {self.data}: {found}"]
        rows += self.quantized.lines() if self.quantized is not None else []
        return rows + [f"accuracy on {_samples(self.scored)}: {goal}" for goal in self.goals]

    def to_dict(self) -> dict[str, Any]:
        """As data, with measured figures."""
        return {
            "data": self.data,
            "samples": self.samples,
            "outputs": [output.to_dict() for output in self.comparison.outputs],
            "quantized": None if self.quantized is None else self.quantized.to_dict(),
            "scored": self.scored,
            "goals": [
                {
                    "metric": result.goal.metric,
                    "limit": result.goal.limit,
                    "value": json_number(result.value),
                    "source": None if result.source is None else json_number(result.source),
                    "met": result.met,
                }
                for result in self.goals
            ],
        }

    def contract(self) -> dict[str, object]:
        """What was checked and the verdict, without measured figures: equal on every machine."""
        return {
            "verified": True,
            "data": self.data,
            "samples": self.samples,
            "outputs": [output.name for output in self.comparison.outputs],
            "goals": [
                {"metric": r.goal.metric, "limit": r.goal.limit, "met": r.met} for r in self.goals
            ],
        }


def inconclusive(comparison: Comparison, data: str, *, bf16: bool) -> list[str]:
    """The warning about outputs that passed and would have passed with almost any content.

    Args:
        comparison: what passed.
        data: what it was made on, in words.
        bf16: whether the result computes in bf16, whose roundings add up to wide bounds.
    """
    weak = ", ".join(output.name for output in comparison.outputs if not output.conclusive)
    if not weak:
        return []
    if bf16:
        return [
            f"as many roundings in bf16 as lead to output {weak} may add up to an error as large "
            "as the one that would be a bug, so that agreement says little: state what accuracy "
            "is needed under `accuracy`"
        ]
    return [
        f"on {data} output {weak} hardly varies or is not finite, so that agreement says little: "
        "real inputs in data.validation are better"
    ]


def _samples(count: int) -> str:
    return f"{count} sample{'s' if count != 1 else ''}"
