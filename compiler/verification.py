"""Source model against emitted model: outputs within tolerance, accuracy goals, the guilty pass.

The emitted file is loaded in its runtime, ONNX in onnxruntime and OpenVINO IR in OpenVINO, and
compared with the source model in onnxruntime, on the recipe's validation data or on seeded inputs.
An output that misses its derived bound is judged again with the rounding noise that the source
model itself shows (`optc.source_noise`). When it still differs, the first pass whose result
differs is found by bisecting the pipeline.

A CPU without VNNI saturates sums of int8 products where the target does not (`optc.launch.needs`).
There, graphs with int8 products are judged as they are written, in onnxruntime without its own
rewriting, which computes QuantizeLinear and DequantizeLinear one by one around fp32 products; the
emitted file is loaded all the same, and a warning says what was not seen.

Where the graph computes in bf16, its fp32 twin (`optc.numerics.twin`) is judged on every machine,
with the source model and by the accuracy goals, so that the verdict is the same everywhere. The
emitted file is held against the twin within the same bounds where OpenVINO computes in bf16 on this
CPU, and against the source model where it computes in fp32; a note says in what it was.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optc.emit.onnx import save_model
from optc.errors import CapabilityError, GoalMissed, ModelError
from optc.numerics.batches import Batch
from optc.numerics.compare import compare_outputs
from optc.numerics.comparison import Comparison
from optc.numerics.evaluate import open_session
from optc.numerics.facts import index_limits, required_inputs, retyped_outputs
from optc.numerics.metrics import find_metric
from optc.numerics.quantization_noise import roundings
from optc.numerics.roundings import derive_tolerances
from optc.numerics.twin import computing
from optc.numerics.values import widened
from optc.passes import InferShapes
from optc.passes.base import PassContext
from optc.pipeline import closing_steps, graph_after
from optc.quantized import Judge, first_quantizing, open_written
from optc.samples import Samples
from optc.saturating import find_saturating
from optc.source_noise import SourceNoise
from optc.targets import host_capabilities
from optc.twins import open_emulation, open_twin, plain
from optc.verdict import GoalResult, Quantized, Score, Verification, inconclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.emitter import Emitter, Form
    from optc.ir import Graph
    from optc.numerics.evaluate import Optimization, Session
    from optc.numerics.noise import Runner
    from optc.numerics.tolerance import Tolerance
    from optc.pipeline import PlannedStep, Progress

_AS_WRITTEN: Final = (
    "this CPU has no VNNI, and sums of int8 products saturate on it: source and result were "
    "compared as they are written, not as int8 kernels compute them; compile on a CPU with VNNI to "
    "verify those"
)
_SIMULATED: Final = (
    "this CPU has no VNNI, and sums of int8 products saturate on it: the result was judged as it "
    "is written, and its kernels by a simulation that saturates as they do"
)


def verify_artifact(
    emitter: Emitter,
    source: Callable[[], Graph],
    result: Form,
    artifact: Path,
    steps: Sequence[PlannedStep],
    context: PassContext,
    progress: Progress | None = None,
    before: Graph | None = None,
) -> Verification:
    """Compare an emitted model with the source model, and measure the accuracy goals.

    Args:
        emitter: wrote it, and opens it; its recipe says on which data, how exact, which goals.
        source: makes the graph of the source model anew.
        result: the graph that was emitted, in its form.
        artifact: the emitted model.
        steps: the pipeline, to find the guilty pass.
        context: what the passes were told.
        progress: told before each batch.
        before: the graph before the first step that quantizes, where it was kept.

    Raises:
        ModelError: the source model does not run in onnxruntime.
        DataError: the data does not fit the model.
        GoalMissed: the result does not load, or its outputs differ from the source's.
    """
    cut = first_quantizing(steps, source(), result)
    check = _Check(emitter, source, result, steps, context, progress, quantizes=cut is not None)
    session = check.opened(artifact, steps, context)
    quantized = None
    if cut is None:
        comparison = check.compare_written(artifact, check.compare(session))
        if not comparison.passed:
            raise check.failure(comparison, check.bisect(steps, context))
        told = inconclusive(comparison, check.samples.origin, bf16=result.stated is not None)
        check.warnings += told
        check.compare_emulated(artifact, session)
    else:
        lossless = (*steps[:cut], *closing_steps(steps, cut))
        fp32 = plain(graph_after(source, steps, cut, context, known=before))
        comparison, quantized = check.judge(artifact, fp32, lossless, context)
    goals = check.measure(session)
    return Verification(
        data=check.samples.origin,
        samples=check.samples.count,
        comparison=comparison,
        scored=check.scored,
        goals=goals,
        missed=next((result.error for result in goals if not result.met), None),
        keep=all(r.met or r.goal.on_miss == "keep" for r in goals),
        warnings=tuple(check.warnings),
        notes=tuple(check.notes),
        quantized=quantized,
    )


class _Check:
    """The source model with the data that results are compared on."""

    def __init__(
        self,
        emitter: Emitter,
        source: Callable[[], Graph],
        result: Form,
        steps: Sequence[PlannedStep],
        context: PassContext,
        progress: Progress | None,
        *,
        quantizes: bool,
    ) -> None:
        self.emitter = emitter
        self.recipe = recipe = emitter.recipe
        self.source = source
        self.result = result
        self.progress = progress
        self.warnings: list[str] = []
        self.scored = 0
        # Without types of the values a model would not tell that it computes in bf16.
        self.typed = graph = source()
        InferShapes().apply(graph, PassContext())
        written = result.stated or result.graph
        self.is_narrow = next(computing(graph), None) is not None
        self.tolerances = self._bounds(written)
        # Kernels of the source model run in onnxruntime, whatever the recipe asks for.
        here = host_capabilities()
        self.saturating = find_saturating(result.in_fp32, emitter.engine_of(result), here)
        self.as_written = bool(self.saturating or find_saturating(graph, "onnxruntime", here))
        self.optimize: Optimization = "none" if self.as_written else "all"
        self.notes: list[str] = []
        if self.as_written:
            self.notes.append(_SIMULATED if quantizes else _AS_WRITTEN)
        self.expected = self._open_source(self.optimize)
        low = None if result.stated is None else context
        self.noise = SourceNoise(emitter, graph, self._open_source, self.expected, low)
        asked = any(step.run is not None and not step.run.keeps_interface for step in steps)
        self.retyped = retyped_outputs(graph, written) if asked else {}
        known = required_inputs(graph), index_limits(graph)
        self.samples = Samples(recipe, *known, self.expected, self._tell, calibrated=quantizes)
        self.feeds = self.samples.feeds

    def _bounds(self, result: Graph) -> dict[str, Tolerance]:
        """What the recipe or floating-point rounding allows between the source and a graph."""
        own = {"rtol": self.recipe.verify.rtol, "atol": self.recipe.verify.atol}
        derived = derive_tolerances(self.typed, result, stored=self.emitter.stored)
        return {name: bound.with_bounds(**own) for name, bound in derived.items()}

    def _open_source(self, optimize: Optimization) -> Session:
        """The source model; its twin where it computes in bf16 itself."""
        try:
            if self.is_narrow:
                return open_twin(self.typed, optimize=optimize)
            return open_session(self.recipe.model_path, threads=0, optimize=optimize)
        except ModelError as error:
            error.hint = "the source model cannot be verified here: pass --no-verify to skip that"
            error.location = str(self.recipe.model_path)
            raise

    def open_result(self, artifact: Path, form: Form) -> Runner:
        """The emitted model, ready to run; its graph or its twin where those must be judged.

        Raises:
            ModelError: the runtime rejects it.
        """
        if form.stated is not None:
            return open_twin(form.stated, optimize=self.optimize)
        session = self.emitter.open(artifact)
        if not self.as_written:
            return session
        with _temporary() as folder:
            save_model(plain(form.graph), folder / "model.onnx")
            return open_session(folder / "model.onnx", threads=0, optimize="none")

    def _tell(self, activity: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(activity, done, total)

    def compare(
        self,
        session: Runner,
        reference: Runner | None = None,
        bounds: Mapping[str, Tolerance] | None = None,
        *,
        tell: bool = True,
    ) -> Comparison:
        """Compare a result on all inputs; within the derived bound, or within measured noise.

        Args:
            session: the result.
            reference: what is expected; None: the source model.
            bounds: None: those of the result that is emitted.
            tell: whether this is progress of its own.
        """
        found = []
        reference, bounds = reference or self.expected, bounds or self.tolerances
        for number, feeds in enumerate(self.feeds):
            if tell:
                self._tell("verify", number, len(self.feeds))
            expected = widened(reference.run(feeds), self.retyped)
            actual = widened(session.run(feeds), self.retyped)
            comparison = compare_outputs(expected, actual, bounds)
            if not comparison.passed and self.recipe.verify.rtol is None:
                comparison = compare_outputs(expected, actual, self.noise.widen(feeds, bounds))
            found.append(comparison)
        return Comparison.merge(found)

    def compare_written(self, artifact: Path, found: Comparison) -> Comparison:
        """Judge a result whose source came quantized: integer kernels round in ways of their own.

        Returns:
            How the emitted model computes the graph as it is written; `found`, what the kernels of
            both gave, where that holds, nothing is quantized, or the graph as it is written is not
            what the source is.

        Raises:
            GoalMissed: the runtime computes something else than the graph as it is written.
        """
        if found.passed or not any(roundings(self.result.graph).values()):
            return found
        source = self._open_source("none")
        if not self.compare(open_written(self.result), source, tell=False).passed:
            return found
        judge = Judge(self.emitter, self.result, source, self.samples, self.saturating, given=True)
        return judge.compare_kernels(artifact, self.tolerances)

    def opened(self, artifact: Path, steps: Sequence[PlannedStep], context: PassContext) -> Runner:
        """The result that these steps have made.

        Raises:
            GoalMissed: it does not load.
        """
        try:
            return self.open_result(artifact, self.result)
        except ModelError as error:
            raise GoalMissed(
                "result-does-not-load",
                f"the result does not load, and the source model does: {error.message}",
                hint=f"it begins with {self.bisect(steps, context)}; leave that out, and report it",
            ) from error

    def judge(
        self, artifact: Path, before: Graph, steps: Sequence[PlannedStep], context: PassContext
    ) -> tuple[Comparison, Quantized]:
        """Judge a result that is quantized, of a graph that these lossless steps have made.

        Raises:
            GoalMissed: a pass before it is wrong, the runtime computes something else, or it is
                noisier than quantization explains and no goal says what is enough.
        """
        with _temporary() as folder:
            save_model(before, folder / "model.onnx")
            session = open_session(folder / "model.onnx", threads=0, optimize=self.optimize)
            comparison = self.compare(session, bounds=self._bounds(before))
        if not comparison.passed:
            raise self.failure(comparison, self.bisect(steps, context))
        judge = Judge(self.emitter, self.result, self.expected, self.samples, self.saturating)
        comparison = judge.compare_kernels(artifact, self.tolerances)
        quantized = judge.judge(before, context, as_written=self.as_written)
        self.notes += judge.notes
        return comparison, quantized

    def compare_emulated(self, artifact: Path, judged: Runner) -> None:
        """Hold an emitted model that computes in bf16 against its twin, which was judged.

        Raises:
            GoalMissed: it does not load, or differs.
        """
        if self.result.stated is None:
            return
        try:
            emulated = open_emulation(self.emitter, artifact, self.result)
        except ModelError as error:
            text = f"the result does not load, but its fp32 twin does: {error.message}"
            raise GoalMissed("result-does-not-load", text, hint="report it") from error
        self.notes += emulated.notes
        # What computes in fp32 here lacks the roundings of the twin, as the source model does.
        like = judged if emulated.rounds else self.expected
        found = self.compare(emulated.runner, like) if emulated.runner else None
        if found is not None and not found.passed:
            raise self.failure(found, "the emitter: the fp32 twin is right")

    def bisect(self, steps: Sequence[PlannedStep], context: PassContext) -> str:
        """What makes the result not load or not compare: the first such pass, as a rule.

        Assumes that a difference stays once it is there, as bisecting does.
        """
        if not self._good((), 0, context):
            if any(spec.dims for spec in self.recipe.inputs.values()):
                return "the shapes that the recipe fixes under `inputs:`, before any pass"
            return "the emitter, before any pass"
        low, high = 0, len(steps)  # the first `low` steps are good, the first `high` are not
        halvings = high.bit_length()
        if not self._good(steps, 0, context):
            high = 0
        while high - low > 1:
            middle = (low + high) // 2
            self._tell("bisect", halvings - (high - low).bit_length(), halvings)
            if self._good(steps, middle, context):
                low = middle
            else:
                high = middle
        number = self._guilty(steps, high, context)
        return f"pass {steps[number].name} (step {number + 1} of {len(steps)})"

    def _guilty(self, steps: Sequence[PlannedStep], bad: int, context: PassContext) -> int:
        """Which step it is when the first `bad` are the fewest whose result is wrong.

        That result went through the closing steps as well, so it may be one of them.
        """
        start = len(steps) - len(closing_steps(steps, bad))
        for end in range(start + 1, len(steps) + 1):
            part = (*steps[:bad], *steps[start:end])
            if not self._good(part, len(part), context):
                # Lowering what the last step raised shows what is wrong with that step.
                return bad - 1 if end == start + 1 and bad else end - 1
        return bad - 1

    def _good(self, steps: Sequence[PlannedStep], count: int, context: PassContext) -> bool:
        """Whether what would be emitted after so many steps computes what the source does."""
        graph = graph_after(self.source, steps, count, context)
        with _temporary() as folder:
            try:
                form = self.emitter.form(graph)
                model, *_ = self.emitter.save(form, folder)
                return self.compare(self.open_result(model, form), tell=False).passed
            except (CapabilityError, ModelError):
                return False

    def failure(self, comparison: Comparison, guilty: str) -> GoalMissed:
        """The error for a result that differs."""
        worst = comparison.worst
        assert worst is not None
        return GoalMissed(
            "verification-failed",
            f"the result differs from the source model on {self.samples.origin}, output "
            f"{worst.name}: {worst.reason}; the difference begins with {guilty}",
            hint="nothing was written; leave that out, and report it",
        )

    def measure(self, session: Runner) -> tuple[GoalResult, ...]:
        """The recipe's accuracy goals, on all validation data or on the seeded inputs."""
        goals = self.recipe.accuracy
        if not goals:
            return ()
        scores = [Score(find_metric(goal.metric)) for goal in goals]
        for batch in self._scored_batches():
            expected = batch.trim(self.expected.run(batch.feeds))
            actual = batch.trim(widened(session.run(batch.feeds), self.retyped))
            for score in scores:
                score.update(expected, actual, batch)
            self.scored += batch.count
        return tuple(score.result(goal) for score, goal in zip(scores, goals, strict=True))

    def _scored_batches(self) -> Iterator[Batch]:
        batches = self.samples.validation()
        if batches is not None:
            yield from batches
            return
        self.warnings.append(
            f"accuracy goals were measured on {self.samples.origin}: give data.validation for "
            "figures that say something about real use"
        )
        for number, feeds in enumerate(self.feeds):
            yield Batch(number, 1, feeds, None, 1)


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        yield Path(folder)
