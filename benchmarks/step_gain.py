"""How much faster a step of a preset makes a model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import yaml
from int8 import default_target

from optc.evidence.bench_latency import Effort, measure_latency
from optc.evidence.bench_models import resting
from optc.evidence.bench_stats import speedup
from optc.evidence.subject import find_subject

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECIPES: Final = Path(__file__).parents[1] / "recipes"
COLUMNS: Final = [
    (preset, runtime) for runtime in ("onnxruntime", "openvino") for preset in ("fp32", "int8")
]
"""Preset and runtime of each column of a table."""


def step_gain(
    model: onnx.ModelProto,
    step: str,
    preset: str,
    runtime: str,
    seconds: float,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Speed of a model with a step of a preset against without, and its interval.

    Compiled for the first generation of CPU that has what this one has; both results take turns
    on seeded inputs, on one thread, as CPU time (`optc.evidence.bench_latency`).

    Args:
        model: of fixed sizes.
        step: name of a pass of the preset.
        preset: fp32 or int8.
        runtime: what executes it.
        seconds: how long each block takes.
        options: of the step.
    """
    with tempfile.TemporaryDirectory(prefix="optc-step-") as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        with_it = {step: dict(options)} if options else step
        places = [_compiled(folder, preset, runtime, step, put) for put in (None, with_it)]
        subjects = [find_subject(place, label=place.parent.name) for place in places]
        draw = np.random.default_rng(1)
        feeds = [
            {
                item.name: draw.standard_normal(
                    [dim.dim_value for dim in item.type.tensor_type.shape.dim]
                ).astype(np.float32)
                for item in model.graph.input
            }
        ]
        blocks = measure_latency([resting(s) for s in subjects], feeds, effort=Effort(seconds))
        before, after = ([block.cpu[i] for block in blocks] for i in range(2))
        found = speedup(before, after)
    interval = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{interval}"


def _compiled(folder: Path, preset: str, runtime: str, step: str, put: object) -> Path:
    """The folder of what one of both pipelines makes of the model."""
    target, output = default_target(), folder / ("without" if put is None else "with")
    recipe = {
        "schema_version": 1,
        "model": "model.onnx",
        "targets": [target],
        "runtime": runtime,
        "emit": {"format": "openvino" if runtime == "openvino" else "onnx"},
        "pipeline": _steps(preset, step, put),
        "output": str(output),
    }
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("optc")), "compile", "--no-cache", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return output / target


def _steps(preset: str, step: str, put: object) -> list[Any]:
    """The steps of a preset, with those of the presets in it, and `put` in the place of `step`."""
    found: list[Any] = []
    text = (_RECIPES / f"{preset}.yaml").read_text(encoding="utf-8")
    for item in yaml.safe_load(text)["pipeline"]:
        if isinstance(item, dict) and "preset" in item:
            found += _steps(item["preset"], step, put)
        elif item != step:
            found.append(item)
        elif put is not None:
            found.append(put)
    return found
