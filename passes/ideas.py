"""Passes that recognise ideas by the formula that a part of a graph computes.

An idea is recognised whatever its spelling: every operation that may end it is tried as root, with
every value that all paths to it come through as leaf, the largest part first. The formula between
the two (see `optc.passes.formula`) is compared with those of the ideas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from optc.ir import TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.cones import cones
from optc.passes.formula import text
from optc.passes.formula_of import READABLE, FormulaReader
from optc.passes.linear import use_text
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from optc.ir import DType, Graph, Node, Type, Value
    from optc.passes.base import PassContext
    from optc.passes.cones import Cone
    from optc.passes.formula import Formula

_FAR: Final = 12
_WORDY: Final = 160


@dataclass(frozen=True)
class Found:
    """A formula in a graph.

    Attributes:
        graph: the graph.
        root: the operation that computes it.
        leaf: the value that it is a function of.
        reader: read it, and reads what it is compared with.
        formula: the formula.
    """

    graph: Graph
    root: Node
    leaf: Value
    reader: FormulaReader
    formula: Formula

    @property
    def dtype(self) -> DType:
        """Element type of the leaf."""
        assert isinstance(self.leaf.type, TensorType)
        return self.leaf.type.dtype


Writer: TypeAlias = "Callable[[Builder], Value]"
"""Builds the operator."""


@dataclass(frozen=True)
class Idea:
    """Something that formulas can mean.

    Attributes:
        name: of the rule, in kebab-case.
        match: gives what builds the operator; or why the formula is only nearly this idea; or None
            when it is not this idea.
    """

    name: str
    match: Callable[[Found], Writer | str | None]


class IdeasPass(Pass):
    """A pass that looks for ideas; subclasses name them, and the operators that are their mark.

    Attributes:
        ideas: what is looked for, the more special one first.
        marks: operators of which one is in every spelling, with the idea that it marks.
        always: marks that are for nothing else: where one is left, that is refused; where another
            one is left, only what is nearly an idea is.
        longest: the most operations that an idea is looked for in.
        parameters: the most constants of several elements that an idea has.
    """

    ideas: ClassVar[tuple[Idea, ...]]
    marks: ClassVar[Mapping[str, str]]
    always: ClassVar[frozenset[str]] = frozenset()
    longest: ClassVar[int] = 28
    parameters: ClassVar[int] = 3

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Look for the ideas in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _Search(nested, self, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Search:
    def __init__(self, graph: Graph, wanted: IdeasPass, trace: Trace) -> None:
        self.graph = graph
        self.ideas = wanted.ideas
        self.marks = wanted.marks
        self.always = wanted.always
        self.size = (wanted.longest, wanted.parameters)
        self.trace = trace
        self.place: dict[Node, int] = {}
        self.readers: dict[Value, FormulaReader] = {}
        self.why: dict[Node, str] = {}
        self.firm: set[Node] = set()
        # Ideas are a matter of formula, operator and type: what is none of them is asked once.
        self.nothing: set[tuple[Formula, str, Type | None]] = set()

    def run(self) -> None:
        nodes = self.graph.ordered()
        self.place = {node: index for index, node in enumerate(nodes)}
        for root in reversed(list(self._roots(nodes))):
            if root in self.graph:
                self._try(root)
        for node in nodes:
            if not node.is_op(*self.marks) or node not in self.graph:
                continue
            if node in self.why or node.op_type in self.always:
                reason = self.why.get(node, "no formula of one value ends behind it")
                self.trace.refused(self.marks[node.op_type], node, reason)

    def _roots(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Operations not far behind one that marks an idea."""
        distance: dict[Value, int] = {}
        for node in nodes:
            if not node.is_op(*READABLE) or len(node.outputs) != 1:
                continue
            above = (distance[v] + 1 for v in self.graph.operands(node) if v in distance)
            far = 0 if node.op_type in self.marks else min(above, default=_FAR + 1)
            if far <= _FAR:
                distance[node.output] = far
                yield node

    def _try(self, root: Node) -> None:
        readable: list[tuple[Found, Cone]] = []
        for cone in cones(self.graph, root, self.place, *self.size):
            if not any(node.op_type in self.marks for node in cone.nodes):
                continue
            reader = self._reader(cone.leaf)
            found = None if reader is None else self._read(root, cone, reader)
            if found is not None:
                readable.append((found, cone))
            elif reader is not None and root.output in reader.given_up:
                break  # the formula of a value further up is longer still
        for found, cone in reversed(readable):
            if self._match(found, cone):
                return

    def _reader(self, leaf: Value) -> FormulaReader | None:
        """What reads formulas of a leaf; None when that is no float."""
        if not isinstance(leaf.type, TensorType) or not leaf.type.dtype.is_float:
            return None
        if leaf not in self.readers:
            self.readers[leaf] = FormulaReader(self.graph, leaf)
        return self.readers[leaf]

    def _read(self, root: Node, cone: Cone, reader: FormulaReader) -> Found | None:
        formula = reader.formula(root.output)
        if formula is None or not _same_type(self.graph, root.output, cone.leaf):
            return None
        return Found(self.graph, root, cone.leaf, reader, formula)

    def _match(self, found: Found, cone: Cone) -> bool:
        kind = (found.formula, found.root.op_type, found.leaf.type)
        matched = False
        for idea in () if kind in self.nothing else self.ideas:
            result = idea.match(found)
            if result is None:
                continue
            matched = True
            if isinstance(result, str):
                self._note(cone, result, firm=True)
                continue
            if reason := self._kept(cone):
                self._note(cone, reason, firm=True)
                return False
            self._write(idea, result, cone)
            return True
        if not matched:
            self.nothing.add(kind)
        if _is_near(found.formula) or any(node.op_type in self.always for node in cone.nodes):
            self._note(cone, f"computes {_short(found.formula)}")
        return False

    def _note(self, cone: Cone, reason: str, *, firm: bool = False) -> None:
        """Keep the first thing that is said of a mark, for roots come from the largest part on.

        What an idea says of its own (`firm`) comes before what the formula just is.
        """
        for node in cone.nodes:
            if node.op_type in self.marks and (node not in self.firm or node not in self.why):
                if firm:
                    self.firm.add(node)
                    self.why[node] = reason
                else:
                    self.why.setdefault(node, reason)

    def _kept(self, cone: Cone) -> str | None:
        """Why the operations would stay although the root is replaced, or None."""
        gone = {cone.nodes[0]}
        for node in cone.nodes[1:]:
            others = (use for use in self.graph.uses(node.output) if use.node not in gone)
            other = next(others, None)
            if other is None:
                gone.add(node)
            elif node.op_type in self.marks:
                return f"{node.op_type} output {use_text(other, 'also feeds')}"
        return None

    def _write(self, idea: Idea, write: Writer, cone: Cone) -> None:
        root = cone.nodes[0]
        build = Builder(self.graph, self.trace.pass_name, cone.nodes)
        value = write(build)
        if value.type is None:
            self.graph.set_type(value, root.output.type)
        self.trace.applied(idea.name, root)
        for node in replace_node(self.graph, root, [value], build.made):
            self.trace.forget(node)
        self.readers.clear()


def _same_type(graph: Graph, one: Value, other: Value) -> bool:
    if not isinstance(one.type, TensorType) or not isinstance(other.type, TensorType):
        return False
    left, right = shape_of(graph, one), shape_of(graph, other)
    if one.type.dtype is not other.type.dtype or left is None or right is None:
        return False
    return len(left) == len(right) and all(map(dims.equal, left, right))


def _is_near(formula: Formula) -> bool:
    """Whether the leaf is multiplied by a function of it, as in most ideas."""
    return any(
        any(atom.kind == "leaf" for atom, _ in monomial)
        and any(atom.inner is not None for atom, _ in monomial)
        for monomial, _ in formula.terms
    )


def _short(formula: Formula) -> str:
    found = text(formula)
    return found if len(found) <= _WORDY else f"{found[:_WORDY]}…"


def attribute_bounds(graph: Graph) -> bool:
    """Whether Clip has its bounds as attributes."""
    return (ops.since("Clip", graph.opset) or 0) < 11
