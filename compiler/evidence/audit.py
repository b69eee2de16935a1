"""What really runs: every operation with kernel, precision and instruction set, beside its plan.

The plan is that of report.json for an artefact, and follows from the graph and the kernel table
for a model file. A multiply-accumulate operation deviates when it runs in another precision, or on
another instruction set than the table names for the CPU; any other one when it runs in fewer bits
of floating point than planned. Elementwise operations inside a quantized region may run in int8.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.driver import run_passes
from optc.emit.onnx import save_model
from optc.emit.openvino import unique_labels
from optc.emit.owners import names_of
from optc.evidence import audit_onnxruntime, audit_openvino
from optc.evidence.audit_result import Audit, NodeFate, at_least
from optc.evidence.executed import with_fused, with_products
from optc.evidence.feeds import choose_samples
from optc.evidence.subject import find_subject
from optc.frontend.onnx import load_model
from optc.ir.ops import Trait, info
from optc.launch.topology import detect_topology
from optc.numerics.facts import index_limits
from optc.numerics.inputs import fill_hints
from optc.numerics.planned import PlannedNode, plan_node
from optc.page.stored import read_report
from optc.targets import detect_host, host_capabilities, load_runtime
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optc.evidence.executed import Execution, Kernel
    from optc.evidence.subject import Subject
    from optc.ir import Graph, Node
    from optc.numerics.values import Feeds
    from optc.targets import Precision
    from optc.targets.kernels import KernelTable

_BITS: Final = {"fp64": 64, "fp32": 32, "fp16": 16, "bf16": 16}
_HINTS: Final[dict[str, Precision]] = {"bf16": "bf16", "f16": "fp16", "f32": "fp32"}


@dataclass(frozen=True)
class _Planned:
    """The plan of one operation: its name, operator, and what is to become of it."""

    label: str
    op: str
    plan: PlannedNode


def audit(
    place: str | Path,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    split: str = "",
    fill: Mapping[str, float] | None = None,
    runs: int = 10,
) -> Audit:
    """Run a model once more with everything that its runtime can tell, and compare with the plan.

    Args:
        place: ``OUT/<target>``, an ONNX file, or the ``.xml`` file of an OpenVINO IR.
        runtime: what executes it; None: as `find_subject`.
        threads: threads of the runtime; None: one, so that times add up.
        data: what to run it on, see `optc.numerics.data`; None: seeded inputs.
        split: split of the data.
        fill: inputs with one number everywhere.
        runs: executions that the times are taken from.

    Raises:
        ModelError: the model does not load or run, or the report of an IR cannot be read.
        CapabilityError: the runtime is missing or does not read such a file.
        DataError: the data does not fit.
    """
    subject = find_subject(place, runtime=runtime, threads=threads or 1)
    subject = _on_this_machine(subject)
    graph = None if subject.is_ir else _typed(load_model(subject.model))
    labels = {} if graph is None else unique_labels(graph)
    plans = _plans(subject, graph, labels)
    feeds = _feeds(subject, graph, None if data is None else Path(data), split, fill or {})
    execution = _products_first(_execute(subject, graph, labels, plans, feeds, runs), plans)
    fates = tuple(_fate(item, execution) for item in plans.values())
    host = detect_host()
    missing = () if subject.target is None else host.missing(subject.target)
    return Audit(
        subject=subject.label,
        runtime=subject.runtime,
        target=subject.options.target or None,
        host=host.product or "unnamed CPU",
        missing=tuple(missing),
        execution=execution,
        nodes=fates,
    )


def _typed(graph: Graph) -> Graph:
    """With the types of its values, which tell how operations are written."""
    return run_passes(graph, ["infer-shapes"]).graph


def _on_this_machine(subject: Subject) -> Subject:
    """With no more threads than there are cores."""
    return subject.with_threads(min(subject.options.threads, detect_topology().largest))


def _execute(
    subject: Subject,
    graph: Graph | None,
    labels: Mapping[Node, str],
    plans: Mapping[str, _Planned],
    feeds: Feeds,
    runs: int,
) -> Execution:
    if graph is None:
        names = {label: label for label in plans}
        found = audit_openvino.execute(subject.model, subject.options, feeds, names, runs=runs)
        return with_products(found, subject.model, [n for n in plans if plans[n].plan.heavy])
    if subject.runtime == "onnxruntime":
        found = audit_onnxruntime.execute(graph, labels, subject.options, feeds, runs=runs)
    else:
        with tempfile.TemporaryDirectory(prefix="optc-audit-") as folder:
            file = Path(folder) / "model.onnx"
            save_model(graph, file, node_names=labels)
            names = names_of(labels)
            found = audit_openvino.execute(file, subject.options, feeds, names, runs=runs)
    return _with_isa(with_fused(found, graph, labels), subject.runtime, graph, labels)


def _products_first(execution: Execution, plans: Mapping[str, _Planned]) -> Execution:
    """Steps are those of the product that they compute; what is fused into it comes behind."""

    def is_other(label: str) -> bool:
        return label not in plans or not plans[label].plan.heavy

    kernels = (replace(k, nodes=tuple(sorted(k.nodes, key=is_other))) for k in execution.kernels)
    return replace(execution, kernels=tuple(kernels))


def _with_isa(
    execution: Execution, runtime: str, graph: Graph, labels: Mapping[Node, str]
) -> Execution:
    """Products get the instruction set that the table names on this CPU, where nothing shows it."""
    table, here = shipped_kernels(runtime), host_capabilities()
    told = bool(load_runtime(runtime).introspection.primitives)  # the runtime tells its products
    nodes = {labels[node]: (nested, node) for nested in graph.walk() for node in nested.nodes()}
    kernels = []
    for kernel in execution.kernels:
        products = [label for label in kernel.nodes if info(nodes[label][1]).has(Trait.MAC)]
        heavy = kernel.heavy if told else bool(products)
        isa, evidence = kernel.isa, kernel.evidence
        for label in products if isa is None and heavy else ():
            plan = plan_node(*nodes[label], table, here, version=execution.version)
            if plan.precision == kernel.precision and plan.isa is not None:
                isa = plan.isa
            elif kernel.precision == "fp32":
                isa = _fp32_isa(table, here)
            if isa is not None:
                evidence = f"{evidence}; instruction set from CPU flags and kernel table"
                break
        kernels.append(replace(kernel, isa=isa, evidence=evidence, heavy=heavy))
    return replace(execution, kernels=tuple(kernels))


def _fp32_isa(table: KernelTable, capabilities: Collection[str]) -> str | None:
    """The instruction set of fp32 products."""
    route = table.find("MatMul", "plain", "f32")
    choice = route.choice(capabilities) if route else None
    return choice.needs[-1] if choice and choice.needs else None


# ---- plans -------------------------------------------------------------------------------------


def _plans(
    subject: Subject, graph: Graph | None, labels: Mapping[Node, str]
) -> dict[str, _Planned]:
    """The plan of every operation, by label."""
    if graph is None:
        return _reported(subject)
    hint = _HINTS.get(subject.options.properties.get("INFERENCE_PRECISION_HINT", "f32"), "fp32")
    table = shipped_kernels(subject.runtime)
    capabilities = subject.target.capabilities if subject.target else host_capabilities()
    return {
        labels[node]: _Planned(
            labels[node],
            node.qualified_op,
            plan_node(nested, node, table, capabilities, hint=hint),
        )
        for nested in graph.walk()
        for node in nested.ordered()
    }


def _reported(subject: Subject) -> dict[str, _Planned]:
    """The plan that report.json holds; nothing for a model file without a folder."""
    if subject.folder is None:
        return {}
    rows = read_report(subject.folder)["nodes"]
    return {row["name"]: _Planned(row["name"], row["op"], _from_row(row)) for row in rows}


def _from_row(row: Mapping[str, Any]) -> PlannedNode:
    return PlannedNode(
        precision=row["precision"],
        reason=row["reason"],
        expected=row.get("expected", row["precision"]),
        obstacle=row.get("obstacle", ""),
        form=row.get("form", ""),
        kernel=row.get("kernel"),
        isa=row.get("isa"),
        heavy="form" in row,
    )


def _feeds(
    subject: Subject,
    graph: Graph | None,
    data: Path | None,
    split: str,
    fill: Mapping[str, float],
) -> Feeds:
    """One input."""
    engine = subject.open()
    limits = {} if graph is None else index_limits(graph)
    hints = replace(fill_hints(fill, engine.inputs), limits=limits)
    samples = choose_samples([engine], engine.inputs, hints, data=data, split=split, limit=1)
    batch = next(iter(samples.batches(subject.options.batch)))
    return batch.feeds


# ---- judging -----------------------------------------------------------------------------------


def _fate(item: _Planned, execution: Execution) -> NodeFate:
    """What became of an operation, and whether that is what was planned."""
    kernel = execution.computing(item.label)
    own = kernel is not None and kernel.nodes[0] == item.label
    verdict, reason = _judge(item.plan, kernel)
    return NodeFate(
        label=item.label,
        op=item.op,
        planned=item.plan.precision,
        planned_isa=item.plan.isa,
        ran=None if kernel is None else kernel.precision,
        isa=None if kernel is None else kernel.isa,
        kernel=None if kernel is None else kernel.kernel,
        step=None if kernel is None else kernel.name,
        fused_into=None if kernel is None or own else kernel.nodes[0],
        evidence="" if kernel is None else kernel.evidence,
        seconds=kernel.seconds if kernel is not None and own else 0.0,
        heavy=item.plan.heavy,
        form=item.plan.form,
        verdict=verdict,
        reason=reason,
    )


def _judge(plan: PlannedNode, kernel: Kernel | None) -> tuple[str, str]:
    """``as planned``, ``other precision``, ``other isa``, ``not executed`` or ``not known``."""
    if kernel is None:
        return "not executed", "folded into constants, or removed, before anything ran"
    if kernel.precision is None:
        return ("not known" if plan.heavy else "as planned"), ""
    if plan.heavy and kernel.precision != plan.precision:
        known = plan.obstacle if plan.expected == kernel.precision else ""
        return "other precision", known or "the runtime chose another kernel than the table names"
    if not plan.heavy:
        bits, planned = _BITS.get(kernel.precision), _BITS.get(plan.precision)
        if bits and planned and bits < planned:
            return "other precision", f"the runtime lowers it to {kernel.precision}"
        return "as planned", ""
    if plan.isa is None or at_least(kernel.isa, plan.isa):
        return "as planned", ""
    if plan.isa not in host_capabilities():
        return "other isa", f"this CPU has no {plan.isa}"
    if kernel.isa is None:
        return "not known", "nothing tells the instruction set"
    return "other isa", f"the runtime took a kernel for {kernel.isa}"
