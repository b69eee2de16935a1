"""What the numeric tests share."""

from collections.abc import Callable
from typing import TypeAlias

import onnx.parser
import pytest

from optc.numerics.evaluate import Optimization, Session, open_session

Load: TypeAlias = Callable[..., Session]


def serialized(text: str, *, opset: int = 22, ir_version: int = 11) -> bytes:
    """A model from ONNX text, without a header."""
    head = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>\n'
    data: bytes = onnx.parser.parse_model(head + text).SerializeToString()
    return data


@pytest.fixture
def build() -> Callable[..., bytes]:
    return serialized


@pytest.fixture
def load() -> Load:
    def open_text(text: str, *, optimize: Optimization = "none", opset: int = 22) -> Session:
        return open_session(serialized(text, opset=opset), optimize=optimize)

    return open_text
