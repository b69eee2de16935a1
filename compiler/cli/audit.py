"""`optc audit`: what really runs, operation by operation."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import end_missed, json_option, say, say_json, warn
from optc.cli.data import data_option, fill_option, parse_fills, split_option
from optc.cli.tables import table
from optc.errors import GoalMissed
from optc.files import check_place, write_text

if TYPE_CHECKING:
    from optc.evidence.audit_result import Audit, NodeFate
    from optc.evidence.executed import Kernel


@verb
@argument(
    "model",
    type=PATH,
    metavar="OUT/TARGET|MODEL",
    help="OUT/TARGET, an ONNX model, or the .xml file of an OpenVINO IR.",
)
@click.option("--runtime", help="What executes it; the artefact's own if left out.")
@click.option(
    "--expect",
    metavar="LIST",
    help="Demand precisions and instruction sets of all products planned in them, e.g. "
    "int8,avx512_vnni; exit code 4 when one misses them.",
)
@data_option()
@split_option
@fill_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the runtime; default 1.")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Executions that times are taken from.",
)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Steps to list, the longest first; 0: all.",
)
@click.option("--save", "-o", type=PATH, help="Write the whole audit to this JSON file.")
@json_option
def run(
    model: Path,
    runtime: str | None,
    expect: str | None,
    data: Path | None,
    split: str,
    fill: tuple[str, ...],
    threads: int | None,
    runs: int,
    top: int,
    save: Path | None,
    json: bool,
) -> None:
    """Show what runs: kernel, precision, instruction set and time of every operation.

    Every operation that ran in another precision or on another instruction set than planned is
    listed with the reason. Nothing is written into the output of a compile.

    Example: optc audit build/quickstart/cascadelake --expect int8,avx512_vnni
    """
    from optc.evidence.audit import audit
    from optc.evidence.audit_result import check_expectations

    expected = [word.strip() for word in (expect or "").split(",") if word.strip()]
    check_expectations(expected)
    if save is not None:
        check_place(save)
    found = audit(
        model,
        runtime=runtime,
        threads=threads,
        data=data,
        split=split,
        fill=parse_fills(fill),
        runs=runs,
    )
    missed = _missed(found, expected)
    if save is not None:
        write_text(save, json_format.dumps(found.to_dict(), indent=1) + "\n")
    if json:
        say_json({**found.to_dict(), "missed": missed.to_dict() if missed else None})
    else:
        for line in _lines(found, top):
            say(line)
    for note in _notes(found):
        warn(note)
    if missed is not None:
        end_missed(missed, as_json=json)


def _missed(found: Audit, expected: list[str]) -> GoalMissed | None:
    if not expected:
        return None
    try:
        found.check(expected)
    except GoalMissed as error:
        return error
    return None


def _lines(found: Audit, top: int) -> Iterator[str]:
    execution = found.execution
    library = f", {execution.library}" if execution.library else ""
    yield f"{found.subject} on {found.runtime} {execution.version}{library}, {found.host}"
    kernels = sorted(execution.kernels, key=lambda kernel: -kernel.seconds)
    shown = kernels[:top] if top else kernels
    yield f"{len(kernels)} steps, {execution.seconds * 1e3:.3f} ms"
    yield ""
    rows = [["share", "operation", "runs as", "precision", "isa", "kernel", "with it"]]
    rows += [_row(found, kernel) for kernel in shown]
    yield from table(rows, right=(0,))
    if len(shown) < len(kernels):
        yield f"and {len(kernels) - len(shown)} shorter steps; --top 0 lists all"
    yield ""
    yield from _products(found)
    yield from _deviations(found)


def _row(found: Audit, kernel: Kernel) -> list[str]:
    first, *rest = kernel.nodes or (f"({kernel.name})",)
    with_it = ", ".join(rest[:3]) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
    share = f"{found.share(kernel.seconds):.1%}"
    cells = (first, kernel.op, kernel.precision or "-", kernel.isa or "-", kernel.kernel, with_it)
    return [share, *cells]


def _products(found: Audit) -> Iterator[str]:
    """How many products ran in what."""
    heavy = [node for node in found.nodes if node.heavy and node.verdict != "not executed"]
    if not heavy:
        return
    counts: dict[str, int] = {}
    for node in heavy:
        text = f"{node.planned} planned, {node.ran or 'unknown'} on {node.isa or 'unknown'} ran"
        counts[text] = counts.get(text, 0) + 1
    yield f"{len(heavy)} products: " + "; ".join(f"{n} {text}" for text, n in counts.items())


def _deviations(found: Audit) -> Iterator[str]:
    if not found.nodes:
        yield "there is no plan to compare with: give OUT/TARGET instead of the file"
        return
    deviations = found.deviations
    if not deviations:
        yield "every operation ran as planned"
        return
    yield f"{len(deviations)} of {len(found.nodes)} operations did not run as planned:"
    by_reason: dict[str, list[NodeFate]] = {}
    for node in deviations:
        by_reason.setdefault(node.reason, []).append(node)
    for reason, nodes in by_reason.items():
        yield f"  {reason}"
        for node in nodes:
            yield f"    {node.label} ({node.op}): {_plan(node)}"


def _plan(node: NodeFate) -> str:
    planned = node.planned if node.planned_isa is None else f"{node.planned} {node.planned_isa}"
    ran = node.ran if node.isa is None else f"{node.ran} {node.isa}"
    return f"{planned} planned, {ran} ran by {node.kernel}"


def _notes(found: Audit) -> Iterator[str]:
    if found.missing:
        yield (
            f"this CPU lacks {', '.join(found.missing)} of {found.target}: kernels and times are "
            "not those of the target"
        )
