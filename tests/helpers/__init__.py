"""Helpers that tests of several packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx.parser

from optc.frontend.onnx import load_model

if TYPE_CHECKING:
    from optc.ir import Graph


def graph_from_text(text: str) -> Graph:
    """The graph of a model in ONNX's textual form.

    A text without a header of its own (``<ir_version: …>``) is taken as a graph at opset 21.
    """
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'
    return load_model(onnx.parser.parse_model(text))
