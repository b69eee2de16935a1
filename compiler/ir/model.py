"""What a model carries beside its main graph: identity, metadata and local functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Attr


@dataclass
class Function:
    """A model-local function: a body with formal names and attribute parameters.

    Attributes:
        name: function name.
        domain: its domain.
        overload: distinguishes functions of equal name and domain.
        body: a graph of its own scope and opset imports; its inputs and outputs are the formals.
        attributes: required attribute parameters.
        defaults: attribute parameters with a default.
        doc: doc string.
        metadata: metadata_props.
    """

    name: str
    domain: str
    overload: str
    body: Graph
    attributes: tuple[str, ...] = ()
    defaults: Mapping[str, Attr] = field(default_factory=dict)
    doc: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ModelInfo:
    """What a model carries beside its main graph.

    Attributes:
        ir_version: ONNX IR version.
        producer_name: tool that wrote the model.
        producer_version: its version.
        domain: model domain.
        model_version: version of the model.
        doc: doc string.
        metadata: metadata_props.
        functions: model-local functions by (domain, name, overload).
        opaque: fields that optc carries without reading, by field name, as serialized messages.
    """

    ir_version: int = 10
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], Function] = field(default_factory=dict)
    opaque: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
