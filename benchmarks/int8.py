"""INT8 by optc and by its peers on real models with data: task, noise and speed.

usage: python benchmarks/int8.py --models FOLDER… --peers PYTHON [--only WORD]… [--seconds 4]
           [--target NAME] [--limit 900] [--cache FOLDER] [--out FILE.md]

FOLDERs hold .onnx files with data beside them (MODEL.npz, or that of the first word of MODEL; keys
``calib:<input>``, ``test:<input>``, ``label``). PYTHON belongs to an environment with onnx,
onnxruntime, openvino and nncf. All variants of a model take turns, on one thread, as CPU time
(`optc.evidence.bench_latency`); ratios are against the FP32 model in ONNX Runtime. Outputs are
those of the kernels of this machine. Without --target it is the first generation of CPU that has
what this one has: sapphirerapids with AMX, cascadelake with VNNI, and skylake else, whose int8 sums
saturate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from int8_tasks import task_of
from panel import data_of, find_models
from panel_variants import Made, Run, run, without_folders

from optc.errors import OptcError
from optc.evidence.bench_latency import Effort, measure_latency
from optc.evidence.bench_models import resting
from optc.evidence.bench_stats import speedup
from optc.evidence.subject import Subject, find_subject
from optc.frontend.onnx import load_model
from optc.numerics.facts import required_inputs
from optc.targets import detect_host, host_capabilities
from optc.versions import library_version

RESULTS = Path(__file__).with_name("results")
_PEERS = Path(__file__).with_name("int8_peers.py")
_RECIPE = """\
schema_version: 1
model: {model}
targets: [{target}]
runtime: {runtime}
emit: {{format: {format}}}
data:
  calibration: {{path: {data}, split: calib, samples: 64}}
  validation: {{path: {data}, split: test, samples: 8}}
accuracy: {{metric: sqnr, min: 0, on_miss: keep}}
pipeline: {{preset: int8}}
inputs: {inputs}
output: {output}
"""
_TIMED = 16  # inputs that are timed
FP32 = "fp32 onnxruntime"


@dataclass(frozen=True)
class Settings:
    """How models are measured; see the options."""

    peers: Path
    target: str
    seconds: float
    limit: float
    cache: Path | None


def main() -> int:
    """Measure what is asked for; or one model, in a process of its own."""
    if sys.argv[1:2] == ["--measure"]:
        job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
        Path(sys.argv[3]).write_text(json.dumps(measure(**job)), encoding="utf-8")
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--peers", type=Path, default=Path(sys.executable), metavar="PYTHON")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--target", default=default_target())
    parser.add_argument("--limit", type=float, default=900.0)
    parser.add_argument("--cache", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=RESULTS / f"int8-{date.today():%Y-%m}.md")
    options = parser.parse_args()
    settings = Settings(
        options.peers, options.target, options.seconds, options.limit, options.cache
    )
    found: dict[str, Any] = {}
    for name, model in find_models(options.models, options.only).items():
        data = data_of(model)
        if data is None:
            continue
        print(name, flush=True)
        found[name] = one_model(model, data, settings)
        options.out.write_text(page(found, settings), encoding="utf-8")
    return 0


def default_target() -> str:
    """The first generation of CPU that has what this one has."""
    known = {"amx_int8": "sapphirerapids", "avx512_vnni": "cascadelake"}
    return next((name for what, name in known.items() if what in host_capabilities()), "skylake")


def one_model(model: Path, data: Path, settings: Settings) -> dict[str, Any]:
    """Make the variants of a model and measure them."""
    with tempfile.TemporaryDirectory(prefix="optc-int8-") as place:
        folder = Path(place)
        made = [_optc(model, data, folder, settings, name) for name in ("onnxruntime", "openvino")]
        kept = folder if settings.cache is None else settings.cache
        made += [_peer(tool, model, data, kept, settings) for tool in ("ort-static", "nncf")]
        job = {
            "model": str(model),
            "data": str(data),
            "variants": {item.tool: str(item.place) for item in made if not item.run.error},
            "seconds": settings.seconds,
        }
        question, answer = folder / "job.json", folder / "answer.json"
        question.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, str(Path(__file__)), "--measure", str(question), str(answer)]
        done = run(command, folder / "measure.log", settings.limit)
        rows = {item.tool: {"error": item.run.error} for item in made if item.run.error}
        if done.error:
            return {"error": done.error, "variants": rows}
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        result["variants"] |= rows
        return result


def _optc(model: Path, data: Path, folder: Path, settings: Settings, runtime: str) -> Made:
    form = "openvino" if runtime == "openvino" else "onnx"
    output, recipe = folder / f"optc-{runtime}", folder / f"{runtime}.yaml"
    text = _RECIPE.format(
        model=model.resolve(),
        data=data.resolve(),
        target=settings.target,
        runtime=runtime,
        format=form,
        inputs={name: {"range": [0, 0]} for name in _filled(model, data)},
        output=output,
    )
    recipe.write_text(text, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("optc")), "compile", str(recipe)]
    done = run(command, folder / f"{runtime}.log", settings.limit)
    if done.error and (output / settings.target).is_dir():
        done = Run(done.seconds, done.peak, "")  # exit code 4: a goal was missed, and all written
    return Made(f"optc {runtime}", output / settings.target, done)


def _peer(tool: str, model: Path, data: Path, folder: Path, settings: Settings) -> Made:
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{model.stem}.{tool}.{'xml' if tool == 'nncf' else 'onnx'}"
    record = place.with_suffix(".json")
    if record.exists():
        return Made(tool, place, Run(**json.loads(record.read_text(encoding="utf-8"))))
    files = [str(file.absolute()) for file in (model, data, place)]
    command = [str(settings.peers.absolute()), str(_PEERS.absolute()), tool, *files]
    done = run(command, folder / f"{model.stem}.{tool}.log", settings.limit, within=folder)
    record.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return Made(tool, place, done)


def measure(model: str, data: str, variants: dict[str, str], seconds: float) -> dict[str, Any]:
    """Task, noise and speed of all variants of a model."""
    source = find_subject(model, label=FP32)
    subjects = [source, find_subject(model, runtime="openvino", label="fp32 openvino")]
    rows: dict[str, dict[str, Any]] = {}
    for tool, place in variants.items():
        try:
            subjects.append(find_subject(place, label=tool))
        except OptcError as error:
            rows[tool] = {"error": without_folders(error.message)}
    arrays = dict(np.load(data, allow_pickle=False))
    if characters := load_model(model).model.metadata.get("character"):
        arrays["characters"] = np.array(characters.rstrip("\n").split("\n"))
    feeds = _feeds(Path(model), arrays)
    title, task, which = task_of(Path(model).stem)
    working = []
    for subject in subjects:
        try:
            output = _outputs(subject, feeds, which)
        except OptcError as error:
            rows[subject.label] = {"error": without_folders(error.message)}
            continue
        if subject is source:
            arrays["source"] = output
        noise = np.square(arrays["source"].astype(np.float64) - output).sum()
        signal = np.square(arrays["source"].astype(np.float64)).sum()
        sqnr = float(10 * np.log10(signal / noise)) if noise else None
        rows[subject.label] = {"task": task(output, arrays), "sqnr": sqnr}
        working.append(subject)
    timed = feeds[:_TIMED]
    blocks = measure_latency([resting(s) for s in working], timed, effort=Effort(seconds))
    times = {s.label: [b.cpu[i] for b in blocks] for i, s in enumerate(working)}
    for label, own in times.items():
        rows[label]["speedup"] = speedup(times[FP32], own).to_dict()
    return {"task": title, "samples": len(feeds), "variants": rows}


def _filled(model: Path, data: Path) -> list[str]:
    """Inputs without data: the state of a model that has one."""
    known = np.load(data, allow_pickle=False).files
    return [n for n in required_inputs(load_model(model)) if f"calib:{n}" not in known]


def _feeds(model: Path, arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """The test samples, one by one, with their batch where they have one; others are zero."""
    wanted = required_inputs(load_model(model))
    rows = {
        n: arrays[f"test:{n}"].astype(kind.dtype.numpy)
        for n, kind in wanted.items()
        if f"test:{n}" in arrays
    }
    whole = {n: array.ndim > len(wanted[n].shape) for n, array in rows.items()}
    others = {n: _zeros(kind) for n, kind in wanted.items() if n not in rows}
    count = min(len(array) for array in rows.values())
    return [
        {n: a[i] if whole[n] else a[i : i + 1] for n, a in rows.items()} | others
        for i in range(count)
    ]


def _zeros(kind: Any) -> Any:
    return np.zeros([dim if isinstance(dim, int) else 1 for dim in kind.shape], kind.dtype.numpy)


def _outputs(subject: Subject, feeds: Any, which: int) -> Any:
    engine = subject.open()
    return np.concatenate([list(engine.run(sample).values())[which] for sample in feeds])


def page(found: dict[str, Any], settings: Settings) -> str:
    """The table as Markdown."""
    host = detect_host()
    isa = [name for name in ("amx_int8", "vnni", "avx512", "avx2") if name in host_capabilities()]
    told = subprocess.check_output([settings.peers, "-m", "pip", "list", "--format=json"])
    known = {item["name"]: item["version"] for item in json.loads(told)}
    lines = [
        "# INT8 next to peers",
        "",
        f"{date.today()}, {host.product}: int8 kernels for {isa[0]}"
        + ("" if "vnni" in isa else ", whose sums saturate; nothing here tells of VNNI"),
        "",
        f"onnxruntime {library_version('onnxruntime')}, openvino {library_version('openvino')}; "
        f"optc: preset int8 for {settings.target}; peers: onnxruntime "
        f"{known.get('onnxruntime')} `quantize_static` (QDQ), nncf {known.get('nncf')} on "
        "OpenVINO.",
        "Speed against the FP32 model in ONNX Runtime, CPU time of one thread, all variants of a "
        "model in turns. `python benchmarks/int8.py --models FOLDER --peers PYTHON`",
        "",
        "| model | variant | task | loss | SQNR | speed |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        if "error" in result:
            lines.append(f"| {name} | all | {result['error']} | | | |")
        base = result.get("variants", {}).get(FP32, {}).get("task")
        for label, row in result.get("variants", {}).items():
            if "error" in row:
                lines.append(f"| {name} | {label} | {row['error']} | | | |")
                continue
            loss = 1 - row["task"] / base if base else 0.0
            sqnr = "" if row["sqnr"] is None else f"{row['sqnr']:.1f} dB"
            speed = row["speedup"]
            lines.append(
                f"| {name} | {label} | {result['task']} {row['task']:.3f} | {loss:.1%} | {sqnr} "
                f"| {speed['value']:.2f} ({speed['low']:.2f} to {speed['high']:.2f}) |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
