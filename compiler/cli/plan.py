"""`optc plan`: what each pass would do, and for each miss why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from optc.cli.console import (
    JsonOption,
    RecipeArgument,
    SetOption,
    TargetOption,
    progress,
    say,
    say_json,
)

if TYPE_CHECKING:
    from optc.rewrite.trace import StepRecord

_SHOWN = 10


def run(
    recipe: RecipeArgument,
    target: TargetOption = None,
    set_: SetOption = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Show every refusal instead of the first ten per pass.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what each pass would do and why it leaves things alone. Writes nothing.

    Example: optc plan recipe.yaml --target spr
    """
    from optc.driver import plan

    with progress(quiet=json) as report:
        made = plan(recipe, targets=target, overrides=set_ or [], progress=report)
    if json:
        say_json(made.to_dict())
        return
    for name, steps in made.targets.items():
        say(f"{made.name} for {name} on {made.runtime}")
        for step in steps:
            show_step(step, limit=None if all_ else _SHOWN)


def show_step(step: StepRecord, *, limit: int | None) -> None:
    """Print one step: what it applied, what it refused (at most `limit`), its nearest misses."""
    if step.skipped:
        say(f"  {step.name}: skipped, {step.skipped}")
        return
    done = ", ".join(f"{rule} {count}" for rule, count in sorted(step.counts.items()))
    size = f"{step.nodes_before} → {step.nodes_after} operations"
    state = done or ("changed" if step.changed else "nothing to do")
    say(f"  {step.name}: {state} ({size})")
    refused = [refusal for refusal in step.refusals if not refusal.miss]
    for refusal in refused[:limit]:
        say(f"    not {refusal.rule} at {refusal.node}: {refusal.reason}")
    if limit is not None and len(refused) > limit:
        say(f"    … and {len(refused) - limit} more refusals (--all shows them)")
    for refusal in step.refusals:
        if refusal.miss:
            say(f"    nearest to {refusal.rule} is {refusal.node}: {refusal.reason}")
