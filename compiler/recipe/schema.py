"""The JSON schema of recipes, for editors and for the words of error messages.

Source: JSON Schema draft 2020-12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optc.passes.describe import describe
from optc.recipe.model import RecipeBody
from optc.recipe.steps import known_passes
from optc.recipes import PRESETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.passes.base import Pass

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXTENDS = {
    "description": "a recipe file, or a preset, that this recipe is laid over: mappings merge, "
    "lists replace",
    "anyOf": [
        {"type": "string", "enum": list(PRESETS)},
        {"type": "string", "format": "path", "pattern": "/|\\.ya?ml$"},
    ],
}


def body_schema() -> dict[str, Any]:
    """The schema of a recipe less its pipeline; its `required` are those of a whole recipe."""
    schema = RecipeBody.model_json_schema()
    schema["properties"]["extends"] = _EXTENDS
    schema["properties"]["pipeline"] = {"description": "the passes to run"}
    return schema


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files, with the options of every pass that is installed.

    Raises:
        RecipeError: a pass of another distribution does not load, or takes a name that is taken.
    """
    passes = known_passes()
    schema = body_schema()
    definitions = schema["$defs"]
    for name, kind in passes.items():
        definitions[_title(name)] = _options(name, kind, definitions)
    definitions["Step"] = _step(passes)
    schema["properties"]["pipeline"] = _pipeline()
    # A recipe that extends another may leave to it what a recipe must have.
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]
    return {"$schema": DIALECT, **schema, "title": "optc recipe"}


def _options(name: str, kind: type[Pass], definitions: dict[str, Any]) -> dict[str, Any]:
    """The options of one pass; what they refer to is added to `definitions`."""
    options = kind.Options.model_json_schema()
    inner = options.pop("$defs", {})
    if any(definitions.get(key, part) != part for key, part in inner.items()):
        template = f"#/$defs/{_title(name)}.{{model}}"
        options = kind.Options.model_json_schema(ref_template=template)
        inner = {f"{_title(name)}.{key}": part for key, part in options.pop("$defs").items()}
    definitions.update(inner)
    return {**options, "title": f"{name} options", "description": _summary(kind)}


def _title(name: str) -> str:
    """``FoldConstantsOptions``: the name of the options of `fold-constants` in the schema."""
    return "".join(word.capitalize() for word in name.split("-")) + "Options"


def _step(passes: Mapping[str, type[Pass]]) -> dict[str, Any]:
    from optc.targets import CAPABILITIES

    named = [{"const": name, "description": _summary(kind)} for name, kind in passes.items()]
    when = {"description": "capability of the target without which the step is left out"}
    options = {
        name: {"description": _summary(kind), "anyOf": [{"$ref": f"#/$defs/{_title(name)}"}, _NULL]}
        for name, kind in passes.items()
    }
    return {
        "title": "Step",
        "description": "a pass, by name or with options",
        "anyOf": [
            {"type": "string", "anyOf": named},
            {
                "type": "object",
                "properties": {**options, "when": {**when, "enum": list(CAPABILITIES)}},
                "oneOf": [{"required": [name]} for name in passes],
                "additionalProperties": False,
            },
        ],
    }


def _pipeline() -> dict[str, Any]:
    name = {"type": "string", "enum": list(PRESETS), "description": "name of a preset"}
    preset = {
        "type": "object",
        "properties": {"preset": name},
        "required": ["preset"],
        "additionalProperties": False,
    }
    return {
        "title": "Pipeline",
        "description": "the passes to run, in order, `- preset: NAME` for those of a preset; "
        "preset fp32 when left out",
        "anyOf": [
            {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Step"}, preset]}},
            name,
            preset,
        ],
    }


_NULL = {"type": "null"}


def _summary(kind: type[Pass]) -> str:
    return str(describe(kind)["summary"])
