"""`optc inspect`: what a model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from optc.cli.command import verb
from optc.cli.console import json_option, model_argument, say, say_json
from optc.cli.tables import table

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph


@verb
@model_argument
@click.option("--text", is_flag=True, help="Print the canonical text of the graph.")
@click.option("--target", "-t", help="Show the roofline on this CPU: a target or a file.")
@click.option("--runtime", help="Take the kernels of this runtime for the roofline.")
@click.option("--cores", type=int, default=1, show_default=True, help="Physical cores that work.")
@click.option("--ghz", type=float, help="Clock that the cores sustain under the load.")
@click.option(
    "--shape", multiple=True, metavar="NAME=SIZES", help="Fix the shape of an input: x=1,3,8,8."
)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Operations to list, the costliest first; 0: all.",
)
@json_option
def run(
    model: Path,
    text: bool,
    target: str | None,
    runtime: str | None,
    cores: int,
    ghz: float | None,
    shape: tuple[str, ...],
    top: int,
    json: bool,
) -> None:
    """Show inputs, outputs, operators, precisions and weights of a model, or its roofline.

    Example: optc inspect model.onnx --target spr --cores 4 --ghz 1.9
    """
    from optc.cli import roofline
    from optc.frontend.onnx import load_model
    from optc.ir.text import print_graph

    if text and (json or target):
        raise click.BadParameter("goes with neither --json nor --target", param_hint="--text")
    if target is None and (runtime or ghz or shape or cores != 1):
        raise click.BadParameter(
            "--runtime, --cores, --ghz and --shape are about the roofline, which needs a target",
            param_hint="--target",
        )
    graph = load_model(model)
    if target is not None:
        found = roofline.measure(
            graph, target=target, runtime=runtime, cores=cores, ghz=ghz, shapes=shape or ()
        )
        if json:
            say_json(found.to_dict())
        else:
            roofline.show(found, top)
        return
    if text:
        say(print_graph(graph).rstrip())
    elif json:
        say_json(describe(graph))
    else:
        _show(describe(graph))


def describe(graph: Graph) -> dict[str, object]:
    """What `inspect` tells about a graph, as data."""
    from optc.emit.report import op_counts, precision_counts
    from optc.emit.statistics import constant_bytes, quantized_ranges
    from optc.ir import clone
    from optc.passes import InferShapes
    from optc.passes.base import PassContext

    typed = clone(graph)
    InferShapes().apply(typed, PassContext())  # a precision is an element type
    counts = precision_counts(typed)
    tensors = [
        value.constant
        for nested in graph.walk()
        for value in nested.constants()
        if value.constant is not None
    ]
    totals: dict[str, int] = {}
    for row in counts.values():
        for kind, count in row.items():
            totals[kind] = totals.get(kind, 0) + count
    return {
        "opsets": dict(sorted(graph.opsets.items())),
        "ir_version": graph.model.ir_version,
        "inputs": {value.name: str(value.type or "?") for value in graph.inputs},
        "outputs": {node.name: _output_type(graph, node) for node in graph.outputs},
        "operations": op_counts(graph),
        "precision": dict(sorted(totals.items())),
        "precision_by_operation": counts,
        "ranges": quantized_ranges(graph),
        "constants": len(tensors),
        "constant_bytes": constant_bytes(graph),
        "functions": sorted(f"{domain}::{name}" for domain, name, _ in graph.model.functions),
    }


def _output_type(graph: Graph, node: object) -> str:
    from optc.ir import Node

    assert isinstance(node, Node)
    value = graph.operand(node, 0)
    return str(node.declared or (value.type if value is not None else None) or "?")


def _show(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if key == "operations":
            _show_operations(facts)
        elif key == "ranges":
            _show_ranges(value)
        elif key.startswith("precision"):
            continue  # stands with the operations
        elif isinstance(value, dict):
            say(f"{key.replace('_', ' ')}:")
            for name, item in value.items():
                say(f"  {name or 'ai.onnx'}: {item}")
        elif isinstance(value, list):
            if value:
                say(f"{key}: {', '.join(map(str, value))}")
        else:
            say(f"{key.replace('_', ' ')}: {value}")


def _show_operations(facts: dict[str, Any]) -> None:
    from optc.emit.precision_table import precision_table

    say("operations:")
    for line in table(precision_table(facts["precision_by_operation"]), right=range(1, 6)):
        say(f"  {line}")


def _show_ranges(rows: list[dict[str, Any]]) -> None:
    if rows:
        say("quantized to:")
    for row in rows:
        say(f"  {row['tensor']}: {row['low']:.6g} to {row['high']:.6g} in {row['dtype']}")
