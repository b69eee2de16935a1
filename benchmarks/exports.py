"""Real architectures with seeded random weights, exported from PyTorch by both of its exporters.

usage: python benchmarks/exports.py FOLDER [--only WORD]… [--size full|small] [--layers N] [--list]

Needs torch, transformers and onnxscript (`pip install torch transformers onnxscript`). Writes
FOLDER/<name>-<spelling>.onnx and FOLDER/README.txt with a line for each; what lies there already is
not made again. Spellings: ts14, the TorchScript exporter at opset 14; dyn18, the exporter built on
`torch.export`, at opset 18. Sizes: full, as the published model, and small, a hidden size of 64 and
two layers, to look at. --layers N cuts full models of more equal layers to N: ratios between tools
stay, and a panel takes a fraction of the time. All dimensions are fixed. The weights are random:
speed and numbers are those of the architecture, and outputs mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
import transformers
from exports_models import ARCHITECTURES
from torch import Tensor, nn

SEED = 20261101
SPELLINGS = {"ts14": 14, "dyn18": 18}
"""Opset of each exporter."""


def export(name: str, *, small: bool, layers: int | None, spelling: str, path: Path) -> str:
    """Write one model; returns its line for the table of contents."""
    torch.manual_seed(SEED)
    architecture = ARCHITECTURES[name]
    cut = {architecture.depth: layers} if layers and architecture.depth and not small else {}
    example = architecture.make(small, **cut) if cut else architecture.make(small)
    module = example.module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    _settle(module)
    draft = path.with_suffix(".part")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example.inputs.values()),
            str(draft),
            input_names=list(example.inputs),
            output_names=example.outputs,
            opset_version=SPELLINGS[spelling],
            dynamo=spelling.startswith("dyn"),
            external_data=False,
        )
    draft.rename(path)
    inputs = ", ".join(f"{key} {list(value.shape)}" for key, value in example.inputs.items())
    how = "TorchScript" if spelling.startswith("ts") else "torch.export"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    size = ", small sizes" if small else f", {layers} layers" if cut else ""
    return f"{path.name}: {inputs}; {architecture.origin}{size}; {how} exporter, {versions}"


def _settle(module: nn.Module) -> None:
    """Parameters that training would have moved from 0 and 1, moved: nothing folds by accident.

    Statistics of batch normalization, scales and biases; deterministic by the seed.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 1:
            weight.uniform_(0.8, 1.2)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor) and not bias.abs().any():
            bias.normal_(0.0, 0.02)


def main() -> int:
    """Export what is asked for; 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], help="names that contain this")
    parser.add_argument("--size", choices=("full", "small"), action="append", default=[])
    parser.add_argument("--layers", type=int)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path, name, small, spelling in _wanted(options):
        if options.list:
            print(path.name, ARCHITECTURES[name].origin)
        elif not path.exists():
            failed += not _try(path, name, small, options.layers, spelling)
    return 1 if failed else 0


def _wanted(options: argparse.Namespace) -> list[tuple[Path, str, bool, str]]:
    found = []
    for size in options.size or ("small", "full"):
        for name in ARCHITECTURES:
            for spelling in SPELLINGS:
                stem = f"{name}-small-{spelling}" if size == "small" else f"{name}-{spelling}"
                if not options.only or any(word in stem for word in options.only):
                    found.append((options.folder / f"{stem}.onnx", name, size == "small", spelling))
    return found


def _try(path: Path, name: str, small: bool, layers: int | None, spelling: str) -> bool:
    """Export one; a failure is told, and the others go on."""
    start = time.perf_counter()
    try:
        line = export(name, small=small, layers=layers, spelling=spelling, path=path)
    except Exception as error:  # exporters raise anything; the other models go on
        path.with_suffix(".part").unlink(missing_ok=True)
        print(f"{path.stem}: failed: {type(error).__name__}: {str(error)[:2000]}", flush=True)
        return False
    with (path.parent / "README.txt").open("a", encoding="utf-8") as contents:
        contents.write(line + "\n")
    megabytes = path.stat().st_size / 1e6
    print(f"{path.stem}: {time.perf_counter() - start:.1f} s, {megabytes:.1f} MB", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
