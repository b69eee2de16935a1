"""Write recommender.onnx, a Wide & Deep model of random weights, and recommender.npz, requests.

Always the same: `python make_model.py` in this folder, or in the one that is given as argument.
Source of the architecture: Cheng et al.: Wide & Deep Learning for Recommender Systems (2016).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

NUMBERS, FIELDS, ROWS, WIDTH = 13, 8, 500, 16
LAYERS = (NUMBERS + FIELDS * WIDTH, 256, 128, 1)
GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
recommender (float[N, 13] numbers, int64[N, 8] fields) => (float[N, 1] click) {
  rows = Add(fields, starts)
  wide_terms = Gather(wide_table, rows)
  wide = ReduceSum<keepdims = 0>(wide_terms, axis)
  looked_up = Gather(deep_table, rows)
  embedded = Reshape(looked_up, flat)
  x0 = Concat<axis = 1>(numbers, embedded)
  y0 = Gemm(x0, w0, b0)
  x1 = Relu(y0)
  y1 = Gemm(x1, w1, b1)
  x2 = Relu(y1)
  deep = Gemm(x2, w2, b2)
  logit = Add(wide, deep)
  click = Sigmoid(logit)
}
"""


def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All initializers by name; the tables of all fields lie behind each other in one."""
    found = {
        "wide_table": rng.normal(0, 0.3, (FIELDS * ROWS, 1)),
        "deep_table": rng.normal(0, 1, (FIELDS * ROWS, WIDTH)),
    }
    for i, (fan_in, fan_out) in enumerate(pairwise(LAYERS)):
        found[f"w{i}"] = rng.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out))
        found[f"b{i}"] = rng.normal(0, 0.1, fan_out)
    integers = {
        "starts": np.arange(FIELDS) * ROWS,
        "axis": np.array([1]),
        "flat": np.array([0, FIELDS * WIDTH]),
    }
    floats = {name: value.astype(np.float32) for name, value in found.items()}
    return floats | {name: value.astype(np.int64) for name, value in integers.items()}


def requests(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Candidates; ids are popular or rare, as they are in life (Zipf's law)."""
    ids = np.minimum(rng.zipf(1.3, (count, FIELDS)) - 1, ROWS - 1)
    numbers = rng.normal(0, 1, (count, NUMBERS)).astype(np.float32)
    return {"numbers": numbers, "fields": ids.astype(np.int64)}


def main(folder: Path) -> None:
    """Write both files into a folder."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(GRAPH)
    made = [numpy_helper.from_array(value, name) for name, value in weights(rng).items()]
    model.graph.initializer.extend(made)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "recommender.onnx")
    data: dict[str, Any] = {}
    for split, arrays in {"calib": requests(rng, 128), "test": requests(rng, 128)}.items():
        data |= {f"{split}:{name}": array for name, array in arrays.items()}
    np.savez_compressed(folder / "recommender.npz", **data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
