"""The verbs around targets: what they print and how they exit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optc.cli import main
from optc.cli.roofline import parse_shape
from optc.cli.tables import table
from optc.errors import DataError
from optc.targets import detect_host, differences, load_target
from optc.targets.host import CPUINFO
from optc.targets.probe import Measured, Probe

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"
SHAPE = ("--shape", "image=1,1,32,32")


@pytest.fixture
def optc(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs optc: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_query_answers_with_its_exit_code(optc: Any) -> None:
    words = ("targets", "query", "spr", "--runtime", "openvino", "--op", "MatMul")
    code, out, err = optc(*words, "--dtype", "int8")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "yes: MatMul in int8 on sapphirerapids with openvino"
    assert "peak      2048 operations per cycle and core [" in out
    code, out, _ = optc(*words, "--dtype", "u8u8")
    assert code == 1
    assert out.splitlines()[0] == "no: MatMul in u8u8 on sapphirerapids with openvino"
    assert out.splitlines()[-1].startswith("hint      write it as qdq of u8 x s8")


def test_query_takes_isa_kernel_version_cores_and_clock(optc: Any) -> None:
    assert optc("targets", "query", "spr", "--isa", "amx_bf16")[0] == 0
    code, out, _ = optc("targets", "query", "spr", "--isa", "amx_bf16", "--min-kernel", "5.15")
    assert code == 1
    assert "5.15 is older" in out
    words = ("--runtime", "onnxruntime", "--op", "Conv", "--dtype", "int8")
    assert optc("targets", "query", "clx", *words, "--runtime-version", "1.20")[0] == 1
    code, out, _ = optc("targets", "query", "clx", *words, "--cores", 4, "--ghz", 2.0)
    assert "2048 GOPS on 4 cores at 2 GHz" in out


def test_query_as_data(optc: Any) -> None:
    code, out, _ = optc("targets", "query", "clx", "--dtype", "bf16", "--json")
    data = json.loads(out)
    assert code == 1
    assert data["yes"] is False
    assert data["reason"].startswith("cascadelake lacks bf16")


def test_query_without_a_question_is_an_error(optc: Any) -> None:
    code, _, err = optc("targets", "query", "spr")
    assert code == 1
    assert "nothing is asked for" in err


def test_diff_lists_what_differs(optc: Any) -> None:
    code, out, _ = optc("targets", "diff", "clx", "spr")
    assert code == 1
    lines = out.splitlines()
    assert lines[0].split() == ["cascadelake", "sapphirerapids"]
    row = next(line for line in lines if line.startswith("memory.channels "))
    assert row.split() == ["memory.channels", "6", "8"]
    assert len(lines) == 1 + len(differences(load_target("clx"), load_target("spr")))
    assert optc("targets", "diff", "clx", "CLX")[:2] == (0, "the targets are equal\n")


def test_diff_as_data(optc: Any) -> None:
    code, out, _ = optc("targets", "diff", "skx", "clx", "--json")
    data = json.loads(out)
    assert code == 1
    assert data["equal"] is False
    assert {
        "path": "isa.flags.avx512_vnni",
        "skylake": "-",
        "cascadelake": "yes",
    } in data["differences"]


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_detect_says_what_this_machine_is_and_why(optc: Any) -> None:
    host = detect_host()
    expected = 0 if host.target else 1
    assert optc("targets", "detect") == (expected, f"{host.verdict}\n", "")
    code, out, _ = optc("targets", "detect", "--explain")
    assert (code, out.splitlines()) == (expected, list(host.explain()))
    code, out, _ = optc("targets", "detect", "--json")
    assert json.loads(out) == host.to_dict()


def test_show_prints_unknown_numbers_with_the_reason(optc: Any) -> None:
    code, out, _ = optc("targets", "show", "spr")
    assert code == 0
    assert "amx_ghz     unknown: depends on the SKU and the licence level; no table found" in out
    assert ":avx512_core_amx_int8$" in out
    data = json.loads(optc("targets", "show", "spr", "--json")[1])
    assert data["frequency"]["amx_ghz"]["value"] is None
    assert data["extensions"]["amx_int8"]["instructions"][0] == "TDPBUSD"


def test_inspect_without_a_clock_shows_cycles_and_asks_for_it(optc: Any) -> None:
    code, out, _ = optc("inspect", MODEL, "--target", "spr", "--cores", 4, *SHAPE, "--top", 3)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "roofline on 4 cores of sapphirerapids"
    head = next(line for line in lines if line.startswith("node"))
    assert "cycles" in head
    assert "… and " in out
    assert "memory above " in out
    assert lines[-1] == (
        "note: the clock of sapphirerapids under this load is unknown: cycles stand for seconds. "
        "Give it with --ghz, or measure it on the machine: optc targets probe"
    )


def test_inspect_with_a_clock_shows_time_and_bounds(optc: Any) -> None:
    words = ("inspect", MODEL, "--target", "spr", "--ghz", 1.9, *SHAPE)
    code, out, _ = optc(*words, "--top", 0, "--runtime", "onnxruntime")
    assert code == 0
    assert "roofline on 1 core of sapphirerapids with onnxruntime" in out
    assert " compute\n" in out
    assert " memory\n" in out
    assert "operations are memory-bound" in out
    assert "unknown" not in out
    data = json.loads(optc(*words, "--json")[1])
    assert data["seconds"] > 0
    assert sum(node["macs"] for node in data["nodes"]) == data["macs"]


def test_inspect_names_operations_of_unknown_shape(optc: Any) -> None:
    code, out, _ = optc("inspect", MODEL, "--target", "clx")
    assert code == 0
    assert "operations have unknown shapes and count nothing: " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "sprr"), "there is no target 'sprr'"),
        (("--target", "spr", "--runtime", "ort"), "there is no runtime 'ort'"),
        (("--target", "spr", "--shape", "x=1"), "the model has no input 'x'"),
        (("--target", "spr", "--shape", "image"), "--shape image: not NAME=SIZES"),
        (("--target", "spr", "--cores", 0), "cores and clock must be positive"),
    ],
)
def test_inspect_explains_what_does_not_fit(
    optc: Any, words: tuple[object, ...], message: str
) -> None:
    code, _, err = optc("inspect", MODEL, *words)
    assert code == 1
    assert message in err


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("x=1,3,8,8", ("x", (1, 3, 8, 8))),
        ("a=b=2, 3", ("a=b", (2, 3))),
        ("scalar=", ("scalar", ())),
    ],
)
def test_shapes_are_read(text: str, parsed: object) -> None:
    assert parse_shape(text) == parsed


@pytest.mark.parametrize("text", ["", "x", "=1", "x=1,", "x=-1", "x=1x2"])
def test_broken_shapes_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="not NAME=SIZES"):
        parse_shape(text)


def test_tables_keep_whole_cells_in_columns() -> None:
    rows = [("name", "count"), ("a[b]", "1"), ("longer name", "12345678")]
    assert list(table(rows, right=(1,))) == [
        "name            count",
        "a[b]                1",
        "longer name  12345678",
    ]


def test_probe_prints_what_it_measured_and_writes_a_descriptor(
    optc: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = detect_host(Path(__file__).parent / "cpuinfo" / "icelake.txt")
    found = Probe(host, 3.1, {"fp32_avx512": Measured(2.6, 64.0)})
    monkeypatch.setattr("optc.targets.probe.probe", lambda: found)
    file = tmp_path / "mine.yaml"
    code, out, _ = optc("targets", "probe", "--write", file)
    assert (code, out) == (0, found.describe() + "\n")
    assert load_target(file).frequency.avx512_ghz.value == 2.6
    data = json.loads(optc("targets", "probe", "--json")[1])
    assert data["paths"] == {"fp32_avx512": {"ghz": 2.6, "ops_per_cycle": 64.0}}
    code, out, _ = optc("inspect", MODEL, "--target", file, *SHAPE)
    assert code == 0
    assert "at least " in out
