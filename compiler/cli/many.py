"""`optc compile` of several recipes: one display, one table, one exit code."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from optc.cli.asked import artefact_lines, error_line
from optc.cli.console import note, progress, say, say_json, show_error_text, warn
from optc.cli.tables import table
from optc.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.cache import Cache
    from optc.cli.asked import Asked, Form
    from optc.many import Outcome

_UNBOUND = 1 << 60


def run_many(
    recipes: Sequence[Path],
    asked: Asked,
    jobs: int | None,
    depfile: Path | None,
    form: Form,
) -> None:
    """Compile recipes in parallel processes, say what became of each, and end with the exit code.

    Args:
        recipes: the recipes.
        asked: what holds for all of them.
        jobs: how many processes work at a time; None: one per CPU.
        depfile: where to write make rules.
        form: what is printed.
    """
    from optc.many import Wish, compile_many, exit_code

    with _cache(asked) as cache, progress(quiet=form != "text") as tell:
        wish = Wish(
            asked.targets,
            asked.overrides,
            asked.verify,
            asked.output,
            asked.several,
            cache,
            asked.fetch,
        )
        workers = jobs or len(os.sched_getaffinity(0))
        outcomes = compile_many(recipes, wish, workers, tell)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    if depfile is not None:
        from optc.depfile import depfile as rules

        read = [(data["output"], data["inputs"]) for data in results]
        write_text(depfile, rules(read), hint="the compiled outputs are complete")
    _show(outcomes, form)
    if code := exit_code(outcomes):
        raise click.exceptions.Exit(code)


@contextmanager
def _cache(asked: Asked) -> Iterator[Cache]:
    """The cache; without one, a folder for what the processes hand over."""
    if asked.cache is not None:
        yield asked.cache
        return
    from optc.cache import Cache

    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        yield Cache(folder, _UNBOUND)


def _show(outcomes: Sequence[Outcome], form: Form) -> None:
    for outcome in outcomes:
        _warn(outcome)
    if form == "json":
        say_json({"recipes": [_as_data(outcome) for outcome in outcomes]})
    elif form == "lines":
        for outcome in outcomes:
            for line in _lines(outcome):
                say(line)
    elif form == "text":
        _show_table(outcomes)


def _warn(outcome: Outcome) -> None:
    """Say on stderr what the user should know, and what went wrong."""
    for message in outcome.result["warnings"] if outcome.result else ():
        warn(f"{outcome.recipe}: {message}")
    if outcome.error is not None:
        show_error_text(f"{outcome.recipe}: {outcome.error['text']}", outcome.error.get("detail"))


def _lines(outcome: Outcome) -> Iterator[str]:
    if outcome.result is not None:
        yield from artefact_lines(outcome.recipe, outcome.result)
    elif outcome.error is not None:
        yield error_line(outcome.recipe, outcome.error)


def _as_data(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    kept = None if error is None else {k: v for k, v in error.items() if k not in _OURS}
    return {"recipe": str(outcome.recipe), "result": outcome.result, "error": kept}


_OURS = ("exit", "text", "detail")


def _show_table(outcomes: Sequence[Outcome]) -> None:
    rows = [("recipe", "target", "outcome", "operations", "model", "seconds")]
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.1f}"
        if outcome.result is None:
            code = outcome.error["code"] if outcome.error else "not run"
            rows.append((str(outcome.recipe), "", f"FAILED: {code}", "", "", seconds))
            continue
        for name, artifact in outcome.result["artifacts"].items():
            rows.append((str(outcome.recipe), name, *_cells(outcome.result, artifact), seconds))
    for line in table(rows, right=(5,)):
        note(line)


def _cells(result: Mapping[str, Any], artifact: Mapping[str, Any]) -> tuple[str, str, str]:
    """What became of an artefact, its operations before and after, where its model is."""
    if result["missed"]:
        word = f"MISSED: {result['missed']['code']}"
    elif artifact["verification"] is None:
        word = "not verified"
    else:
        word = "verified before" if result["cached"] else "verified"
    counts = [step["nodes"] for step in artifact["passes"] if "nodes" in step]
    operations = f"{counts[0][0]} → {counts[-1][1]}" if counts else ""
    return word, operations, os.path.relpath(artifact["model"])
