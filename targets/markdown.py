"""The reference page of targets and runtimes, written from the descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from optc.targets.capabilities import CAPABILITIES
from optc.targets.describe import plain
from optc.targets.kernels import FORMS, OUTCOMES
from optc.targets.loading import (
    CONVERTED_NAMES,
    RUNTIME_NAMES,
    shipped_conversions,
    shipped_extensions,
    shipped_kernels,
    shipped_runtime,
    shipped_targets,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from optc.targets.conversion_table import AttributeCondition, Conversion, TensorCondition
    from optc.targets.fact import Fact
    from optc.targets.kernels import Choice, Route
    from optc.targets.model import Target

_T = TypeVar("_T")

_INTRODUCTION = """# Targets and runtimes

What each CPU generation can do, and what each runtime makes of an operator. Every number has its
source in the descriptor: `optc targets show NAME`. Ask instead of reading:

```sh
optc targets query spr --runtime openvino --op MatMul --dtype int8   # exit code 0: yes, 1: no
optc targets query spr --isa amx_bf16 --min-kernel 5.15
optc targets diff clx spr
optc targets detect --explain
```

## A CPU of your own

A descriptor file can extend a target and state only what differs: mappings merge, `null` removes a
key, lists and facts (`value` with its `source`) replace as a whole. Name the file wherever a target
is named.

```yaml
extends: icelake
id: xeon-gold-6338
topology:
  max_cores_per_socket: {value: 32, source: data sheet, confidence: high}
frequency:
  avx512_ghz: {value: 2.1, source: measured with optc targets probe, confidence: high}
```
"""


def render_markdown() -> str:
    """The page ``docs/targets.md``, ending in a newline."""
    sections = (
        _INTRODUCTION.splitlines(),
        _targets(),
        _rates(),
        _advice(),
        _extensions(),
        *(_kernels(name) for name in RUNTIME_NAMES),
        *(_conversions(name) for name in CONVERTED_NAMES),
    )
    return "\n".join(line for section in sections for line in (*section, "")).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _cell(fact: Fact[_T] | None) -> str:
    """A value, ``unknown`` or nothing."""
    if fact is None:
        return ""
    return "unknown" if fact.value is None else plain(fact.value)


def _targets() -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield from _table(
        ("target", "aliases", "CPU", "capabilities"),
        (
            (
                f"`{target.id}`",
                ", ".join(target.aliases),
                target.title,
                ", ".join(name for name in CAPABILITIES if name in target.capabilities),
            )
            for target in shipped_targets()
        ),
    )


def _rates() -> Iterator[str]:
    """Numbers of all targets side by side."""
    targets = shipped_targets()
    paths = dict.fromkeys(path for target in targets for path in target.compute.ops_per_cycle)
    yield "## Numbers"
    yield ""
    yield "Operations per cycle and core; a multiply-add counts as two."
    yield ""
    rows = [
        (path, *(_cell(target.compute.ops_per_cycle.get(path)) for target in targets))
        for path in paths
    ]
    rows += [(name, *(_cell(fact) for fact in facts)) for name, facts in _facts(targets)]
    yield from _table(("", *(target.id for target in targets)), rows)


def _facts(targets: Sequence[Target]) -> Iterator[tuple[str, list[Fact[object]]]]:
    """Rows of the table: what a reader compares."""
    chosen = (
        ("topology", "max_cores_per_socket"),
        ("caches", "l2_kib"),
        ("caches", "l3_kib_per_core"),
        ("memory", "channels"),
        ("memory", "mts_1dpc"),
        ("memory", "peak_gbps"),
        ("frequency", "avx512_ghz"),
        ("numerics", "int8_saturates_int16"),
    )
    for section, name in chosen:
        yield f"{section}.{name}", [getattr(getattr(t, section), name) for t in targets]


def _advice() -> Iterator[str]:
    """Advice once per source, with the targets that carry it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for target in shipped_targets():
        for entry in target.advice:
            key = (entry.topic, entry.advice, entry.generation, entry.source, entry.note or "")
            found.setdefault(key, []).append(target.id)
    yield "## Advice for BIOS and system"
    yield ""
    yield "Never a requirement: sources disagree, each speaks about one generation."
    yield ""
    yield from _table(
        ("topic", "advice", "said of", "source", "note", "targets"),
        ((*key, ", ".join(names)) for key, names in sorted(found.items())),
    )


def _extensions() -> Iterator[str]:
    yield "## Instruction sets and the names that prove them"
    yield ""
    yield "Names are implementation names of ONEDNN_VERBOSE, by version of oneDNN."
    yield ""
    rows = []
    for name, row in shipped_extensions().extensions.items():
        proofs = [
            f"{proof.since} to {proof.until or 'newest'}: `{proof.pattern}`"
            f"{' with types ' + ', '.join(proof.types) if proof.types else ''}"
            for proof in row.onednn_names
        ]
        rows.append((f"`{name}`", ", ".join(row.instructions), "; ".join(proofs), row.note or ""))
    yield from _table(("capability", "instructions", "proof", "note"), rows)


def _kernels(name: str) -> Iterator[str]:
    """What one runtime makes of each operator."""
    runtime, table = shipped_runtime(name), shipped_kernels(name)
    yield f"## {runtime.title}"
    yield ""
    yield (
        f"Described from version {runtime.versions.minimum} on, measured on "
        f"{', '.join(runtime.versions.verified)}. Forms: "
        + "; ".join(f"*{form}* {meaning}" for form, meaning in FORMS.items())
        + "."
    )
    yield ""
    yield from _table(
        ("operators", "written as", "becomes", "what runs, the best CPU first", "conditions"),
        (_route(route) for route in table.routes),
    )


def _route(route: Route) -> tuple[str, ...]:
    ops = "all others" if "*" in route.ops else ", ".join(route.ops)
    conditions = (
        f"{condition.text}{f' (with {condition.where})' if condition.where else ''}"
        for condition in route.conditions
    )
    choices = "; ".join(_choice(choice) for choice in route.choices)
    return ops, route.spelling, route.becomes or "", choices, "; ".join(conditions)


def _choice(choice: Choice) -> str:
    outcome = "" if choice.outcome == "native" else f"**{OUTCOMES[choice.outcome]}** "
    kernel = choice.kernel or ("" if choice.outcome == "rejected" else "kernel unknown")
    note = f" ({choice.note})" if choice.note else ""
    return f"{choice.isa}: {outcome}{kernel}{note}".strip()


def _conversions(name: str) -> Iterator[str]:
    """What the converter of one runtime cannot take."""
    runtime, table = shipped_runtime(name), shipped_conversions(name)
    yield f"## What cannot be converted to {runtime.title}"
    yield ""
    yield (
        "Refused before anything is written. *Rejected*: cannot be made or loaded; *wrong*: "
        "computes something else, if not for all data. The converter may refuse more."
    )
    yield ""
    yield from _table(
        ("operators", "where", "outcome", "versions", "reason", "instead"),
        (_conversion(entry) for entry in table.conversions),
    )


def _conversion(entry: Conversion) -> tuple[str, ...]:
    ops = ", ".join("any" if op == "*" else op for op in entry.ops)
    where = (
        "a function of the model is called" if entry.function else "",
        f"an operand or result is {' or '.join(entry.types)}" if entry.types else "",
        *(_tensor("operand", condition) for condition in entry.operands),
        *(_tensor("result", condition) for condition in entry.results),
        *(_attribute(condition) for condition in entry.attributes),
        "a subgraph captures" if entry.captures else "",
        f"opset {entry.opset_since} or newer" if entry.opset_since else "",
        f"opset {entry.opset_until} or older" if entry.opset_until else "",
    )
    versions = (
        f"from {entry.since}" if entry.since else "",
        f"to {entry.until}" if entry.until else "",
    )
    return (
        ops,
        "; ".join(filter(None, where)),
        entry.outcome,
        " ".join(filter(None, versions)),
        entry.reason,
        entry.instead,
    )


def _tensor(role: str, condition: TensorCondition) -> str:
    """``operand 1: constant no``: the conditions as the descriptor spells them."""
    stated = condition.model_dump(exclude_unset=True, exclude={"index"})
    what = f"any {role}" if condition.index is None else f"{role} {condition.index}"
    return f"{what}: {_stated(stated)}"


def _attribute(condition: AttributeCondition) -> str:
    stated = condition.model_dump(exclude_unset=True, exclude={"name"})
    return f"`{condition.name}`: {_stated(stated)}"


def _stated(conditions: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {plain(v)}" for name, v in conditions.items())
