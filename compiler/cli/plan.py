"""`optc plan`: what each pass would do, what that should save, and for each miss why not."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, Final

import click

from optc.cli.command import verb
from optc.cli.console import (
    json_option,
    progress,
    recipe_argument,
    say,
    say_json,
    set_option,
    target_option,
    warn,
)
from optc.cli.tables import table
from optc.cli.why import check_node, show_fates, show_near_misses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.evidence.steps import MeasuredStep
    from optc.results import Plan
    from optc.rewrite.trace import Gain, StepRecord

_WIDTH: Final = 100
_LEAST: Final = 5e-8  # seconds: what is printed as 0.0 µs is no gain


@verb
@recipe_argument
@target_option
@set_option
@click.option(
    "--why", metavar="IDEA", help="Show only why this idea was missed, at every operation."
)
@click.option(
    "--node",
    metavar="NAME",
    help="Show only what becomes of this operation of the source model, and why not more.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Also run the model before and after each step on this machine, and mark steps that "
    "should save time and cost some.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), help="Measuring time per step, 4 if left out."
)
@click.option("--all", "all_", is_flag=True, help="Show every near miss with all its operations.")
@json_option
def run(
    recipe: Path,
    target: tuple[str, ...],
    set_: tuple[str, ...],
    why: str | None,
    node: str | None,
    measure: bool,
    seconds: float | None,
    all_: bool,
    json: bool,
) -> None:
    """Show what each pass would do, what that should save, and why not more. Writes nothing.

    Gains are predicted from the costs of operations, for one core of the target.

    Example: optc plan recipe.yaml --target spr
    Example: optc plan recipe.yaml --why conv-affine
    Example: optc plan recipe.yaml --measure
    Example: optc plan recipe.yaml --node /encoder/layer.3/MatMul
    """
    from optc.driver import plan, prepare

    prepared = prepare(recipe, targets=target, overrides=set_ or [])
    measured: dict[str, tuple[MeasuredStep, ...]] = {}
    with progress(quiet=json) as report:
        made = plan(prepared, progress=report)
        if measure:
            from optc.evidence.steps import measure_steps

            measured = measure_steps(prepared, made, seconds=seconds, progress=report)
    if node is not None:
        check_node(made, node)
    if json:
        say_json(made.to_dict() | _as_data(measured))
        return
    for text in prepared.warnings:
        warn(text)
    for name, steps in made.targets.items():
        outlook = made.outlooks[name]
        say(f"{made.name} for {name} on {made.runtime}")
        if node is not None:
            show_fates(node, outlook)
        elif why is None:
            _show_steps(steps, _before(made, name))
            _show_total(made, name)
            _show_measured(measured.get(name, ()))
        show_near_misses(outlook.near_misses, why=why, node=node, complete=all_)


def _before(made: Plan, name: str) -> float:
    """Predicted seconds of the source model: what is left, and what was saved."""
    return made.outlooks[name].seconds + sum(step.gain.seconds for step in made.targets[name])


def _show_steps(steps: Sequence[StepRecord], before: float) -> None:
    """One line per step, and one for steps in a row that do nothing."""
    for idle, group in groupby(steps, key=_is_idle):
        if idle:
            text = f"nothing to do: {', '.join(step.name for step in group)}"
            for line in wrap(
                text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
            ):
                say(line)
            continue
        for step in group:
            _show_step(step, before)


def _is_idle(step: StepRecord) -> bool:
    return not (step.changed or step.skipped or step.decisions or step.warnings)


def _show_step(step: StepRecord, before: float) -> None:
    if step.skipped:
        say(f"  {step.name}: skipped, {step.skipped}")
        return
    done = ", ".join(f"{rule} {count}" for rule, count in sorted(step.counts.items()))
    done = done or ("changed" if step.changed else _decided(step) or "nothing to do")
    size = f"{step.nodes_before} → {step.nodes_after} operations"
    say(f"  {step.name}: {done} ({size}){_gain(step.gain, before)}")
    for text in step.warnings:
        say(f"      warning: {text}")
    known = {rule: gain for rule, gain in step.gains.items() if abs(gain.seconds) >= _LEAST}
    if len(step.gains) > 1 and known:
        for rule, gain in sorted(known.items(), key=lambda item: (-item[1].seconds, item[0])):
            say(f"      {rule}{_gain(gain, before)}")


def _decided(step: StepRecord) -> str:
    """How many operations got which precision."""
    counts = Counter(decision.precision for decision in step.decisions)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _gain(gain: Gain, before: float) -> str:
    """What is predicted, as the end of a line; nothing where no operation went or came."""
    if abs(gain.seconds) < _LEAST:
        return ""
    word = "saves" if gain.seconds > 0 else "costs"
    share = f" ({abs(gain.seconds) / before:.1%})" if before > 0 else ""
    return f", {word} {abs(gain.seconds) * 1e6:.1f} µs{share}"


def _show_total(made: Plan, name: str) -> None:
    """The predicted time before and after, and what is not in it."""
    after, before = made.outlooks[name].seconds, _before(made, name)
    gains = [step.gain for step in made.targets[name]]
    uncounted = sum(gain.uncounted for gain in gains)
    rewrites = uncounted + sum(gain.counted for gain in gains)
    say()
    if before >= _LEAST:
        sizes = ", ".join(f"{k} = {v}" for k, v in made.outlooks[name].sizes.items())
        say(
            f"predicted for one core of {name}{f', {sizes}' if sizes else ''}: "
            f"{before * 1e6:.1f} → {after * 1e6:.1f} µs, {(before - after) / before:.1%} saved"
        )
    if unknown := made.outlooks[name].unknown:
        say(f"  {unknown} operations of the result count nothing: sizes are not known")
    if uncounted:
        say(f"  {uncounted} of {rewrites} rewrites are not counted: sizes are not known")


def _as_data(measured: Mapping[str, Sequence[MeasuredStep]]) -> dict[str, object]:
    if not measured:
        return {}
    return {"measured": {n: [step.to_dict() for step in steps] for n, steps in measured.items()}}


def _show_measured(steps: Sequence[MeasuredStep]) -> None:
    """What was predicted of each step, and what was measured here."""
    if not steps:
        return
    rows = [("step", "predicted", "measured here", "")]
    for step in steps:
        ratio = step.measured
        interval = "too few rounds" if ratio.low is None else f"{ratio.low:.3f}..{ratio.high:.3f}"
        mark = "contradicts the prediction" if step.contradicted else ""
        rows.append((step.step, f"{step.predicted:.3f}", f"{ratio.value:.3f} ({interval})", mark))
    say()
    say("how many times as fast the model is after each step:")
    for line in table(rows):
        say(f"  {line}".rstrip())
