"""Recipes: from YAML, or plain Python values, to a validated plan of what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.errors import RecipeError
from optc.recipe.model import Recipe, RecipeBody
from optc.recipe.positions import from_python
from optc.recipe.schema import body_schema, json_schema
from optc.recipe.sections import (
    CalibrationData,
    Data,
    Emit,
    Goal,
    InputSpec,
    Launch,
    ModelSource,
    ValidationData,
    Verify,
)
from optc.recipe.sources import Loader
from optc.recipe.steps import Step, known_passes, read_steps
from optc.recipe.tree import Problems, Source
from optc.recipe.validate import validated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "CalibrationData",
    "Data",
    "Emit",
    "Goal",
    "InputSpec",
    "Launch",
    "ModelSource",
    "Recipe",
    "Step",
    "ValidationData",
    "Verify",
    "json_schema",
    "known_passes",
    "load_recipe",
    "resolve_pipeline",
]


def load_recipe(
    source: str | Path | Mapping[str, object], *, overrides: Sequence[str] = ()
) -> Recipe:
    """Read and validate a recipe.

    Args:
        source: a YAML file, or what such a file holds as a mapping. Paths in it are relative to
            the folder of the file that they stand in, those of a mapping to the working directory.
        overrides: ``path=value`` texts, applied in order on top of everything; a value means what
            it would mean in the file.

    Raises:
        RecipeError: all that is wrong, root causes only.
    """
    problems = Problems()
    loader = Loader(problems)
    tree = loader.load(source, overrides)
    if tree is None:
        raise RecipeError(problems.ordered())
    listed = loader.pipeline(tree.get("pipeline"))
    steps = read_steps(listed, problems) if listed is not None else ()
    rest = tree.without("pipeline")
    body = validated(RecipeBody, rest, problems, schema=body_schema, whole=loader.whole)
    if body is None or len(problems):
        raise RecipeError(problems.ordered())
    values = {name: getattr(body, name) for name in RecipeBody.model_fields}
    return Recipe(**values, pipeline=steps, folder=loader.folder, files=tuple(loader.files))


def resolve_pipeline(
    pipeline: str | Sequence[object] | Mapping[str, object] | None,
) -> tuple[Step, ...]:
    """The steps that a `pipeline:` stands for.

    Args:
        pipeline: the name of a preset, ``{"preset": name}``, or a list of steps as in a recipe;
            None is the preset of a recipe without `pipeline:`.

    Raises:
        RecipeError: all that is wrong with it.
    """
    problems = Problems()
    node = from_python(pipeline, Source(), problems, "pipeline")
    listed = None
    if not len(problems):
        listed = Loader(problems).pipeline(None if pipeline is None else node)
    steps = read_steps(listed, problems) if listed is not None else ()
    if len(problems):
        raise RecipeError(problems.ordered())
    return steps
