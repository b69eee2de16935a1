"""Write encoder.onnx, a small sentence encoder with random weights, and encoder.npz with sentences.

Always the same: `python make_model.py` in this folder, or in the one that is given as argument.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

WORDS, WIDTH, HEADS, LAYERS, LONGEST = 1000, 64, 4, 2, 128
DEPTH = WIDTH // HEADS
HEADER = """
<ir_version: 8, opset_import: ["": 17]>
encoder (int64[N, L] ids, int64[N, L] mask) => (float[N, 64] vector) {
  words = Gather(word_table, ids)
  length = Shape<start = 1, end = 2>(ids)
  positions = Slice(position_table, zeros, length)
  embedded = Add(words, positions)
  h0 = LayerNormalization<axis = -1>(embedded, ones, zero_bias)
  floats = Cast<to = 1>(mask)
  padding = Sub(one, floats)
  far = Mul(padding, lowest)
  bias = Unsqueeze(far, axes_1_2)
"""
LAYER = """
  q_{i} = MatMul(h{i}, wq{i})
  k_{i} = MatMul(h{i}, wk{i})
  v_{i} = MatMul(h{i}, wv{i})
  q4_{i} = Reshape(q_{i}, split)
  k4_{i} = Reshape(k_{i}, split)
  v4_{i} = Reshape(v_{i}, split)
  qt_{i} = Transpose<perm = [0, 2, 1, 3]>(q4_{i})
  kt_{i} = Transpose<perm = [0, 2, 3, 1]>(k4_{i})
  vt_{i} = Transpose<perm = [0, 2, 1, 3]>(v4_{i})
  products_{i} = MatMul(qt_{i}, kt_{i})
  scaled_{i} = Mul(products_{i}, scale)
  scores_{i} = Add(scaled_{i}, bias)
  shares_{i} = Softmax<axis = -1>(scores_{i})
  mixed_{i} = MatMul(shares_{i}, vt_{i})
  back_{i} = Transpose<perm = [0, 2, 1, 3]>(mixed_{i})
  joined_{i} = Reshape(back_{i}, join)
  out_{i} = MatMul(joined_{i}, wo{i})
  with_{i} = Add(h{i}, out_{i})
  a_{i} = LayerNormalization<axis = -1>(with_{i}, ones, zero_bias)
  up_{i} = MatMul(a_{i}, wu{i})
  part_{i} = Div(up_{i}, root_2)
  erf_{i} = Erf(part_{i})
  shifted_{i} = Add(erf_{i}, one)
  gated_{i} = Mul(up_{i}, shifted_{i})
  gelu_{i} = Mul(gated_{i}, half)
  down_{i} = MatMul(gelu_{i}, wd{i})
  sum_{i} = Add(a_{i}, down_{i})
  h{n} = LayerNormalization<axis = -1>(sum_{i}, ones, zero_bias)
"""
FOOTER = """
  weight = Unsqueeze(floats, axis_2)
  kept = Mul(h{last}, weight)
  total = ReduceSum<keepdims = 0>(kept, axis_1)
  count = ReduceSum<keepdims = 0>(weight, axis_1)
  mean = Div(total, count)
  norm = ReduceL2<axes = [1], keepdims = 1>(mean)
  vector = Div(mean, norm)
}}
"""


def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All initializers by name."""
    shapes = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "o": (WIDTH, WIDTH)}
    shapes |= {"u": (WIDTH, 4 * WIDTH), "d": (4 * WIDTH, WIDTH)}
    found = {
        f"w{name}{i}": rng.normal(0, shape[0] ** -0.5, shape)
        for i in range(LAYERS)
        for name, shape in shapes.items()
    }
    found |= {"word_table": rng.normal(0, 1, (WORDS, WIDTH))}
    found |= {"position_table": rng.normal(0, 0.3, (LONGEST, WIDTH))}
    found |= {"ones": np.ones(WIDTH), "zero_bias": np.zeros(WIDTH)}
    numbers = {"one": 1.0, "half": 0.5, "root_2": 2**0.5, "scale": DEPTH**-0.5, "lowest": -1e4}
    found |= {name: np.array(number) for name, number in numbers.items()}
    lists = {"zeros": [0], "axis_1": [1], "axis_2": [2], "axes_1_2": [1, 2]}
    lists |= {"split": [0, 0, HEADS, DEPTH], "join": [0, 0, WIDTH]}
    integers = {name: np.array(numbers, np.int64) for name, numbers in lists.items()}
    return {name: value.astype(np.float32) for name, value in found.items()} | integers


def sentences(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Ids of words and masks, of sentences of 4 to 24 words that are padded to 24."""
    lengths = rng.integers(4, 25, count)
    mask = (np.arange(24) < lengths[:, None]).astype(np.int64)
    return {"ids": rng.integers(1, WORDS, mask.shape) * mask, "mask": mask}


def main(folder: Path) -> None:
    """Write both files into a folder."""
    rng = np.random.default_rng(0)
    layers = [LAYER.format(i=i, n=i + 1) for i in range(LAYERS)]
    model = onnx.parser.parse_model("".join([HEADER, *layers, FOOTER.format(last=LAYERS)]))
    made = [numpy_helper.from_array(value, name) for name, value in weights(rng).items()]
    model.graph.initializer.extend(made)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "encoder.onnx")
    data: dict[str, Any] = {}
    for split, arrays in {"calib": sentences(rng, 32), "test": sentences(rng, 16)}.items():
        data |= {f"{split}:{name}": array for name, array in arrays.items()}
    np.savez_compressed(folder / "encoder.npz", **data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
