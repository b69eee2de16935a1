"""One compile, from a recipe to an output folder; and passes alone over a graph."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optc.cache import Cache, open_cache
from optc.emit.folder import MANIFEST, file_digest, replacing, write_json, write_manifest
from optc.emit.report import build_report, node_rows, obstacles, op_counts, precision_counts
from optc.emit.statistics import constant_bytes, product_shares
from optc.emitter import Emitter
from optc.groups import (
    context_of,
    decided,
    describe_source,
    external_files,
    prediction_sizes,
    read_source,
    run_group,
    run_groups,
    target_digest,
    target_groups,
)
from optc.ir.text import print_graph
from optc.launch import Emitted, render_launch
from optc.launch.needs import used_precisions
from optc.page import PAGE, REPORT
from optc.planning import plan
from optc.prepare import Prepared, TargetPlan, prepare
from optc.reads import files_read
from optc.results import Artifact, CompileResult, Plan
from optc.rewrite.decisions import Decisions
from optc.running import run_passes
from optc.saturating import saturates_without_vnni
from optc.verified import find_verification, keep_verification, verification_key
from optc.warm import Request
from optc.warnings import compile_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.cache import Store
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


def compile(
    recipe: Recipe | str | Path | Mapping[str, object],
    *,
    targets: Sequence[str] | None = None,
    output: str | Path | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    overrides: Sequence[str] = (),
    dump_dir: Path | None = None,
    cache: Cache | str | Path | None = None,
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
        cache: what earlier compiles left, or the folder of that; None: all is done anew.

    Returns:
        What was built. `missed` is set when a goal was missed and the recipe keeps the result.

    Raises:
        OptcError: recipe, model, data, target or output is wrong; the old output stays as it was.
        GoalMissed: verification failed, or a goal was missed and the recipe does not keep the
            result; the old output stays as it was.
    """
    store = cache if isinstance(cache, Cache | None) else open_cache(cache)
    asked, since = None, time.time()
    if store is not None and dump_dir is None and isinstance(recipe, str | Path):
        asked = Request(Path(recipe), tuple(targets or ()), tuple(overrides), verify)
        found = asked.find(store, output if output is None else Path(output))
        if found is not None:
            return found
    prepared = prepare(recipe, targets=targets, overrides=overrides)
    out = Path(output) if output is not None else prepared.recipe.output_path
    job = _Compile(prepared, verify and prepared.recipe.verify.enabled, progress, store)
    with job.clock("total"), replacing(out) as folder:
        for group, run in run_groups(prepared, job.source, job.sizes, dump_dir, progress, store):
            job.emit(group, run, folder)
        job.write_pages(folder)
        manifest = job.manifest()
        write_manifest(folder, manifest)
        missed = job.missed
        if missed is not None and not job.keep:
            raise missed
    result = job.result(out, targets)
    if asked is not None and store is not None:
        asked.keep(store, result, prepared.recipe.output_path, since)
    return result


def make_group(
    prepared: Prepared,
    folder: Path,
    index: int,
    *,
    verify: bool,
    cache: Cache,
    progress: Progress | None = None,
) -> None:
    """Make and verify what belongs to one group of targets that share their passes.

    A later `compile` finds its graph and its verification in the cache.

    Args:
        prepared: the recipe and all its targets.
        folder: an empty folder to write into.
        index: number of the group, as of `optc.groups.target_groups`.
        verify: as for `compile`, as are `cache`, `progress` and what is raised.
        cache: where to keep what is made.
        progress: callback for long work.
    """
    job = _Compile(prepared, verify and prepared.recipe.verify.enabled, progress, cache)
    group = target_groups(prepared)[index]
    run = run_group(prepared, group, job.source, job.sizes, None, progress, cache)
    job.emit(group, run, folder)
    if job.missed is not None and not job.keep:
        raise job.missed


class _Compile:
    """The state of one compile while its targets are built."""

    def __init__(
        self, prepared: Prepared, verify: bool, progress: Progress | None, store: Store | None
    ) -> None:
        self.recipe = prepared.recipe
        self.store = store
        self.emitter = Emitter(prepared.recipe)
        self.verify = verify
        self.progress = progress
        self.artifacts: dict[str, Artifact] = {}
        self.seconds: dict[str, float] = {}
        self.warnings = list(prepared.warnings)
        self.source_ops: dict[str, int] = {}
        self.external: list[Path] = []
        self.told: dict[str, object] = {}
        self.reports: dict[str, dict[str, object]] = {}
        self.source_bytes = 0
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
            if self.verify:
                from optc.samples import check_validation  # with all that reads data

                check_validation(self.recipe, graph)
            self.source_ops = op_counts(graph)
            self.told = describe_source(graph)
            self.source_bytes = constant_bytes(graph)
            self.sizes.update(prediction_sizes(self.recipe, graph))
            self.external = external_files(graph)
        return graph

    def emit(self, group: Sequence[TargetPlan], run: PassRun, folder: Path) -> None:
        """Write everything of a group of targets that share their graph; verify it once."""
        form = self.emitter.form(run.graph, decided(group[0], run))
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
        verification = self._verification(group[0], run, form, folder) if self.verify else None
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

    def _verification(
        self, item: TargetPlan, run: PassRun, form: Form, folder: Path
    ) -> Verification:
        """The verification of a graph: an earlier one that nothing has changed since, or a new."""
        if self.store is None:
            return self._verify(item, run, form, folder)
        # What a target decides of the form in which bf16 is written is not in the graph.
        asked = "" if form.stated is None else target_digest(item)
        key = verification_key(self.recipe, run.key, asked)
        found = find_verification(self.store, key)
        if found is None:
            found = self._verify(item, run, form, folder)
            keep_verification(self.store, key, found)
        return found

    def _verify(self, item: TargetPlan, run: PassRun, form: Form, folder: Path) -> Verification:
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
                before=run.before,
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
            source=self.told,
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
        counts, shares = (
            precision_counts(graph, lowered),
            product_shares(graph, self.sizes, lowered),
        )
        file = self.emitter.model_file
        made = Artifact.at(place, file, steps, verification, counts, shares)
        self.artifacts[item.target.id] = made

    def write_pages(self, folder: Path) -> None:
        """Write report.html of every target."""
        from optc.page.render import page_of  # with all that renders

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

    def result(self, out: Path, targets: Sequence[str] | None) -> CompileResult:
        """The result, with paths in the output folder."""
        moved = {name: artifact.moved(out / name) for name, artifact in self.artifacts.items()}
        return CompileResult(
            name=self.recipe.name,
            model=self.recipe.model_path,
            runtime=self.recipe.runtime,
            output=out,
            artifacts=moved,
            manifest=json.loads((out / MANIFEST).read_text(encoding="utf-8")),
            inputs=files_read(self.recipe, targets, self.external),
            warnings=tuple(self.warnings),
            seconds=self.seconds,
            missed=self.missed,
        )
