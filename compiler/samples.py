"""The inputs that a result is judged on: data of the recipe, or seeded ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optc.frontend.onnx import read_tensor
from optc.numerics.data import open_dataset
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import InputHints, synthetic_inputs, workable_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optc.ir import Graph
    from optc.ir.types import Type
    from optc.numerics.batches import Batch, Dataset
    from optc.numerics.evaluate import Session
    from optc.numerics.values import Feeds
    from optc.recipe import Recipe
    from optc.recipe.sections import CalibrationData, ValidationData

_BATCH: Final = 16  # samples per run: few enough for large outputs, enough to keep the cores busy


class Samples:
    """Inputs of a model, as a recipe has them.

    Attributes:
        feeds: what outputs are compared on.
        origin: what they are, in words.
        count: how many samples they are.
    """

    def __init__(
        self,
        recipe: Recipe,
        types: Mapping[str, Type],
        limits: Mapping[str, int],
        session: Session,
        tell: Callable[[str, int, int], None],
        *,
        calibrated: bool = False,
    ) -> None:
        """Choose and read the inputs that are compared.

        Args:
            recipe: says which.
            types: of the inputs, by name.
            limits: for integer inputs, one more than the greatest valid index.
            session: the source model, to find sizes that it takes.
            tell: told what is read: activity, samples done, samples in all.
            calibrated: take the calibration data where there is no validation data: ranges that
                were chosen on data say nothing about seeded inputs.

        Raises:
            DataError: the data does not fit the model.
        """
        self._recipe, self._types, self._limits = recipe, types, limits
        self._tell = tell
        wanted = recipe.verify.samples
        data = recipe.data.validation or (recipe.data.calibration if calibrated else None)
        if data is None:
            self.origin = f"seeded inputs (seed {recipe.verify.seed})"
            self.feeds = self._seeded(wanted, session)
            self.count = len(self.feeds)
            return
        split = f"split {data.split} of " if data.split else ""
        self.origin = f"{split}{Path(data.path).name}"
        batches = list(self._read(data, min(wanted, data.samples or wanted)))
        self.count = sum(batch.count for batch in batches)
        self.feeds = [batch.feeds for batch in batches]

    def validation(self) -> Iterator[Batch] | None:
        """All validation data in batches; None when the recipe has none."""
        data = self._recipe.data.validation
        return None if data is None else self._read(data, data.samples)

    def _seeded(self, samples: int, session: Session) -> list[Feeds]:
        """Made-up inputs; where the recipe bounds dimensions, as many at the other bound."""
        seed = self._recipe.verify.seed
        feeds: list[Feeds] = []
        ends = [input_hints(self._recipe, self._limits, largest=last) for last in (False, True)]
        for hints in ends if ends[0] != ends[1] else ends[:1]:
            sizes = workable_sizes(session, self._types, hints=hints, seed=seed)
            feeds += synthetic_inputs(
                self._types, seed=seed, samples=samples, hints=hints, sizes=sizes
            )
        return feeds

    def _read(self, data: CalibrationData | ValidationData, limit: int | None) -> Iterator[Batch]:
        dataset = _opened(self._recipe, data, self._types, self._limits, limit)
        for batch in dataset.batches(_BATCH):
            self._tell("accuracy", batch.start, dataset.samples)
            yield batch


def check_validation(recipe: Recipe, graph: Graph) -> None:
    """Refuse validation data that is not there or does not fit, before any work.

    What a package loads is not asked for: that may be work itself.

    Args:
        recipe: the recipe.
        graph: the source model.

    Raises:
        DataError: the data does not fit the model.
    """
    data = recipe.data.validation
    if data is not None and data.source is None:
        _opened(recipe, data, required_inputs(graph), index_limits(graph), data.samples)


def _opened(
    recipe: Recipe,
    data: CalibrationData | ValidationData,
    types: Mapping[str, Type],
    limits: Mapping[str, int],
    limit: int | None,
) -> Dataset:
    return open_dataset(
        recipe.locate(data.path),
        types,
        split=data.split or "",
        labels=getattr(data, "labels", None) or "",
        limit=limit,
        hints=data_hints(recipe, limits),
        read_value=read_tensor,
        source=data.source,
    )


def input_hints(recipe: Recipe, limits: Mapping[str, int], *, largest: bool = False) -> InputHints:
    """What a recipe says about inputs.

    Args:
        recipe: the recipe.
        limits: for integer inputs, one more than the greatest valid index.
        largest: take bounded dimensions at their upper bound, not the lower one.
    """
    inputs = recipe.inputs.items()
    shapes = {n: spec.largest if largest else spec.smallest for n, spec in inputs}
    return InputHints(
        shapes={name: shape for name, shape in shapes.items() if shape},
        ranges={name: spec.range for name, spec in inputs if spec.range},
        limits=limits,
    )


def data_hints(recipe: Recipe, limits: Mapping[str, int]) -> InputHints:
    """What a recipe says about inputs that data is read for: bounded dimensions are of any size.

    An input with a range may have to be filled in, and keeps its lower bound for that.

    Args:
        recipe: the recipe.
        limits: for integer inputs, one more than the greatest valid index.
    """
    hints = input_hints(recipe, limits)
    shapes = {n: s.dims for n, s in recipe.inputs.items() if s.dims and s.range is None}
    return replace(hints, shapes={**hints.shapes, **shapes})
