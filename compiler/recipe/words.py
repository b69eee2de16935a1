"""JSON schemas in words: what is allowed at a place of a recipe.

The texts are read from the schema that `optc schema` prints, so they hold for the options of every
pass without a table of pydantic's error types.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from optc.errors import did_you_mean
from optc.recipe.tree import ScalarNode, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc.recipe.tree import Tree

Schema: TypeAlias = "Mapping[str, Any]"
"""A JSON schema, or a part of one; references are looked up in the ``$defs`` of the whole."""

_NOUNS = {"string": "string", "integer": "integer", "number": "number"}
_FORMATS = {"path": "path", "regex": "regular expression"}
_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def expected(schema: Schema, fragment: Schema) -> str:
    """What a part of a schema allows: ``an integer, at least 1``, ``a list of strings``."""
    return _all_words(schema, fragment, plural=False)


def repair(schema: Schema, fragment: Schema, node: Tree) -> str | None:
    """A hint for the usual slips of YAML: quotes, yes/no, 1_000, a value that should be a list."""
    kinds = alternatives(schema, fragment)
    types = {str(kind.get("type")) for kind in kinds}
    if not isinstance(node, ScalarNode) or node.value is None:
        return None
    if types <= {"array", "null"}:
        return f"write it as a list: [{node.value}]"
    required = [kind.get("required", []) for kind in kinds if kind.get("type") == "object"]
    if types <= {"object", "null"} and len(required) == 1 and len(required[0]) == 1:
        return f"write {{{required[0][0]}: {node.value}}}"
    if isinstance(node.value, float) and node.value.is_integer() and "integer" in types:
        return f"write {int(node.value)}"
    if isinstance(node.value, str):
        return _repaired_string(node, node.value, kinds, types)
    if (
        "string" in types
        and not types & {"integer", "number"}
        and not any("enum" in kind for kind in kinds)
    ):
        return f"to make it a string, quote it: '{spelled(node.value)}'"
    return None


def part(schema: Schema, fragment: Schema, step: int | str) -> Schema | None:
    """What describes the element `step` of the value that `fragment` describes, if anything."""
    steps = (_element(kind, step) for kind in alternatives(schema, fragment))
    known = [element for element in steps if element is not None]
    return {"anyOf": known} if len(known) > 1 else next(iter(known), None)


def part_at(schema: Schema, location: Sequence[int | str]) -> Schema:
    """What describes the value at `location`; parts that the schema does not know are passed."""
    here = schema
    for step in location:
        element = part(schema, here, step)
        here = here if element is None else element
    return here


def keys_of(schema: Schema, fragment: Schema) -> tuple[str, ...]:
    """The keys that a mapping may have here, in the order of the schema."""
    kinds = alternatives(schema, fragment)
    return tuple(dict.fromkeys(key for kind in kinds for key in kind.get("properties", ())))


def alternatives(schema: Schema, fragment: Schema) -> list[Schema]:
    """The members of the union that `fragment` is, with references followed."""
    reference = fragment.get("$ref")
    if reference is not None:
        return alternatives(schema, schema["$defs"][reference.removeprefix("#/$defs/")])
    members = fragment.get("anyOf", fragment.get("oneOf"))
    if members is None:
        return [fragment]
    return [kind for member in members for kind in alternatives(schema, member)]


def _element(kind: Schema, step: int | str) -> Schema | None:
    if isinstance(step, int):
        fixed = kind.get("prefixItems", ())
        element = fixed[step] if step < len(fixed) else kind.get("items")
    else:
        element = kind.get("properties", {}).get(step, kind.get("additionalProperties"))
    return element if isinstance(element, dict) else None


def _all_words(schema: Schema, fragment: Schema, *, plural: bool) -> str:
    kinds = [kind for kind in alternatives(schema, fragment) if kind.get("type") != "null"]
    texts = dict.fromkeys(_words(schema, kind, plural) for kind in kinds)
    return ", or ".join(texts) or "nothing (null)"


def _words(schema: Schema, kind: Schema, plural: bool) -> str:
    if "const" in kind:
        return spelled(kind["const"])
    if "enum" in kind:
        return ("names among " if plural else "one of ") + ", ".join(
            str(value) for value in kind["enum"]
        )
    match kind.get("type"):
        case "array":
            return _list_words(schema, kind, plural)
        case "object":
            keys = ", ".join(kind.get("properties", ()))
            return _noun("mapping", plural) + (f" with {keys}" if keys else "")
        case "boolean":
            return "true or false"
        case "string":
            return _string_words(kind, plural)
        case type_ if type_ in _NOUNS:
            limits = (f", {text} {kind[key]}" for key, text in _LIMITS.items() if key in kind)
            return _noun(_NOUNS[str(type_)], plural) + "".join(limits)
    return "another value"


def _noun(noun: str, plural: bool) -> str:
    if plural:
        return noun + "s"
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _string_words(kind: Schema, plural: bool) -> str:
    text = _noun(_FORMATS.get(kind.get("format", ""), "string"), plural)
    if examples := kind.get("examples"):
        return f"{text} like " + " or ".join(spelled(example) for example in examples)
    if "pattern" in kind and "format" not in kind:
        return f"{text} that matches {kind['pattern']}"
    return f"{text}, not empty" if kind.get("minLength") else text


def _list_words(schema: Schema, kind: Schema, plural: bool) -> str:
    text = _noun("list", plural)
    if fixed := kind.get("prefixItems"):
        return f"{text} [" + ", ".join(expected(schema, item) for item in fixed) + "]"
    count = [f"at least {kind['minItems']}"] if kind.get("minItems") else []
    count += [f"at most {kind['maxItems']}"] if "maxItems" in kind else []
    size = f" ({', '.join(count)})" if count else ""
    items = kind.get("items")
    return text + size + (f" of {_all_words(schema, items, plural=True)}" if items else "")


def _repaired_string(
    node: ScalarNode, value: str, kinds: Iterable[Schema], types: set[str]
) -> str | None:
    if "boolean" in types and value.lower() in ("yes", "on", "y", "no", "off", "n"):
        return "write true" if value.lower() in ("yes", "on", "y") else "write false"
    if types & {"integer", "number", "boolean"} and "string" not in types and node.quoted:
        return "remove the quotes"
    if types & {"integer", "number"} and re.fullmatch(r"[0-9][0-9_,]*", value):
        return "write " + re.sub("[_,]", "", value)
    names = [str(name) for kind in kinds for name in (*kind.get("enum", ()), kind.get("const", ""))]
    return did_you_mean(value, names) or did_you_mean(value.lower(), names)


def is_scalar(kinds: Iterable[Schema]) -> bool:
    """True when only strings, numbers, booleans and null are allowed, by types that are known."""
    return all(kind.get("type") in ("null", "boolean", *_NOUNS) for kind in kinds)
