"""Fold what models compute about their own shapes.

Exporters write a reshape as ``Reshape(x, Concat(Gather(Shape(x), 0), [12, 64], …))``. What of such
chains is known is folded (see `optc.ir.shapes.values`):

- a result of which every element is known becomes a constant;
- results with the same elements, some of them symbols, become one;
- ``Reshape(x, [N, L*12, 64])`` gets the constant ``[0, -1, 64]``: 0 copies the size at that place
  of x, -1 stands for the one size that the element count decides;
- ``Expand(x, [N, 12, L])`` gets ``[1, 12, 1]`` where x has N and L at these places, and goes when
  it expands nothing;
- ``Slice(x, …, ends=[L])`` gets an end behind the last element where x has at most L of them;
- ``Resize(x, sizes=[N, C, 2*H, 2*W])`` gets the scales ``[1, 1, 2, 2]``, when they are exact.

The operations that computed the shape go with their last use. Equal symbols are equal sizes (ONNX
IR specification); the symbols come from the inputs, or from `infer-shapes`.

Where -1 would stand beside a size of zero, Reshape fails (it has no answer to 0/0), and the
computed shape does not. So it is used only when every other size is at least 1. Sizes of graph
inputs are taken to be; see `FoldShapesOptions`.

Source: ONNX operators Reshape-5, -14, Expand-8, Slice-10, Resize-11, -18.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, cast

import numpy as np
from pydantic import Field

from optc.ir import DType, Kind, dims
from optc.ir.shape_rules_move import slice_bounds
from optc.ir.shape_rules_window import has_sizes, resized
from optc.ir.shape_site import Site, constant_tensor, identified_shape, shape_of
from optc.ir.shapes import infer, values
from optc.passes.base import Pass, PassOptions, PassResult
from optc.rewrite.driver import Builder, remove_unused, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Dim, Graph, Node, Shape, Value
    from optc.ir.shape_site import Item, Partial
    from optc.passes.base import PassContext

_LARGEST: Final = {DType.I64: 2**63 - 1, DType.I32: 2**31 - 1}


class FoldShapesOptions(PassOptions):
    """Options of `fold-shapes`."""

    empty_inputs: bool = Field(
        default=False,
        description="whether dynamic dimensions of graph inputs may be 0 at run time; then no "
        "Reshape is given a -1 beside a size that is computed from them",
    )


class FoldShapes(Pass):
    """Fold shape computations that are known, fully or in part.

    Refuses: more than one unknown size in a Reshape; a -1 beside a size that may be zero; an
    explicit zero (`allowzero`); a size that is neither a number nor the operand's own (Expand,
    Slice); scales that are no exact fraction, cropping and aspect ratio policies (Resize); results
    that are graph outputs.
    """

    name = "fold-shapes"
    Options: ClassVar[type[PassOptions]] = FoldShapesOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fold in every graph, consumers before producers."""
        del context
        options = cast("FoldShapesOptions", self.options)
        trace = Trace(self.name)
        known = values(graph)
        at_least_one = {} if options.empty_inputs else _one_more(graph)
        for inner in tuple(graph.walk()):
            folder = _Folder(inner, known, at_least_one, trace)
            order = inner.ordered()
            for node in reversed(order):
                if node in inner:
                    folder.fold(node)
            folder.merge(order)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _one_more(graph: Graph) -> dict[str, Dim]:
    """Every symbol of the graph inputs plus one, to put in its place: then it is at least 1."""
    shapes = (shape_of(graph, value) for value in graph.inputs)
    found = {name for shape in shapes for dim in shape or () for name in dims.symbols(dim)}
    return {name: dims.add(name, 1) for name in sorted(found)}


_Outcome: TypeAlias = "str | bool"
"""The reason of a refusal, or whether something was changed."""


class _Folder:
    """Folds single nodes of one graph."""

    def __init__(
        self,
        graph: Graph,
        known: Mapping[Value, Partial],
        at_least_one: Mapping[str, Dim],
        trace: Trace,
    ) -> None:
        self._graph = graph
        self._known = known
        self._at_least_one = at_least_one
        self._trace = trace
        self._rules: Mapping[str, tuple[str, Callable[[Site], _Outcome]]] = {
            "Reshape": ("reshape-shape", self._reshape),
            "Expand": ("expand-shape", self._expand),
            "Slice": ("slice-ends", self._slice),
            "Resize": ("resize-scales", self._resize),
        }

    def merge(self, order: Sequence[Node]) -> None:
        """Let the first of several results with the same symbolic elements stand for all."""
        first: dict[tuple[DType, tuple[int, ...], tuple[Item, ...]], Value] = {}
        for node in order:
            value = node.outputs[0] if len(node.outputs) == 1 else None
            part = None if value is None else self._known.get(value)
            if value is None or part is None or node not in self._graph:
                continue
            if part.is_known or None in part.items:
                continue
            key = (part.dtype, part.shape, part.items)
            kept = first.get(key)
            if kept is None or kept.node not in self._graph:  # it went with its only consumer
                first[key] = value
            elif not self._graph.is_output(value):
                self._trace.applied("same-value", node)
                replace_node(self._graph, node, [kept])

    def fold(self, node: Node) -> None:
        """Fold a node if it can be; count it or say why not."""
        rules: list[tuple[str, Callable[[Site], _Outcome]]] = []
        if any(value in self._known for value in node.outputs):
            rules.append(("known-value", self._constant))
        if not node.domain and node.op_type in self._rules:
            rules.append(self._rules[node.op_type])
        for name, rule in rules:
            outcome = rule(Site(self._graph, node, self._known))
            if outcome is True:
                self._trace.applied(name, node)
                return
            if outcome:
                self._trace.refused(name, node, outcome)

    # ---- fully known ---------------------------------------------------------------------------

    def _constant(self, site: Site) -> _Outcome:
        node, graph = site.node, self._graph
        results = [value for value in node.outputs if value is not None]
        parts = [self._known[value] for value in results if value in self._known]
        if node.op_type == "Constant" or len(parts) < len(results):
            return False
        if not all(part.is_known for part in parts):
            return False
        for value in results:
            for use in graph.uses(value):
                if use.node.kind is Kind.OUTPUT:
                    return f"{value.name} is the graph output {use.node.name}"
        build = Builder(graph, self._trace.pass_name, (node,))
        made = [build.constant(part.tensor(), name=node.key) for part in parts]
        replace_node(graph, node, made, {value.node for value in made})
        return True

    # ---- partly known --------------------------------------------------------------------------

    def _reshape(self, site: Site) -> _Outcome:
        shape = _computed(site, 1)
        if not isinstance(shape, tuple):
            return shape
        target = self._target(site, shape)
        if isinstance(target, str):
            return target
        if 0 in target and "allowzero" in site.node.attributes:
            kept = {k: v for k, v in site.node.attributes.items() if k != "allowzero"}
            self._graph.set_attributes(site.node, kept)
        self._put(site, 1, np.asarray(target, dtype=np.int64), "shape")
        return True

    def _target(self, site: Site, shape: Sequence[Item]) -> list[int] | str:
        """The new shape operand of a Reshape, or why there is none."""
        if 0 in shape and site.integer("allowzero"):
            return "an explicit zero in the new shape (allowzero)"
        data = _own_shape(site) or ()
        results = (infer(self._graph, site.node, self._known) or (None,))[0] or ()
        target: list[int] = []
        for axis, item in enumerate(shape):
            size = results[axis] if axis < len(results) else None
            if isinstance(item, int) and item != -1:
                target.append(item)
            elif isinstance(size, int) and size > 0:
                target.append(size)
            elif axis < len(data) and (_same(item, data[axis]) or _same(size, data[axis])):
                target.append(0)
            else:
                target.append(-1)
        unknown = [axis for axis, entry in enumerate(target) if entry == -1]
        if len(unknown) > 1:
            return f"sizes {_listed(shape, unknown)} of the new shape are not known"
        if unknown and shape[unknown[0]] != -1:
            for axis, entry in enumerate(target):
                if entry == 0 and not self._is_positive(data[axis]):
                    return f"size {data[axis]} beside the unknown one may be zero"
        return target

    def _is_positive(self, size: Dim) -> bool:
        return dims.at_least(dims.substitute(size, self._at_least_one), 1)

    def _expand(self, site: Site) -> _Outcome:
        shape = _computed(site, 1)
        data = _own_shape(site)
        if not isinstance(shape, tuple):
            return shape
        if data is None:
            return "the rank of the operand is not known"
        added = len(shape) - len(data)
        target: list[int] = []
        expands = added > 0
        for axis, item in enumerate(shape):
            own: Dim = data[axis - added] if axis >= added else 1
            if _same(item, own):
                target.append(1)
            elif isinstance(item, int):
                target.append(item)
                expands |= item != 1
            else:
                return f"size {_shown(item)} is not that of the operand, {_shown(own)}"
        if not expands:
            replace_node(self._graph, site.node, [site.operands[0]])  # type: ignore[list-item] # has a shape
            return True
        self._put(site, 1, np.asarray(target, dtype=np.int64), "shape")
        return True

    def _slice(self, site: Site) -> _Outcome:
        ends = _computed(site, 2)
        data = _own_shape(site)
        part = site.partial(2)
        if not isinstance(ends, tuple) or part is None:
            return bool(ends) if not isinstance(ends, str) else ends
        bounds = None if data is None else slice_bounds(site, len(data))
        if data is None or bounds is None:
            return "the sliced axes are not known"
        new: list[int] = []
        for item, (axis, (_, _, step)) in zip(ends, bounds.items(), strict=True):
            if isinstance(item, int):
                new.append(item)
            elif not isinstance(step, int) or step < 0:
                return "it slices backwards, or by a step that is not known"
            elif _same(item, data[axis]) or _reaches(item, data[axis]):
                new.append(_LARGEST[part.dtype])
            else:
                return f"end {_shown(item)} may lie before the last of {_shown(data[axis])}"
        self._put(site, 2, np.asarray(new, dtype=part.dtype.numpy), "ends")
        return True

    def _resize(self, site: Site) -> _Outcome:
        if site.opset < 11 or not has_sizes(site):
            return False
        sizes = _computed(site, 3)
        data = _own_shape(site)
        if not isinstance(sizes, tuple):
            return sizes
        if site.text("coordinate_transformation_mode") == "tf_crop_and_resize":
            return "it crops"
        if site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            return "it keeps the aspect ratio"
        axes = site.int_list("axes") or range(len(sizes))
        if data is None or not all(-len(data) <= axis < len(data) for axis in axes):
            return "the rank of the operand is not known"
        scales: list[float] = []
        for item, axis in zip(sizes, axes, strict=False):
            scale = _scale(item, data[axis])
            if scale is None:
                return f"size {_shown(item)} is no exact multiple of {_shown(data[axis])}"
            scales.append(scale)
        self._put(site, 2, np.asarray(scales, dtype=np.float32), "scales")
        old = site.operands[3]
        self._graph.set_operand(site.node, 3, None)
        remove_unused(self._graph, [] if old is None else [old.node])
        return True

    def _put(self, site: Site, index: int, array: np.ndarray, suffix: str) -> None:
        """Let a constant take the place of an operand."""
        old, node = site.value(index), site.node
        build = Builder(self._graph, self._trace.pass_name, (node,))
        made = build.constant(array, name=f"{node.key}_{suffix}")
        self._graph.set_operand(node, index, made)
        if old is not None:
            remove_unused(self._graph, [old.node])


def _computed(site: Site, index: int) -> tuple[Item, ...] | _Outcome:
    """The elements of an operand that is computed, and symbolic in part; False when it is not."""
    value = site.value(index)
    if value is None or constant_tensor(value) is not None:
        return False
    part = site.partial(index)
    if part is None or not part.dtype.is_integer or part.array.ndim != 1:
        return f"nothing is known of {value.name}"
    return False if part.is_known else part.items


def _own_shape(site: Site) -> Shape | None:
    value = site.value(0)
    return None if value is None else identified_shape(site.graph, value)


def _same(item: Item, size: Dim) -> bool:
    """Whether an element is provably equal to a size; unknown sizes are equal to themselves."""
    if item is None or isinstance(item, float):
        return False
    return item == size or dims.equal(item, size)


def _reaches(item: Item, size: Dim) -> bool:
    return isinstance(item, str) and dims.at_least(item, size)


def _scale(item: Item, size: Dim) -> float | None:
    """The scale that resizes `size` to `item` exactly, for every value of the symbols."""
    if _same(item, size):
        return 1.0
    if item is None or isinstance(item, float):
        return None
    ratio: Dim | Fraction = dims.floordiv(item, size)
    if isinstance(item, int) and isinstance(size, int) and size > 0:
        ratio = Fraction(item, size)
    if isinstance(ratio, str) or ratio is None or ratio <= 0:
        return None
    scale = float(ratio)
    return scale if Fraction(scale) == ratio and _same(resized(size, scale), item) else None


def _listed(items: Sequence[Item], axes: Sequence[int]) -> str:
    return " and ".join(_shown(items[axis]) for axis in axes)


def _shown(item: Item) -> str:
    return "?" if item is None or (isinstance(item, str) and item.startswith("?")) else str(item)
