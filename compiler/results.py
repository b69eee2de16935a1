"""What compiling and planning give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optc.page import PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from optc.errors import GoalMissed
    from optc.ir import Graph
    from optc.rewrite.near_misses import NearMiss
    from optc.rewrite.trace import StepRecord
    from optc.verdict import Verification


@dataclass(frozen=True)
class Fate:
    """What became of operations of the source model: an operation of the result.

    Attributes:
        node: its label.
        op: its operator.
        passes: the passes that made it from them, first one first; empty where it is as it was.
    """

    node: str
    op: str
    passes: tuple[str, ...]


def fates(source: Iterable[str], result: Graph) -> dict[str, tuple[Fate, ...]]:
    """What the operations of the source model with these names have become."""
    found: dict[str, list[Fate]] = {name: [] for name in source}
    for graph in result.walk():
        for node in graph.ordered():
            origin = node.origin
            passes = () if origin is None else tuple(reversed(origin.passes()))
            for name in (node.label,) if origin is None else origin.sources():
                if name in found:
                    found[name].append(Fate(node.label, node.qualified_op, passes))
    return {name: tuple(items) for name, items in found.items()}


@dataclass(frozen=True)
class Outlook:
    """What a compile would come to for one target.

    Attributes:
        near_misses: ideas that were missed, and why.
        seconds: predicted time of the result on one core, as far as shapes are known.
        fates: by operation of the source model, what is made from it; empty where nothing is.
        sizes: sizes that were assumed for that, by symbol.
        unknown: operations of the result whose time is not predicted.
    """

    near_misses: tuple[NearMiss, ...]
    seconds: float
    fates: Mapping[str, tuple[Fate, ...]]
    sizes: Mapping[str, int]
    unknown: int = 0

    def to_dict(self) -> dict[str, object]:
        """As data, the time in microseconds."""
        return {
            "microseconds": round(self.seconds * 1e6, 3),
            "sizes": dict(self.sizes),
            "unknown": self.unknown,
            "near_misses": [item.to_dict() for item in self.near_misses],
        }


@dataclass(frozen=True)
class Plan:
    """What a compile would do.

    Attributes:
        name: name of the recipe.
        runtime: what will execute the model.
        targets: step records by target.
        outlooks: what it comes to, by target.
    """

    name: str
    runtime: str
    targets: Mapping[str, tuple[StepRecord, ...]]
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The plan as data."""
        return {
            "name": self.name,
            "runtime": self.runtime,
            "targets": {
                name: [step.to_dict() for step in steps] for name, steps in self.targets.items()
            },
            "outlooks": {name: item.to_dict() for name, item in self.outlooks.items()},
        }


@dataclass(frozen=True)
class Artifact:
    """What was built for one target.

    Attributes:
        target: name of the CPU target.
        folder: its folder in the output.
        model: the emitted model.
        report: report.json.
        page: report.html, the same for people.
        launch: folder with the launch config.
        steps: what the passes did.
        verification: the comparison with the source model; None when it was switched off.
        precision: operations of the result by operator and precision.
        shares: share of its multiply-accumulates by precision.
    """

    target: str
    folder: Path
    model: Path
    report: Path
    page: Path
    launch: Path
    steps: tuple[StepRecord, ...]
    verification: Verification | None
    precision: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        folder: Path,
        model_file: str,
        steps: tuple[StepRecord, ...],
        verification: Verification | None,
        precision: Mapping[str, Mapping[str, int]],
        shares: Mapping[str, float],
    ) -> Artifact:
        """What lies in a folder that bears the name of its target."""
        return cls(
            folder.name,
            folder,
            folder / model_file,
            folder / REPORT,
            folder / PAGE,
            folder / "launch",
            steps,
            verification,
            precision,
            shares,
        )

    def moved(self, folder: Path) -> Artifact:
        """The same in another folder."""
        own = self.steps, self.verification, self.precision, self.shares
        return Artifact.at(folder, self.model.name, *own)

    def to_dict(self) -> dict[str, object]:
        """The artifact as data, with measured figures and times."""
        return {
            "folder": str(self.folder),
            "model": str(self.model),
            "report": str(self.report),
            "page": str(self.page),
            "launch": str(self.launch),
            "passes": [
                {**step.to_dict(), "seconds": round(step.seconds, 4)} for step in self.steps
            ],
            "verification": self.verification.to_dict() if self.verification else None,
            "precision": {op: dict(row) for op, row in self.precision.items()},
            "multiply_adds": dict(self.shares),
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
        inputs: every file that was read, for dependency files, and folders that were listed.
        warnings: what the user should know.
        seconds: wall time by part; ``total`` is all of it.
        missed: the goal that was missed, where the recipe keeps the result nevertheless.
        cached: whether all of it was made, and verified, by an earlier compile.
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
    cached: bool = False

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
            "cached": self.cached,
        }
