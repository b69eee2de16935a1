"""The XML of an OpenVINO IR: names that follow from the graph, marks that every version honours.

OpenVINO numbers the layers that its passes make with a counter of the process, so their names
differ from run to run. Here every layer has an owner, the operation that it helps to compute: the
one whose label it bears, else the one that makes its tensor, else that of the first layer that
uses it. The layer that makes the tensor has the label as its name; the others are called
``<owner>/<Type>``, with a number where there are several.

A layer that must stay float32 is marked ``precise``: OpenVINO 2026.4 writes the same as
``DisablePrecisionConversion``, which 2025.4 does not know; it reads both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from xml.etree.ElementTree import Element

_INTERFACE: Final = frozenset({"Parameter", "Result"})
_NOT_COMPUTED: Final = frozenset({"Parameter", "Result", "Const"})


def finish_xml(
    content: bytes,
    producers: Mapping[str, str],
    keep_f32: Collection[str] = (),
    constants: Collection[str] = (),
) -> bytes:
    """Name and mark the layers of an IR.

    Args:
        content: the XML as OpenVINO wrote it; inputs and outputs have their final names.
        producers: label of the operation that makes a tensor, by name of the tensor.
        keep_f32: labels of operations whose layers stay float32.
        constants: names of initializers; their layers keep them.
    """
    root = ElementTree.fromstring(content)
    labels = frozenset(producers.values())
    for scope in root.iter():
        if scope.find("layers") is not None:
            _Scope(scope, labels, producers, constants, is_root=scope is root).finish(keep_f32)
    ElementTree.indent(root, "\t")
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0"?>\n{text}\n'.encode()


class _Scope:
    """The layers of the model, or of the body of a control-flow layer."""

    def __init__(
        self,
        scope: Element,
        labels: frozenset[str],
        producers: Mapping[str, str],
        constants: Collection[str],
        *,
        is_root: bool,
    ) -> None:
        self._constants = constants
        self._is_root = is_root
        self._labels = labels
        self._producers = producers
        self._layers = scope.findall("layers/layer")
        order = {layer.get("id"): index for index, layer in enumerate(self._layers)}
        self._consumers: dict[int, list[int]] = {}
        self._feeder: dict[int, int] = {}
        for edge in scope.findall("edges/edge"):
            source, user = order[edge.get("from-layer")], order[edge.get("to-layer")]
            self._consumers.setdefault(source, []).append(user)
            self._feeder.setdefault(user, source)
        bearers = [layer for layer in self._layers if self._is_settled(layer)]
        self._taken = {layer.get("name", "") for layer in bearers}
        self._bearers = set(bearers)

    def _is_settled(self, layer: Element) -> bool:
        """Whether the layer keeps its name: it is the interface's, or one of the graph's."""
        name, kind = layer.get("name", ""), layer.get("type")
        if kind in _INTERFACE:
            return self._is_root
        return name in (self._constants if kind == "Const" else self._labels)

    def finish(self, keep_f32: Collection[str]) -> None:
        """Name the layers, from the results upwards, and mark them."""
        owners: dict[int, str] = {}
        for index in reversed(range(len(self._layers))):
            owners[index] = self._owner(index, owners)
        for index, layer in enumerate(self._layers):
            if layer.get("type") == "Result" and index in self._feeder:
                owners[index] = owners[self._feeder[index]]
            if layer not in self._bearers:
                layer.set("name", self._name(layer, owners[index]))
            _mark(layer, owners[index] in keep_f32)

    def _owner(self, index: int, owners: Mapping[int, str]) -> str:
        layer = self._layers[index]
        name = layer.get("name", "")
        if name in self._labels:
            return name
        for tensor in _tensors(layer):
            if tensor in self._producers:
                return self._producers[tensor]
        # OpenVINO calls what it makes of one node `<its name>/<what it is>`.
        head = name.rpartition("/")[0]
        while head:
            if head in self._labels:
                return head
            head = head.rpartition("/")[0]
        users = self._consumers.get(index, ())
        return owners[min(users)] if users else ""

    def _name(self, layer: Element, owner: str) -> str:
        kind = layer.get("type", "")
        makes_it = any(self._producers.get(tensor) == owner for tensor in _tensors(layer))
        if makes_it and owner not in self._taken:
            wanted = owner
        else:
            wanted = f"{owner}/{kind}" if owner else kind
        result, number = wanted, 1
        while result in self._taken:
            result, number = f"{wanted}_{number}", number + 1
        self._taken.add(result)
        return result


def _tensors(layer: Element) -> Iterator[str]:
    """Names of the tensors that a layer makes."""
    for port in layer.findall("output/port"):
        text = port.get("names", "")
        # OpenVINO writes a comma inside a name as `\,`.
        parts = re.split(r"(?<!\\),", text) if text else []
        yield from (part.replace("\\,", ",") for part in parts)


def _mark(layer: Element, keep: bool) -> None:
    """Mark a layer as float32 in the spelling that every supported version reads."""
    info = layer.find("rt_info")
    if not keep or layer.get("type") in _NOT_COMPUTED:
        return
    if info is None:
        info = ElementTree.Element("rt_info")
        data = layer.find("data")
        layer.insert(0 if data is None else list(layer).index(data) + 1, info)
    if not any(entry.get("name") == "precise" for entry in info):
        ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
