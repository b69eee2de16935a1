"""Recognise normalizations by what they compute, however they are spelled.

    m = mean(x),  v = mean(x²) - m²,  r = 1 / √(v + epsilon),  q = 1 / √(mean(x²) + epsilon)

    LayerNormalization       (x - m) r · s + b      over the last axes
    InstanceNormalization    (x - m) r · s + b      over all but batch and channels
    RMSNormalization         x q · s                over the last axes
    LpNormalization          x / √(sum(x²))         over one axis

s and b are constants, in any place of the spelling: x (r s) + (b - m r s) is the same formula. A
sum of squares with an epsilon is an RMSNormalization with s = 1 / √n. Where the variance is spelled
as mean(x²) - mean(x)², the operator computes it more exactly.
Source: ONNX operators LayerNormalization-17, InstanceNormalization-22, RMSNormalization-23,
LpNormalization-22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from optc.ir import DType
from optc.passes import formula_functions as functions
from optc.passes.formula import Atom, Formula, X, close
from optc.passes.ideas import Idea, IdeasPass

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from optc.ir import Value
    from optc.passes.formula import Axes, Monomial
    from optc.passes.ideas import Found, Writer
    from optc.rewrite.driver import Builder

    Array = npt.NDArray[np.float64]

_LEAF: Final = X.terms[0][0][0][0]
_SUPPORTED: Final = (DType.F32, DType.F16, DType.BF16)


@dataclass(frozen=True)
class _Norm:
    """A formula as normalization.

    Attributes:
        axes: what it normalizes over.
        centred: whether the mean is subtracted.
        epsilon: added to the mean of squares.
        scale: factor, a formula of constants.
        bias: summand, a formula of constants.
    """

    axes: Axes
    centred: bool
    epsilon: float
    scale: Formula
    bias: Formula


def _norm_of(formula: Formula) -> _Norm | str | None:
    roots = {
        atom
        for monomial, _ in formula.terms
        for atom, exponent in monomial
        if atom.kind == "group" and exponent == -0.5
    }
    if len(roots) != 1:
        return _why_no_root(formula)
    root = roots.pop()
    assert root.inner is not None
    spread = _spread(root.inner)
    if spread is None:
        return _why_no_spread(root.inner)
    axes, centred = spread
    core = Formula(tuple((_without(m, root), c) for m, c in formula.terms if _has(m, root)))
    bias = Formula(tuple((m, c) for m, c in formula.terms if not _has(m, root)))
    scale = Formula(tuple((_without(m, _LEAF), c) for m, c in core.terms if _has(m, _LEAF)))
    if not _is_parameter(scale) or not _is_parameter(bias) or not scale.terms:
        return "scale and bias are not constants"
    middle = functions.mean(X, axes) if centred else Formula(())
    if not close(core, (X - middle) * scale, 1e-5):
        return "what is scaled is not x less its mean" if centred else "what is scaled is not x"
    return _Norm(axes, centred, root.inner.constant, scale, bias)


def _why_no_root(formula: Formula) -> str | None:
    """Says so where a deviation, not a variance, has something added to it."""
    for monomial, _ in formula.terms:
        for atom, exponent in monomial:
            if atom.kind != "group" or exponent != -1 or atom.inner is None:
                continue
            inside = [a for m, _ in atom.inner.terms for a, power in m if power == 0.5]
            if any(a.inner is not None and _spread(a.inner) for a in inside):
                return "epsilon is added outside of the root"
    return None


def _why_no_spread(inner: Formula) -> str | None:
    """Says so where the mean of squares is over other axes than the mean."""
    atoms = [atom for monomial, _ in inner.terms for atom, _ in monomial]
    nested = [a for atom in atoms if atom.inner for m, _ in atom.inner.terms for a, _ in m]
    if len({atom.axes for atom in (*atoms, *nested) if atom.kind == "mean"}) > 1:
        return "mean and variance are over different axes"
    return None


def _spread(inner: Formula) -> tuple[Axes, bool] | None:
    """Axes, and whether it is a variance, of a mean of squares plus epsilon; None for others."""
    moving = Formula(tuple((m, c) for m, c in inner.terms if m))
    if inner.constant < 0 or not moving.terms:
        return None
    for monomial, _ in moving.terms:
        axes = monomial[0][0].axes
        if not axes:
            return None
        square, middle = functions.mean(X * X, axes), functions.mean(X, axes)
        if close(moving, square - middle * middle):
            return axes, True
        if close(moving, square):
            return axes, False
    return None


def _has(monomial: Monomial, atom: Atom) -> bool:
    return any(other == atom for other, _ in monomial)


def _without(monomial: Monomial, atom: Atom) -> Monomial:
    return tuple(pair for pair in monomial if pair[0] != atom)


def _is_parameter(formula: Formula) -> bool:
    return all(atom.kind == "value" for monomial, _ in formula.terms for atom, _ in monomial)


def _array(formula: Formula) -> Array:
    """The numbers that a formula of constants is."""
    total: Array = np.zeros(())
    for monomial, coefficient in formula.terms:
        term: Array = np.array(coefficient)
        for atom, exponent in monomial:
            assert atom.value is not None
            assert atom.value.constant is not None
            term = term * atom.value.constant.numpy().astype(np.float64) ** exponent
        total = total + term
    return total


# ---- ideas -------------------------------------------------------------------------------------


def _shape(found: Found, axes: Axes) -> tuple[int, ...] | None:
    """The sizes of axes, where all are known."""
    shape = found.reader.shape
    sizes = [shape[axis] for axis in axes] if shape else []
    known = [size for size in sizes if isinstance(size, int)]
    return tuple(known) if len(known) == len(sizes) else None


def _rank(found: Found) -> int:
    return len(found.reader.shape or ())


def _trailing(array: Array, sizes: tuple[int, ...]) -> Array | None:
    """An array by the places of the last axes; None where it differs along others."""
    extra = max(array.ndim - len(sizes), 0)
    if any(size != 1 for size in array.shape[:extra]):
        return None
    try:
        return np.broadcast_to(array.reshape(array.shape[extra:]), sizes)
    except ValueError:
        return None


def _by_channel(array: Array, rank: int, channels: int) -> Array | None:
    """An array by channel, axis 1 of `rank`; None where it differs along other axes."""
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) > rank or any(size != 1 for i, size in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)) if shape[1] in (1, channels) else None


def _constant(build: Builder, found: Found, array: Array, name: str) -> Value:
    return build.constant(array, dtype=found.dtype, name=f"{found.root.key}_{name}")


def _over_last(found: Found, *, centred: bool) -> tuple[_Norm, Array, Array] | str | None:
    """A normalization over the last axes, with scale and bias by place."""
    norm = _norm_of(found.formula)
    if not isinstance(norm, _Norm) or norm.centred is not centred:
        return None if isinstance(norm, _Norm) else norm
    axes, rank = norm.axes, _rank(found)
    if found.dtype not in _SUPPORTED:
        return f"statistics of {found.dtype.value} would be taken in f32"
    if axes != tuple(range(axes[0], rank)):
        named = ", ".join(map(str, axes))
        return f"the axes {named} are not the last of {rank}: it would need a Transpose"
    sizes = _shape(found, axes)
    if sizes is None:
        return "the sizes of the normalized axes are not known"
    scale, bias = _trailing(_array(norm.scale), sizes), _trailing(_array(norm.bias), sizes)
    if scale is None or bias is None:
        return "scale or bias differ along axes that are not normalized"
    return norm, scale, bias


def _layer(found: Found) -> Writer | str | None:
    plan = _over_last(found, centred=True)
    if plan is None or isinstance(plan, str):
        return plan
    norm, scale, bias = plan
    return lambda build: build.LayerNormalization(
        found.leaf,
        _constant(build, found, scale, "scale"),
        _constant(build, found, bias, "bias") if norm.bias.terms else None,
        axis=norm.axes[0] - _rank(found),
        epsilon=norm.epsilon,
    )


def _rms(found: Found) -> Writer | str | None:
    plan = _over_last(found, centred=False)
    if plan is None or isinstance(plan, str):
        return plan
    norm, scale, _ = plan
    if norm.bias.terms:
        return None  # what is without the bias is recognised by itself
    return lambda build: build.RMSNormalization(
        found.leaf,
        _constant(build, found, scale, "scale"),
        axis=norm.axes[0] - _rank(found),
        epsilon=norm.epsilon,
    )


def _instance(found: Found) -> Writer | str | None:
    norm = _norm_of(found.formula)
    rank = _rank(found)
    if not isinstance(norm, _Norm) or not norm.centred or rank < 3:
        return None
    shape = found.reader.shape
    channels = shape[1] if shape else None
    if norm.axes != tuple(range(2, rank)) or not isinstance(channels, int):
        return None
    scale = _by_channel(_array(norm.scale), rank, channels)
    bias = _by_channel(_array(norm.bias), rank, channels)
    plain = _array(norm.scale).size == 1 and _array(norm.bias).size == 1
    if scale is None or bias is None or (plain and rank == 3):
        return None
    return lambda build: build.InstanceNormalization(
        found.leaf,
        _constant(build, found, scale, "scale"),
        _constant(build, found, bias, "bias"),
        epsilon=norm.epsilon,
    )


def _euclidean(found: Found) -> Writer | str | None:
    """X / √(sum(x²)): without an epsilon, as the operator."""
    for monomial, _ in found.formula.terms:
        for atom, exponent in monomial:
            if atom.kind != "group" or exponent not in (-0.5, -1.0) or atom.inner is None:
                continue
            axes = {a.axes for m, _ in atom.inner.terms for a, _ in m if a.axes}
            if len(axes) == 1 and len(only := axes.pop()) == 1:
                total = found.reader.total(X * X, only)
                if close(found.formula, X * total.power(-0.5)):
                    return lambda build: build.LpNormalization(found.leaf, axis=only[0], p=2)
            if exponent == -1.0 and any(
                a.kind == "relu" for m, _ in atom.inner.terms for a, _ in m
            ):
                return "LpNormalization has no lower bound for the norm"
    return None


class RaiseNorms(IdeasPass):
    """Write what is computed as a normalization as that operator.

    Refuses: another formula, which the reason tells; axes that are not the last ones; axes of
    unknown size; a scale or bias that is not constant or does not fit the operator; f64; a
    statistic that something else uses.
    """

    name: ClassVar[str] = "raise-norms"
    ideas: ClassVar[tuple[Idea, ...]] = (
        Idea("l2-normalization", _euclidean),
        Idea("instance-normalization", _instance),
        Idea("layer-normalization", _layer),
        Idea("rms-normalization", _rms),
    )
    marks: ClassVar[Mapping[str, str]] = {
        "ReduceMean": "layer-normalization",
        "ReduceSum": "layer-normalization",
        "ReduceSumSquare": "l2-normalization",
        "ReduceL2": "l2-normalization",
        "GlobalAveragePool": "instance-normalization",
    }
