"""The golden graphs of a recipe: one text per target, in a folder beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from optc.errors import ModelError, TargetError
from optc.files import unwritable, write_text
from optc.golden.text import FIRST_LINE, Difference, compare_with, golden_text, has_weights
from optc.groups import context_of, read_source, target_groups
from optc.pipeline import run_pipeline
from optc.prepare import Prepared, prepare
from optc.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.pipeline import PassRun, Progress
    from optc.prepare import TargetPlan

_SUFFIX: Final = ".txt"


@dataclass(frozen=True)
class Golden:
    """The golden graph of one target, and what was found or done.

    Attributes:
        target: the target.
        path: its file.
        state: of a check ``equal``, ``differs``, ``missing`` (no such file) or ``stale`` (a file of
            a target that the recipe does not have); of an update ``written``, ``unchanged`` or
            ``removed``.
        difference: from the golden graph that was there; None when there was none.
    """

    target: str
    path: Path
    state: str
    difference: Difference | None = None

    @property
    def is_equal(self) -> bool:
        """False for what a check must fail for."""
        return self.state not in ("differs", "missing", "stale")

    def to_dict(self) -> dict[str, Any]:
        """As data, for ``--json``."""
        difference = {} if self.difference is None else self.difference.to_dict()
        return {
            "target": self.target,
            "file": self.path.as_posix(),
            "state": self.state,
            **difference,
            "equal": self.is_equal,
        }


@dataclass(frozen=True)
class GoldenResult:
    """What `check` found, or `update` did.

    Attributes:
        name: name of the recipe.
        goldens: one entry per target, and per file that is too many.
    """

    name: str
    goldens: tuple[Golden, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every golden graph is there and the same."""
        return all(golden.is_equal for golden in self.goldens)

    def to_dict(self) -> dict[str, Any]:
        """As data, for ``--json``."""
        return {
            "name": self.name,
            "equal": self.is_equal,
            "goldens": [golden.to_dict() for golden in self.goldens],
        }


def check(
    recipe: Recipe | str | Path | Mapping[str, object],
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    structure: bool = False,
    progress: Progress | None = None,
) -> GoldenResult:
    """Compare what the passes of a recipe make of its model with the golden graphs.

    Only passes run: nothing is emitted, and nothing is verified.

    Args:
        recipe: a recipe, a path to one, or its content as a mapping.
        targets: these instead of the recipe's; files of other targets are then no concern.
        overrides: ``path=value`` settings on top of the recipe.
        structure: leave the contents of weights out of the comparison.
        progress: callback for long work.

    Raises:
        OptcError: recipe, model or target is wrong, or a golden text cannot be read.
    """
    suite = GoldenSuite.of(recipe, targets, overrides, structure=structure, progress=progress)
    found = [suite.check(name) for name in suite.targets]
    if not targets:
        found += [Golden(path.stem, path, "stale") for path in suite.stale()]
    return GoldenResult(suite.name, tuple(found))


def update(
    recipe: Recipe | str | Path | Mapping[str, object],
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    structure: bool = False,
    progress: Progress | None = None,
) -> GoldenResult:
    """Write the golden graphs of a recipe, and remove those of targets that it does not have.

    Nothing is written before the passes have run for every target.

    Args:
        recipe: a recipe, a path to one, or its content as a mapping.
        targets: these instead of the recipe's; nothing is removed then.
        overrides: ``path=value`` settings on top of the recipe.
        structure: leave the contents of weights out of the texts.
        progress: callback for long work.

    Raises:
        OptcError: recipe, model or target is wrong, or a text cannot be written.
    """
    suite = GoldenSuite.of(recipe, targets, overrides, structure=structure, progress=progress)
    for name in suite.targets:
        suite.run(name)
    done = [suite.update(name) for name in suite.targets]
    if not targets:
        done += suite.remove_stale()
    return GoldenResult(suite.name, tuple(done))


class GoldenSuite:
    """The golden graphs of one recipe, target by target; targets that share their passes run once.

    Attributes:
        folder: where the texts lie.
    """

    def __init__(
        self, prepared: Prepared, *, structure: bool = False, progress: Progress | None = None
    ) -> None:
        """Golden graphs of a prepared recipe; `check` and `update` tell about the arguments."""
        self.folder = prepared.recipe.golden_path
        self._prepared = prepared
        self._structure = structure or not prepared.recipe.golden.weights
        self._progress = progress
        self._runs: dict[str, PassRun] = {}

    @classmethod
    def of(
        cls,
        recipe: Recipe | str | Path | Mapping[str, object],
        targets: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
        *,
        structure: bool = False,
        progress: Progress | None = None,
    ) -> GoldenSuite:
        """The golden graphs of a recipe as the user gives it.

        Raises:
            TargetError: ``golden-host``: the target depends on the machine.
            OptcError: as of `optc.prepare.prepare`.
        """
        loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides=overrides)
        if "host" in (targets or loaded.targets):
            raise TargetError(
                "golden-host",
                "`host` is another target on each machine: it has no golden graph",
                location=str(loaded.files[0]) if loaded.files else None,
                hint="name the targets in the recipe, or give them with --target",
            )
        prepared = prepare(loaded, targets=targets)
        return cls(prepared, structure=structure, progress=progress)

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self._prepared.recipe.name

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the recipe's order."""
        return tuple(self._plans)

    @cached_property
    def _plans(self) -> dict[str, TargetPlan]:
        return {plan.target.id: plan for plan in self._prepared.plans}

    def path(self, target: str) -> Path:
        """The file of a target."""
        return self.folder / f"{target}{_SUFFIX}"

    def run(self, target: str) -> PassRun:
        """What the passes make of the model for a target."""
        if target not in self._runs:
            group = next(
                group
                for group in target_groups(self._prepared)
                if any(plan.target.id == target for plan in group)
            )
            recipe, first = self._prepared.recipe, group[0]
            context = context_of(recipe, first, self._progress)
            run = run_pipeline(
                lambda: read_source(recipe), first.steps, context, progress=self._progress
            )
            self._runs.update(dict.fromkeys((plan.target.id for plan in group), run))
        return self._runs[target]

    def check(self, target: str) -> Golden:
        """Compare with the golden graph of a target."""
        path = self.path(target)
        text = self._read(path)
        if text is None:
            return Golden(target, path, "missing")
        found = compare_with(
            text, self.run(target), structure=self._structure, location=path.as_posix()
        )
        return Golden(target, path, "equal" if found.is_empty else "differs", found)

    def update(self, target: str) -> Golden:
        """Write the golden graph of a target."""
        path, run = self.path(target), self.run(target)
        old = self._read(path) or ""
        facts = {"target": target, "runtime": self._plans[target].runtime.id}
        text = golden_text(run, facts, weights=not self._structure, like=old)
        difference = _difference(old, run, has_weights(text))
        if text == old:
            return Golden(target, path, "unchanged", difference)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error, hint="give golden.folder another place") from error
        write_text(path, text)
        return Golden(target, path, "written", difference)

    def stale(self) -> tuple[Path, ...]:
        """Golden texts in the folder that are of no target of the recipe."""
        return tuple(self._stale())

    def _stale(self) -> Iterator[Path]:
        ours = {self.path(target) for target in self.targets}
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path not in ours and path.is_file():
                with path.open("rb") as file:
                    if file.read(len(FIRST_LINE)) == FIRST_LINE.encode():
                        yield path

    def remove_stale(self) -> Iterator[Golden]:
        """Remove what `stale` names."""
        for path in self.stale():
            try:
                path.unlink()
            except OSError as error:
                raise unwritable(path, error) from error
            yield Golden(path.stem, path, "removed")

    def _read(self, path: Path) -> str | None:
        """The text of a file; None when there is none."""
        try:
            if not path.exists():
                return None
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                "golden-unreadable", f"cannot read: {error}", location=path.as_posix()
            ) from error


def _difference(old: str, run: PassRun, weights: bool) -> Difference | None:
    """The difference that an update accepts; None where there was no text that can be read."""
    if not old:
        return None
    try:
        return compare_with(old, run, structure=not weights)
    except ModelError:
        return None
