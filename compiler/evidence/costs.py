"""Measures what operations cost on this machine, for `profile` of a recipe.

A chain of equal operations and a shorter one take turns; what the longer one takes more, by the
operations that it has more, is the time of one operation within a network: what a run of a model
costs, and what happens at its ends, is in both. Times are CPU times of the one thread that runs
them. What else the machine does comes on top, so they are those of the quickest fifth of the runs.

    seconds  =  2 multiply-adds / (peak x efficiency)  +  elements of the result x cycles  +  cycles

is then fitted to convolutions and matrix products of different sizes, by least squares of relative
errors with coefficients that are not negative. The unit is the cycle of `optc.numerics.prices`.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from optc.emit.onnx import save_model
from optc.errors import TargetError
from optc.files import write_text
from optc.ir import DType, Graph, TensorType
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.numerics.prices import Prices
from optc.numerics.timing import ASSUMED_GHZ
from optc.rewrite.driver import Builder
from optc.targets import detect_host, host_capabilities, load_runtime, load_target, read_profile
from optc.targets.loading import shipped_kernels
from optc.targets.runtimes import Profile
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Value
    from optc.targets import Precision

_SHORT: Final = 2
_LONG: Final = 10
_RUNS: Final = 60
_WARM_UP: Final = 5
_SEED: Final = 5
_SIMPLER: Final = 1e-6
"""How much less the error has to be for another term."""
_OPERANDS: Final = {"Tanh": 1, "Add": 2, "Mul": 2}
_KINDS: Final[tuple[tuple[Precision, str], ...]] = (("fp32", ""), ("int8", "int8"))
_STEP: Final = np.float32(0.05)
_ZERO: Final = np.uint8(128)


@dataclass(frozen=True)
class Case:
    """One operation of a chain: its result is as large as its operand.

    Attributes:
        op: ``Conv``, ``MatMul``, an elementwise operator, or ``Tanh`` for what costs the same in
            both chains.
        channels: of operand and result.
        size: rows and columns of an image; rows of a matrix.
        kernel: width of the window.
        depthwise: whether each channel is a group.
        quantized: ``int8``: operands are quantized and weights are int8; ``pair``: a float
            operation behind QuantizeLinear and DequantizeLinear.
    """

    op: str
    channels: int
    size: int
    kernel: int = 1
    depthwise: bool = False
    quantized: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the data."""
        if self.op == "MatMul":
            return (1, self.size, self.channels)
        return (1, self.channels, self.size, self.size)

    @property
    def elements(self) -> int:
        """Of the result."""
        return int(np.prod(self.shape))

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        inputs = 1 if self.depthwise else self.channels
        return self.elements * inputs * self.kernel**2

    def chain(self, length: int) -> Graph:
        """So many, one behind the other."""
        graph = Graph("chain", {"": 13})
        value = graph.add_input("x", TensorType(DType.F32, self.shape))
        build, draw = Builder(graph, "costs", (value.node,)), np.random.default_rng(_SEED)
        for _ in range(length):
            operand = _converted(build, value) if self.quantized else value
            if self.op in _OPERANDS:
                value = build.node(self.op, [operand] * _OPERANDS[self.op]).output
                continue
            attributes: dict[str, Any] = {}
            if self.op == "Conv":
                attributes = {"pads": [self.kernel // 2] * 4}
                attributes["group"] = self.channels if self.depthwise else 1
            operands = [operand, self._weight(build, draw)]
            value = build.node(self.op, operands, attributes=attributes).output
        if self.quantized:
            value = _converted(build, value)
        graph.add_output(value, "y", TensorType(DType.F32, self.shape))
        return graph

    def _weight(self, build: Builder, draw: np.random.Generator) -> Value:
        if self.op == "MatMul":
            shape: tuple[int, ...] = (self.channels, self.channels)
        else:
            inputs = 1 if self.depthwise else self.channels
            shape = (self.channels, inputs, self.kernel, self.kernel)
        terms = float(np.sqrt(self.macs / self.elements))
        if self.quantized != "int8":
            return build.constant((draw.standard_normal(shape) / terms).astype(np.float32))
        integers = build.constant(draw.integers(-127, 128, shape).astype(np.int8))
        scale = build.constant(np.float32(1 / (73 * terms)))  # the rms of the integers is 73
        return build.node("DequantizeLinear", [integers, scale, build.constant(np.int8(0))]).output


PRODUCTS: Final = (
    *(Case("Conv", c, s) for c, s in ((16, 24), (32, 14), (64, 14), (64, 28), (128, 14), (256, 7))),
    *(Case("Conv", c, s, 3) for c, s in ((16, 24), (32, 14), (64, 14), (128, 7))),
    *(Case("MatMul", c, s) for c, s in ((128, 32), (256, 64), (384, 128))),
)
DEPTHWISE: Final = tuple(
    Case("Conv", c, s, k, depthwise=True) for c, s, k in ((32, 28, 3), (64, 14, 3), (128, 14, 5))
)
_IMAGES: Final = ((32, 28), (128, 14), (128, 28))
CONVERTED: Final = tuple(Case("Tanh", c, s) for c, s in _IMAGES)
ELEMENTWISE: Final = tuple(Case(op, c, s) for op in ("Add", "Mul") for c, s in _IMAGES)


def _converted(build: Builder, value: Value) -> Value:
    step, zero = build.constant(_STEP), build.constant(_ZERO)
    integers = build.node("QuantizeLinear", [value, step, zero]).output
    return build.node("DequantizeLinear", [integers, step, zero]).output


def measure_costs(runtime: str) -> Profile:
    """Measure the costs of a runtime on this machine; about ten seconds.

    Args:
        runtime: its name.

    Raises:
        TargetError: there is no such runtime, or this machine is none of the targets.
        CapabilityError: the runtime is not installed.
    """
    described, host = load_runtime(runtime), detect_host()
    known = described.costs_on(host_capabilities())
    if host.target is None or known is None:
        raise TargetError("host-unknown", host.verdict, hint="costs are kept for the targets only")
    prices = Prices(load_target(host.target.id), described, {})
    plain = (*PRODUCTS, *DEPTHWISE, *ELEMENTWISE, *CONVERTED)
    lowered = [_as(case, "int8") for case in (*PRODUCTS, *DEPTHWISE, *ELEMENTWISE)]
    pairs = [_as(case, "pair") for case in CONVERTED]
    with tempfile.TemporaryDirectory(prefix="optc-costs-") as folder:
        cycles = {
            case: _seconds(case, described.id, Path(folder)) * ASSUMED_GHZ * 1e9
            for case in (*plain, *lowered, *pairs)
        }
    found = known.model_dump(exclude={"where"})
    for precision, kind in _KINDS:
        products = [_as(case, kind) for case in PRODUCTS]
        rates = [_rate(prices, case, precision) for case in products]
        fit = _fit(products, rates, [cycles[case] for case in products])
        found["efficiency"][precision], found["result"][precision] = fit[0], fit[1]
        found["operation"][precision] = fit[2]
        per_mac = [(cycles[c] - fit[2]) / c.macs for c in (_as(d, kind) for d in DEPTHWISE)]
        found["depthwise"][precision] = _rounded(max(statistics.median(per_mac), 0.0))
        if "*" not in known.fused_behind.get(precision, ()):  # a chain would be one operation
            own = [(cycles[c] - fit[2]) / c.elements for c in (_as(e, kind) for e in ELEMENTWISE)]
            found["elementwise"][precision] = _rounded(max(statistics.median(own), 0.0))
    extra = [
        (cycles[_as(c, "pair")] - cycles[c] - 2 * found["operation"]["fp32"]) / c.elements
        for c in CONVERTED
    ]
    found["quantize"] = found["dequantize"] = _rounded(max(statistics.median(extra), 0.0) / 2)
    version = library_version(described.package)
    found["evidence"] = (
        f"optc targets costs, {described.id} {version} on {host.product}; move, "
        "several, indirect and fused_behind are those of the descriptor"
    )
    found["confidence"] = "medium"
    return Profile.model_validate(
        {
            "schema_version": 1,
            "runtime": described.id,
            "version": version,
            "cpu": host.product or "unnamed CPU",
            "capabilities": tuple(sorted(host_capabilities())),
            "costs": found,
        }
    )


def describe_costs(found: Profile) -> str:
    """A profile as text for people."""
    costs = found.costs
    lines = [f"{found.cpu}, {found.runtime} {found.version}; cycles of one core"]
    for name, rates in (
        ("share of the peak that products reach", costs.efficiency),
        ("element of the result of a product", costs.result),
        ("multiply-add of a depthwise convolution", costs.depthwise),
        ("element of any other operation", costs.elementwise),
        ("operation", costs.operation),
    ):
        lines.append(f"{name}: " + ", ".join(f"{rate:g} in {kind}" for kind, rate in rates.items()))
    lines.append(
        f"element that is quantized: {costs.quantize:g}, dequantized: {costs.dequantize:g}"
    )
    return "\n".join(lines)


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile, and check that it can be read.

    Raises:
        OutputError: the file cannot be written.
    """
    text = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, width=100)
    write_text(path, f"# What operations cost on one machine.\n{text}")
    read_profile(path)


def _as(case: Case, quantized: str) -> Case:
    return replace(case, quantized=quantized)


def _seconds(case: Case, runtime: str, folder: Path) -> float:
    """CPU seconds of one operation of a chain."""
    options, engines = LaunchOptions.default(runtime), []
    for length in (_SHORT, _LONG):
        path = folder / f"chain{length}.onnx"
        save_model(case.chain(length), path)
        engines.append(open_engine(path, options))
    draw = np.random.default_rng(_SEED)
    feeds = {"x": draw.standard_normal(case.shape).astype(np.float32)}
    times: list[list[int]] = [[], []]
    for number in range(_WARM_UP + _RUNS):
        for index, engine in enumerate(engines):
            start = time.thread_time_ns()
            engine.run(feeds)
            if number >= _WARM_UP:
                times[index].append(time.thread_time_ns() - start)
    short, long = (statistics.quantiles(found, n=5)[0] for found in times)
    return max(long - short, 0.0) / (_LONG - _SHORT) * 1e-9


def _rate(prices: Prices, case: Case, precision: Precision) -> float:
    """Operations per cycle of the kernel that the table has for a case."""
    table, choice = shipped_kernels(prices.runtime.id), None
    if precision == "int8":
        route = table.find(case.op, "qdq", "u8", "s8", "u8", "asymmetric")
        choice = None if route is None else route.choice(prices.target.capabilities)
    return prices.rate(precision, choice)


def _fit(
    cases: Sequence[Case], rates: Sequence[float], cycles: Sequence[float]
) -> tuple[float, float, float]:
    """Efficiency, cycles per element of the result, and cycles per operation."""
    terms = np.array([[2 * c.macs / r, c.elements, 1.0] for c, r in zip(cases, rates, strict=True)])
    wanted = np.maximum(np.array(cycles), 1.0)
    scaled = terms / wanted[:, None]
    best: tuple[float, Any] = (np.inf, np.zeros(3))
    for count in (1, 2, 3):
        for chosen in itertools.combinations(range(3), count):
            part, *_ = np.linalg.lstsq(scaled[:, chosen], np.ones(len(cases)), rcond=None)
            if (part < 0).any():
                continue
            whole = np.zeros(3)
            whole[list(chosen)] = part
            error = float(np.square(scaled @ whole - 1).sum())
            if error < best[0] * (1 - _SIMPLER) - _SIMPLER:
                best = (error, whole)
    slowness, result, operation = (float(value) for value in best[1])
    efficiency = min(1 / slowness, 1.0) if slowness else 1.0
    return _rounded(efficiency), _rounded(result), _rounded(operation)


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
