"""Differences of the outputs of two models, over all samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optc.evidence.tensor_error import TOP, OutputError
from optc.numerics.comparison import json_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.evidence.expose import Tap
    from optc.evidence.feeds import Samples
    from optc.evidence.layers import Port
    from optc.numerics.values import Array, Value
    from optc.pipeline import Progress


@dataclass(frozen=True)
class OutputDifference:
    """How far an output of B is from that of A, over all samples.

    Attributes:
        name: the output; with ``[i]`` for an element of a sequence or map.
        dtype: element type in A.
        shape: shape in A of the first sample.
        elements: number of elements compared.
        problem: what besides the numbers is different, in words; empty when nothing is.
        compared: whether the elements of all samples could be compared in spite of that.
        is_exact: whether elements are integers, bools or strings, which are equal or not.
        cosine: cosine similarity.
        sqnr: signal-to-noise ratio in dB.
        max_abs_error: largest absolute difference.
        relative: rms(error) / rms(A).
        unequal: share of elements that are not equal.
        top1: share of positions with the same best class; None where there are no classes.
        top5: share of positions where A's best class is among B's five best; None for five classes
            or less.
    """

    name: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    problem: str = ""
    compared: bool = True
    is_exact: bool = False
    cosine: float = 1.0
    sqnr: float = math.inf
    max_abs_error: float = 0.0
    relative: float = 0.0
    unequal: float = 0.0
    top1: float | None = None
    top5: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; infinities and NaN are strings, figures that do not apply are null."""
        floats = ("cosine", "sqnr", "max_abs_error", "relative")
        apply = self.compared and not self.is_exact
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "elements": self.elements,
            "problem": self.problem,
            "compared": self.compared,
            **{key: json_number(getattr(self, key)) if apply else None for key in floats},
            "unequal": self.unequal if self.compared else None,
            "top1": self.top1,
            "top5": self.top5,
        }


def compare_outputs(
    ports: tuple[Sequence[Port], Sequence[Port]],
    taps: tuple[Tap, Tap],
    samples: Samples,
    batch: int,
    progress: Progress | None = None,
) -> tuple[OutputDifference, ...]:
    """Run two models and compare what they have in common of their outputs.

    Args:
        ports: outputs of both.
        taps: both models, open; results go by the keys of the ports.
        samples: what they are run on.
        batch: samples per run where models and data leave the choice.
        progress: told before each batch.
    """
    pairs = _pair_outputs(*ports)
    # Of each output the tensors: itself, or the elements of a sequence or map.
    errors: dict[str, dict[str, OutputError]] = {name: {} for name, _, _ in pairs}
    for name, key_a, key_b in pairs:
        if key_a is None or key_b is None:
            problem = "the reference has no such output" if key_a is None else "it is missing in B"
            errors[name].setdefault(name, OutputError()).reject(problem)
    for part in samples.batches(batch):
        if progress is not None:
            progress("outputs", part.start, samples.count)
        found_a, found_b = (part.trim(tap.run(part.feeds)) for tap in taps)
        for name, key_a, key_b in pairs:
            if key_a is not None and key_b is not None:
                _add(errors[name], name, found_a[key_a], found_b[key_b])
    return tuple(
        _difference(name, error) for parts in errors.values() for name, error in parts.items()
    )


def _pair_outputs(a: Sequence[Port], b: Sequence[Port]) -> list[tuple[str, str | None, str | None]]:
    """Name and keys of the outputs; those of an IR may have several names."""
    pairs: list[tuple[str, str | None, str | None]] = []
    taken: set[str] = set()
    for port in a:
        other = next((o for o in b if o.names & port.names and o.key not in taken), None)
        if other is not None:
            taken.add(other.key)
        pairs.append((port.key, port.key, None if other is None else other.key))
    return pairs + [(port.key, None, port.key) for port in b if port.key not in taken]


def _add(errors: dict[str, OutputError], name: str, a: Value, b: Value) -> None:
    """Add a sample of an output; of sequences and maps, each element is a tensor of its own."""
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            problem = f"a sequence of {len(a)} became one of {len(b)}"
            errors.setdefault(name, OutputError()).reject(problem)
        for index, (own, other) in enumerate(zip(a, b, strict=False)):
            _add(errors, f"{name}[{index}]", own, other)
    elif isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            errors.setdefault(name, OutputError()).reject("the map has other keys")
        for key in (key for key in a if key in b):
            _add(errors, f"{name}[{key!r}]", a[key], b[key])
    else:
        error = errors.setdefault(name, OutputError())
        own, other = _tensor(a), _tensor(b)
        if own is not None and other is not None:
            error.update(own, other)
        elif a is not b:
            error.reject("it is a tensor in one model only")


def _tensor(value: Value) -> Array | None:
    return None if value is None or isinstance(value, list | dict) else np.asarray(value)


def _difference(name: str, error: OutputError) -> OutputDifference:
    stats = error.stats
    return OutputDifference(
        name=name,
        dtype=error.dtype,
        shape=error.shape,
        elements=stats.count,
        problem=error.problem,
        compared=error.compared,
        is_exact=error.exact,
        cosine=stats.cosine,
        sqnr=stats.sqnr,
        max_abs_error=stats.max_abs_error,
        relative=error.relative,
        unequal=error.unequal,
        top1=error.agreement(1),
        top5=error.agreement(TOP),
    )
