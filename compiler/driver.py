"""One compile, from a recipe to an output folder; and its parts: prepare, plan, run passes."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optc.emit.before import Before
from optc.emit.folder import MANIFEST, file_digest, replacing, write_json, write_manifest
from optc.emit.report import build_report, node_rows, obstacles, op_counts, precision_counts
from optc.emit.statistics import constant_bytes
from optc.emitter import Emitter
from optc.groups import (
    context_of,
    data_files,
    external_files,
    prediction_sizes,
    read_source,
    run_groups,
)
from optc.ir import clone
from optc.ir.text import print_graph
from optc.launch import Emitted, render_launch
from optc.launch.needs import used_precisions
from optc.page import PAGE, REPORT, page_of
from optc.passes.base import PassContext
from optc.pipeline import run_pipeline
from optc.prepare import Prepared, TargetPlan, lowering_steps, planned_step, prepare
from optc.recipe import resolve_pipeline
from optc.results import Artifact, CompileResult, Outlook, Plan, fates
from optc.rewrite.decisions import Decisions
from optc.rewrite.near_misses import near_misses
from optc.saturating import saturates_without_vnni
from optc.targets import load_runtime, load_target
from optc.warnings import compile_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.emitter import Form
    from optc.errors import GoalMissed
    from optc.ir import Graph
    from optc.pipeline import PassRun, Progress
    from optc.recipe import Recipe
    from optc.rewrite.trace import StepRecord
    from optc.verdict import Verification

__all__ = [
    "Artifact",
    "CompileResult",
    "Plan",
    "Prepared",
    "TargetPlan",
    "compile",
    "plan",
    "prepare",
    "run_passes",
]

GRAPH_TEXT = "graph.txt"
_EXECUTABLE = 0o755


def run_passes(
    graph: Graph,
    pipeline: str | Sequence[object] | None = None,
    *,
    target: str = "cascadelake",
    runtime: str = "onnxruntime",
    lower: bool = True,
    dump_dir: Path | None = None,
    progress: Progress | None = None,
) -> PassRun:
    """Run a pipeline over a copy of a graph, and write the result in the forms of the runtime.

    Args:
        graph: the graph; it stays as it is.
        pipeline: what a recipe's `pipeline` accepts: a preset's name, or a list of steps; None for
            the default preset.
        target: CPU target.
        runtime: runtime that will execute the model.
        lower: whether operators get the forms that the runtime computes fastest, or those that
            every runtime has.
        dump_dir: where to write the canonical text after each pass.
        progress: told before each pass.

    Raises:
        RecipeError: the pipeline does not validate.
        CapabilityError: a step needs what target or runtime do not have.
    """
    cpu, engine = load_target(target), load_runtime(runtime)
    steps = [planned_step(step, cpu, engine) for step in resolve_pipeline(pipeline)]
    steps.extend(lowering_steps(engine if lower else None, domains=engine.domains))
    context = PassContext(cpu.id, engine.id, cpu=cpu)
    return run_pipeline(lambda: clone(graph), steps, context, dump_dir=dump_dir, progress=progress)


def plan(
    recipe: Recipe | str | Path | Mapping[str, object] | Prepared,
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Plan:
    """What each pass would do for each target, and why it leaves things alone. Writes nothing.

    Raises:
        OptcError: as `compile` does, but for output and verification.
    """
    if isinstance(recipe, Prepared):
        prepared = recipe
    else:
        prepared = prepare(recipe, targets=targets, overrides=overrides)
    loaded = prepared.recipe
    emitter = Emitter(loaded)
    steps: dict[str, tuple[StepRecord, ...]] = {}
    outlooks: dict[str, Outlook] = {}
    labels: tuple[str, ...] = ()
    sizes: dict[str, int] = {}

    def source() -> Graph:
        nonlocal labels
        graph = read_source(loaded)
        labels = tuple(node.label for inner in graph.walk() for node in inner.nodes())
        sizes.update(prediction_sizes(loaded, graph))
        return graph

    for group, run in run_groups(prepared, source, sizes, None, progress):
        form = emitter.form(run.graph, _decided(group[0], run))
        misses, became = near_misses(run.steps, run.graph), fates(labels, run.graph)
        for index, item in enumerate(group):
            emitter.check_form(form, item.target, item.runtime)
            steps[item.target.id] = run.steps_for(index)
            outlooks[item.target.id] = Outlook(
                misses, run.seconds[index], became, sizes, run.unknown
            )
    order = [item.target.id for item in prepared.plans]
    return Plan(
        loaded.name,
        loaded.runtime,
        {name: steps[name] for name in order},
        {name: outlooks[name] for name in order},
    )


def compile(
    recipe: Recipe | str | Path | Mapping[str, object],
    *,
    targets: Sequence[str] | None = None,
    output: str | Path | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    overrides: Sequence[str] = (),
    dump_dir: Path | None = None,
) -> CompileResult:
    """Compile a recipe.

    Args:
        recipe: a recipe, a path to one, or its content as a mapping.
        targets: compile for these instead of the recipe's.
        output: output folder instead of the recipe's.
        verify: compare the result with the source model; accuracy goals are part of that.
        progress: callback for long work.
        overrides: ``path=value`` settings on top of the recipe.
        dump_dir: where to write the canonical text after each pass.

    Returns:
        What was built. `missed` is set when a goal was missed and the recipe keeps the result.

    Raises:
        OptcError: recipe, model, data, target or output is wrong; the old output stays as it was.
        GoalMissed: verification failed, or a goal was missed and the recipe does not keep the
            result; the old output stays as it was.
    """
    prepared = prepare(recipe, targets=targets, overrides=overrides)
    out = Path(output) if output is not None else prepared.recipe.output_path
    job = _Compile(prepared, verify and prepared.recipe.verify.enabled, progress)
    with job.clock("total"), replacing(out) as folder:
        runs = run_groups(prepared, job.source, job.sizes, dump_dir, progress, job.before.observe)
        for group, run in runs:
            job.emit(group, run, folder)
        job.write_pages(folder)
        manifest = job.manifest()
        write_manifest(folder, manifest)
        missed = job.missed
        if missed is not None and not job.keep:
            raise missed
    return job.result(out)


class _Compile:
    """The state of one compile while its targets are built."""

    def __init__(self, prepared: Prepared, verify: bool, progress: Progress | None) -> None:
        self.recipe = prepared.recipe
        self.emitter = Emitter(prepared.recipe)
        self.verify = verify
        self.progress = progress
        self.artifacts: dict[str, Artifact] = {}
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.source_ops: dict[str, int] = {}
        self.before = Before()
        self.reports: dict[str, dict[str, object]] = {}
        self.source_bytes = 0
        self.files: list[Path] = []
        self.sizes: dict[str, int] = {}

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the wall time of the block to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def source(self) -> Graph:
        """The source model, read anew, with the recipe's input shapes."""
        graph = read_source(self.recipe)
        if not self.source_ops:
            self.source_ops = op_counts(graph)
            self.before.read(graph)
            self.source_bytes = constant_bytes(graph)
            self.sizes.update(prediction_sizes(self.recipe, graph))
            self.files = [self.recipe.model_path, *external_files(graph)]
        return graph

    def emit(self, group: Sequence[TargetPlan], run: PassRun, folder: Path) -> None:
        """Write everything of a group of targets that share their graph; verify it once."""
        form = self.emitter.form(run.graph, _decided(group[0], run))
        for item in group:
            self.emitter.check_form(form, item.target, item.runtime)
        text = print_graph(form.graph)
        for item in group:
            place = folder / item.target.id
            (place / "launch").mkdir(parents=True)
            with self.clock("emit"):
                files = self._write_model(form, item, place)
            (place / GRAPH_TEXT).write_text(text, encoding="utf-8")
            self._write_launch(item, form, place, files)
        verification = self._verify(group[0], form, folder) if self.verify else None
        for index, item in enumerate(group):
            steps = run.steps_for(index)
            place, seconds = folder / item.target.id, run.seconds[index]
            self._write_report(item, form, steps, seconds, verification, place)

    def _write_model(self, form: Form, item: TargetPlan, place: Path) -> list[Path]:
        versions = self.emitter.versions()
        metadata = {f"optc.version.{name}": text for name, text in versions.items()}
        metadata["optc.recipe"] = self.recipe.digest
        metadata["optc.target"] = item.context.target  # one file where one serves several targets
        metadata["optc.runtime"] = item.runtime.id
        return self.emitter.save(form, place, metadata)

    def _write_launch(
        self, item: TargetPlan, form: Form, place: Path, model: Sequence[Path]
    ) -> None:
        lowered = form.lowered_on(item.target, item.runtime)
        emitted = Emitted(
            name=self.recipe.name,
            model_file=self.emitter.model_file,
            model_bytes=sum(file.stat().st_size for file in model),
            precisions=used_precisions(precision_counts(form.graph, lowered)),
            ops=frozenset(op_counts(form.graph)),
            saturates=saturates_without_vnni(form.graph, item.runtime.id),
        )
        settings = self.recipe.launch.settings
        if lowered:
            settings = replace(settings, precision="bf16", planned=True)
        files = render_launch(item.target, item.runtime, emitted, settings)
        for name, content in files.items():
            path = place / "launch" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            if name.endswith(".sh"):
                path.chmod(_EXECUTABLE)

    def _verify(self, item: TargetPlan, form: Form, folder: Path) -> Verification:
        from optc.verification import verify_artifact  # with all that reads data and compares

        with self.clock("verify"):
            return verify_artifact(
                self.emitter,
                self.source,
                form,
                folder / item.target.id / self.emitter.model_file,
                item.steps,
                context_of(self.recipe, item, self.progress),
                self.progress,
            )

    def _write_report(
        self,
        item: TargetPlan,
        form: Form,
        steps: tuple[StepRecord, ...],
        seconds: float,
        verification: Verification | None,
        place: Path,
    ) -> None:
        hint, decisions = self.recipe.launch.precision, Decisions(steps)
        graph, lowered = form.graph, form.lowered_on(item.target, item.runtime)
        noise = verification.layers if verification else None
        rows = node_rows(graph, item.target, item.runtime, hint, decisions, lowered, noise)
        warnings = compile_warnings(self.emitter, form, item, steps, verification)
        warnings += obstacles(rows, item.runtime)
        notes = verification.notes if verification else ()
        self.warnings += [text for text in (*warnings, *notes) if text not in self.warnings]
        report = build_report(
            name=self.recipe.name,
            asked=self.recipe.asked(),
            target=item.target,
            runtime=item.runtime,
            source_ops=self.source_ops,
            source=self.before.told,
            source_bytes=self.source_bytes,
            graph=graph,
            steps=steps,
            outlook=(seconds, self.sizes),
            verification=verification.contract() if verification else {"verified": False},
            warnings=warnings,
            nodes=rows,
            lowered=lowered,
        )
        write_json(place / REPORT, report)
        self.reports[item.target.id] = report
        self.artifacts[item.target.id] = Artifact.at(
            place,
            self.emitter.model_file,
            steps,
            verification,
            precision_counts(graph, lowered),
        )

    def write_pages(self, folder: Path) -> None:
        """Write report.html of every target."""
        for name in self.reports:
            with self.clock("page"):
                (folder / name / PAGE).write_bytes(page_of(folder / name, self.reports).encode())

    @property
    def missed(self) -> GoalMissed | None:
        """The first goal that was missed."""
        found = (a.verification.missed for a in self.artifacts.values() if a.verification)
        return next((missed for missed in found if missed is not None), None)

    @property
    def keep(self) -> bool:
        """Whether the recipe keeps a result that misses its goals."""
        return all(a.verification.keep for a in self.artifacts.values() if a.verification)

    def manifest(self) -> dict[str, object]:
        """The content of manifest.json, but for the files."""
        return {
            "schema_version": 1,
            "name": self.recipe.name,
            "recipe": self.recipe.digest,
            "model": file_digest(self.recipe.model_path),
            "runtime": self.recipe.runtime,
            "targets": list(self.artifacts),
            "versions": dict(self.emitter.versions()),
        }

    def result(self, out: Path) -> CompileResult:
        """The result, with paths in the output folder."""
        moved = {name: artifact.moved(out / name) for name, artifact in self.artifacts.items()}
        return CompileResult(
            name=self.recipe.name,
            model=self.recipe.model_path,
            runtime=self.recipe.runtime,
            output=out,
            artifacts=moved,
            manifest=json.loads((out / MANIFEST).read_text(encoding="utf-8")),
            inputs=(
                *self.recipe.files,
                *self.files,
                *(data_files(self.recipe) if self.verify else ()),
            ),
            warnings=tuple(self.warnings),
            seconds=self.seconds,
            missed=self.missed,
        )


def _decided(item: TargetPlan, run: PassRun) -> PassContext:
    """What the passes of a target knew, with all that they decided."""
    return replace(item.context, decisions=Decisions(run.steps))
