"""Which session options and graph optimizations of ONNX Runtime slow a model down?

usage: python -m benchmarks.forms.options MODEL… [--only TEXT] [--json FILE]

Each optimization is disabled alone; where that changes the operations executed, it is timed against
the default, in turns. Inputs come from NAME.npz (keys ``test:INPUT``) in the folder of the model or
are drawn, with what the model declares and 1 for what is a symbol.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .runtimes import executed, open_model
from .timing import compare

DISABLE = "optimization.disable_specified_optimizers"
OPTIMIZERS = (
    "AttentionFusion",
    "BiasGeluFusion",
    "BiasSoftmaxFusion",
    "CastElimination",
    "ConvActivationFusion",
    "ConvAddActivationFusion",
    "ConvAddFusion",
    "ConvBNFusion",
    "ConvMulFusion",
    "CommonSubexpressionElimination",
    "DivMulFusion",
    "EmbedLayerNormFusion",
    "ExpandElimination",
    "FastGeluFusion",
    "FuseReluClip",
    "GatherSliceToSplitFusion",
    "GatherToSliceFusion",
    "GeluFusionL1",
    "GeluFusionL2",
    "GemmActivationFusion",
    "GemmSumFusion",
    "GemmTransposeFusion",
    "GroupQueryAttentionFusion",
    "LayerNormFusionL1",
    "LayerNormFusionL2",
    "MatMulActivationFusion",
    "MatMulAddFusion",
    "MatMulScaleFusion",
    "MatmulBNFusion",
    "MatmulTransposeFusion",
    "MatMul_BatchNormalization_Fusion",
    "NchwcTransformer",
    "NhwcTransformer",
    "NotWhereFusion",
    "Pad_Fusion",
    "QuickGeluFusion",
    "ReshapeFusion",
    "SimplifiedLayerNormFusion",
    "SkipLayerNormFusion",
    "SwiGluFusion",
    "TransposeOptimizer",
    "UnsqueezeElimination",
)
LEVELS = {
    "level EXTENDED": {"level": "ORT_ENABLE_EXTENDED"},
    "level BASIC": {"level": "ORT_ENABLE_BASIC"},
}
SETTINGS = LEVELS | {
    "session.set_denormal_as_zero=1": {"session.set_denormal_as_zero": "1"},
    "session.disable_prepacking=1": {"session.disable_prepacking": "1"},
    "enable_mem_pattern=0": {"enable_mem_pattern": "0"},
    "enable_cpu_mem_arena=0": {"enable_cpu_mem_arena": "0"},
}


def main() -> None:
    """Measure every model and print one line per option that changes something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="regular expression of the option")
    parser.add_argument("--budget", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text(encoding="utf-8"))
    for path in options.model:
        rows.setdefault(path.stem, {}).update(measure(path, options.only, options.budget))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(path: Path, only: str, budget: float) -> dict[str, Any]:
    """Every chosen option that changes something, against the default, for one model."""
    feeds = _feeds(path)
    usual = executed(str(path), "onnxruntime", {})
    print(f"\n{path.stem}  {usual}", flush=True)
    chosen: dict[str, dict[str, str]] = {}
    twin = str(_twin(path))
    other = executed(twin, "onnxruntime", {})
    for name in OPTIMIZERS:
        if re.search(only, name) and executed(twin, "onnxruntime", {DISABLE: name}) != other:
            chosen[f"without {name}"] = {DISABLE: name}
    found: dict[str, Any] = {"executed": usual}
    chosen |= SETTINGS if path == Path(twin) else LEVELS
    for name, keys in chosen.items():
        if not re.search(only, name):
            continue
        forms = {
            form: partial(open_model, str(path), feeds, "onnxruntime", k)
            for form, k in (("default", {}), (name, keys))
        }
        seconds, ratio = compare(forms, budget)[name]
        found[name] = {"milliseconds": round(seconds * 1e3, 3), **ratio.to_dict()}
        print(
            f"  {name:40} {seconds * 1e3:9.2f} ms {ratio.value:6.3f}"
            f" [{ratio.low or 0:.3f}, {ratio.high or 0:.3f}]",
            flush=True,
        )
    return found


def _twin(path: Path) -> Path:
    """The same model with small sizes where there is one: it tells what an optimizer changes."""
    stem, _, tail = path.stem.rpartition("-")
    small = path.with_name(f"{stem}-small-{tail}.onnx")
    return small if small.exists() else path


def _feeds(path: Path) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    stem = "mnist" if path.stem.startswith("mnist") else path.stem
    data = path.with_name(f"{stem}.npz")
    stored = dict(np.load(data)) if data.exists() else {}
    draw = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        sample = stored.get(f"test:{value.name}")
        if sample is not None:
            kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}.get(
                value.type, np.float32
            )
            one = sample[0] if sample.ndim > len(value.shape) else sample[:1]
            feeds[value.name] = np.asarray(one, kind)
            continue
        shape = [n if isinstance(n, int) else 1 for n in value.shape]
        if "int64" in value.type:
            high = 1000 if value.name in ("input_ids", "tokens") else 2
            feeds[value.name] = (
                draw.integers(1, high, shape) if high > 2 else np.ones(shape, "int64")
            )
        else:
            feeds[value.name] = draw.standard_normal(shape, dtype=np.float32)
    return feeds


if __name__ == "__main__":
    main()
