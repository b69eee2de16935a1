"""Every exception that optc raises, in one tree.

    OptcError                    base: code, message, location, hint, and the exit code
    ├── RecipeError        (1)   the recipe is wrong; holds one Problem per root cause
    ├── ModelError         (1)   the model cannot be read, or is not a valid model
    ├── DataError          (1)   calibration or validation data is missing or does not fit the model
    ├── TargetError        (1)   unknown target or runtime, or a broken descriptor
    ├── CapabilityError    (1)   a step asks for what the target, runtime or opset does not have
    ├── OutputError        (1)   the output folder cannot be written
    ├── GoalMissed         (4)   built, but verification or an accuracy goal failed
    └── InternalError      (3)   a bug of optc: a pass broke the graph, an invariant does not hold

Nothing below the CLI prints or exits; the CLI maps an exception to its exit code.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class OptcError(Exception):
    """Base of all errors of optc.

    Attributes:
        code: stable kebab-case identifier, e.g. ``model-truncated``; documented in docs/errors.md.
        message: what is wrong, one sentence.
        location: where, e.g. ``det.onnx`` or ``recipe.yaml:3:5``; None when there is no place.
        hint: what to do about it; None when the message says it all.
    """

    exit_code = 1

    def __init__(
        self, code: str, message: str, *, location: str | None = None, hint: str | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.location = location
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        head = f"{self.location}: {self.message}" if self.location else self.message
        return f"{head}\n  {self.hint}" if self.hint else head

    def to_dict(self) -> dict[str, object]:
        """The error as data, for ``--json``."""
        return {
            "code": self.code,
            "message": self.message,
            "location": self.location,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Problem:
    """One root cause inside a recipe.

    Attributes:
        code: kebab-case identifier of the kind of problem, e.g. ``unknown-key``.
        path: where in the recipe, e.g. ``pipeline[2].cast-bf16.deny``; empty for the whole file.
        message: what was found and what is allowed.
        file: path of the file as the user gave it; None for recipes that are not files.
        line: 1-based line; 0 when unknown.
        column: 1-based column; 0 when unknown.
        hint: the repair, e.g. ``did you mean 'fold-constants'?``; None when there is none.
    """

    code: str
    path: str
    message: str
    file: str | None = None
    line: int = 0
    column: int = 0
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file or "<recipe>"
        if self.line:
            place += f":{self.line}:{self.column}"
        where = f" {self.path}:" if self.path else ""
        text = f"{place}:{where} {self.message}"
        return f"{text}\n  {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, object]:
        """The problem as data, for ``--json``."""
        return {
            "code": self.code,
            "path": self.path,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "hint": self.hint,
        }


class RecipeError(OptcError):
    """Raised when a recipe does not validate; `problems` lists all root causes of one run."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        if not self.problems:
            raise ValueError("a RecipeError needs at least one problem")
        super().__init__("recipe-invalid", "\n".join(str(problem) for problem in self.problems))

    def to_dict(self) -> dict[str, object]:
        """The error with all its problems as data."""
        return {"code": self.code, "problems": [problem.to_dict() for problem in self.problems]}


class ModelError(OptcError):
    """Raised when a model file is missing, truncated, too large to read or not valid ONNX."""


class DataError(OptcError):
    """Raised when data is missing, has the wrong keys, dtypes or shapes, or holds no sample."""


class TargetError(OptcError):
    """Raised for an unknown target or runtime, and for a descriptor that does not validate."""


class CapabilityError(OptcError):
    """Raised when a step needs a capability that the chosen target, runtime or opset lacks."""


class OutputError(OptcError):
    """Raised when the output folder cannot be created, replaced or written."""


class GoalMissed(OptcError):  # noqa: N818 - a missed goal is a result, not an error of the user
    """Raised when the result was built but verification or an accuracy goal failed."""

    exit_code = 4


class InternalError(OptcError):
    """Raised for a bug of optc, e.g. a graph that does not verify; `detail` is the report."""

    exit_code = 3

    def __init__(self, code: str, message: str, *, detail: str = "") -> None:
        super().__init__(code, message)
        self.detail = detail


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word closest to `word`, or None when none is close (difflib ratio 0.6)."""
    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str | None:
    """A hint ``did you mean 'x'?``, or None."""
    found = nearest(word, allowed)
    return f"did you mean '{found}'?" if found else None
