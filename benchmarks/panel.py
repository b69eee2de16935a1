"""A panel: the source model, optc's result and those of its peers, by speed and correctness.

usage: python benchmarks/panel.py --models FOLDER… --peers PYTHON [--only WORD]… [--runtime NAME]…
           [--seconds 4 | --rounds N] [--target NAME] [--limit 600] [--cache FOLDER]
           [--out FILE.json] [--resume]
       python benchmarks/panel.py --models FOLDER… --list
       python benchmarks/panel.py --models FOLDER… --profile MODEL [--variant optc]…

FOLDERs hold .onnx files, with data beside them where there is any (MODEL.npz, or that of the first
word of MODEL; keys ``test:<input>``); `exports.py` fills one. PYTHON belongs to the environment
that has the peers; see README.md. The result is written after each model: FILE.json, and the table
as FILE.md beside it, by default results/panel-YYYY-MM. --resume goes on with what FILE.json lacks.
--cache keeps what the peers made, which takes most of the time, for the next panel on the same
models and versions.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from panel_measure import Job
from panel_table import page
from panel_variants import PEERS, Made, make_optc, make_peer, run

import optc
from optc.emit.folder import file_digest
from optc.targets import detect_host
from optc.versions import library_version

RESULTS = Path(__file__).with_name("results")
_MEASURE = Path(__file__).with_name("panel_measure.py")


@dataclass(frozen=True)
class Settings:
    """How a model is measured.

    Attributes:
        runtimes: in which runtimes.
        peers: Python of the environment that has the peers.
        target: what optc compiles for.
        seconds: measuring time in a runtime.
        rounds: turns instead; None: as many as fit.
        limit: most seconds that one process may take.
        cache: keeps what peers made; None: nothing is kept.
    """

    runtimes: tuple[str, ...]
    peers: Path
    target: str
    seconds: float
    rounds: int | None
    limit: float
    cache: Path | None


def main() -> int:
    """Measure what is asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: ends what it started
    options = _parser().parse_args()
    models = find_models(options.models, options.only)
    if options.list:
        for name, path in models.items():
            data = data_of(path)
            print(name, f"{path.stat().st_size / 1e6:.1f} MB", data.name if data else "no data")
        return 0
    if options.profile:
        from panel_profile import profile_model

        wanted = {name: path for name, path in models.items() if name == options.profile}
        for path in wanted.values():
            profile_model(path, data_of(path), _settings(options), options.variant)
        return 0 if wanted else 1
    _measure_all(models, _settings(options), options.out, resume=options.resume)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--peers", type=Path, default=Path(sys.executable), metavar="PYTHON")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--runtime", action="append", default=[], choices=sorted(PEERS))
    parser.add_argument("--target", default="cascadelake")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--limit", type=float, default=600.0)
    parser.add_argument("--cache", type=Path, metavar="FOLDER")
    default = RESULTS / f"panel-{date.today():%Y-%m}.json"
    parser.add_argument("--out", type=Path, default=default, metavar="FILE.json")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--profile", metavar="MODEL")
    parser.add_argument("--variant", action="append", default=[])
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    runtimes = tuple(options.runtime or sorted(PEERS))
    return Settings(
        runtimes=runtimes,
        peers=options.peers,
        target=options.target,
        seconds=options.seconds,
        rounds=options.rounds,
        limit=options.limit,
        cache=options.cache,
    )


def find_models(folders: list[Path], words: list[str]) -> dict[str, Path]:
    """The models in some folders, by name; with words, those whose name contains one."""
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.onnx"))}
    return {n: p for n, p in found.items() if not words or any(word in n for word in words)}


def data_of(model: Path) -> Path | None:
    """The data that lies beside a model."""
    names = (model.stem, model.stem.split("_")[0])
    places = (model.with_name(f"{name}.npz") for name in names)
    return next((place for place in places if place.exists()), None)


def _measure_all(models: dict[str, Path], settings: Settings, out: Path, *, resume: bool) -> None:
    content: dict[str, Any] = {"context": _context(settings), "models": {}}
    if resume and out.exists():
        content["models"] = json.loads(out.read_text(encoding="utf-8"))["models"]
    out.parent.mkdir(parents=True, exist_ok=True)
    for number, (name, path) in enumerate(models.items()):
        done = content["models"].get(name, {})
        missing = tuple(runtime for runtime in settings.runtimes if runtime not in done)
        if not missing:
            continue
        print(f"{number + 1}/{len(models)} {name}: {', '.join(missing)}", flush=True)
        content["models"][name] = {**done, **measure_model(path, settings, missing)}
        _write(out, json.dumps(content, indent=1, sort_keys=False) + "\n")
        _write(out.with_suffix(".md"), page(content))


def _write(path: Path, text: str) -> None:
    """Replace a file at once: whoever stops the panel keeps the last state."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _context(settings: Settings) -> dict[str, Any]:
    """Machine, versions and command; no folders of this machine."""
    told = subprocess.check_output(
        [settings.peers, Path(__file__).with_name("peers.py"), "versions"], text=True
    )
    own = {name: library_version(name) for name in ("onnxruntime", "openvino")}
    effort = f"--rounds {settings.rounds}" if settings.rounds else f"--seconds {settings.seconds:g}"
    return {
        "date": date.today().isoformat(),
        "CPU": detect_host().product,
        "measured with": ", ".join(f"{name} {version}" for name, version in own.items()),
        "optc": f"{optc.__version__}, preset fp32, target {settings.target}",
        "peers": ", ".join(f"{name} {version}" for name, version in json.loads(told).items()),
        "command": f"python benchmarks/panel.py --models FOLDER… --peers PYTHON {effort}",
        "times": "CPU time of one thread, variants in turns (see optc.evidence.bench_latency)",
    }


def measure_model(model: Path, settings: Settings, runtimes: tuple[str, ...]) -> dict[str, Any]:
    """Make the variants of one model and measure them, by runtime."""
    with tempfile.TemporaryDirectory(prefix="optc-panel-") as place:
        folder = Path(place)
        kept = folder if settings.cache is None else settings.cache / _key(model)
        peers = make_peers(model, kept, settings, runtimes)
        return {name: _in_runtime(model, folder, settings, name, peers) for name in runtimes}


def _key(model: Path) -> str:
    """Tells a model from others of its name that lay there before."""
    return f"{model.stem}-{file_digest(model)[:12]}"


def make_peers(
    model: Path, folder: Path, settings: Settings, runtimes: tuple[str, ...]
) -> dict[str, Made]:
    """What the peers make of a model, by tool; without those that do not know such a model."""
    tools = dict.fromkeys(tool for runtime in runtimes for tool in PEERS[runtime])
    made = {tool: make_peer(tool, model, folder, settings.peers, settings.limit) for tool in tools}
    return {tool: item for tool, item in made.items() if item is not None}


def _in_runtime(
    model: Path, folder: Path, settings: Settings, runtime: str, peers: dict[str, Made]
) -> dict[str, Any]:
    own = make_optc(model, folder, runtime, settings.target, settings.limit)
    made = {"optc": own, **{tool: peers[tool] for tool in PEERS[runtime] if tool in peers}}
    data = data_of(model)
    job = Job(
        source=str(model),
        runtime=runtime,
        variants={tool: str(item.place) for tool, item in made.items() if not item.run.error},
        data=str(data) if data is not None else None,
        seconds=settings.seconds,
        rounds=settings.rounds,
    )
    question, answer = folder / f"job-{runtime}.json", folder / f"answer-{runtime}.json"
    question.write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = [sys.executable, str(_MEASURE), str(question), str(answer)]
    finished = run(command, folder / f"measure-{runtime}.log", settings.limit)
    record = {"made": {tool: item.to_dict() for tool, item in made.items()}}
    if finished.error:
        return {**record, "error": finished.error}
    return {**record, **json.loads(answer.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    sys.exit(main())
