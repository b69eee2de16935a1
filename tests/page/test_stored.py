"""Reports that are read again: what is not as optc writes it is named, with its place."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from optc.cli import main
from optc.errors import ModelError
from optc.page.render import page_of
from optc.page.stored import read_report, read_reports
from page.reports import QUICKSTART, branching_model, compiled, made_up, report_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Place = tuple[int | str, ...]

TEXTS = {
    "": ":1:1: not JSON, or not all of it: Expecting value",
    '{"name": "x",\n "target": "casc': ":2:12: not JSON, or not all of it: Unterminated",
    "[]": ": it is a list of 0; expected a mapping",
    '"text"': ': it is "text"; expected a mapping',
    "null": ": it is null; expected a mapping",
    "{}": ": it has no name",
    "[" * 100_000: ": not JSON as it writes it: ",
    '{"name": NaN}': ": not JSON as it writes it: NaN is not a finite number",
    '{"name": 1e999}': ": not JSON as it writes it: 1e999 is not a finite number",
    '{"name": 10000000000000000000}': "10000000000000000000 has more than 64 bits",
    '{"name": "\\ud800"}': "surrogates not allowed",
}
PARTS: list[tuple[Place, object, str]] = [
    (("name",), 5, "name is 5; expected a string"),
    (("operations",), "28", 'operations is "28"; expected a mapping'),
    (("operations", "source"), "28", 'operations.source is "28"; expected an integer'),
    (("precision", "Add"), ["fp32"], "precision.Add is a list of 1; expected a mapping"),
    (("predicted", "gain"), 1.5, "predicted.gain is 1.5; expected a mapping"),
    (("verification",), [], "verification is a list of 0; expected a mapping"),
    (("verification", "verified"), True, "verification has no data"),
    (("warnings",), "one", 'warnings is "one"; expected a list'),
    (("passes",), {}, "passes is a mapping; expected a list"),
    (("passes",), [{"pass": "x"}], "passes[0] has no changed"),
    (("passes",), [{"pass": "x", "skipped": 1}], "passes[0].skipped is 1; expected a string"),
    (("nodes", 3), "Add", 'nodes[3] is "Add"; expected a mapping'),
    (("nodes", 3, "op"), None, "nodes[3].op is null; expected a string"),
    (("nodes", 3, "inputs"), [1.5], "nodes[3].inputs[0] is 1.5; expected an integer or a string"),
    (("nodes", 3, "inputs"), ["q"], "nodes[3] refers to 'q', which is not there"),
    (("nodes", 3, "inside"), [99, "body"], "nodes[3] refers to 99, which is not there"),
    (
        ("nodes", 3, "sqnr_db"),
        1e300,
        "nodes[3].sqnr_db is 1e+300; expected less than or equal to 10000",
    ),
    (("source", "nodes", 0, "inputs"), [-1], "source.nodes[0] refers to -1, which is not there"),
    (("ends",), None, "ends is null; expected a mapping"),
    (("ends", "outputs", "y", "from"), 99, "output 'y' refers to 99, which is not there"),
]


def put(report: dict[str, Any], place: Place, value: object) -> str:
    """The report as text, with another value at a place."""
    whole: Any = {"": deepcopy(report)}
    part, last = whole, place[-1] if place else ""
    for step in ("", *place)[: len(place)]:
        part = part[step]
    part[last] = value
    return json.dumps(whole[""])


def folder_of(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "out" / "cascadelake"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(text)
    return folder


def check_refused(folder: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {folder / 'report.json'}:")
    assert "this is no report of optc: " in err
    assert said in err.replace("this is no report of optc: ", "")
    assert err.endswith("\n  compile the recipe again, or copy the output folder again\n")
    assert out == ""
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    check_refused(folder_of(tmp_path, text), TEXTS[text], capsys)


@pytest.mark.parametrize(("place", "value", "said"), PARTS)
def test_a_part_of_another_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: Place, value: object, said: str
) -> None:
    check_refused(folder_of(tmp_path, put(made_up(22), place, value)), said, capsys)


def test_bytes_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path, "")
    (folder / "report.json").write_bytes(b"\xff\xfe{}")
    check_refused(folder, "not JSON as it writes it: 'utf-8' codec", capsys)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Reports that optc wrote, with rewrites, refusals, skipped steps and nested graphs."""
    place = tmp_path_factory.mktemp("reports")
    first = compiled(QUICKSTART / "mnist_mobilenet.onnx", place / "a")
    second = compiled(branching_model(place / "m.onnx"), place / "b")
    return [report_in(first), report_in(second), {**made_up(22), "passes": [SKIPPED]}]


SKIPPED = {"pass": "cast-bf16", "skipped": "the target has no bf16"}


def places(value: object, here: Place = ()) -> Iterator[Place]:
    """Every place of a report; of long lists the first and the last element."""
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*here, key))
    elif isinstance(value, list):
        for index in sorted({0, len(value) - 1} & set(range(len(value)))):
            yield from places(value[index], (*here, index))


def test_no_damage_ends_in_anything_but_a_page_or_an_error(
    tmp_path: Path, reports: list[dict[str, Any]]
) -> None:
    """Any place of a report with a value of any type: rendered, or refused."""
    values: tuple[object, ...] = (
        None,
        True,
        -7,
        2.5,
        "text",
        [],
        [3],
        ["a"],
        {},
        {"a": 1},
        {"a": None},
    )
    cases = [
        (report, place, value)
        for report in reports
        for place in places(report)
        for value in values
        if place[:1] != ("recipe",)
    ]
    outcomes = {"rendered": 0, "refused": 0}
    for report, place, value in random.Random(0).sample(cases, 600):
        folder = folder_of(tmp_path, put(report, place, value))
        try:
            read = read_reports(folder)
        except ModelError:
            outcomes["refused"] += 1
        else:
            page_of(folder, read)
            outcomes["rendered"] += 1
    assert min(outcomes.values()) > 50, outcomes


def test_what_optc_writes_is_read(tmp_path: Path, reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert read_report(folder_of(tmp_path, json.dumps(report))) == report


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        '{"targets": 3}',
        '{"targets": [3, "../x", "a\\u0000"], "files": ["a"]}',
        "[" * 10**5,
    ],
    ids=range(5),
)
def test_a_damaged_manifest_harms_nothing(tmp_path: Path, manifest: str) -> None:
    folder = folder_of(tmp_path, json.dumps(made_up(22)))
    (folder.parent / "manifest.json").write_text(manifest)
    (folder / "launch").mkdir()
    (folder / "launch" / "ADVICE.md").write_bytes(b"caf\xe9")
    assert main(["report", str(folder)]) == 0
    assert (folder.parent / "manifest.json").read_text() == manifest
    assert "caf\ufffd" in (folder / "report.html").read_text()
