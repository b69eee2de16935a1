"""`optc compile`: the main job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.asked import Asked, Form, artefact_lines
from optc.cli.command import PATH, argument, verb
from optc.cli.console import (
    cache_option,
    cache_size_option,
    end_missed,
    json_option,
    note,
    progress,
    say,
    say_json,
    set_option,
    target_option,
    warn,
)
from optc.cli.many import run_many
from optc.cli.tables import table
from optc.files import check_place, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.results import Artifact, CompileResult
    from optc.rewrite.trace import StepRecord


@verb
@argument(
    "recipes",
    type=PATH,
    nargs=-1,
    required=True,
    metavar="RECIPE...",
    help="The recipe, or several.",
)
@target_option
@click.option(
    "--output",
    "-o",
    type=PATH,
    help="Output folder instead of the recipe's; of several recipes, the folder above theirs.",
)
@set_option
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    help="Processes for several recipes and targets, as memory lets.",
)
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the source model.")
@cache_option
@click.option("--no-cache", is_flag=True, help="Do everything anew, and leave nothing behind.")
@cache_size_option
@click.option(
    "--trust-mtime",
    is_flag=True,
    help="Take files for unchanged by size and time, without hashing them.",
)
@click.option(
    "--dump-dir", type=PATH, help="Write the canonical text after each pass to this folder."
)
@click.option("--depfile", type=PATH, help="Write a make rule that names every file that was read.")
@json_option
@click.option(
    "--json-lines", is_flag=True, help="Print one line of JSON per artefact, and nothing else."
)
def run(
    recipes: tuple[Path, ...],
    target: tuple[str, ...],
    output: Path | None,
    set_: tuple[str, ...],
    jobs: int | None,
    no_verify: bool,
    cache: Path | None,
    no_cache: bool,
    cache_size: str | None,
    trust_mtime: bool,
    dump_dir: Path | None,
    depfile: Path | None,
    json: bool,
    json_lines: bool,
) -> None:
    """Compile recipes: optimized model, launch config and report for each target.

    What earlier compiles left in the cache is not made again; the result is the same to the byte.

    Exit code: 0 done, 1 an input is wrong, 3 a bug of optc, 4 a goal was missed. Of several
    recipes, one that fails leaves the others be; the code is then 3, else 1, else 4.

    Example: optc compile recipe.yaml --target spr --set launch.batch=4
    Example: optc compile det.yaml rec.yaml cls.yaml --jobs 4
    """
    from optc.cache import open_cache, parse_size

    if depfile is not None:
        check_place(depfile, hint="give --depfile a file name in a folder that exists")
    limit = None if cache_size is None else parse_size(cache_size)
    store = None if no_cache else open_cache(cache, limit, trust_times=trust_mtime)
    several = len(recipes) > 1
    asked = Asked(tuple(target or ()), tuple(set_ or ()), not no_verify, output, store, several)
    form: Form = "json" if json else "lines" if json_lines else "text"
    if several or jobs is not None:
        if dump_dir is not None:
            raise click.BadParameter("goes with one recipe, not with --jobs", param_hint="dump-dir")
        run_many(recipes, asked, jobs, depfile, form)
        return
    with progress(quiet=form != "text") as report:
        result = asked.compile(recipes[0], dump_dir, report)
    if cache is not None and store is not None and store.problem is not None:
        warn(f"the cache: {store.problem}")
    if depfile is not None:
        write_depfile(depfile, result)
    show_one(recipes[0], result, form)


def show_one(recipe: Path, result: CompileResult, form: Form) -> None:
    """Say what became of one recipe, in the form that was asked for."""
    for message in result.warnings if form != "json" else ():
        warn(message)
    if form == "lines":
        for line in artefact_lines(recipe, result.to_dict()):
            say(line)
    elif form == "json":
        say_json(result.to_dict())
    else:
        show(result)
    if result.missed:
        end_missed(result.missed, as_json=form in ("json", "lines"))


def write_depfile(path: Path, result: CompileResult) -> None:
    """Write a make rule: the manifest depends on every file that was read."""
    from optc.depfile import depfile

    text = depfile([(str(result.output), [str(file) for file in result.inputs])])
    write_text(path, text, hint="the compiled output is complete, but for this depfile")


def show(result: CompileResult) -> None:
    """Print what was done, how exact and how accurate the result is, and where it lies."""
    note(
        f"{result.name}: {result.model.name} for {', '.join(result.artifacts)} on {result.runtime}"
    )
    told = {name: _step_lines(artifact.steps) for name, artifact in result.artifacts.items()}
    kept: list[str] = []  # the graph of an earlier target may serve another one as well
    for name, artifact in result.artifacts.items():
        earlier = [result.artifacts[other] for other in kept if told[other] == told[name]]
        if not any(other.precision == artifact.precision for other in earlier):
            kept.append(name)
    for place, name in enumerate(kept):
        if len(kept) > 1:
            note(f"  {name}:")
        new = told[name] not in [told[other] for other in kept[:place]]
        _show_artifact(result.artifacts[name], told[name] if new else ())
    folder = os.path.relpath(result.output)
    if result.cached:
        note("  unchanged since an earlier compile: fetched from the cache, nothing was run")
    # The page of a target links to those of the others.
    page = os.path.relpath(next(iter(result.artifacts.values())).page)
    note(f"written to {folder} in {result.seconds['total']:.1f} s; to look at: {page}")


def _show_artifact(artifact: Artifact, steps: Iterable[str]) -> None:
    from optc.emit.precision_table import is_mixed, precision_table

    for line in steps:
        note(f"  {line}")
    if is_mixed(artifact.precision):
        for line in table(precision_table(artifact.precision, brief=True), right=range(1, 6)):
            note(f"  {line}")
        shares = (f"{share:.1%} {name.upper()}" for name, share in artifact.shares.items())
        note(f"  multiply-adds: {', '.join(shares)}")
    if artifact.verification is not None:
        for line in artifact.verification.lines():
            note(f"  {line}")
    else:
        note("  not verified (--no-verify)")


def _step_lines(steps: tuple[StepRecord, ...]) -> list[str]:
    lines: list[str] = []
    first = next((s for s in steps if not s.skipped), None)
    last = next((s for s in reversed(steps) if not s.skipped), None)
    for step in steps:
        if step.skipped:
            lines.append(f"{step.name:<20} skipped: {step.skipped}")
        elif step.name == "read":
            lines.append(f"stale recorded types dropped: {len(step.refusals)}")
        elif step.counts:
            done = ", ".join(f"{rule} {count}" for rule, count in sorted(step.counts.items()))
            lines.append(f"{step.name:<20} {step.nodes_before:>5} → {step.nodes_after:<5} {done}")
    refused = sum(1 for step in steps for refusal in step.refusals if not refusal.miss)
    if first is not None and last is not None:
        lines.append(f"{first.nodes_before} → {last.nodes_after} operations")
    if refused:
        rewrites = "rewrite" if refused == 1 else "rewrites"
        lines.append(f"{refused} {rewrites} refused; optc plan tells why")
    return lines
