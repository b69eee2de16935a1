"""Does OpenVINO compute an int8 model alike where its sizes are open and where they are fixed?

usage: python benchmarks/open_sizes.py DATA MODEL [MODEL ...] [--samples 8] [--out FILE]

MODEL is an .onnx file or OpenVINO IR with open sizes; DATA an .npz file with keys
``test:<input>``. Each sample runs through the model as it is and through a copy that has the sizes
of the sample. Both have the same weights, scales and kernels to choose from, so what they differ by
is what OpenVINO makes of open sizes. Figures are rms(difference) / rms(result) over all samples, of
the first output and, where that is a Sigmoid, of what goes into it: small values count there too.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np

_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


def main() -> None:
    """Print a row for each model, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    import openvino as ov

    arrays = np.load(asked.data, allow_pickle=False)
    lines = [
        f"OpenVINO {ov.__version__}, {platform.machine()}, {asked.samples} samples of "
        f"{asked.data.name}",
        "",
        "| model | output | before the last Sigmoid |",
        "|---|---|---|",
    ]
    for path in asked.models:
        name = str(path)
        figures = [f"{item:.1e}" for item in differences(path, arrays, asked.samples)]
        lines.append(f"| {name} | " + " | ".join((*figures, "", "")[:2]) + " |")
    print("\n".join(lines))
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(path: Path, arrays: Any, samples: int) -> tuple[float, ...]:
    """How far apart both are, for the first output and what its Sigmoid reads."""
    import openvino as ov

    core = ov.Core()
    found = []
    for inner in (False, True):
        model = core.read_model(path)
        if inner and (model := _before_sigmoid(model)) is None:
            continue
        names = [port.any_name for port in model.inputs]
        moving = core.compile_model(model, "CPU", _OPTIONS)
        fixed: dict[tuple[Any, ...], Any] = {}
        squares = np.zeros(2)
        for number in range(samples):
            feeds = {name: arrays[f"test:{name}"][number : number + 1] for name in names}
            sizes = tuple(array.shape for array in feeds.values())
            if sizes not in fixed:
                copy = model.clone()
                copy.reshape({name: list(array.shape) for name, array in feeds.items()})
                fixed[sizes] = core.compile_model(copy, "CPU", _OPTIONS)
            expected, actual = (np.float64(run(feeds)[0]) for run in (fixed[sizes], moving))
            squares += np.square(actual - expected).sum(), np.square(expected).sum()
        found.append(float(np.sqrt(squares[0] / squares[1])))
    return tuple(found)


def _before_sigmoid(model: Any) -> Any:
    """The model up to what the Sigmoid behind its first output reads; None without one."""
    import openvino as ov

    node = model.outputs[0].get_node().input_value(0).get_node()
    if node.get_type_name() != "Sigmoid":
        return None
    return ov.Model([node.input_value(0)], model.get_parameters(), "before")


if __name__ == "__main__":
    main()
