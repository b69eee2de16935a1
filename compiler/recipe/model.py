"""The recipe as typed data, schema_version 1. Paths in it are relative to the recipe's folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    InstanceOf,
    ValidationInfo,
    field_validator,
    model_validator,
)

from optc.numerics.metrics import find_metric
from optc.recipe.fields import (
    FilePath,
    OneOf,
    Section,
    Short,
    TargetRef,
    flaw,
    is_file_name,
    slug,
)
from optc.recipe.sections import (
    Data,
    Emit,
    Goal,
    GoldenGraphs,
    InputSpec,
    Launch,
    ModelSource,
    Verify,
)
from optc.recipe.steps import Step
from optc.targets import runtime_names

_RECIPE_SUFFIXES = (".yaml", ".yml", ".optc")


def _labels_are_there(goal: Goal, info: ValidationInfo) -> Goal:
    data: Data | None = info.data.get("data")  # absent when it did not validate
    labels = data is None or (data.validation is not None and data.validation.labels is not None)
    if find_metric(goal.metric).needs_labels and not labels:
        message = f"metric '{goal.metric}' needs labels, and data.validation.labels is not set"
        hint = "set it, or use a metric that compares with the source model, e.g. top1_agreement"
        raise flaw("labels-missing", message, at=["metric"], hint=hint)
    return goal


def _long_model(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _long_accuracy(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _format_of_the_runtime(emit: Emit, info: ValidationInfo) -> Emit:
    runtime = info.data.get("runtime")  # absent when it did not validate
    if emit.format == "openvino" and runtime not in (None, "openvino"):
        message = f"runtime '{runtime}' does not read format 'openvino'"
        raise flaw(
            "format-of-other-runtime", message, at=["format"], hint="write runtime: openvino"
        )
    if emit.int8 == "qoperator" and runtime not in (None, "onnxruntime"):
        message = f"runtime '{runtime}' does not compute the operators of 'qoperator' on integers"
        raise flaw("format-of-other-runtime", message, at=["int8"], hint="write int8: qdq")
    return emit


class RecipeBody(Section):
    """All of a recipe but its pipeline."""

    schema_version: Literal[1] = Field(description="version of the recipe format")
    name: str = Field(
        default="",
        max_length=100,
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
        examples=["ppocr-det"],
        description="name of the result; the model's file name when left out",
    )
    model: Annotated[
        ModelSource,
        Short(_long_model, {"type": "string", "format": "path", "minLength": 1}),
    ] = Field(description="the model to compile: a path, or path and sha256")
    inputs: Mapping[str, InputSpec] = Field(
        default={}, description="shapes and ranges of inputs, by the name of the input"
    )
    targets: tuple[TargetRef, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra={"uniqueItems": True},
        description="CPUs to compile for: names (see `optc targets`), descriptor files, or `host`",
    )
    fleet: Literal["per-target", "weakest"] = Field(
        default="per-target",
        description="weakest: one model for all targets, planned for the CPU whose capabilities "
        "all others have; per-target: each gets what its own CPU can",
    )
    runtime: Annotated[str, OneOf("runtime", runtime_names)] = Field(
        default="onnxruntime", description="what will execute the model"
    )
    profile: FilePath | None = Field(
        default=None,
        description="what operations cost on one machine, as `optc targets costs` measured it, to "
        "plan int8 with in place of what the descriptor of the runtime says",
    )
    data: Data = Field(default=Data(), description="real inputs, for calibration and validation")
    emit: Annotated[Emit, AfterValidator(_format_of_the_runtime)] = Field(
        default=Emit(), description="form of the emitted model"
    )
    accuracy: Annotated[
        tuple[Annotated[Goal, AfterValidator(_labels_are_there)], ...], Short(_long_accuracy)
    ] = Field(default=(), description="a goal, or a list of goals")
    verify: Verify = Field(default=Verify(), description="the comparison with the source model")
    launch: Launch = Field(default=Launch(), description="how the model will be run")
    golden: GoldenGraphs = Field(
        default=GoldenGraphs(), description="golden graphs: what `optc golden` compares with"
    )
    output: FilePath | None = Field(
        default=None, description="folder for the result; build/<name> when left out"
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_the_model(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") is None:
            model = values.get("model")
            path = model.get("path") if isinstance(model, dict) else model
            values = {**values, "name": slug(path if isinstance(path, str) else "")}
        return values

    @field_validator("targets")
    @classmethod
    def _targets_differ(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for index, name in enumerate(targets):
            if name in targets[:index]:
                raise flaw("duplicate-target", f"target '{name}' stands twice", at=[index])
        return targets


class Recipe(RecipeBody):
    """A validated recipe. Make it with `load_recipe`.

    Attributes:
        pipeline: the steps, presets resolved.
        folder: what the paths are relative to: the folder of the recipe file as the user gave it,
            or the empty path (the working directory) for a mapping.
        files: every recipe file that was read: the recipe, what it extends, presets.
    """

    pipeline: tuple[InstanceOf[Step], ...] = ()
    folder: Path = Path()
    files: tuple[Path, ...] = ()

    def locate(self, path: str) -> Path:
        """The file that a path of this recipe means."""
        return self.folder / path

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.locate(self.model.path)

    @property
    def output_path(self) -> Path:
        """The folder for the result."""
        return self.locate(self.output or f"build/{self.name}")

    @property
    def target_refs(self) -> tuple[str, ...]:
        """The targets for `optc.targets.load_target`: names, `host`, or located files."""
        return tuple(
            str(self.locate(name)) if is_file_name(name) else name for name in self.targets
        )

    @property
    def golden_path(self) -> Path:
        """The folder of the golden graphs."""
        if self.golden.folder is not None:
            return self.locate(self.golden.folder)
        stem = self.files[0].name if self.files else self.name
        for suffix in _RECIPE_SUFFIXES:
            stem = stem.removesuffix(suffix)
        return self.locate(f"{stem}.golden")

    def content(self) -> dict[str, Any]:
        """Everything that decides the result, as canonical data; not where it is written."""
        others = {"output", "golden", "folder", "files", "pipeline"}
        body = self.model_dump(mode="json", exclude=others)
        return {**body, "pipeline": [step.content() for step in self.pipeline]}

    def asked(self) -> dict[str, Any]:
        """What the recipe says beyond the defaults, as canonical data; files by name only."""
        left_out = {"schema_version", "name", "output", "folder", "files", "pipeline"}
        said = self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        said["model"]["path"] = Path(self.model.path).name
        for source in said.get("data", {}).values():
            source["path"] = Path(source["path"]).name
        said["targets"] = [Path(name).name for name in self.targets]
        return {**said, "pipeline": [step.asked() for step in self.pipeline]}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `content`: the same for every layout, comment, default and location."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
