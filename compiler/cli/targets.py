"""`optc targets`: the CPUs that optc knows, and what they can do."""

from __future__ import annotations

from pathlib import Path

import click

from optc.cli.command import PATH, VerbGroup, argument
from optc.cli.console import console, json_option, say, say_json

target_argument = argument("name", metavar="NAME", help="A target, an alias, a file, or host.")


@click.group(cls=VerbGroup, invoke_without_command=True)
@json_option
@click.pass_context
def app(context: click.Context, json: bool) -> None:
    """List the CPU targets, ask what they can do, and look at this machine.

    Example: optc targets
    Example: optc targets query spr --op MatMul --dtype bf16
    """
    if context.invoked_subcommand is not None:
        return
    from optc.targets import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    if json:
        say_json(
            {
                "targets": [
                    {
                        "name": target.name,
                        "aliases": list(target.aliases),
                        "title": target.title,
                        "capabilities": sorted(target.capabilities),
                    }
                    for target in targets
                ]
            }
        )
        return
    from rich.table import Table

    table = Table("target", "aliases", "CPU", "capabilities", box=None, pad_edge=False)
    for target in targets:
        table.add_row(
            target.name,
            ", ".join(target.aliases),
            target.title,
            " ".join(sorted(target.capabilities)),
        )
    console().print(table)


@app.command("show")
@target_argument
@json_option
def show(name: str, json: bool) -> None:
    """Show a target: every number with its source, unknown ones with the reason.

    Example: optc targets show spr
    """
    from optc.targets import load_target

    target = load_target(name)
    if json:
        say_json(target.to_dict())
    else:
        say(target.describe().rstrip())


@app.command("query")
@target_argument
@click.option("--runtime", help="The runtime: onnxruntime or openvino.")
@click.option("--op", help="An ONNX operator, e.g. MatMul.")
@click.option("--dtype", help="fp32, fp16, bf16, int8, int4, or types such as u8s8.")
@click.option("--isa", help="A capability or a CPU flag, e.g. amx_bf16.")
@click.option("--min-kernel", help="The oldest Linux kernel of the machines, e.g. 5.15.")
@click.option("--runtime-version", help="Version of the runtime.")
@click.option("--cores", type=int, default=1, show_default=True, help="Cores for the peak.")
@click.option("--ghz", type=float, help="Sustained clock for the peak.")
@json_option
def query(
    name: str,
    runtime: str | None,
    op: str | None,
    dtype: str | None,
    isa: str | None,
    min_kernel: str | None,
    runtime_version: str | None,
    cores: int,
    ghz: float | None,
    json: bool,
) -> None:
    """Ask what a target can do: exit code 0 for yes, 1 for no, always with the reason.

    Example: optc targets query spr --runtime openvino --op MatMul --dtype int8
    """
    from optc.targets import load_target

    answer = load_target(name).query(
        op=op,
        dtype=dtype,
        runtime=runtime,
        isa=isa,
        min_kernel=min_kernel,
        runtime_version=runtime_version,
        cores=cores,
        ghz=ghz,
    )
    if json:
        say_json(answer.to_dict())
    else:
        say(answer.describe())
    if not answer:
        raise click.exceptions.Exit(1)


@app.command("diff")
@argument("first", metavar="A", help="The first target.")
@argument("second", metavar="B", help="The second target.")
@json_option
def diff(first: str, second: str, json: bool) -> None:
    """Compare two targets; exit code 1 when they differ.

    Example: optc targets diff clx spr
    """
    from optc.targets import differences, load_target

    left, right = load_target(first), load_target(second)
    found = differences(left, right)
    if json:
        rows = [{"path": d.path, left.id: d.first, right.id: d.second} for d in found]
        say_json({"equal": not found, "differences": rows})
    elif not found:
        say("the targets are equal")
    else:
        from optc.cli.tables import table

        head = ("", left.id, right.id)
        for line in table([head, *((d.path, d.first, d.second) for d in found)]):
            say(line)
    if found:
        raise click.exceptions.Exit(1)


@app.command("detect")
@click.option("--explain", is_flag=True, help="Say how the answer was reached.")
@json_option
def detect(explain: bool, json: bool) -> None:
    """Say which target this machine is: the highest one whose flags it has.

    Exit code 1 when it has the flags of none.

    Example: optc targets detect --explain
    """
    from optc.targets import detect_host

    host = detect_host()
    if json:
        say_json(host.to_dict())
    elif explain:
        say("\n".join(host.explain()))
    else:
        say(host.verdict)
    if host.target is None:
        raise click.exceptions.Exit(1)


@app.command("probe")
@click.option("--write", type=PATH, metavar="FILE", help="Write a descriptor of this machine.")
@json_option
def probe(write: Path | None, json: bool) -> None:
    """Measure clocks and rates of this machine, which descriptors cannot know; a few seconds.

    Example: optc targets probe --write my-xeon.yaml
    """
    from optc.targets.probe import probe as measure
    from optc.targets.probe import write_descriptor

    found = measure()
    if json:
        say_json(found.to_dict())
    else:
        say(found.describe())
    if write is not None:
        write_descriptor(found, write)


@app.command("costs")
@argument("runtime", metavar="RUNTIME", help="The runtime to measure.")
@click.option("--write", type=PATH, metavar="FILE", help="Write a profile for recipes.")
@json_option
def costs(runtime: str, write: Path | None, json: bool) -> None:
    """Measure what operations cost a runtime on this machine, to plan int8 with; seconds.

    Example: optc targets costs onnxruntime --write my-xeon-ort.yaml

    A recipe that names the file as `profile` plans with it, on every machine.
    """
    from optc.evidence.costs import describe_costs, measure_costs, write_profile

    found = measure_costs(runtime)
    if json:
        say_json(found.model_dump(mode="json"))
    else:
        say(describe_costs(found))
    if write is not None:
        write_profile(found, write)
