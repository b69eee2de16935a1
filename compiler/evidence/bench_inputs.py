"""The inputs that all models of a bench run on, and what their outputs are against each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from optc.emit.report import precision_counts
from optc.errors import ModelError
from optc.evidence.bench_result import Difference
from optc.evidence.feeds import choose_samples, common_inputs
from optc.frontend.onnx import load_model
from optc.ir.types import TensorType
from optc.launch.needs import used_precisions
from optc.numerics.compare import compare_outputs
from optc.numerics.comparison import Comparison
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import InputHints, fill_hints
from optc.numerics.sizes import Sizes, choose_sizes, fix_shapes, name_dims
from optc.numerics.tolerance import EXACT
from optc.passes import InferShapes
from optc.passes.base import PassContext
from optc.samples import input_hints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.evidence.subject import Subject
    from optc.ir.types import Type
    from optc.launch.engines import Engine
    from optc.numerics.comparison import OutputComparison
    from optc.numerics.values import Feeds
    from optc.recipe import Recipe

SAMPLES: Final = 16
"""Different inputs that a bench goes through."""
_ENOUGH: Final = 1.0  # seconds after which no further input is tried; two are always


@dataclass(frozen=True)
class Request:
    """What the user says about the inputs.

    Attributes:
        data: file or folder of data; None: the recipe's, else seeded inputs.
        split: prefix of the keys of an .npz file.
        fill: inputs with one number everywhere.
        batch: samples per run, where the models leave a choice.
        recipe: the recipe; None without one.
    """

    data: Path | None = None
    split: str = ""
    fill: Mapping[str, float] = field(default_factory=dict)
    batch: int = 1
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Inputs:
    """Inputs on which every model has run.

    Attributes:
        feeds: one set of inputs per run.
        origin: what they are, for people.
        batch: samples of a run.
        differences: outputs of each model against the first; None for the first itself.
    """

    feeds: tuple[Feeds, ...]
    origin: str
    batch: int
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True)
class Facts:
    """What a model file says about itself.

    Attributes:
        types: types of the inputs that a run must be given.
        limits: one more than the greatest valid index, for integer inputs that are indices.
        computes_bf16: whether operations state bfloat16.
    """

    types: Mapping[str, Type]
    limits: Mapping[str, int]
    computes_bf16: bool


def read_facts(subject: Subject) -> Facts:
    """Read a model file; for an IR, OpenVINO itself is asked for the inputs.

    Raises:
        ModelError: it cannot be read.
    """
    if subject.is_ir:
        # Its operations state no bf16: it comes with the option that `hinted_bf16` looks at.
        return Facts(subject.open().inputs, {}, computes_bf16=False)
    graph = load_model(subject.model)
    InferShapes().apply(graph, PassContext())  # for the element types that the file leaves out
    precisions = used_precisions(precision_counts(graph))
    return Facts(required_inputs(graph), index_limits(graph), "bf16" in precisions)


# ---- choosing them -----------------------------------------------------------------------------


def choose_inputs(subjects: Sequence[Subject], facts: Sequence[Facts], request: Request) -> Inputs:
    """Find inputs, run every model on them once, and compare the outputs.

    Args:
        subjects: the models.
        facts: what the file of each says.
        request: what the user says.

    Raises:
        ModelError: ``inputs-differ``; or ``runtime-failed``: a model does not run on them.
        DataError: the data does not fit, or no seeded inputs work.
    """
    types = dict(facts[0].types)
    for subject, own in zip(subjects[1:], facts[1:], strict=True):
        types = common_inputs(types, own.types, subject.label)
    limits = {name: limit for own in facts for name, limit in own.limits.items()}
    hints = _hints(request, types, limits)
    engines = [subject.open() for subject in subjects]
    candidates, origin = _candidates(request, types, hints, engines)
    found: list[list[Comparison]] = [[] for _ in engines[1:]]
    feeds: list[Feeds] = []
    start = time.perf_counter()
    for sample in candidates:
        for comparisons, outputs in zip(found, _outputs(subjects, engines, sample), strict=True):
            comparisons.append(compare_outputs(outputs[0], outputs[1], EXACT))
        feeds.append(sample)
        if len(feeds) > 1 and time.perf_counter() - start > _ENOUGH:
            break
    differences = [_difference(Comparison.merge(comparisons)) for comparisons in found]
    return Inputs(tuple(feeds), origin, _batch(types, feeds[0]), (None, *differences))


def _outputs(
    subjects: Sequence[Subject], engines: Sequence[Engine], feeds: Feeds
) -> Iterator[tuple[Feeds, Feeds]]:
    """Outputs of the first model beside those of each other one."""
    first: Feeds | None = None
    for subject, engine in zip(subjects, engines, strict=True):
        try:
            outputs = engine.run(feeds)
        except ModelError as error:
            error.location = subject.label
            error.hint = "it loads, but does not run on these inputs: give others with --data"
            raise
        if first is not None:
            yield first, outputs
        else:
            first = outputs


def _hints(request: Request, types: Mapping[str, Type], limits: Mapping[str, int]) -> InputHints:
    filled = fill_hints(request.fill, types)
    if request.recipe is None:
        return replace(filled, limits=limits)
    hints = input_hints(request.recipe, limits)
    return replace(hints, ranges={**hints.ranges, **filled.ranges})


def _candidates(
    request: Request, types: Mapping[str, Type], hints: InputHints, engines: Sequence[Engine]
) -> tuple[list[Feeds], str]:
    """Inputs to try, and what they are called."""
    validation = request.recipe.data.validation if request.recipe is not None else None
    data, split = request.data, request.split
    if data is None and validation is not None and request.recipe is not None:
        data, split = request.recipe.locate(validation.path), split or validation.split or ""
    if data is None:
        hints = _with_batch(types, hints, request.batch)
    limit = SAMPLES * request.batch
    samples = choose_samples(engines, types, hints, data=data, split=split, limit=limit)
    feeds = [batch.feeds for batch in samples.batches(request.batch)]
    if samples.seeded:
        # They take sizes in turn, to try both; times of different sizes have no median.
        feeds = [run for run in feeds if _shapes(run) == _shapes(feeds[0])]
    return feeds[:SAMPLES], samples.origin


def _shapes(feeds: Feeds) -> list[object]:
    return [getattr(value, "shape", None) for value in feeds.values()]


def _with_batch(types: Mapping[str, Type], hints: InputHints, batch: int) -> InputHints:
    """The hints with dynamic dimensions that look like a batch at the size that is asked for."""
    named = name_dims(fix_shapes(types, hints.shapes))
    sizes = [choose_sizes(named, Sizes(batch=size)) for size in (1, 2)]
    batches = {symbol for symbol, size in sizes[0].items() if sizes[1][symbol] != size}
    shapes: dict[str, tuple[int | None, ...]] = {}
    for name, type_ in named.items():
        if isinstance(type_, TensorType) and type_.shape is not None:
            shapes[name] = tuple(
                batch if dim in batches else dim if isinstance(dim, int) else None
                for dim in type_.shape
            )
    return replace(hints, shapes=shapes)


def _batch(types: Mapping[str, Type], feeds: Feeds) -> int:
    """Samples in a run: the leading size of the first tensor that has dimensions."""
    shapes = (getattr(feeds.get(name), "shape", ()) for name in types)
    return next((int(shape[0]) for shape in shapes if shape), 1)


# ---- comparing the outputs ---------------------------------------------------------------------


def _difference(comparison: Comparison) -> Difference:
    """The output that is furthest from the first model's."""
    refused = next((o for o in comparison.outputs if not o.compared), None)
    if refused is not None:
        return Difference(None, refused.name, refused.reason)
    worst = max(comparison.outputs, key=_distance, default=None)
    if worst is None:
        return Difference(None, "", "there are no outputs")
    return Difference(_distance(worst), worst.name)


def _distance(output: OutputComparison) -> float:
    """Relative error; of integers and text, the share of elements that differ."""
    if output.relative:
        return output.relative
    return output.mismatched / output.elements if output.elements else 0.0
