"""Is this a model that optc understands? Versions and operators, before anything is built."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import onnx
import onnx.defs
import onnx.helper

from optc.errors import did_you_mean
from optc.frontend.strings import domain_of, text
from optc.ir.ops import SCHEMALESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optc.errors import ModelError
    from optc.frontend.records import Record
    from optc.frontend.source import Source

OLDEST_OPSET = 7
"""Opset 7 brought the broadcasting rules of today; no runtime tests anything older."""

_CHECKED_DOMAINS = ("", "ai.onnx.ml")


def read_opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Opset version by domain, in the order given; the highest when a domain is given twice."""
    found: dict[str, int] = {}
    for item in imports:
        domain = domain_of(item.domain)
        found[domain] = max(item.version, found.get(domain, 0))
    return found


def newest_opsets() -> dict[str, int]:
    """The newest opset of each ONNX domain that the installed onnx package knows."""
    found: dict[str, int] = {}
    for name, version in onnx.helper.OP_SET_ID_VERSION_MAP:
        domain = "" if name == "ai.onnx" else name
        found[domain] = max(version, found.get(domain, 0))
    return found


def check_versions(model: onnx.ModelProto, source: Source, oldest: int) -> None:
    """Check the IR version and opset imports of a model and its functions.

    Raises:
        ModelError: a version is missing, older than `oldest`, or newer than the onnx package.
    """
    upgrade = f"upgrade the onnx package (this is {onnx.__version__}), or export with an older "
    if model.ir_version > onnx.IR_VERSION:
        raise source.error(
            "ir-version-unknown",
            f"the model has IR version {model.ir_version}; known are versions up to "
            f"{onnx.IR_VERSION}",
            upgrade + "IR version",
        )
    opsets = read_opsets(model.opset_import)
    if not opsets:
        raise source.error(
            "opset-missing",
            "the model does not say which operator set it uses",
            "export it again with an exporter of 2018 or later",
        )
    newest = newest_opsets()
    for imports in (opsets, *(read_opsets(item.opset_import) for item in model.functions)):
        for domain, version in imports.items():
            name = domain or "ai.onnx"
            if version > newest.get(domain, version):
                raise source.error(
                    "opset-unknown",
                    f"the model uses opset {version} of {name}; known are versions up to "
                    f"{newest[domain]}",
                    upgrade + "opset",
                )
        if "" in imports and imports[""] < oldest:
            raise source.error(
                "opset-too-old",
                f"the model uses opset {imports['']}; supported are opsets from {oldest}, where "
                "today's broadcasting rules begin",
                "convert it: onnx.version_converter.convert_version(model, 13), or export again",
            )


def check_functions(model: onnx.ModelProto, source: Source) -> None:
    """Check that model-local functions are distinct and do not call themselves.

    Raises:
        ModelError: two functions of one identity, or recursion.
    """
    bodies: dict[tuple[str, str, str], onnx.FunctionProto] = {}
    for function in model.functions:
        key = (text(function.domain), text(function.name), text(function.overload))
        if key in bodies:
            raise source.error("duplicate-function", f"function {key[1]!r} is defined twice")
        bodies[key] = function
    try:
        TopologicalSorter({key: _called(body.node) for key, body in bodies.items()}).prepare()
    except CycleError as error:
        name = min(error.args[1])[1]
        raise source.error("function-recursive", f"function {name!r} calls itself") from error


def _called(nodes: Iterable[onnx.NodeProto]) -> set[tuple[str, str, str]]:
    found = set()
    for node in nodes:
        found.add((text(node.domain), text(node.op_type), text(node.overload)))
        for item in node.attribute:
            for part in (item.g,) if item.HasField("g") else item.graphs:
                found |= _called(part.node)
    return found


class OperatorCheck:
    """Says of each node whether its operator exists, asking the schemas once per operator."""

    def __init__(self, source: Source, model: onnx.ModelProto) -> None:
        self._source = source
        self._known: set[tuple[int, str, str]] = set()
        self._functions = {(text(item.domain), text(item.name)) for item in model.functions}

    def check(self, record: Record, opsets: Mapping[str, int]) -> None:
        """Check the operator of one node.

        Raises:
            ModelError: its domain is not imported, or its domain is ONNX's own and has no such
                operator at the opset of the model.
        """
        version = opsets.get(record.domain, 0)
        key = (version, record.domain, record.op_type)
        if key in self._known:
            return
        if (record.domain, record.op_type) not in self._functions:
            if not version:
                raise self._source.error(
                    "opset-missing",
                    f"{record.label} is of domain {record.domain or 'ai.onnx'!r}, which the model "
                    "does not import",
                    "export the model again",
                )
            if record.domain in _CHECKED_DOMAINS and record.op_type not in SCHEMALESS:
                self._check_schema(record, version)
        self._known.add(key)

    def _check_schema(self, record: Record, version: int) -> None:
        domain, op_type = record.domain, record.op_type
        if onnx.defs.has(op_type, version, domain):
            schema = onnx.defs.get_schema(op_type, version, domain)
            if not schema.deprecated:
                return
            raise self._unknown(
                record,
                f"operator {op_type} is deprecated since opset {schema.since_version}",
                f"export the model again, or with an opset below {schema.since_version}",
            )
        if onnx.defs.has(op_type, domain):
            first = onnx.defs.get_schema(op_type, domain).since_version
            raise self._unknown(
                record,
                f"opset {version} has no operator {op_type}",
                f"its newest form is of opset {first}; the model states the wrong opset",
            )
        names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == domain}
        raise self._unknown(
            record,
            f"{domain or 'ai.onnx'} has no operator {op_type}",
            did_you_mean(op_type, sorted(names)),
        )

    def _unknown(self, record: Record, message: str, hint: str | None) -> ModelError:
        return self._source.error("unknown-operator", f"{record.label}: {message}", hint)
