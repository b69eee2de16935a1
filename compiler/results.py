"""What compiling and planning give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.errors import GoalMissed
    from optc.rewrite.trace import StepRecord
    from optc.verdict import Verification


@dataclass(frozen=True)
class Plan:
    """What a compile would do.

    Attributes:
        name: name of the recipe.
        runtime: what will execute the model.
        targets: step records by target.
    """

    name: str
    runtime: str
    targets: Mapping[str, tuple[StepRecord, ...]]

    def to_dict(self) -> dict[str, object]:
        """The plan as data."""
        return {
            "name": self.name,
            "runtime": self.runtime,
            "targets": {
                name: [step.to_dict() for step in steps] for name, steps in self.targets.items()
            },
        }


@dataclass(frozen=True)
class Artifact:
    """What was built for one target.

    Attributes:
        target: name of the CPU target.
        folder: its folder in the output.
        model: the emitted model.
        report: report.json.
        launch: folder with the launch config.
        steps: what the passes did.
        verification: the comparison with the source model; None when it was switched off.
    """

    target: str
    folder: Path
    model: Path
    report: Path
    launch: Path
    steps: tuple[StepRecord, ...]
    verification: Verification | None

    def to_dict(self) -> dict[str, object]:
        """The artifact as data, with measured figures and times."""
        return {
            "folder": str(self.folder),
            "model": str(self.model),
            "report": str(self.report),
            "launch": str(self.launch),
            "passes": [
                {**step.to_dict(), "seconds": round(step.seconds, 4)} for step in self.steps
            ],
            "verification": self.verification.to_dict() if self.verification else None,
        }


@dataclass(frozen=True)
class CompileResult:
    """The result of a compile.

    Attributes:
        name: name of the recipe.
        model: the source model.
        runtime: what will execute the result.
        output: the output folder.
        artifacts: what was built, by target.
        manifest: content of manifest.json.
        inputs: every file that was read, for dependency files.
        warnings: what the user should know.
        seconds: wall time by part; ``total`` is all of it.
        missed: the goal that was missed, where the recipe keeps the result nevertheless.
    """

    name: str
    model: Path
    runtime: str
    output: Path
    artifacts: Mapping[str, Artifact]
    manifest: Mapping[str, object]
    inputs: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    missed: GoalMissed | None = None

    def to_dict(self) -> dict[str, object]:
        """The result as data."""
        return {
            "name": self.name,
            "model": str(self.model),
            "runtime": self.runtime,
            "output": str(self.output),
            "artifacts": {name: item.to_dict() for name, item in self.artifacts.items()},
            "manifest": dict(self.manifest),
            "inputs": [str(path) for path in self.inputs],
            "warnings": list(self.warnings),
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "missed": self.missed.to_dict() if self.missed else None,
        }
