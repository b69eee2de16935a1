"""Sizes of convolutions and pools against onnxruntime, on random windows."""

from __future__ import annotations

import random

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.shape_checks import infer_line
from optc.emit.onnx import serialize
from optc.errors import ModelError
from optc.ir import dims
from optc.numerics.evaluate import open_session

PADDINGS = ("NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def node(draw: random.Random, op: str, kernel: int) -> tuple[str, int]:
    """A node with random window attributes, and the length that its window needs."""
    stride, dilation = draw.randint(1, 4), draw.randint(1, 3)
    begin, end = draw.randint(0, kernel - 1), draw.randint(0, kernel - 1)
    auto_pad = draw.choice(PADDINGS)
    text = f"kernel_shape = [{kernel}], strides = [{stride}], dilations = [{dilation}]"
    if auto_pad == "NOTSET":
        text += f", pads = [{begin}, {end}]"
        if op == "ConvTranspose":
            text += f", output_padding = [{draw.randint(0, stride - 1)}]"
    else:
        text += f', auto_pad = "{auto_pad}"'
    if op.endswith("Pool"):
        text += f", ceil_mode = {draw.randint(0, 1)}"
    extent = dilation * (kernel - 1) + 1
    needed = extent - (begin + end if auto_pad == "NOTSET" else 0)
    return f"y = {op} <{text}> (x{'' if op.endswith('Pool') else ', w'})", needed


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_sizes_are_those_of_onnxruntime(op: str) -> None:
    draw = random.Random(op)
    compared = 0
    for _ in range(150):
        size, kernel = draw.randint(1, 14), draw.randint(1, 5)
        line, needed = node(draw, op, kernel)
        weight = "" if op.endswith("Pool") else f", float[1,1,{kernel}] w"
        graph = graph_from_text(f"g (float[1,1,H] x{weight}) => (float[1,1,S] y) {{ {line} }}")
        feeds = {"x": np.zeros((1, 1, size), np.float32)}
        if weight:
            feeds["w"] = np.zeros((1, 1, kernel), np.float32)
        try:
            found = open_session(serialize(graph), optimize="none").run(feeds)["y"]
        except ModelError:  # e.g. a padding as large as the window
            continue
        assert isinstance(found, np.ndarray)
        (static,) = infer_line(f"float[1,1,{size}] x{weight}", line)
        (symbolic,) = infer_line(f"float[1,1,H] x{weight}", line)
        assert static is not None
        assert symbolic is not None
        assert static[2] in (None, found.shape[2]), line
        if size >= needed:  # rules say so: for shorter operands runtimes disagree
            assert dims.substitute(symbolic[2], {"H": size}) in (None, found.shape[2]), line
        compared += static[2] is not None
    assert compared > 50
