"""Reads the reports of a compiled output again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from optc.errors import ModelError
from optc.page import REPORT

if TYPE_CHECKING:
    from pathlib import Path

_KEYS: Final = (
    "name",
    "target",
    "runtime",
    "opset",
    "operations",
    "precision",
    "passes",
    "predicted",
    "near_misses",
    "verification",
    "warnings",
    "nodes",
)


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
    missing = _missing(content := _json(own))
    if missing:
        raise ModelError(
            "report-damaged",
            f"this is no report of optc: it has no {missing[0]}",
            location=str(own),
            hint="compile the recipe again",
        )
    manifest = _json(folder.parent / "manifest.json")
    names = manifest.get("targets", ()) if isinstance(manifest, dict) else ()
    found = {str(name): _json(folder.parent / str(name) / REPORT) for name in names}
    whole = {name: report for name, report in found.items() if not _missing(report)}
    return whole if folder.name in whole else {folder.name: content}


def _missing(content: Any) -> list[str]:
    """What a report has and this does not."""
    return [key for key in _KEYS if not isinstance(content, dict) or key not in content]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
