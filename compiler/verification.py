"""Source model against emitted model: outputs within tolerance, accuracy goals, the guilty pass.

The emitted file is loaded in its runtime, ONNX in onnxruntime and OpenVINO IR in OpenVINO, and
compared with the source model in onnxruntime, on the recipe's validation data or on seeded inputs.
An output that misses its derived bound is judged again with the rounding noise that the source
model itself shows (`optc.numerics.noise`). When it still differs, the first pass whose result
differs is found by bisecting the pipeline.

A CPU without VNNI saturates sums of int8 products where the target does not (`optc.launch.needs`).
There, graphs with int8 products are judged as they are written, in onnxruntime without its own
rewriting, which computes QuantizeLinear and DequantizeLinear one by one around fp32 products; the
emitted file is loaded all the same, and a warning says what was not seen.

Where the graph computes in bf16, its fp32 twin (`optc.numerics.twin`) is judged on every machine,
with the source model and by the accuracy goals, so that the verdict is the same everywhere. The
emitted file is held against the twin within the same bounds, in bf16 where OpenVINO computes in it
on this CPU; a note says in what it was.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optc.emit.onnx import save_model
from optc.errors import CapabilityError, GoalMissed, ModelError
from optc.frontend.onnx import read_tensor
from optc.numerics.batches import Batch
from optc.numerics.compare import Comparison, compare_outputs
from optc.numerics.data import open_dataset
from optc.numerics.evaluate import open_session
from optc.numerics.facts import index_limits, required_inputs
from optc.numerics.inputs import InputHints, synthetic_inputs, workable_sizes
from optc.numerics.metrics import find_metric
from optc.numerics.noise import measure_noise
from optc.numerics.roundings import derive_tolerances
from optc.numerics.traffic import precision
from optc.numerics.twin import computing
from optc.pipeline import closing_steps, graph_after
from optc.targets import host_capabilities
from optc.twins import open_emulation, open_twin, plain
from optc.verdict import GoalResult, Score, Verification, inconclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.emitter import Emitter, Form
    from optc.ir import Graph
    from optc.numerics.evaluate import Optimization, Session
    from optc.numerics.noise import Runner
    from optc.numerics.values import Feeds
    from optc.passes.base import PassContext
    from optc.pipeline import PlannedStep, Progress
    from optc.recipe import Recipe

_BATCH = 16  # samples per run: few enough for large outputs, enough to keep the cores busy


def verify_artifact(
    emitter: Emitter,
    source: Callable[[], Graph],
    result: Form,
    artifact: Path,
    steps: Sequence[PlannedStep],
    context: PassContext,
    progress: Progress | None = None,
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

    Raises:
        ModelError: the source model does not run in onnxruntime.
        DataError: the data does not fit the model.
        GoalMissed: the result does not load, or its outputs differ from the source's.
    """
    check = _Check(emitter, source, result, progress)
    try:
        session = check.open_result(artifact, result)
    except ModelError as error:
        guilty = check.bisect(steps, context)
        raise GoalMissed(
            "result-does-not-load",
            f"the result does not load, and the source model does: {error.message}",
            hint=f"this begins with {guilty}; leave that out, and report it",
        ) from error
    comparison = check.compare(session)
    if not comparison.passed:
        raise check.failure(comparison, check.bisect(steps, context))
    check.warnings += inconclusive(comparison, check.origin, bf16=result.stated is not None)
    check.compare_emulated(artifact, session)
    goals = check.measure(session)
    missed = next((result for result in goals if not result.met), None)
    return Verification(
        data=check.origin,
        samples=check.samples,
        comparison=comparison,
        scored=check.scored,
        goals=goals,
        missed=None if missed is None else missed.error,
        keep=all(r.met or r.goal.on_miss == "keep" for r in goals),
        warnings=tuple(check.warnings),
        notes=tuple(check.notes),
    )


class _Check:
    """The source model with the data that results are compared on."""

    def __init__(
        self,
        emitter: Emitter,
        source: Callable[[], Graph],
        result: Form,
        progress: Progress | None,
    ) -> None:
        self.emitter = emitter
        self.recipe = recipe = emitter.recipe
        self.source = source
        self.result = result
        self.progress = progress
        self.warnings: list[str] = []
        self.scored = 0
        graph, written = source(), result.stated or result.graph
        self.types = required_inputs(graph)
        self.limits = index_limits(graph)
        self.is_narrow = next(computing(graph), None) is not None
        own = {"rtol": recipe.verify.rtol, "atol": recipe.verify.atol}
        self.tolerances = {
            name: bound.with_bounds(**own)
            for name, bound in derive_tolerances(graph, written, stored=emitter.stored).items()
        }
        self.as_written = _saturates_here(written)
        self.optimize: Optimization = "none" if self.as_written else "all"
        self.notes: list[str] = []
        if self.as_written:
            self.notes.append(
                "this CPU has no VNNI, and int8 products saturate on it: source and result were "
                "compared as they are written, not as int8 kernels compute them; compile on a CPU "
                "with VNNI to verify those"
            )
        self.expected = self._open_source(self.optimize)
        self.feeds = self._choose_feeds()

    def _open_source(self, optimize: Optimization) -> Session:
        """The source model; its twin where it computes in bf16 itself."""
        try:
            if self.is_narrow:
                return open_twin(self.source(), optimize=optimize)
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

    def _choose_feeds(self) -> list[Feeds]:
        """The inputs that outputs are compared on; also sets `origin` and `samples`."""
        wanted = self.recipe.verify.samples
        validation = self.recipe.data.validation
        if validation is None:
            self.origin = f"seeded inputs (seed {self.recipe.verify.seed})"
            feeds = self._seeded(wanted)
            self.samples = len(feeds)
            return feeds
        split = f"split {validation.split} of " if validation.split else ""
        self.origin = f"{split}{Path(validation.path).name}"
        batches = list(self._batches(min(wanted, validation.samples or wanted)))
        self.samples = sum(batch.count for batch in batches)
        return [batch.feeds for batch in batches]

    def _seeded(self, samples: int) -> list[Feeds]:
        """Made-up inputs; where the recipe bounds dimensions, as many at the other bound."""
        seed = self.recipe.verify.seed
        feeds: list[Feeds] = []
        ends = [input_hints(self.recipe, self.limits, largest=largest) for largest in (False, True)]
        for hints in ends if ends[0] != ends[1] else ends[:1]:
            sizes = workable_sizes(self.expected, self.types, hints=hints, seed=seed)
            feeds += synthetic_inputs(
                self.types, seed=seed, samples=samples, hints=hints, sizes=sizes
            )
        return feeds

    def _batches(self, limit: int | None) -> Iterator[Batch]:
        validation = self.recipe.data.validation
        assert validation is not None
        dataset = open_dataset(
            self.recipe.locate(validation.path),
            self.types,
            split=validation.split or "",
            labels=validation.labels or "",
            limit=limit,
            hints=input_hints(self.recipe, self.limits),
            read_value=read_tensor,
        )
        for batch in dataset.batches(_BATCH):
            self._tell("accuracy", batch.start, dataset.samples)
            yield batch

    def _tell(self, activity: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(activity, done, total)

    def compare(self, session: Runner, reference: Runner | None = None) -> Comparison:
        """Compare a result on all inputs; within the derived bound, or within measured noise.

        Args:
            session: the result.
            reference: what is expected; None: the source model.
        """
        found = []
        reference = reference or self.expected
        for number, feeds in enumerate(self.feeds):
            self._tell("verify", number, len(self.feeds))
            expected, actual = reference.run(feeds), session.run(feeds)
            comparison = compare_outputs(expected, actual, self.tolerances)
            if not comparison.passed and self.recipe.verify.rtol is None:
                comparison = self._with_noise(feeds, expected, actual)
            found.append(comparison)
        return Comparison.merge(found)

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
        found = self.compare(emulated.runner, judged) if emulated.runner else None
        if found is not None and not found.passed:
            raise self.failure(found, "the emitter: the fp32 twin is right")

    @cached_property
    def _noise_runners(self) -> tuple[Session, list[Runner]]:
        """The source model without rewriting, and as each runtime rewrites it."""
        plain = self._open_source("none")
        native = self.emitter.open_source()
        return plain, [self.expected] if native is None else [self.expected, native]

    def _with_noise(self, feeds: Feeds, expected: Feeds, actual: Feeds) -> Comparison:
        plain, others = self._noise_runners
        noise = measure_noise(plain, others, feeds)
        bounds = {n: bound.widened(noise[n]) for n, bound in self.tolerances.items()}
        return compare_outputs(expected, actual, bounds)

    def bisect(self, steps: Sequence[PlannedStep], context: PassContext) -> str:
        """What makes the result not load or not compare: the first such pass, as a rule.

        Assumes that a difference stays once it is there, as bisecting does.
        """
        if not self._good((), 0, context):
            if any(spec.dims for spec in self.recipe.inputs.values()):
                return "the shapes that the recipe fixes under `inputs:`, before any pass"
            return "the emitter, before any pass"
        low, high = 0, len(steps)  # the first `low` steps are good, the first `high` are not
        if not self._good(steps, 0, context):
            high = 0
        while high - low > 1:
            middle = (low + high) // 2
            self._tell("bisect", len(steps) - (high - low), len(steps))
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
                return self.compare(self.open_result(model, form)).passed
            except (CapabilityError, ModelError):
                return False

    def failure(self, comparison: Comparison, guilty: str) -> GoalMissed:
        """The error for a result that differs."""
        worst = comparison.worst
        assert worst is not None
        return GoalMissed(
            "verification-failed",
            f"the result differs from the source model on {self.origin}, output {worst.name}: "
            f"{worst.reason}; the difference begins with {guilty}",
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
            actual = batch.trim(session.run(batch.feeds))
            for score in scores:
                score.update(expected, actual, batch)
            self.scored += batch.count
        return tuple(score.result(goal) for score, goal in zip(scores, goals, strict=True))

    def _scored_batches(self) -> Iterator[Batch]:
        validation = self.recipe.data.validation
        if validation is not None:
            yield from self._batches(validation.samples)
            return
        self.warnings.append(
            "accuracy goals were measured on seeded inputs: give data.validation for figures "
            "that say something about real use"
        )
        for number, feeds in enumerate(self.feeds):
            yield Batch(number, 1, feeds, None, 1)


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


def _saturates_here(graph: Graph) -> bool:
    """Whether int8 products of the graph would be computed wrongly on this CPU."""
    known = host_capabilities()
    if not known or "vnni" in known:
        return False
    return any(
        precision(nested, node) == "int8" for nested in graph.walk() for node in nested.nodes()
    )


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        yield Path(folder)
