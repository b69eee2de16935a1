"""What a pass says about itself, as data: for the CLI and for the generated documents."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optc.passes.base import Pass


def describe(entry: type[Pass]) -> dict[str, object]:
    """Name, summary, documentation, requirements and options of a pass.

    Returns:
        ``name``, ``summary`` (first line of the class's docstring), ``documentation`` (docstrings
        of module and class), ``requires``, and ``options``: a list with name, type, default,
        description and whether the option is required.
    """
    class_doc = inspect.getdoc(entry) or ""
    module_doc = inspect.getdoc(sys.modules[entry.__module__]) or ""
    return {
        "name": entry.name,
        "summary": class_doc.splitlines()[0] if class_doc else "",
        "documentation": f"{module_doc}\n\n{class_doc}".strip(),
        "requires": list(entry.requires),
        "options": [_option(name, schema, entry) for name, schema in _properties(entry)],
    }


def _properties(entry: type[Pass]) -> list[tuple[str, dict[str, object]]]:
    schema = entry.Options.model_json_schema()
    return list(schema.get("properties", {}).items())


def _option(name: str, schema: dict[str, object], entry: type[Pass]) -> dict[str, object]:
    field = entry.Options.model_fields[name]
    return {
        "name": name,
        "type": _type(schema),
        "required": field.is_required(),
        "default": schema.get("default"),
        "description": str(schema.get("description", "")),
    }


def _type(schema: dict[str, object]) -> str:
    """A JSON schema type in words: ``integer``, ``list of string``, ``keep or freeze``."""
    if isinstance(choices := schema.get("enum"), list):
        return " or ".join(map(str, choices))
    if isinstance(options := schema.get("anyOf"), list):
        return " or ".join(_type(option) for option in options)
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1].lower()
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {_type(items) if isinstance(items, dict) else 'anything'}"
    return str(schema.get("const", schema.get("type", "anything")))
