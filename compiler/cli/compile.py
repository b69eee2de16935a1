"""`optc compile`: the main job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optc.cli.console import (
    JsonOption,
    RecipeArgument,
    SetOption,
    TargetOption,
    end_missed,
    note,
    progress,
    say_json,
    warn,
)
from optc.cli.tables import table
from optc.files import check_place, write_text

if TYPE_CHECKING:
    from optc.driver import CompileResult
    from optc.rewrite.trace import StepRecord


def run(
    recipe: RecipeArgument,
    target: TargetOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder instead of the recipe's.")
    ] = None,
    set_: SetOption = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the result with the source model.")
    ] = False,
    dump_dir: Annotated[
        Path | None,
        typer.Option("--dump-dir", help="Write the canonical text after each pass to this folder."),
    ] = None,
    depfile: Annotated[
        Path | None,
        typer.Option("--depfile", help="Write a make rule that names every file that was read."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compile a recipe: optimized model, launch config and report for each target.

    Example: optc compile recipe.yaml --target spr --set launch.batch=4
    """
    from optc.driver import compile as compile_recipe

    if depfile is not None:
        check_place(depfile, hint="give --depfile a file name in a folder that exists")
    with progress(quiet=json) as report:
        result = compile_recipe(
            recipe,
            targets=target,
            output=output,
            verify=not no_verify,
            progress=report,
            overrides=set_ or [],
            dump_dir=dump_dir,
        )
    if depfile is not None:
        write_depfile(depfile, result)
    if json:
        say_json(result.to_dict())
    else:
        show(result)
    if result.missed:
        end_missed(result.missed, as_json=json)


def write_depfile(path: Path, result: CompileResult) -> None:
    """Write a make rule: the manifest depends on every file that was read."""
    sources = " \\\n  ".join(_escape(file) for file in result.inputs)
    write_text(
        path,
        f"{_escape(result.output / 'manifest.json')}: {sources}\n",
        hint="the compiled output is complete, but for this depfile",
    )


def _escape(path: Path) -> str:
    """A path in the syntax of make."""
    return str(path).replace("\\", "\\\\").replace(" ", "\\ ").replace("$", "$$")


def show(result: CompileResult) -> None:
    """Print what was done, how exact and how accurate the result is, and where it lies."""
    from optc.emit.statistics import is_mixed, precision_table

    for message in result.warnings:
        warn(message)
    note(
        f"{result.name}: {result.model.name} for {', '.join(result.artifacts)} on {result.runtime}"
    )
    shared = {id(artifact.steps): artifact for artifact in reversed([*result.artifacts.values()])}
    for artifact in result.artifacts.values():
        if shared[id(artifact.steps)] is not artifact:
            continue  # the graph of an earlier target serves this one as well
        if len(shared) > 1:
            note(f"  {artifact.target}:")
        _show_steps(artifact.steps)
        if is_mixed(artifact.precision):
            for line in table(precision_table(artifact.precision), right=range(1, 6)):
                note(f"  {line}")
        if artifact.verification is not None:
            for line in artifact.verification.lines():
                note(f"  {line}")
        else:
            note("  not verified (--no-verify)")
    place = os.path.relpath(result.output)
    note(f"written to {place} in {result.seconds['total']:.1f} s")


def _show_steps(steps: tuple[StepRecord, ...]) -> None:
    first = next((s for s in steps if not s.skipped), None)
    last = next((s for s in reversed(steps) if not s.skipped), None)
    for step in steps:
        if step.skipped:
            note(f"  {step.name:<20} skipped: {step.skipped}")
        elif step.name == "read":
            note(f"  stale recorded types dropped: {len(step.refusals)}")
        elif step.counts:
            done = ", ".join(f"{rule} {count}" for rule, count in sorted(step.counts.items()))
            note(f"  {step.name:<20} {step.nodes_before:>5} → {step.nodes_after:<5} {done}")
    refused = sum(1 for step in steps for refusal in step.refusals if not refusal.miss)
    if first is not None and last is not None:
        note(f"  {first.nodes_before} → {last.nodes_after} operations")
    if refused:
        rewrites = "rewrite" if refused == 1 else "rewrites"
        note(f"  {refused} {rewrites} refused; optc plan tells why")
