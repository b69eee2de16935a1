"""The kernel table of OpenVINO, checked on the machine that runs the tests.

Each route is built as a model of one operator and compiled once per instruction set up to the
machine's own (oneDNN can be told to leave the rest alone); the runtime model and ONEDNN_VERBOSE
show what runs. What needs instructions that the machine lacks is skipped.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.one_op import SPECS, ZeroPoint, build, sandwich
from optc.targets import detect_host, load_runtime
from optc.targets.capabilities import TABLE, capabilities_of
from optc.targets.fact import version_key
from optc.targets.host import CPUINFO
from optc.targets.loading import shipped_extensions, shipped_kernels

if TYPE_CHECKING:
    from optc.targets.kernels import Choice, Route

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
    ),
]

AUDIT = Path(__file__).parent / "openvino_audit.py"
LEVELS = {  # value of ONEDNN_MAX_CPU_ISA: what it leaves
    "AVX2": {"avx2"},
    "AVX512_CORE": {"avx2", "avx512"},
    "AVX512_CORE_VNNI": {"avx2", "avx512", "avx512_vnni", "vnni"},
    "AVX512_CORE_BF16": {"avx2", "avx512", "avx512_vnni", "vnni", "avx512_bf16", "bf16"},
    "DEFAULT": set(TABLE),
}
NOT_BUILT = {"GridSample": "needs a second input in a range of its own"}
ANY = {  # what stands for `*`: operators without a route of their own in these types
    ("plain", "f32"): ("Tanh", "Softmax", "Transpose"),
    ("plain", "f16"): ("Conv", "MatMul"),
    ("hint", "f16"): ("Conv", "MatMul"),
    ("hint", "bf16"): ("Add", "Exp", "LayerNormalization", "Concat"),
    ("qdq", "u8"): ("Add", "Mul", "Sigmoid", "Gelu", "Softmax"),
}
HINTS = {"bf16": "bf16", "f16": "f16"}
LAYOUT = {"Reorder", "Transpose", "Reshape", "Convert"}


def cases() -> list[tuple[Route, str, ZeroPoint]]:
    return [
        (route, op, zero)
        for route in shipped_kernels("openvino").routes
        for op in (ANY[route.form, route.activation] if "*" in route.ops else route.ops)
        for zero in zero_points(route)
        if op in SPECS
    ]


def zero_points(route: Route) -> tuple[ZeroPoint, ...]:
    if route.zero_point != "any":
        return (route.zero_point,)
    quantized = route.form.startswith("qdq")
    return ("symmetric", "asymmetric") if quantized else ("symmetric",)


def is_sandwiched(route: Route, op: str) -> bool:
    """Whether the operator must not be the last one, which stays fp32 under a hint."""
    return route.form == "hint" and SPECS[op].weight is None and op not in {"LSTM", "GRU"}


def parameters() -> list[Any]:
    return [
        pytest.param(level, index, id=f"{level}-{op}-{route.spelling}-{zero}")
        for level in LEVELS
        for index, (route, op, zero) in enumerate(cases())
    ]


@pytest.fixture(scope="module")
def audits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from an instruction set to what became of every case, each run once."""
    folder = tmp_path_factory.mktemp("openvino")
    jobs: list[list[str | float | None]] = []
    for index, (route, op, zero) in enumerate(cases()):
        path = folder / f"{index}.onnx"
        onnx.save(sandwich(op) if is_sandwiched(route, op) else build(route, op, zero), path)
        hint = HINTS.get(route.activation, "f32") if route.form == "hint" else "f32"
        jobs.append([str(path), hint, None])

    path = folder / "saturation.onnx"
    onnx.save(saturating(), path)
    jobs.append([str(path), "f32", 255.0])
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")

    @functools.cache
    def run(level: str) -> list[dict[str, Any]]:
        caps = {} if level == "DEFAULT" else dict.fromkeys(CAP_VARIABLES, level)
        result, log = folder / f"{level}.json", folder / f"{level}.log"
        with log.open("wb") as stdout:
            subprocess.run(
                [sys.executable, str(AUDIT), str(folder / "jobs.json"), str(result)],
                env={**os.environ, **caps, "ONEDNN_VERBOSE": "profile_create"},
                stdout=stdout,
                check=True,
                timeout=300,
            )
        found: list[dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
        lines = log.read_text(encoding="utf-8", errors="replace").split("case ")[1:]
        return [
            {**entry, "onednn": implementations(text)}
            for entry, text in zip(found, lines, strict=True)
        ]

    return run


def implementations(log: str) -> list[list[str]]:
    """Primitive kind and implementation of every primitive that was created.

    A line reads ``onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,jit:avx2,…``.
    """
    lines = [line.split(",") for line in log.splitlines() if line.startswith("onednn_verbose,v1")]
    created = [parts for parts in lines if len(parts) > 6 and parts[3].startswith("create:")]
    return [[parts[5], parts[6]] for parts in created]


CAP_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA")


@pytest.mark.parametrize(("level", "index"), parameters())
def test_the_plugin_makes_of_it_what_the_route_says(level: str, index: int, audits: Any) -> None:
    route, op, _ = cases()[index]
    choice = route.choice(capabilities_at(level))
    if choice is None:
        pytest.skip("the CPU is below every choice of the route")
    found = audits(level)[index]
    assert "error" not in found
    version = found["version"].split("-")[0]
    if version_key(version) < version_key(load_runtime("openvino").versions.minimum):
        pytest.skip(f"openvino {version} is older than what is described")
    if not route.holds_for(version):
        pytest.skip(f"the route does not speak about openvino {version}")
    try:
        if is_sandwiched(route, op):
            check_vector(choice, found["layers"])
        else:
            check_layers(route, choice, found["layers"])
            check_onednn(choice, route, found["onednn"])
    except AssertionError as error:
        if choice.confidence is None or choice.confidence == "high":
            raise
        pytest.xfail(f"never run on such a CPU before; correct the table: {error}")


def capabilities_at(level: str) -> set[str]:
    """What an instruction set leaves of this CPU; skips the test when the CPU has less."""
    host = set(capabilities_of(detect_host().flags)) if CPUINFO.exists() else set()
    if "avx2" not in host:
        pytest.skip("the table is about x86-64 CPUs with AVX2")
    if level != "DEFAULT" and not LEVELS[level] <= host:
        pytest.skip(f"the CPU has no {', '.join(sorted(LEVELS[level] - host))}")
    return LEVELS[level] & host


DEPTH = 64


def saturating() -> onnx.ModelProto:
    """A product of the largest u8 activations and s8 weights: 255 x 127, summed 64 times."""
    constants = {
        "one": np.float32(1),
        "u8": np.uint8(0),
        "s8": np.int8(0),
        "w": np.full((DEPTH, 32), 127, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "u8"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "u8"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "one", "s8"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "saturation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, DEPTH))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 32))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("level", LEVELS)
def test_pairs_of_products_saturate_exactly_where_there_is_no_vnni(level: str, audits: Any) -> None:
    vnni = "avx512_vnni" in capabilities_at(level)
    exact = 255 * 127 * DEPTH
    saturated = 32767 * DEPTH // 2
    assert audits(level)[-1]["result"] == (exact if vnni else saturated)


def check_layers(route: Route, choice: Choice, layers: list[list[str]]) -> None:
    kinds = [kind for kind, _, _ in layers]
    if route.becomes is not None:
        assert route.becomes in kinds
    chosen = [name for kind, _, name in layers if kind == route.becomes]
    if choice.shown_as is not None:
        assert [name.lower() for name in chosen] == [choice.shown_as]
    elif choice.outcome == "converted":
        expected = "bf16" if choice.kernel == "the bf16 kernel" else "f32"
        heavy = chosen or [name for kind, _, name in layers if kind not in LAYOUT]
        assert expected in {name.rpartition("_")[2] for name in heavy}
        assert not any(name.lower().endswith("_i8") for name in chosen)
    elif choice.outcome == "native" and route.activation == "u8":
        assert any(name.lower().endswith("_i8") for kind, _, name in layers if kind not in LAYOUT)


def check_onednn(choice: Choice, route: Route, created: list[list[str]]) -> None:
    if choice.kernel is None or " " in choice.kernel:  # words, not a name of oneDNN
        return
    names = [name for kind, name in created if kind != "reorder"]
    assert choice.kernel in names
    for capability in choice.needs:
        if choice.outcome == "native" and "gemm_s8" not in choice.kernel:
            row = shipped_extensions().extensions[capability]
            types = (route.activation, route.weight or route.activation)
            assert row.proven_by(choice.kernel, "3.13.0", *types)


def check_vector(choice: Choice, layers: list[list[str]]) -> None:
    lowered = {
        kind
        for kind, _, name in layers
        if kind not in {*LAYOUT, "FullyConnected"} and name.endswith("_bf16")
    }
    assert bool(lowered) == (choice.outcome != "converted")


def test_what_is_not_built_is_listed_with_its_reason() -> None:
    ops = {op for route in shipped_kernels("openvino").routes for op in route.ops} - {"*"}
    assert ops - set(SPECS) == set(NOT_BUILT)
