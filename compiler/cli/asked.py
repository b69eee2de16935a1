"""What a compile was asked for on the command line, and how its artefacts are told to machines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from optc.cache import Cache
    from optc.pipeline import Progress
    from optc.results import CompileResult


Form: TypeAlias = Literal["text", "json", "lines"]
"""What is printed: text for people, one JSON object, or a line of JSON per artefact."""


@dataclass(frozen=True)
class Asked:
    """What holds for every recipe of a command.

    Attributes:
        targets: targets instead of the recipes'.
        overrides: settings on top of the recipes.
        verify: whether results are compared with their source models.
        output: as given with ``--output``.
        cache: what earlier compiles left.
        several: whether `output` is the folder above those of several recipes.
    """

    targets: tuple[str, ...]
    overrides: tuple[str, ...]
    verify: bool
    output: Path | None
    cache: Cache | None
    several: bool = False

    def fetch(self, recipe: Path) -> CompileResult | None:
        """The result of a recipe that nothing has changed for; imports next to nothing."""
        if self.cache is None:
            return None
        from optc.warm import Request

        request = Request(recipe, self.targets, self.overrides, self.verify)
        return request.find(self.cache, self.output, below=self.several)

    def compile(
        self, recipe: Path, dump_dir: Path | None, progress: Progress | None
    ) -> CompileResult:
        """Compile a recipe, or fetch its result."""
        found = self.fetch(recipe) if dump_dir is None else None
        if found is not None:
            return found
        from optc.driver import compile as compile_recipe

        return compile_recipe(
            recipe,
            targets=self.targets or None,
            output=self.output,
            verify=self.verify,
            progress=progress,
            overrides=self.overrides,
            dump_dir=dump_dir,
            cache=self.cache,
        )


def artefact_lines(recipe: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """One line of JSON per artefact: what it is, where it lies, size and digest of the model.

    Args:
        recipe: the recipe file.
        result: `CompileResult.to_dict`.
    """
    output, missed = result["output"], result["missed"]
    for name, artifact in result["artifacts"].items():
        about = result["manifest"]["files"][os.path.relpath(artifact["model"], output)]
        line = {
            "recipe": str(recipe),
            "name": result["name"],
            "target": name,
            "runtime": result["runtime"],
            "model": artifact["model"],
            "bytes": about["bytes"],
            "sha256": about["sha256"],
            "report": artifact["report"],
            "launch": artifact["launch"],
            "manifest": os.path.join(output, "manifest.json"),
            "verified": artifact["verification"] is not None,
            "missed": missed and missed["code"],
            "cached": result["cached"],
        }
        yield json.dumps(line, ensure_ascii=False)


def error_line(recipe: Path, error: Mapping[str, Any]) -> str:
    """A line of JSON for a recipe that failed."""
    about = {"code": error["code"], "message": error.get("message", error["text"])}
    return json.dumps({"recipe": str(recipe), "error": about}, ensure_ascii=False)
