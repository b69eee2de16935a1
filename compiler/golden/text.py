"""The text of a golden graph, and how two of them are compared.

It is the named canonical text (`optc.ir.text`) with the pass that made each line, below a head of
comments that nothing is compared with: target, runtime, how often each rewrite applied.

Weights are in it as far as they are the same everywhere:

- What comes from the model is there by digest: one bit that differs is a difference.
- What a pass computed in floating point can differ in last bits between CPUs and versions of
  libraries. Of that there is a sketch (`optc.numerics.sketch`), and elements of small constants
  with six digits; both are compared within a tolerance. A new text takes over the numbers of the
  old one where they are close, so that writing it on another machine changes nothing.
- Without weights, every constant that training decides is its type alone: floats, integers of at
  most eight bits, and what quantization reads. Shapes, indices and axes stay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from optc.errors import ModelError
from optc.ir import DType, Graph, Kind, Tensor
from optc.ir.diff import GraphDiff, diff_graphs
from optc.ir.literals import PRINTED_ELEMENTS, format_elements, format_type
from optc.ir.ops import Trait, info
from optc.ir.reader import read_graph
from optc.ir.tensor import Described
from optc.ir.text import print_graph
from optc.numerics.sketch import Sketch, sketch, tolerance
from optc.pipeline import PassRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir import Node
    from optc.ir.diff import Change

FIRST_LINE: Final = "# optc golden graph, form 1"
_WEIGHTS: Final = "# weights: "
_LEFT_OUT: Final = "left out"
_PASS: Final = "# pass "
_DIGITS: Final = 6
_NEAR: Final = 1e-5  # of elements that are written with these digits
_REASONS: Final = 3  # refusals that are named per node


@dataclass(frozen=True)
class Difference:
    """How a graph differs from the golden one.

    Attributes:
        graph: nodes, constants, interface and opsets.
        passes: passes whose rewrites applied another number of times, one line each. They are not
            a difference by themselves.
    """

    graph: GraphDiff
    passes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when the graphs are the same."""
        return self.graph.is_empty

    def render(self) -> str:
        """The difference for people; empty when there is none."""
        if self.is_empty:
            return ""
        return self.graph.render() + "".join(f"pass {line}\n" for line in self.passes)

    def to_dict(self) -> dict[str, Any]:
        """The difference as data, for ``--json``."""
        return {**self.graph.to_dict(), "passes": list(self.passes)}


def golden_text(
    subject: Graph | PassRun,
    facts: Mapping[str, str] | None = None,
    *,
    weights: bool = True,
    like: str = "",
) -> str:
    """The golden text of a graph.

    Args:
        subject: a graph, or the result of a pipeline: the head then counts its rewrites.
        facts: lines of the head, e.g. the target.
        weights: whether the contents of weights are part of it.
        like: an older text, whose numbers are taken over where they are close.
    """
    graph = subject.graph if isinstance(subject, PassRun) else subject
    lines = [FIRST_LINE, *(f"# {key}: {value}" for key, value in (facts or {}).items())]
    lines += [] if weights else [f"{_WEIGHTS}{_LEFT_OUT}"]
    if isinstance(subject, PassRun):
        lines += [f"{_PASS}{name}: {counts}" for name, counts in _pass_counts(subject).items()]
    data = dict(_data(graph, weights=weights, old=_Numbers(like)))
    return "\n".join([*lines, "", print_graph(graph, named=True, origins=True, data=data)])


def compare_with(
    text: str, subject: Graph | PassRun, *, structure: bool = False, location: str = "golden text"
) -> Difference:
    """How a graph differs from the one that a golden text describes.

    Args:
        text: the golden text.
        subject: a graph, or the result of a pipeline.
        structure: leave weights out of the comparison; a text without them always does.
        location: what errors call the text, e.g. the name of its file.

    Raises:
        ModelError: ``golden-invalid``: it is not a golden text; ``text-invalid``: it is broken.
    """
    if not text.startswith(FIRST_LINE):
        raise ModelError(
            "golden-invalid",
            f"this is not a golden graph: its first line is not '{FIRST_LINE}'",
            location=location,
            hint="write it anew with optc golden update, or move the file away",
        )
    now = golden_text(subject, weights=has_weights(text), like=text)
    if _body(now) == _body(text):
        return Difference(GraphDiff(()))
    graphs = read_graph(text, location=location), read_graph(now)
    if structure:
        for graph in graphs:
            _leave_weights_out(graph)
    difference = diff_graphs(*graphs)
    if isinstance(subject, PassRun):
        changes = tuple(_with_reasons(change, subject) for change in difference.changes)
        difference = GraphDiff(changes)
    return Difference(difference, tuple(_pass_changes(text, now)))


def has_weights(text: str) -> bool:
    """Whether a golden text has the contents of weights."""
    return f"{_WEIGHTS}{_LEFT_OUT}" not in _head(text)


def _head(text: str) -> list[str]:
    lines = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


def _body(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


# ---- weights -----------------------------------------------------------------------------------


def _is_weight(graph: Graph, node: Node) -> bool:
    """Whether training decides the contents of a constant, or of the default of an input."""
    dtype = _dtype(node)
    if dtype.is_float or dtype in (DType.C64, DType.C128):
        return True
    if not dtype.is_integer:
        return False
    return dtype.bits <= 8 or any(
        use.node.kind is Kind.OP and info(use.node).has(Trait.QUANTIZE)
        for use in graph.uses(node.output)
    )


def _dtype(node: Node) -> DType:
    if node.sparse is not None:
        return node.sparse.values.dtype
    return node.tensor.dtype if node.tensor is not None else DType.UNDEFINED


def _weights(root: Graph) -> Iterator[Node]:
    """Nodes with contents that training decides, of all graphs and functions of a model."""
    bodies = [function.body for function in root.model.functions.values()]
    for graph in (inner for body in (root, *bodies) for inner in body.walk()):
        for node in graph.nodes(Kind.CONSTANT, Kind.INPUT):
            if _is_weight(graph, node):
                yield node


def _leave_weights_out(graph: Graph) -> None:
    """Leave the contents of weights out of a graph that was read from text."""
    for node in _weights(graph):
        if node.tensor is not None:
            text = format_type(node.output.type or node.tensor.type)
            node.tensor = Described(node.tensor.dtype, node.tensor.shape, text)


def _data(graph: Graph, *, weights: bool, old: _Numbers) -> Iterator[tuple[Node, str]]:
    """Weights that are not written by their digest."""
    for node in _weights(graph):
        if not weights:
            yield node, format_type(node.output.type or (node.tensor and node.tensor.type))
        elif node.tensor is not None and node.origin is not None and node.origin.made_by:
            yield node, old.settle(node.key, node.tensor.dtype, _computed(node.tensor))


def _computed(tensor: Tensor) -> str:
    """What is written of a tensor that a pass computed."""
    head = format_type(tensor.type)
    if tensor.elements > PRINTED_ELEMENTS:
        return f"{head} {sketch(tensor)}"
    if not tensor.dtype.is_float:
        return f"{head} {{{', '.join(format_elements(tensor.numpy(), tensor.dtype))}}}"
    items = (repr(float(f"{float(item):.{_DIGITS}g}")) for item in tensor.numpy().reshape(-1))
    return f"{head} ~{{{', '.join(items)}}}"


class _Numbers:
    """The numbers of an older text."""

    def __init__(self, text: str) -> None:
        self._known: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for line in text.splitlines():
            name, found, rest = line.strip().partition(" = const ")
            if found and " ~" in rest:
                data = rest.partition("  # ")[0]
                self._known[data.partition(" ~")[0]][name] = data

    def settle(self, name: str, dtype: DType, text: str) -> str:
        """The older text of a constant, where the two say the same; else `text` itself."""
        known = self._known.get(text.partition(" ~")[0], {})
        same = known.get(f"%{name}")
        candidates = known.values() if same is None else (same, *known.values())
        return next((old for old in candidates if _close(old, text, dtype)), text)


def _close(one: str, other: str, dtype: DType) -> bool:
    if one == other:
        return True
    left, right = one.partition(" ~")[2], other.partition(" ~")[2]
    if left.startswith("{") and right.startswith("{"):
        return _elements_close(left, right, dtype)
    first, second = Sketch.parse(left), Sketch.parse(right)
    return first is not None and second is not None and first.close_to(second, dtype)


def _elements_close(one: str, other: str, dtype: DType) -> bool:
    try:
        left = [float(item) for item in one.strip("{}").split(", ")]
        right = [float(item) for item in other.strip("{}").split(", ")]
    except ValueError:
        return False
    near = tolerance(dtype, _NEAR) * max((abs(item) for item in left), default=0.0)
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(a == b or abs(a - b) <= near for a, b in pairs)


# ---- passes ------------------------------------------------------------------------------------


def _pass_counts(run: PassRun) -> dict[str, str]:
    """How often the rewrites of each pass applied; passes that run several times are summed."""
    totals: dict[str, dict[str, int]] = {}
    for step in run.steps:
        counts = totals.setdefault(step.name, {})
        for rule, count in step.counts.items():
            counts[rule] = counts.get(rule, 0) + count
    return {
        name: ", ".join(f"{rule} {counts[rule]}" for rule in sorted(counts))
        for name, counts in totals.items()
        if counts
    }


def _pass_changes(old: str, new: str) -> Iterator[str]:
    before, after = _recorded(old), _recorded(new)
    if not before or not after:
        return
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name, "nothing"), after.get(name, "nothing")
        if was != now:
            yield f"{name}: {was} -> {now}"


def _recorded(text: str) -> dict[str, str]:
    lines = (line.removeprefix(_PASS) for line in _head(text) if line.startswith(_PASS))
    return {name: counts for name, _, counts in (line.partition(": ") for line in lines)}


def _with_reasons(change: Change, run: PassRun) -> Change:
    """A node of the graph, with why passes left it alone."""
    name = change.where.rpartition(" ")[2]
    if change.kind == "removed" or change.what != "node" or not run.graph.has_value(name):
        return change
    label = run.graph.value(name).node.label
    reasons = [
        f"{step.name} left it: {refusal.reason}"
        for step in run.steps
        for refusal in step.refusals
        if refusal.node == label
    ]
    return replace(change, details=(*change.details, *dict.fromkeys(reasons[:_REASONS])))
