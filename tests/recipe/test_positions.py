"""What YAML means to a recipe, where things stand, and what a hostile file can cost."""

import math
import time
from pathlib import Path

import pytest

from optc.recipe.positions import MAX_BYTES, MAX_NODES, read_file, read_text
from optc.recipe.tree import ListNode, MapNode, Problems, ScalarNode, Source, data

SOURCE = Source("r.yaml")


def parsed(text: str) -> object:
    problems = Problems()
    tree = read_text(text, SOURCE, problems)
    assert not problems.ordered()
    assert tree is not None
    return data(tree)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("~", None),
        ("null", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("1.5.2", "1.5.2"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("9" * 40, "9" * 40),
    ],
)
def test_scalars_follow_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    found = parsed(f"key: {text}")
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_nan_is_read() -> None:
    found = parsed("[.nan]")
    assert isinstance(found, list)
    assert math.isnan(found[0])


def test_keys_are_text_as_written() -> None:
    assert parsed("{1: a, true: b, input.1: c}") == {"1": "a", "true": "b", "input.1": "c"}


def test_values_know_their_line_column_and_path() -> None:
    text = "pipeline:\n  - a\n  - b: {c.d: [1]}\n"
    tree = read_text(text, SOURCE, Problems())
    assert isinstance(tree, MapNode)
    pipeline = tree.get("pipeline")
    assert isinstance(pipeline, ListNode)
    step = pipeline.items[1]
    assert isinstance(step, MapNode)
    options = step.get("b")
    assert isinstance(options, MapNode)
    numbers = options.get("c.d")
    assert isinstance(numbers, ListNode)
    number = numbers.items[0]
    assert str(number.mark) == "r.yaml:3:15"
    assert number.path == 'pipeline[1].b."c.d"[0]'
    assert str(options.entries["c.d"].key_mark) == "r.yaml:3:9"


def test_an_alias_has_the_path_of_its_place_and_the_position_of_its_text() -> None:
    tree = read_text("a: &x [1]\nb: *x\n", SOURCE, Problems())
    assert isinstance(tree, MapNode)
    b = tree.get("b")
    assert isinstance(b, ListNode)
    assert (b.items[0].path, b.items[0].mark.line) == ("b[0]", 1)


def test_a_later_anchor_replaces_an_earlier_one() -> None:
    assert parsed("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]


def test_aliases_count_as_often_as_they_are_used() -> None:
    items = ", ".join(["x"] * 98)
    within = f"a: &a [{items}]\nb: [{', '.join(['*a'] * 99)}]\n"
    assert len(str(parsed(within))) > MAX_NODES
    problems = Problems()
    assert read_text(within + "c: [*a, *a]\n", SOURCE, problems) is None
    assert [problem.code for problem in problems.ordered()] == ["too-large"]


def nested_aliases(levels: int) -> str:
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(["a0: &a0 [" + ", ".join("x" * 10) + "]", *rows])


# Two seconds are what a hostile file may take. The slowest of these takes 0.4 on one 2.5 GHz core;
# the rest is for slower machines and for coverage, which makes the scanner three times slower.
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alias bomb", nested_aliases(30)),
        ("nesting", "[" * (MAX_BYTES - 1)),
        ("nested mappings", "{a: " * (MAX_BYTES // 5)),
        ("nested blocks", "- " * (MAX_BYTES // 2 - 1)),
        ("nested anchors", "[" + ", ".join(f"&a{i} [x]" for i in range(9000)) + "]"),
        ("many items", "[" + "a," * (MAX_BYTES // 2 - 2) + "]"),
        ("many keys", "".join(f"k{i}: 1\n" for i in range(11_000))),
        ("long string", "a: " + "x" * (MAX_BYTES - 4)),
        ("long folded string", "a: >\n" + "  x\n" * (MAX_BYTES // 4 - 2)),
        ("long number", "a: " + "9" * (MAX_BYTES - 4)),
        ("comments", "#\n" * (MAX_BYTES // 2)),
        ("directives", "%A\n" * (MAX_BYTES // 3)),
    ],
)
def test_a_hostile_text_ends_soon(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert path.stat().st_size <= MAX_BYTES, name
    start = time.process_time()
    read_file(path, SOURCE, Problems())
    assert time.process_time() - start < 2


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.write(b"model: ")
        file.truncate(1 << 30)  # sparse: one scalar of 1 GiB
    problems = Problems()
    start = time.process_time()
    assert read_file(path, Source("huge.yaml"), problems) is None
    assert time.process_time() - start < 0.1
    assert [str(problem) for problem in problems.ordered()] == [
        "huge.yaml: is larger than 128 KiB, which no recipe needs\n"
        "  give the recipe, not a model or a data file"
    ]


def test_a_byte_that_is_not_utf8_is_pointed_at(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("model: a\nname: caf\u00e9\n".encode("latin-1"))
    problems = Problems()
    assert read_file(path, Source("latin.yaml"), problems) is None
    assert [str(problem) for problem in problems.ordered()] == [
        "latin.yaml:2:10: is not UTF-8 text: byte 0xe9\n  save it as UTF-8"
    ]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: a\n")
    tree = read_file(path, SOURCE, Problems())
    assert tree is not None
    assert tree.get("model") == ScalarNode(tree.mark.__class__(SOURCE, 1, 8), "model", "a")
