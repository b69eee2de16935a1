"""What verification found: errors per output, accuracy goals, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optc.errors import GoalMissed
from optc.numerics.values import json_number

if TYPE_CHECKING:
    from optc.numerics.batches import Batch
    from optc.numerics.compare import Comparison
    from optc.numerics.metrics import Accumulator, Metric
    from optc.numerics.values import Feeds
    from optc.recipe import Goal


@dataclass(frozen=True)
class GoalResult:
    """One accuracy goal and what was measured.

    Attributes:
        goal: the goal.
        unit: unit of the value; ``1`` for a ratio.
        value: measured on the result.
        source: the same metric of the source model, where it is judged against labels.
    """

    goal: Goal
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
class Verification:
    """What the comparison of source and result gave.

    Attributes:
        data: what it was made on, in words.
        samples: how many samples were compared output by output.
        comparison: per output, the worst sample.
        scored: how many samples the goals were measured on.
        goals: accuracy goals with what was measured.
        missed: the first goal that was missed.
        keep: whether the recipe keeps a result that misses its goals.
        warnings: what the user should know.
        notes: what the user should know of this machine; it stays out of the output folder.
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

    def lines(self) -> list[str]:
        """What to print."""
        worst = self.comparison.worst
        found = "no outputs"
        if worst is not None:
            found = f"largest error {worst.max_abs_error:.2g} at {worst.name}"
            found += f" ({worst.used:.0%} of what rounding allows)"
        rows = [f"verified on {self.samples} samples of {self.data}: {found}"]
        return rows + [f"accuracy on {self.scored} samples: {result}" for result in self.goals]

    def to_dict(self) -> dict[str, Any]:
        """As data, with measured figures."""
        return {
            "data": self.data,
            "samples": self.samples,
            "outputs": [output.to_dict() for output in self.comparison.outputs],
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
