"""Runs a model in OpenVINO in a process of its own and writes down what the plugin made of it.

``python -m optc.evidence.openvino_worker JOB``: oneDNN reads its environment once per process, and
prints to the standard output of the process. JOB is JSON: ``model``, ``options`` (of runtime.json),
``feeds`` and ``table`` (`optc.evidence.feeds_file`), ``runs`` and ``result``, the JSON file to
write.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from optc.errors import OptcError
from optc.evidence.feeds_file import read_feeds
from optc.launch.engines import OpenVinoEngine
from optc.launch.options import LaunchOptions

KEYS: Final = ("layerType", "runtimePrecision", "primitiveType", "execOrder", "originalLayersNames")


def main(job: Path) -> None:
    """Do one job."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    target = Path(asked["result"])
    try:
        found = _audit(asked)
    except OptcError as error:
        found = {"error": error.to_dict()}
    target.write_text(json.dumps(found), encoding="utf-8")


def _audit(asked: dict[str, Any]) -> dict[str, Any]:
    options = LaunchOptions.model_validate(asked["options"])
    profiled = {**options.properties, "PERF_COUNT": "YES"}
    engine = OpenVinoEngine(
        Path(asked["model"]), options.model_copy(update={"properties": profiled})
    )
    feeds, *_ = read_feeds(Path(asked["feeds"]), asked["table"])
    engine.run(feeds)  # the first run reorders weights, and makes what depends on shapes
    times: dict[str, list[float]] = {}
    for _ in range(asked["runs"]):
        engine.run(feeds)
        for name, seconds in engine.profile().items():
            times.setdefault(name, []).append(seconds)
    layers = [_layer(node) for node in engine.native.get_runtime_model().get_ordered_ops()]
    return {"layers": layers, "times": {name: statistics.median(t) for name, t in times.items()}}


def _layer(node: Any) -> dict[str, Any]:
    info = node.get_rt_info()
    found = {key: str(info[key].value) if key in info else "" for key in KEYS}
    shape = node.get_output_partial_shape(0) if node.get_output_size() else None
    size = None
    if shape is not None and shape.is_static:
        size = int(np.prod([dim.get_length() for dim in shape], dtype=np.int64))
    return {"name": node.get_friendly_name(), "elements": size, **found}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
