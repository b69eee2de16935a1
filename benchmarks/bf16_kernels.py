"""The fp32 twin next to the bfloat16 kernels of PyTorch, one operator at a time.

usage: PYTHONPATH=build/typing PYTHON benchmarks/bf16_kernels.py

PYTHON is one that has torch; tools/view.py lays out build/typing.

Prints, per operator, the share of elements that are equal, and that are at most one unit in the
last place (ulp) of bfloat16 apart. Both round once per operator; what differs is the order of sums
in float32, approximations of functions, and kernels of PyTorch that round in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx.parser

from optc.emit.onnx import serialize
from optc.frontend.onnx import load_model
from optc.numerics.evaluate import open_session
from optc.numerics.twin import twin
from optc.passes import InferShapes
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from collections.abc import Callable

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operator.

    Attributes:
        name: what it is called in the table.
        body: it in ONNX text, of inputs a, b, c and output y.
        shapes: of the inputs.
        kernel: the same in PyTorch: torch, torch.nn.functional and the tensors.
        positive: whether inputs are positive numbers.
    """

    name: str
    body: str
    shapes: tuple[Shape, ...]
    kernel: Callable[..., Any]
    positive: bool = False


@dataclass(frozen=True)
class Agreement:
    """How far two results are apart.

    Attributes:
        equal: share of elements that are the same number.
        close: share of elements that are at most one ulp apart.
        elements: how many there are.
    """

    equal: float
    close: float
    elements: int


_ROWS = ((64, 512),)
CASES = (
    Case("MatMul", "MatMul (a, b)", ((128, 768), (768, 192)), lambda t, f, a, b: t.matmul(a, b)),
    Case(
        "MatMul, batched",
        "MatMul (a, b)",
        ((12, 64, 64), (12, 64, 128)),
        lambda t, f, a, b: t.matmul(a, b),
    ),
    Case(
        "Gemm",
        "Gemm <transB = 1> (a, b, c)",
        ((128, 512), (256, 512), (256,)),
        lambda t, f, a, b, c: f.linear(a, b, c),
    ),
    Case(
        "Conv 3x3",
        "Conv <pads = [1, 1, 1, 1]> (a, b)",
        ((1, 64, 28, 28), (64, 64, 3, 3)),
        lambda t, f, a, b: f.conv2d(a, b, padding=1),
    ),
    Case(
        "Conv 1x1 with bias",
        "Conv (a, b, c)",
        ((1, 128, 28, 28), (64, 128, 1, 1), (64,)),
        lambda t, f, a, b, c: f.conv2d(a, b, c),
    ),
    Case(
        "Conv, depthwise",
        "Conv <pads = [1, 1, 1, 1], group = 64> (a, b)",
        ((1, 64, 28, 28), (64, 1, 3, 3)),
        lambda t, f, a, b: f.conv2d(a, b, padding=1, groups=64),
    ),
    Case(
        "ConvTranspose",
        "ConvTranspose <strides = [2, 2]> (a, b)",
        ((1, 64, 14, 14), (64, 32, 2, 2)),
        lambda t, f, a, b: f.conv_transpose2d(a, b, stride=2),
    ),
    Case("Add", "Add (a, b)", (*_ROWS, (512,)), lambda t, f, a, b: a + b),
    Case("Sub", "Sub (a, b)", (*_ROWS, (512,)), lambda t, f, a, b: a - b),
    Case("Mul", "Mul (a, b)", (*_ROWS, (512,)), lambda t, f, a, b: a * b),
    Case("Div", "Div (a, b)", (*_ROWS, (512,)), lambda t, f, a, b: a / b),
    Case("Sqrt", "Sqrt (a)", _ROWS, lambda t, f, a: t.sqrt(a), positive=True),
    Case("Exp", "Exp (a)", _ROWS, lambda t, f, a: t.exp(a)),
    Case("Log", "Log (a)", _ROWS, lambda t, f, a: t.log(a), positive=True),
    Case("Erf", "Erf (a)", _ROWS, lambda t, f, a: t.erf(a)),
    Case("Relu", "Relu (a)", _ROWS, lambda t, f, a: f.relu(a)),
    Case("LeakyRelu", "LeakyRelu (a)", _ROWS, lambda t, f, a: f.leaky_relu(a, 0.01)),
    Case("Elu", "Elu (a)", _ROWS, lambda t, f, a: f.elu(a)),
    Case("Sigmoid", "Sigmoid (a)", _ROWS, lambda t, f, a: t.sigmoid(a)),
    Case("Tanh", "Tanh (a)", _ROWS, lambda t, f, a: t.tanh(a)),
    Case("Softplus", "Softplus (a)", _ROWS, lambda t, f, a: f.softplus(a)),
    Case("HardSwish", "HardSwish (a)", _ROWS, lambda t, f, a: f.hardswish(a)),
    Case("Gelu", "Gelu (a)", _ROWS, lambda t, f, a: f.gelu(a)),
    Case("Softmax", "Softmax (a)", _ROWS, lambda t, f, a: f.softmax(a, -1)),
    Case(
        "LayerNormalization",
        "LayerNormalization (a, b, c)",
        (*_ROWS, (512,), (512,)),
        lambda t, f, a, b, c: f.layer_norm(a, (512,), b, c),
    ),
    Case(
        "ReduceMean",
        "ReduceMean (a, axes)",
        ((256, 64, 32),),
        lambda t, f, a: t.mean(a, -1, keepdim=True),
    ),
    Case(
        "GlobalAveragePool",
        "GlobalAveragePool (a)",
        ((8, 128, 7, 7),),
        lambda t, f, a: f.adaptive_avg_pool2d(a, 1),
    ),
    Case(
        "AveragePool",
        "AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a)",
        ((1, 64, 28, 28),),
        lambda t, f, a: f.avg_pool2d(a, 2),
    ),
    Case(
        "MaxPool",
        "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)",
        ((1, 64, 28, 28),),
        lambda t, f, a: f.max_pool2d(a, 2),
    ),
)


def measure(case: Case, *, seed: int = 0) -> Agreement:
    """Run a case both ways on the same numbers."""
    import torch
    import torch.nn.functional as functional

    drawn = np.random.default_rng(seed)
    arrays = []
    for shape in case.shapes:
        numbers = drawn.standard_normal(shape, np.float32)
        numbers = np.abs(numbers) + np.float32(0.01) if case.positive else numbers
        arrays.append(numbers.astype(ml_dtypes.bfloat16))
    torch.set_num_threads(1)
    tensors = [torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) for a in arrays]
    with torch.no_grad():
        theirs = case.kernel(torch, functional, *tensors).contiguous().view(torch.int16).numpy()
    apart = np.abs(_order(_ours(case, arrays).view(np.int16)) - _order(theirs))
    return Agreement(float(np.mean(apart == 0)), float(np.mean(apart <= 1)), apart.size)


def _ours(case: Case, arrays: list[Any]) -> Any:
    names = "abc"[: len(arrays)]
    pairs = zip(names, arrays, strict=True)
    kinds = [f"bfloat16[{','.join(map(str, array.shape))}] {name}" for name, array in pairs]
    constant = "<int64[1] axes = {-1}>" if "axes" in case.body else ""
    text = f"""<ir_version: 10, opset_import: ["" : 22]>
    g ({", ".join(kinds)}) => (bfloat16 y) {constant} {{ y = {case.body} }}"""
    graph = load_model(onnx.parser.parse_model(text))
    InferShapes().apply(graph, PassContext())
    session = open_session(serialize(twin(graph)))
    return session.run(dict(zip(names, arrays, strict=True)))["y"]


def _order(bits: Any) -> Any:
    """Numbers of bfloat16 counted from zero, so that neighbours differ by one."""
    raw = bits.astype(np.int32)
    return np.where(raw < 0, -(raw & 0x7FFF), raw)


def main() -> None:
    """Print the table."""
    print("| operator | elements | equal | within 1 ulp |")
    print("|---|---|---|---|")
    for case in CASES:
        found = measure(case)
        print(f"| {case.name} | {found.elements} | {found.equal:.3%} | {found.close:.3%} |")


if __name__ == "__main__":
    main()
