"""What models are run on to be compared: data of the user's, or seeded inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from optc.errors import ModelError
from optc.frontend.onnx import read_tensor
from optc.ir.types import DType, TensorType
from optc.numerics.batches import Batch
from optc.numerics.data import open_dataset
from optc.numerics.inputs import synthetic_inputs, workable_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.ir.types import Dim, Shape, Type
    from optc.numerics.batches import Dataset
    from optc.numerics.inputs import InputHints
    from optc.numerics.noise import Runner
    from optc.numerics.values import Feeds, Value

SEED: Final = 0
_SEEDED: Final = 4  # samples without data, as many as verification takes
_ROUNDED: Final = {DType.F32, DType.BF16}  # whoever runs a model rounds what it is given


@dataclass(frozen=True)
class Samples:
    """Inputs for both models; can be read any number of times.

    Attributes:
        origin: where they come from, in words.
        count: how many.
        seeded: whether they are made up.
    """

    origin: str
    count: int
    source: Dataset | tuple[Feeds, ...]

    @property
    def seeded(self) -> bool:
        """Whether they are made up."""
        return isinstance(self.source, tuple)

    def batches(self, size: int) -> Iterator[Batch]:
        """The samples in order, up to `size` per run where models and data leave the choice."""
        if not isinstance(self.source, tuple):
            yield from self.source.batches(size)
            return
        for number, feeds in enumerate(self.source):
            yield Batch(number, 1, feeds, None, 1)


def common_inputs(a: Mapping[str, Type], b: Mapping[str, Type], where: str) -> dict[str, Type]:
    """The inputs of two models that take the same, with each dimension that one of them fixes.

    Args:
        a: inputs of the reference.
        b: inputs of the other model.
        where: what to call the other model in an error.

    Raises:
        ModelError: ``inputs-differ``.
    """
    problems = [f"{name} is missing" for name in a if name not in b]
    problems += [f"{name} is not expected" for name in b if name not in a]
    found: dict[str, Type] = {}
    for name in (name for name in a if name in b):
        merged = _merged(a[name], b[name])
        if merged is None:
            problems.append(f"{name} is {b[name]} instead of {a[name]}")
        else:
            found[name] = merged
    if problems:
        raise ModelError(
            "inputs-differ",
            f"the models take different inputs: {'; '.join(problems)}",
            location=where,
            hint="give two forms of one model: the same input names, element types and ranks, and "
            "sizes that do not contradict each other",
        )
    return found


def _merged(a: Type, b: Type) -> Type | None:
    """The type that both inputs take; None when there is none."""
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        return a if type(a) is type(b) else None
    known = [type_ for type_ in (a, b) if type_.dtype is not DType.UNDEFINED]
    dtypes = {type_.dtype for type_ in known}
    if len(dtypes) == 2 and dtypes != _ROUNDED:
        return None
    base = next((type_ for type_ in known if type_.dtype is DType.F32), known[0] if known else a)
    if a.shape is None or b.shape is None:
        return replace(base, shape=a.shape if b.shape is None else b.shape)
    shape = _merged_shape(a.shape, b.shape)
    return None if shape is None else replace(base, shape=shape)


def _merged_shape(a: Shape, b: Shape) -> Shape | None:
    if len(a) != len(b):
        return None
    found: list[Dim] = []
    for own, other in zip(a, b, strict=True):
        if isinstance(own, int) and isinstance(other, int) and own != other:
            return None
        found.append(other if isinstance(other, int) or own is None else own)
    return tuple(found)


def choose_samples(
    runners: Sequence[Runner],
    types: Mapping[str, Type],
    hints: InputHints,
    *,
    data: Path | None = None,
    split: str = "",
    limit: int | None = None,
) -> Samples:
    """The user's data, or else seeded inputs of sizes with which all models run.

    Args:
        runners: the models, the reference first.
        types: what all of them take.
        hints: what is known beside the types.
        data: see `optc.numerics.data`; None for seeded inputs.
        split: split of the data.
        limit: use the first so many samples only.

    Raises:
        DataError: the data does not fit, or the models run on no seeded input.
    """
    if data is not None:
        dataset = open_dataset(
            data, types, split=split, limit=limit, hints=hints, read_value=read_tensor
        )
        place = f"split {split} of {data.name}" if split else data.name
        return Samples(place, dataset.samples, dataset)
    sizes = workable_sizes(_All(runners), types, hints=hints, seed=SEED)
    feeds = synthetic_inputs(types, seed=SEED, samples=limit or _SEEDED, hints=hints, sizes=sizes)
    return Samples(f"seeded inputs (seed {SEED})", len(feeds), tuple(feeds))


class _All:
    """Runs several models on the same input, to find one that suits them all."""

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._runners = runners

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """The outputs of the last one."""
        found: Feeds = {}
        for runner in self._runners:
            found = runner.run(feeds)
        return found
