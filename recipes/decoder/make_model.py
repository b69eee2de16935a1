"""Write decoder.onnx, one step of a small decoder with a cache of keys and values, random weights.

Always the same: `python make_model.py` in this folder, or in the one that is given as argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

TOKENS, WIDTH, HEADS, LONGEST = 256, 64, 4, 65
DEPTH = WIDTH // HEADS
GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
decoder (int64[N, 1] token, int64[N, 1] position,
         float[N, 4, P, 16] past_key, float[N, 4, P, 16] past_value)
  => (float[N, 1, 256] logits, float[N, 4, T, 16] key, float[N, 4, T, 16] value) {
  read = Gather(tokens, token)
  place = Gather(positions, position)
  h0 = Add(read, place)
  square_0 = Pow(h0, two)
  mean_0 = ReduceMean<axes = [-1]>(square_0)
  safe_0 = Add(mean_0, epsilon)
  root_0 = Sqrt(safe_0)
  unit_0 = Div(h0, root_0)
  x0 = Mul(unit_0, gain_0)
  q = MatMul(x0, wq)
  k = MatMul(x0, wk)
  v = MatMul(x0, wv)
  q4 = Reshape(q, split)
  k4 = Reshape(k, split)
  v4 = Reshape(v, split)
  qt = Transpose<perm = [0, 2, 1, 3]>(q4)
  kt = Transpose<perm = [0, 2, 1, 3]>(k4)
  vt = Transpose<perm = [0, 2, 1, 3]>(v4)
  key = Concat<axis = 2>(past_key, kt)
  value = Concat<axis = 2>(past_value, vt)
  turned = Transpose<perm = [0, 1, 3, 2]>(key)
  products = MatMul(qt, turned)
  scores = Mul(products, scale)
  shares = Softmax<axis = -1>(scores)
  mixed = MatMul(shares, value)
  back = Transpose<perm = [0, 2, 1, 3]>(mixed)
  joined = Reshape(back, join)
  attended = MatMul(joined, wo)
  h1 = Add(h0, attended)
  square_1 = Pow(h1, two)
  mean_1 = ReduceMean<axes = [-1]>(square_1)
  safe_1 = Add(mean_1, epsilon)
  root_1 = Sqrt(safe_1)
  unit_1 = Div(h1, root_1)
  x1 = Mul(unit_1, gain_1)
  gate = MatMul(x1, wg)
  soft = Sigmoid(gate)
  silu = Mul(gate, soft)
  up = MatMul(x1, wu)
  gated = Mul(silu, up)
  down = MatMul(gated, wd)
  h2 = Add(h1, down)
  logits = MatMul(h2, head)
}
"""


def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All initializers by name."""
    square, wide = (WIDTH, WIDTH), (WIDTH, 4 * WIDTH)
    shapes = {"wq": square, "wk": square, "wv": square, "wo": square}
    shapes |= {"wg": wide, "wu": wide, "wd": wide[::-1], "head": (WIDTH, TOKENS)}
    found = {name: rng.normal(0, shape[0] ** -0.5, shape) for name, shape in shapes.items()}
    found |= {"tokens": rng.normal(0, 1, (TOKENS, WIDTH))}
    found |= {"positions": rng.normal(0, 0.3, (LONGEST, WIDTH))}
    found |= {"gain_0": np.ones(WIDTH), "gain_1": np.ones(WIDTH)}
    numbers = {"two": 2.0, "epsilon": 1e-5, "scale": DEPTH**-0.5}
    found |= {name: np.array(number) for name, number in numbers.items()}
    lists = {"split": [0, 0, HEADS, DEPTH], "join": [0, 0, WIDTH]}
    integers = {name: np.array(numbers, np.int64) for name, numbers in lists.items()}
    return {name: value.astype(np.float32) for name, value in found.items()} | integers


def main(folder: Path) -> None:
    """Write the model into a folder."""
    model = onnx.parser.parse_model(GRAPH)
    made = weights(np.random.default_rng(0)).items()
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made)
    for node in model.graph.node:
        node.name = f"/{node.output[0]}/"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "decoder.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
