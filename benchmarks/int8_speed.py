"""Speed of the preset int8 against the preset fp32, on models without data.

usage: python benchmarks/int8_speed.py --models FOLDER… [--only WORD]… [--seconds 3] [--out FILE.md]

For models whose speed is that of the architecture and whose outputs mean nothing: exports with
random weights (`exports.py`). Ranges come from seeded inputs. Both results of a model take turns,
on one thread, as CPU time (`optc bench`); the target is the first generation of CPU that has what
this one has. A share of multiply-adds says how much is in int8; `fp32` instead of a ratio: nothing
is, since no gain is predicted or too little is left of the outputs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

import yaml
from int8 import default_target
from panel import find_models
from panel_variants import run

from optc.versions import library_version

RESULTS = Path(__file__).with_name("results")
_OPTC = str(Path(sys.executable).with_name("optc"))
_RUNTIMES = ("onnxruntime", "openvino")
_LIMIT = 600.0


def main() -> None:
    """Compile and measure all models, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=RESULTS / f"int8-speed-{date.today():%Y-%m}.md")
    asked = parser.parse_args()
    versions = ", ".join(f"{name} {library_version(name)}" for name in _RUNTIMES)
    lines = [
        "# INT8 against FP32 on exported architectures",
        "",
        f"{versions}; presets int8 and fp32 for {default_target()}, ranges from seeded inputs.",
        "Share of multiply-adds in int8, and speed against fp32 in the same runtime, CPU time of",
        "one thread, both in turns. `python benchmarks/int8_speed.py --models FOLDER`",
        "",
        "| model | onnxruntime | speed | openvino | speed |",
        "|---|---|---|---|---|",
    ]
    for name, model in find_models(asked.models, asked.only).items():
        cells = [cell for rt in _RUNTIMES for cell in _measured(model, rt, asked.seconds)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _measured(model: Path, runtime: str, seconds: float) -> tuple[str, str]:
    """Share of multiply-adds in int8, and the speed."""
    with tempfile.TemporaryDirectory(prefix="optc-int8-speed-") as place:
        folder = Path(place)
        made: dict[str, Path] = {}
        for preset in ("fp32", "int8"):
            made[preset] = folder / preset / default_target()
            recipe = folder / f"{preset}.yaml"
            recipe.write_text(_recipe(model, runtime, preset, folder / preset), encoding="utf-8")
            log = folder / f"{preset}.log"
            if error := run([_OPTC, "compile", "--no-cache", str(recipe)], log, _LIMIT).error:
                return "?", error.splitlines()[-1]
        report = json.loads((made["int8"] / "report.json").read_text(encoding="utf-8"))
        share = report["multiply_adds"].get("int8", 0.0)
        if not share:
            return "0 %", "fp32"
        models = [f"{preset}={path}" for preset, path in made.items()]
        command = [_OPTC, "bench", *models, "--seconds", str(seconds), "--json"]
        if error := run(command, folder / "bench.log", _LIMIT).error:
            return f"{share:.0%}", error.splitlines()[-1]
        text = (folder / "bench.log").read_text(encoding="utf-8")
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{\n"))
        speed = found["models"][1]["latency"]["cpu_speedup"]
    interval = "" if speed["low"] is None else f" ({speed['low']:.2f} to {speed['high']:.2f})"
    return f"{share:.0%}", f"{speed['value']:.2f}{interval}"


def _recipe(model: Path, runtime: str, preset: str, output: Path) -> str:
    content = {
        "schema_version": 1,
        "model": str(model.resolve()),
        "targets": [default_target()],
        "runtime": runtime,
        "emit": {"format": "openvino" if runtime == "openvino" else "onnx"},
        "pipeline": {"preset": preset},
        "output": str(output),
    }
    return yaml.safe_dump(content, sort_keys=False)


if __name__ == "__main__":
    main()
