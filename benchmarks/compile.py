"""Compile cost against peers: wall time and peak memory of the whole process, interleaved.

usage: python benchmarks/compile.py [--models FOLDER] [--peers VENV] [--runs 5] [--large] [MODEL…]

FOLDER holds .onnx files (default: those of benchmarks/models.py). VENV is an environment with
onnxslim and onnxsim (`python -m venv peers && peers/bin/pip install onnxslim onnxsim`); without it
only optc is measured. optc runs preset fp32 without verification, like the peers. --large adds a
generated transformer with 400 MB of external weights. Prints a table; medians of all runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from models import fetch

RECIPE = """\
schema_version: 1
model: {model}
targets: [cascadelake]
output: {output}
"""


@dataclass
class Result:
    """What one tool took: wall seconds and peak megabytes per run, operations of its result."""

    wall: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    nodes: int = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="*")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        models = choose(options.models, options.model)
        if options.large:
            _own("generate", work / "large" / "model.onnx")
            models["transformer_400mb"] = work / "large" / "model.onnx"
        print("| model | tool | wall s | peak MB | operations | wall ratio to optc |")
        print("|---|---|---|---|---|---|")
        for name, model in models.items():
            report(name, measure(model, work / name, options.peers, options.runs))


def choose(folder: Path | None, names: list[str]) -> dict[str, Path]:
    """The models to measure, by name."""
    found = {p.stem: p for p in sorted(folder.glob("*.onnx"))} if folder else fetch()
    return {name: path for name, path in found.items() if not names or name in names}


def measure(model: Path, work: Path, peers: Path | None, runs: int) -> dict[str, Result]:
    """Wall times, peaks and operation count per tool; the tools take turns."""
    work.mkdir(parents=True, exist_ok=True)
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model.resolve(), output=work / "out"))
    optc = Path(sys.executable).with_name("optc")
    commands = {
        "optc": ([optc, "compile", recipe, "--no-verify"], work / "out/cascadelake/model.onnx")
    }
    for tool in ("onnxslim", "onnxsim") if peers is not None else ():
        made = work / f"{tool}.onnx"
        commands[tool] = ([peers / "bin" / tool, model, made], made)
    results = {tool: Result() for tool in commands}
    for _ in range(runs):
        for tool, (command, made) in commands.items():
            wall, peak, code = run([str(word) for word in command], work)
            if code == 0:
                results[tool].wall.append(wall)
                results[tool].peak.append(peak)
                results[tool].nodes = int(_own("count", made))
    return results


def run(command: list[str], folder: Path) -> tuple[float, float, int]:
    """Wall seconds, peak resident megabytes and exit status of one process."""
    with (folder / "log.txt").open("ab") as log:
        start = time.perf_counter()
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ | {"OPTC_CACHE_DIR": "off"},  # every run does all the work
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), fd) for fd in (1, 2)],
        )
        _, status, usage = os.wait4(pid, 0)
        return (
            time.perf_counter() - start,
            usage.ru_maxrss / 1024,
            os.waitstatus_to_exitcode(status),
        )


def count(path: Path) -> int:
    """Operations of a model, constants left out, subgraphs included."""
    import onnx

    def inside(graph: onnx.GraphProto) -> int:
        total = 0
        for node in graph.node:
            total += node.op_type != "Constant"
            for attribute in node.attribute:
                total += inside(attribute.g) if attribute.HasField("g") else 0
        return total

    return inside(onnx.load(path, load_external_data=False).graph)


def report(name: str, results: dict[str, Result]) -> None:
    """Print one row per tool."""
    own = statistics.median(results["optc"].wall or [float("nan")])
    for tool, result in results.items():
        if not result.wall:
            print(f"| {name} | {tool} | failed | | | |")
            continue
        wall, peak = statistics.median(result.wall), statistics.median(result.peak)
        row = (name, tool, f"{wall:.2f}", f"{peak:.0f}", str(result.nodes), f"{wall / own:.2f}")
        print("| " + " | ".join(row) + " |", flush=True)


def _own(task: str, path: Path) -> str:
    """Do something in a process of its own: a child counts its parent's peak as its own."""
    return subprocess.check_output([sys.executable, __file__, f"--{task}", path], text=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        print(count(Path(sys.argv[2])))
    elif sys.argv[1:2] == ["--generate"]:
        from generate import transformer

        transformer(Path(sys.argv[2]))
    else:
        main()
