"""Seeded inputs for models without data: valid values for every element type and role.

The same seed gives the same bytes on every machine (see `optc.numerics.draw`). What an input
means shows only in its type and its name:

    float       bell-shaped, mean 0, standard deviation 1, within ±6: normalized data
    "mask"      ones; from the second sample on, the last quarter of the last axis is zero
                (the other way round for a boolean padding mask, where true means padding)
    "length"    ones
    8-bit int   the whole range: images, quantized data
    other int   0 or 1, a valid index nearly everywhere; up to the limit that the caller knows
    bool        either;   string: short words, among them "" and non-ASCII
    sequence    two elements;   optional: absent in every third sample

Ranges and shapes that a recipe gives for an input replace all this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.errors import DataError, ModelError, did_you_mean
from optc.ir.types import DType, OptionalType, SequenceType, TensorType
from optc.numerics.draw import draw_bell, draw_range, draw_strings, integer_limits
from optc.numerics.sizes import (
    LADDER,
    SECOND,
    choose_sizes,
    concrete_shape,
    fix_shapes,
    name_dims,
    tensor_shapes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.types import Dim, Type
    from optc.numerics.noise import Runner
    from optc.numerics.values import Array, Feeds, Value

_LENGTHS: Final = ("length", "_len", "lens")
_VARIED: Final = 16  # symbols that `workable_sizes` varies one by one: each costs a run
_BYTES: Final = frozenset({DType.U8, DType.I8, DType.U4, DType.I4, DType.U2, DType.I2})


@dataclass(frozen=True)
class InputHints:
    """What is known about inputs beside their types.

    Attributes:
        shapes: dimensions that the recipe fixes, by input; see `fix_shapes`.
        ranges: least and greatest value, both included, by input.
        limits: for integer inputs, one more than the greatest valid index, by input.
    """

    shapes: Mapping[str, Sequence[Dim]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


NO_HINTS: Final = InputHints()


def fill_hints(numbers: Mapping[str, float], inputs: Mapping[str, Type]) -> InputHints:
    """Hints for inputs that have one number everywhere, such as states that start at zero.

    Args:
        numbers: the number, by input.
        inputs: types of the inputs of the model.

    Raises:
        DataError: ``unknown-input``.
    """
    for name, number in numbers.items():
        if name not in inputs:
            raise DataError(
                "unknown-input",
                f"the model has no input {name!r}; its inputs are {', '.join(inputs)}",
                location=f"--fill {name}={number:g}",
                hint=did_you_mean(name, inputs),
            )
    return InputHints(ranges={name: (number, number) for name, number in numbers.items()})


def synthetic_inputs(
    inputs: Mapping[str, Type],
    *,
    seed: int = 0,
    samples: int = 4,
    hints: InputHints = NO_HINTS,
    sizes: Sequence[Mapping[str, int]] = (),
) -> list[Feeds]:
    """Inputs for `samples` runs.

    Args:
        inputs: type of each input by name, from the graph (a session does not know scalars).
        seed: any number. Each input of each sample has its own stream of random numbers, so
            that adding an input changes no other.
        samples: how many.
        hints: shapes, ranges and limits.
        sizes: from `workable_sizes`: sizes of the dynamic dimensions, which the samples take in
            turn; default the first of the ladder.

    Raises:
        DataError: a hint contradicts the model, or an input has a type without synthetic values.
    """
    types = name_dims(fix_shapes(inputs, hints.shapes))
    chosen = sizes or (choose_sizes(types, LADDER[0]),)
    return [
        _sample(types, hints, seed, number, chosen[number % len(chosen)])
        for number in range(samples)
    ]


def workable_sizes(
    session: Runner, inputs: Mapping[str, Type], *, hints: InputHints = NO_HINTS, seed: int = 0
) -> tuple[dict[str, int], ...]:
    """One or two assignments of sizes to dynamic dimensions with which the model runs.

    Dynamic dimensions are rarely as free as their names say: heights are multiples of 32, a batch
    is frozen into a Reshape. The first assignment is the first entry of `LADDER` that runs; the
    second changes every dimension of it that turns out to be free, one after the other.

    Raises:
        DataError: ``no-workable-inputs``: the model runs with none; the message has the reason.
    """
    types = name_dims(fix_shapes(inputs, hints.shapes))
    reason = ""
    tried: list[dict[str, int]] = []
    for entry in LADDER:
        sizes = choose_sizes(types, entry)
        if sizes in tried:
            continue
        tried.append(sizes)
        failure = _try(session, _sample(types, hints, seed, 0, sizes))
        if failure is None:
            other = _vary(session, types, hints, seed, sizes)
            return (sizes, other) if other != sizes else (sizes,)
        reason = reason or failure
    raise DataError(
        "no-workable-inputs",
        f"the source model fails on synthetic inputs: {reason}",
        hint="give validation data, or shape and range of each input under `inputs:`",
    )


def _vary(
    session: Runner, types: Mapping[str, Type], hints: InputHints, seed: int, sizes: dict[str, int]
) -> dict[str, int]:
    """`sizes` with other sizes for as many symbols as the model accepts."""
    goal = choose_sizes(types, SECOND)
    if _try(session, _sample(types, hints, seed, 1, goal)) is None:
        return goal
    varied = dict(sizes)
    for symbol in list(sizes)[:_VARIED]:
        attempt = {**varied, symbol: goal[symbol]}
        if attempt != varied and _try(session, _sample(types, hints, seed, 1, attempt)) is None:
            varied = attempt
    return varied


def _try(session: Runner, feeds: Feeds) -> str | None:
    """None when the model runs, else why not."""
    try:
        session.run(feeds)
    except ModelError as error:
        return error.message
    return None


def fill_inputs(
    types: Mapping[str, Type], feeds: Feeds, hints: InputHints, *, stream: str, batch: int
) -> Feeds:
    """`feeds` and a value for every other input that has a range; absent optionals are None.

    Dynamic dimensions take their size from the feeds, as far as names are shared, else from
    `batch` and the first entry of the ladder.
    """
    named = name_dims(types)
    known: dict[str, int] = {}
    for name, value in feeds.items():
        if isinstance(value, np.ndarray):
            for shape in tensor_shapes(named[name]):
                pairs = zip(shape, value.shape, strict=False)  # a wrong rank is reported later
                known.update((dim, size) for dim, size in pairs if isinstance(dim, str))
    sizes = choose_sizes(named, replace(LADDER[0], batch=batch)) | known
    filled = dict(feeds)
    for name, type_ in named.items():
        if name in feeds:
            continue
        if name in hints.ranges:
            filled[name] = _Maker(name, f"{stream}/{name}", 0, hints, sizes).value(type_)
        elif isinstance(type_, OptionalType):
            filled[name] = None
    return filled


def _sample(
    types: Mapping[str, Type], hints: InputHints, seed: int, number: int, sizes: Mapping[str, int]
) -> Feeds:
    return {
        name: _Maker(name, f"{seed}/{number}/{name}", number, hints, sizes).value(type_)
        for name, type_ in types.items()
    }


@dataclass(frozen=True)
class _Maker:
    """Makes the value of one input in one sample; `stream` names its random numbers."""

    name: str
    stream: str
    number: int
    hints: InputHints
    sizes: Mapping[str, int]

    def value(self, type_: Type | None) -> Value:
        match type_:
            case TensorType(dtype=dtype, shape=shape) if dtype is not DType.UNDEFINED:
                return self._tensor(dtype, concrete_shape(shape or (), self.sizes))
            case SequenceType():
                parts = [replace(self, stream=f"{self.stream}/{index}") for index in range(2)]
                return [part.value(type_.element) for part in parts]
            case OptionalType():
                return None if self.number % 3 == 2 else self.value(type_.element)
        raise DataError(
            "no-synthetic-values",
            f"input {self.name!r} is of type {type_ or '?'}, which has no synthetic values",
            hint="give validation data",
        )

    def _tensor(self, dtype: DType, shape: tuple[int, ...]) -> Array:
        if (bounds := self.hints.ranges.get(self.name)) is not None:
            return self._in_range(dtype, shape, bounds)
        if dtype is DType.STRING:
            return draw_strings(self.stream, shape)
        if "mask" in self.name.lower() and dtype not in (DType.C64, DType.C128):
            return self._mask(dtype, shape)
        if dtype is DType.BOOL:
            return draw_range(self.stream, dtype, shape, 0, 1)
        if dtype.is_integer:
            return draw_range(self.stream, dtype, shape, *self._integer_bounds(dtype))
        return draw_bell(self.stream, dtype, shape)

    def _in_range(self, dtype: DType, shape: tuple[int, ...], bounds: tuple[float, float]) -> Array:
        try:
            return draw_range(self.stream, dtype, shape, *bounds)
        except ValueError as error:
            raise DataError(
                "range-invalid", f"the range of input {self.name!r} does not fit: {error}"
            ) from error

    def _mask(self, dtype: DType, shape: tuple[int, ...]) -> Array:
        mask = np.ones(shape, dtype=np.bool_)
        if self.number > 0 and shape:
            mask[..., shape[-1] - shape[-1] // 4 :] = False
        if dtype is DType.BOOL and "pad" in self.name.lower():
            mask = ~mask
        return mask.astype(dtype.numpy)

    def _integer_bounds(self, dtype: DType) -> tuple[int, int]:
        if (limit := self.hints.limits.get(self.name)) is not None:
            return 0, max(min(limit - 1, integer_limits(dtype)[1]), 0)
        if any(word in self.name.lower() for word in _LENGTHS):
            return 1, 1
        return integer_limits(dtype) if dtype in _BYTES else (0, 1)
