"""Questions about a target: an operator in a type, a type, an instruction set extension, a kernel.

The answer is a yes only when the runtime computes in what was asked for with instructions made for
it. Emulated, converted, slow and rejected are a no that says what happens instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from optc.errors import TargetError, did_you_mean
from optc.targets.answers import Answer
from optc.targets.capabilities import TABLE, Precision
from optc.targets.fact import version_key
from optc.targets.loading import RUNTIME_NAMES, load_runtime, shipped_kernels, shipped_targets
from optc.targets.paths import PATH_NEEDS, PRECISION_NEEDS
from optc.targets.peak import best_path, peak
from optc.targets.query import missing_capability, target_lacks
from optc.targets.routes import TYPE_NAMES, Types, answer_op
from optc.targets.view import View

if TYPE_CHECKING:
    from optc.targets.model import Target
    from optc.targets.runtimes import Runtime


@dataclass(frozen=True)
class Question:
    """What is asked: an `op` in a `dtype`, a `dtype`, an `isa`, or only a `min_kernel`.

    Attributes:
        op: an ONNX operator; needs `dtype` and `runtime`.
        dtype: ``fp32 fp16 bf16 int8 int4``, or element types of activation, weight and result in
            the notation of oneDNN, e.g. ``u8s8`` or ``u8s8f32``.
        runtime: a runtime or its name.
        isa: a capability, or a CPU flag as /proc/cpuinfo spells it.
        min_kernel: the oldest Linux kernel of the machines; what it hides counts as missing.
        runtime_version: version of the runtime; None: the newest that is described.
        cores: cores for the peak.
        ghz: sustained clock for the peak; None: as far as the descriptor knows it.
    """

    op: str | None = None
    dtype: str | None = None
    runtime: Runtime | str | None = None
    isa: str | None = None
    min_kernel: str | None = None
    runtime_version: str | None = None
    cores: int = 1
    ghz: float | None = None


def ask(target: Target, question: Question) -> Answer:
    """Answer a question about a target.

    Raises:
        TargetError: an unknown operator, type, flag or runtime, an incomplete question, or a
            version that is not a number.
    """
    _check(question)
    runtime = question.runtime
    engine = load_runtime(runtime) if isinstance(runtime, str) else runtime
    view = View(target, engine, question.min_kernel)
    refusal = _too_old(target, engine, question.runtime_version) if engine else None
    if refusal is not None:  # not by its truth: a refusal is a no
        return refusal
    if question.isa is not None:
        return _ask_isa(view, question.isa)
    if question.dtype is None:
        return _ask_kernel(view)
    if question.op is None or engine is None:
        answer = _ask_dtype(view, question.dtype)
    else:
        types = Types.parse(question.dtype)
        kernels = shipped_kernels(engine.id)
        op = _known_op(question.op)
        answer = answer_op(view, kernels, op, types, question.runtime_version)
    if answer.path is None:
        return answer
    most = peak(target, answer.path, cores=question.cores, ghz=question.ghz)
    return replace(answer, peak=most)


def _check(question: Question) -> None:
    """Refuse questions that cannot be answered."""
    if question.op is not None and (question.dtype is None or question.runtime is None):
        raise TargetError(
            "query-incomplete",
            "a question about an operator needs its type and a runtime",
            hint=f"types: {', '.join(TYPE_NAMES)}, or e.g. u8s8; "
            f"runtimes: {', '.join(RUNTIME_NAMES)}",
        )
    if question.isa is not None and (question.op is not None or question.dtype is not None):
        raise TargetError(
            "query-incomplete", "ask for an instruction set or for a type, not for both at once"
        )
    if not any((question.dtype, question.isa, question.min_kernel)):
        raise TargetError(
            "query-incomplete",
            "nothing is asked for",
            hint="name a type, an operator with a type and a runtime, an isa, or a kernel",
        )
    for name in ("min_kernel", "runtime_version"):
        version = getattr(question, name)
        if version is not None and not version_key(version):
            raise TargetError("query-invalid", f"{name}: '{version}' is not a version, e.g. 5.16")


def _known_op(name: str) -> str:
    """The operator, checked against the ones that optc knows."""
    from optc.ir.ops import OPS

    names = sorted({op for _, op in OPS})
    if name not in names:
        raise TargetError(
            "op-unknown", f"there is no operator '{name}'", hint=did_you_mean(name, names)
        )
    return name


def _too_old(target: Target, runtime: Runtime, version: str | None) -> Answer | None:
    """The answer when the runtime is older than what artefacts are made for."""
    minimum = runtime.versions.minimum
    if version is None or version_key(version) >= version_key(minimum):
        return None
    return Answer(
        yes=False,
        question=f"{runtime.id} {version} on {target.id}",
        reason=f"artefacts are made for {runtime.title}, {minimum} and newer",
        hint=f"install {runtime.package} {minimum} or newer",
    )


def _ask_isa(view: View, isa: str) -> Answer:
    """Whether the target has a capability or a CPU flag, and the runtime uses it."""
    target, question = view.target, f"{isa} on {view.place}"
    if isa not in TABLE:
        return _ask_flag(view, isa, question)
    if reason := view.hides(isa):
        return Answer(yes=False, question=question, reason=reason, isa=isa)
    if view.runtime is None:
        missing = None if isa in target.capabilities else target_lacks(isa, target)
    else:
        missing = missing_capability(isa, target, view.runtime)
    if missing is not None:
        return Answer(
            yes=False, question=question, reason=missing.message, isa=isa, hint=missing.hint
        )
    return Answer(
        yes=True,
        question=question,
        reason=f"{target.id} has {TABLE[isa].description} (CPU flags {TABLE[isa].wanted()})",
        isa=isa,
        conditions=view.conditions((isa,)),
        evidence=target.isa.source,
        confidence=target.isa.confidence,
    )


def _ask_flag(view: View, flag: str, question: str) -> Answer:
    """Whether the target has a CPU flag that is not a capability."""
    known = sorted({name for target in shipped_targets() for name in target.isa.flags})
    if flag not in known:
        raise TargetError(
            "capability-unknown",
            f"there is no capability or CPU flag '{flag}'; capabilities: {', '.join(TABLE)}",
            hint=did_you_mean(flag, (*TABLE, *known)),
        )
    hidden = view.hides_flag(flag)
    has = flag in view.target.isa.flags
    return Answer(
        yes=has and hidden is None,
        question=question,
        reason=hidden or f"{view.target.id} {'has' if has else 'lacks'} the CPU flag {flag}",
        isa=flag,
        evidence=view.target.isa.source,
        confidence=view.target.isa.confidence,
    )


def _ask_dtype(view: View, dtype: str) -> Answer:
    """Whether the CPU, and the runtime when one is named, computes in a precision."""
    precision = next((name for name in PRECISIONS if name == dtype), None)
    if precision is None:
        raise TargetError(
            "query-incomplete",
            f"'{dtype}' can only be asked for an operator",
            hint=f"without one, ask for {', '.join(PRECISIONS)}",
        )
    question = f"{dtype} on {view.place}"
    path = best_path(precision, view.capabilities)
    if path is None:
        missing = target_lacks(PRECISION_NEEDS[precision], view.target)
        return Answer(yes=False, question=question, reason=missing.message, hint=missing.hint)
    if view.runtime is not None and not view.runtime.computes(precision):
        support = view.runtime.precisions[precision]
        return Answer(
            yes=False,
            question=question,
            reason=f"{view.runtime.id} does not compute in {dtype}: {support.computes.note}",
            evidence=support.computes.source,
            confidence=support.computes.confidence,
            hint=support.instead,
        )
    isa = PATH_NEEDS[path]
    return Answer(
        yes=True,
        question=question,
        reason=f"{isa}: {TABLE[isa].description}; ask for an operator to see its kernel",
        isa=isa,
        conditions=view.conditions((isa,)),
        path=path,
        evidence=view.target.isa.source,
        confidence=view.target.isa.confidence,
    )


def _ask_kernel(view: View) -> Answer:
    """Whether a Linux kernel shows everything that the CPU has."""
    lost = [name for name in TABLE if view.hides(name)]
    return Answer(
        yes=not lost,
        question=f"everything of {view.place}",
        reason=f"{', '.join(lost)}: {view.hides(lost[0])}"
        if lost
        else f"Linux {view.kernel} hides nothing that the CPU has",
        conditions=view.conditions(tuple(name for name in TABLE if name in view.capabilities)),
    )


PRECISIONS: tuple[Precision, ...] = get_args(Precision)
