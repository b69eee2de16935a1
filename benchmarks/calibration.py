"""What calibration costs: wall time against running the model, and peak memory over samples.

usage: calibration.py MODELS [--samples 50 1000] [--rounds 5] [--out FILE]

MODELS is a folder with ppocr_v4_det.onnx, minilm.onnx and their data (.npz with keys
`calib:<input>`). Samples are what is there, repeated and perturbed. Every figure comes from a
process of its own. Time is that of a graph after the preset fp32: reading what `quantize-int8` asks
for, and ranges, against running the model in onnxruntime on all CPUs, sample after sample; the two
take turns, and the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("minmax", "moving-average", "percentile", "entropy", "mse")
MODELS = ("ppocr_v4_det", "minilm")
SIDE = 480


def samples_of(folder: Path, name: str, count: int) -> Any:
    """Inputs, made one at a time."""
    data = np.load(folder / f"{name}.npz", allow_pickle=False)
    there = {key[6:]: data[key] for key in data.files if key.startswith("calib:")}
    rng = np.random.default_rng(0)
    rows = len(next(iter(there.values())))
    for number in range(count):
        feeds = {key: array[number % rows][None] for key, array in there.items()}
        if name == "ppocr_v4_det":
            image = feeds["x"]
            tiles = [-(-SIDE // image.shape[axis]) for axis in (2, 3)]
            image = np.tile(image, (1, 1, *tiles))[:, :, :SIDE, :SIDE]
            noise = rng.normal(0, 0.05, image.shape).astype(np.float32)
            feeds["x"] = (image + noise).astype(np.float32)
        yield feeds


def work(folder: Path, name: str, method: str, count: int, rounds: int) -> dict[str, float]:
    """Calibrate `count` samples once, and time `rounds` of 50 samples against the model."""
    import optc
    from optc.numerics import calibrate as calibration
    from optc.observer import CalibrationObserver, Probe
    from optc.passes import QuantizeInt8
    from optc.passes.base import PassContext
    from optc.recipe import load_recipe
    from optc.targets import load_runtime, load_target

    class Made(CalibrationObserver):
        """Runs on samples that are made."""

        count = 2
        wanted: tuple[str, ...] = ()

        def observe(self, graph: Any, values: Any, look: Any, **options: Any) -> Any:
            """Remembers what was asked for."""
            self.wanted = max(self.wanted, tuple(v.name for v in values), key=len)
            return super().observe(graph, values, look, **options)

        def _feeds(self, graph: Any, session: Any) -> Any:
            for number, feeds in enumerate(samples_of(folder, name, self.count)):
                yield number, self.count, feeds

    path = folder / f"{name}.onnx"
    recipe = load_recipe({"schema_version": 1, "model": str(path), "targets": ["cascadelake"]})
    graph = optc.run_passes(optc.load_model(path), "fp32", lower=False).graph
    observer = Made(recipe)
    clone = optc.run_passes(graph, [{"upgrade-opset": {"to": 13}}], lower=False).graph
    # As a recipe for this runtime and CPU would.
    cpu, runtime = load_target("cascadelake"), load_runtime("onnxruntime")
    options = runtime.options_for(QuantizeInt8.name, cpu.capabilities)
    step = QuantizeInt8(QuantizeInt8.Options.model_validate(options))
    step.apply(clone, PassContext("cascadelake", runtime.id, observer=observer, cpu=cpu))
    values = [graph.value(value) for value in observer.wanted]
    settings = calibration.RangeSettings.model_validate({"method": method})

    def calibrate(source: Any) -> None:
        calibration.calibrate(source, graph, values, settings)

    feeds = list(samples_of(folder, name, 10)) * 5
    ratios = _ratios(_plain(graph), Probe(graph, values), feeds, calibrate, rounds)
    observer.count = count
    if count:
        calibrate(observer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = statistics.median(ratios) if ratios else 0.0
    return {"values": len(values), "ratio": round(ratio, 3), "peak_mib": round(peak, 1)}


def _plain(graph: Any) -> Any:
    """The model in a session of its own."""
    import optc
    from optc.numerics.evaluate import open_session

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        optc.save_model(optc.run_passes(graph, [], lower=True).graph, file)
        return open_session(file, threads=0)


class _Opened:
    """An observer on samples, in a session that is open: opening it is no part of their time."""

    origin, real, digest = "samples", True, ""

    def __init__(self, probe: Any, feeds: Any) -> None:
        self.probe, self.feeds = probe, feeds

    def observe(self, _graph: Any, _values: Any, look: Any, **_: Any) -> Any:
        """What is wanted of the values, sample by sample."""
        return self.probe.run_all(self.feeds, look)


def _ratios(plain: Any, observed: Any, feeds: Any, calibrate: Any, rounds: int) -> list[float]:
    """Time of calibrating in units of running the model, several times in turns."""
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        for item in feeds:
            plain.run(item)
        middle = time.perf_counter()
        calibrate(_Opened(observed, feeds))
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return ratios


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, method, count = given.one
        print(json.dumps(work(given.models, name, method, int(count), given.rounds)))
        return
    rows = []
    for name in given.only:
        for method in given.methods:
            for count in given.samples:
                words = ["--one", name, method, str(count), "--rounds", str(given.rounds)]
                command = [sys.executable, __file__, str(given.models), *words]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append({"model": name, "method": method, "samples": count})
                rows[-1] |= json.loads(done.stdout)
                print(rows[-1], flush=True)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
