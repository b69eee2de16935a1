"""Two models on the same inputs: how far apart their outputs are, and which layers make it so.

The reference and the other model may be of any form and on any runtime: the source model and what
was compiled from it, ONNX and OpenVINO IR, one file on two runtimes. Outputs are measured on the
models as they are. With layers, tensors of the inside become outputs, which forbids fusions across
them: what is measured then is the unfused computation of each side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.errors import GoalMissed
from optc.evidence.feeds import choose_samples, common_inputs
from optc.evidence.inside import open_inside
from optc.evidence.layers_report import LayerComparison, compare_layers
from optc.evidence.outputs import OutputDifference, compare_outputs
from optc.evidence.subject import find_subject
from optc.numerics.inputs import fill_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.evidence.expose import Inside
    from optc.evidence.subject import Subject
    from optc.pipeline import Progress

__all__ = ["ModelComparison", "compare"]


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        model: path as it was given.
        runtime: what executed it.
        target: CPU target of an artefact; empty for a model file.
        note: what was run in its place, or in what precision, where this machine has no bf16.
    """

    model: str
    runtime: str
    target: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "model": self.model,
            "runtime": self.runtime,
            "target": self.target or None,
            "note": self.note or None,
        }


@dataclass(frozen=True)
class ModelComparison:
    """How far a model is from a reference.

    Attributes:
        a: the reference.
        b: the other model.
        data: what they were run on, in words.
        samples: how many samples.
        seeded: whether the inputs were made up.
        outputs: each output of A, then what only B has.
        layers: the tensors inside; None when they were not asked for.
    """

    a: Side
    b: Side
    data: str
    samples: int
    seeded: bool
    outputs: tuple[OutputDifference, ...]
    layers: LayerComparison | None = None

    @property
    def min_sqnr(self) -> float:
        """The SQNR of the worst output in dB; minus infinity when one cannot be compared.

        Infinite when nothing differs, and without floating-point outputs: integer outputs have no
        SQNR.
        """
        return min(map(_sqnr, self.outputs), default=math.inf)

    def missed(self, min_sqnr: float) -> GoalMissed | None:
        """The error for a model with an output below this SQNR in dB; None when there is none."""
        if self.min_sqnr >= min_sqnr:
            return None
        worst = min(self.outputs, key=_sqnr)
        found = f"SQNR {worst.sqnr:.1f} dB" if worst.compared else worst.problem
        return GoalMissed(
            "sqnr-below",
            f"output {worst.name}: {found}; at least {min_sqnr:g} dB are asked for",
            location=self.b.model,
            hint=None if self.layers else "--layers shows which layer makes the error",
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "data": self.data,
            "samples": self.samples,
            "seeded": self.seeded,
            "outputs": [output.to_dict() for output in self.outputs],
            "layers": None if self.layers is None else self.layers.to_dict(),
        }


def _sqnr(output: OutputDifference) -> float:
    if not output.compared:
        return -math.inf
    return math.inf if output.is_exact else output.sqnr


def compare(
    a: str | Path,
    b: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "",
    samples: int | None = None,
    fill: Mapping[str, float] | None = None,
    layers: bool = False,
    runtime_a: str | None = None,
    runtime_b: str | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> ModelComparison:
    """Run two models on the same inputs and measure how far B is from A.

    Args:
        a: the reference: an ONNX file, the ``.xml`` of an OpenVINO IR, or ``OUT/<target>``.
        b: the other model, likewise.
        data: an ``.npz`` or ``.npy`` file or a folder (`optc.numerics.data`); None: seeded inputs.
        split: split of the data.
        samples: use the first so many samples; None for all, or four seeded ones.
        fill: numbers for inputs that the data lacks, by input.
        layers: measure the tensors inside, too.
        runtime_a: runtime of A; None as `find_subject` chooses.
        runtime_b: runtime of B.
        threads: threads of both runtimes.
        progress: told before each batch or group of layers.

    Raises:
        ModelError: a model is missing or does not run; ``inputs-differ``.
        DataError: the data does not fit.
        CapabilityError: a runtime is not installed or does not read the model.
        TargetError: ``runtime-unknown``.
    """
    one = find_subject(a, runtime=runtime_a, threads=threads)
    two = find_subject(b, runtime=runtime_b, threads=threads)
    model_a, model_b = open_inside(one), open_inside(two)
    taps = model_a.open(), model_b.open()
    types = common_inputs(model_a.inputs(taps[0]), model_b.inputs(taps[1]), two.label)
    hints = replace(fill_hints(fill or {}, types), limits={**model_b.limits(), **model_a.limits()})
    place = None if data is None else Path(data)
    chosen = choose_samples(taps, types, hints, data=place, split=split, limit=samples)
    batch = max(one.options.batch, two.options.batch)
    ports = model_a.outputs, model_b.outputs
    outputs = compare_outputs(ports, taps, chosen, batch, progress)
    del taps  # their memory goes before models with more outputs are opened
    found = None
    if layers:
        same = (model_a.runtime, one.is_ir) == (model_b.runtime, two.is_ir)
        found = compare_layers(
            model_a, model_b, chosen, batch=batch, same_runtime=same, progress=progress
        )
    sides = _side(one, model_a), _side(two, model_b)
    return ModelComparison(*sides, chosen.origin, chosen.count, chosen.seeded, outputs, found)


def _side(subject: Subject, model: Inside) -> Side:
    return Side(subject.label, model.runtime, subject.options.target, model.note)
