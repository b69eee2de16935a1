"""Reads the reports of a compiled output again."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from optc.errors import ModelError
from optc.page import REPORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

_FAR: Final = 1 << 63
_LONG: Final = 60
_WORDS: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """The report of a target, and of those that were compiled with it, in their order.

    Others that are missing or damaged are left out.

    Args:
        folder: ``OUT/<target>``.

    Raises:
        ModelError: as of `read_report`.
    """
    folder = folder.absolute()
    content = read_report(folder)
    found: dict[str, dict[str, Any]] = {}
    for name in _targets(folder.parent / "manifest.json"):
        with suppress(ModelError):
            found[name] = content if name == folder.name else read_report(folder.parent / name)
    return found if folder.name in found else {folder.name: content}


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a target, with all that `optc.page.shape` says.

    Args:
        folder: ``OUT/<target>``.

    Raises:
        ModelError: ``report-missing``: there is none; ``report-damaged``: it is not what optc
            writes.
    """
    file = folder / REPORT
    if not file.is_file():
        raise ModelError(
            "report-missing",
            f"there is no {REPORT} here",
            location=str(folder),
            hint="give the folder of one target in the output of `optc compile`",
        )
    try:
        content = _parsed(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"{file}:{error.lineno}:{error.colno}"
        raise _damaged(place, f"not JSON, or not all of it: {error.msg}") from error
    except OSError as error:
        raise _damaged(str(file), f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(str(file), f"not JSON as it writes it: {error}") from error
    if problem := _misfit(content) or _loose_end(content):
        raise _damaged(str(file), problem)
    whole: dict[str, Any] = content
    return whole


def _damaged(place: str, problem: str) -> ModelError:
    return ModelError(
        "report-damaged",
        f"this is no report of optc: {problem}",
        location=place,
        hint="compile the recipe again, or copy the output folder again",
    )


def _targets(manifest: Path) -> list[str]:
    """The targets of an output, as far as its manifest can be read."""
    try:
        names = json.loads(manifest.read_text(encoding="utf-8"))["targets"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _parsed(text: str) -> Any:
    """JSON with numbers and texts that can be written again.

    Raises:
        ValueError: it is not.
    """
    content = json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_float)
    json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return content


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return value


def _int(text: str) -> int:
    if not -_FAR <= (value := int(text)) < _FAR:
        raise ValueError(f"{text} has more than 64 bits")
    return value


def _misfit(content: object) -> str:
    """The first part of a report that is missing or of another type; empty where there is none."""
    from pydantic import ValidationError

    from optc.page.shape import Report

    try:
        Report.model_validate(content)
    except ValidationError as error:
        return _told(content, error.errors(include_url=False))
    return ""


def _told(content: Any, details: Sequence[ErrorDetails]) -> str:
    first = details[0]
    path, value = _place(content, first)
    if first["type"] == "missing":
        return f"{path or 'it'} has no {first['loc'][-1]}"
    alike = (detail for detail in details if _place(content, detail)[0] == path)
    wanted = " or ".join(dict.fromkeys(_wanted(detail) for detail in alike))
    return f"{path or 'it'} is {_shown(value)}; expected {wanted}"


def _place(content: Any, detail: ErrorDetails) -> tuple[str, Any]:
    """Path and value of the part that an error is about."""
    path, here = "", content
    for step in detail["loc"]:
        if isinstance(here, list) and isinstance(step, int) and step < len(here):
            path, here = f"{path}[{step}]", here[step]
        elif isinstance(here, dict) and step in here:
            path, here = f"{path}.{step}" if path else str(step), here[step]
        # else a step that only pydantic knows, or what is missing
    return path, here


def _wanted(detail: ErrorDetails) -> str:
    return _WORDS.get(detail["type"], detail["msg"].removeprefix("Input should be "))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else text[: _LONG - 2] + "…" + text[-1]


def _loose_end(report: Mapping[str, Any]) -> str:
    """The first operation or output that is fed by something that is not there."""
    graphs = [("", report["nodes"], report["ends"])] if "ends" in report else []
    if "source" in report:
        graphs.append(("source.", report["source"]["nodes"], report["source"]))
    for prefix, rows, ends in graphs:
        for number, row in enumerate(rows):
            feeds = [*row["inputs"], *row.get("inside", ())[:1]]
            if lost := [feed for feed in feeds if not _known(feed, rows, ends)]:
                return f"{prefix}nodes[{number}] refers to {lost[0]!r}, which is not there"
        for name, end in ends["outputs"].items():
            if end["from"] is not None and not _known(end["from"], rows, ends):
                return f"output {name!r} refers to {end['from']!r}, which is not there"
    return ""


def _known(feed: int | str, rows: Sequence[object], ends: Mapping[str, Any]) -> bool:
    return feed in ends["inputs"] if isinstance(feed, str) else 0 <= feed < len(rows)
