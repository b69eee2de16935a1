"""Reads the reports of a compiled output again."""

from __future__ import annotations

import json
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from optc.errors import ModelError
from optc.page import REPORT
from optc.page.render import page_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KEYS: Final[Mapping[str, tuple[type, ...]]] = {
    "name": (str,),
    "target": (str,),
    "runtime": (str,),
    "opset": (int,),
    "operations": (dict,),
    "precision": (dict,),
    "passes": (list,),
    "predicted": (dict, NoneType),
    "near_misses": (list,),
    "verification": (dict, NoneType),
    "warnings": (list,),
    "nodes": (list,),
}
"""What a report has, and of which types."""


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """The report of a target, and of those that were compiled with it, in their order.

    Others that are missing or damaged are left out.

    Args:
        folder: ``OUT/<target>``.

    Raises:
        ModelError: ``report-missing``: there is none; ``report-damaged``: it is not what optc
            writes.
    """
    folder = folder.absolute()
    own = folder / REPORT
    if not own.is_file():
        raise ModelError(
            "report-missing",
            f"there is no {REPORT} here",
            location=str(folder),
            hint="give the folder of one target in the output of `optc compile`",
        )
    if problem := _problem(content := _json(own)):
        raise _damaged(own, problem)
    manifest = _json(folder.parent / "manifest.json")
    names = manifest.get("targets", ()) if isinstance(manifest, dict) else ()
    found = {str(name): _json(folder.parent / str(name) / REPORT) for name in names}
    whole = {name: report for name, report in found.items() if not _problem(report)}
    return whole if folder.name in whole else {folder.name: content}


def page_again(folder: Path) -> str:
    """The page of a target that was compiled before.

    Args:
        folder: ``OUT/<target>``.

    Raises:
        ModelError: as `read_reports`.
    """
    reports = read_reports(folder)
    try:
        return page_of(folder, reports)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # What optc writes renders, which the tests of compile prove: the file was changed.
        what = f"{type(error).__name__}: {error}"
        raise _damaged(folder / REPORT, f"what is in it cannot be shown ({what})") from error


def _damaged(file: Path, problem: str) -> ModelError:
    return ModelError(
        "report-damaged",
        f"this is no report of optc: {problem}",
        location=str(file),
        hint="compile the recipe again",
    )


def _problem(content: Any) -> str | None:
    """What keeps a file from being a report."""
    if not isinstance(content, dict):
        return "it is no mapping in JSON"
    for key, types in _KEYS.items():
        if key not in content:
            return f"it has no {key}"
        if not isinstance(content[key], types):
            return f"{key} is of type {type(content[key]).__name__}"
    return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
