"""Descriptor files of users that extend a target and state only what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from optc.errors import TargetError
from optc.targets import load_target
from optc.targets.loading import MAX_DEPTH, merge

if TYPE_CHECKING:
    from pathlib import Path

    from optc.targets import Target

CORES = """
topology:
  max_cores_per_socket: {value: 32, source: data sheet, confidence: high}
"""


def load(tmp_path: Path, text: str, name: str = "mine.yaml") -> Target:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return load_target(file)


def refused(tmp_path: Path, text: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        load(tmp_path, text)
    assert str(tmp_path) in str(caught.value.location)
    return caught.value


@pytest.mark.parametrize("base", ["icelake", "ICX", "icelake-server"])
def test_a_file_states_only_what_differs(tmp_path: Path, base: str) -> None:
    target = load(tmp_path, f"extends: {base}\nid: gold-6338\n{CORES}")
    parent = load_target("icelake")
    assert target.id == "gold-6338"
    assert target.topology.max_cores_per_socket.value == 32
    assert target.topology.max_sockets == parent.topology.max_sockets
    assert target.capabilities == parent.capabilities
    assert target.identity != parent.identity


def test_a_fact_is_replaced_as_a_whole_with_its_source(tmp_path: Path) -> None:
    target = load(tmp_path, f"extends: icelake\nid: mine\n{CORES}")
    fact = target.topology.max_cores_per_socket
    assert fact.source == "data sheet"
    assert fact.note is None
    error = refused(
        tmp_path,
        "extends: icelake\nid: mine\n"
        "topology: {max_cores_per_socket: {value: 32, confidence: high}}\n",
    )
    assert "a known value needs its source" in error.message


def test_lists_replace_and_null_removes(tmp_path: Path) -> None:
    target = load(
        tmp_path,
        "extends: cascadelake\nid: mine\nnames: {aliases: [a, b]}\nsoftware: []\n"
        "isa: {flags: [sse2, avx2, fma, avx512f, avx512cd, avx512bw, avx512dq, avx512vl]}\n"
        "compute: {ops_per_cycle: {int8_vnni: null}}\n",
    )
    assert target.aliases == ("a", "b")
    assert target.software == ()
    assert "int8_vnni" not in target.compute.ops_per_cycle
    assert target.capabilities == {"avx2", "avx512"}


def test_files_extend_files_relative_to_their_own(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "site.yaml").write_text(f"extends: spr\nid: site\n{CORES}")
    target = load(tmp_path, "extends: base/site.yaml\nid: mine\n")
    assert target.topology.max_cores_per_socket.value == 32
    assert "amx" in target.capabilities


def test_files_that_extend_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("extends: mine.yaml\nid: other\n")
    error = refused(tmp_path, "extends: other.yaml\nid: mine\n")
    assert error.message.startswith("extends: a circle: ")
    assert error.message.count("mine.yaml") == 2


def test_a_chain_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for index in range(MAX_DEPTH + 1):
        base = "icelake" if index == MAX_DEPTH else f"{index + 1}.yaml"
        (tmp_path / f"{index}.yaml").write_text(f"extends: {base}\nid: t{index}\n")
    with pytest.raises(TargetError, match="extends: a chain of more than 8 files"):
        load_target(tmp_path / "0.yaml")
    assert load_target(tmp_path / "1.yaml").id == "t1"


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        (
            "extends: icelakee\nid: mine\n",
            "target-unknown",
            "extends: there is no target 'icelakee'; known: skylake, cascadelake, cooperlake, "
            "icelake, sapphirerapids, emeraldrapids, or the path of a .yaml file",
            "did you mean 'icelake'?",
        ),
        (
            "extends: [icelake]\nid: mine\n",
            "descriptor-invalid",
            "extends: must be the name of a target or the path of a file",
            None,
        ),
        (
            "extends: none.yaml\nid: mine\n",
            "descriptor-unreadable",
            "No such file or directory",
            None,
        ),
        (
            "extends: icelake\n",
            "descriptor-invalid",
            "id: 'icelake' is the name of the target that it extends",
            "give it a name of its own: `id` names the folder of the artefact",
        ),
    ],
)
def test_broken_extensions_are_explained(
    tmp_path: Path, text: str, code: str, message: str, hint: str | None
) -> None:
    error = refused(tmp_path, text)
    assert (error.code, error.message, error.hint) == (code, message, hint)


def test_a_typo_in_an_extension_is_an_unknown_key(tmp_path: Path) -> None:
    error = refused(tmp_path, "extends: icelake\nid: mine\ntopologie: {}\n")
    assert error.message.splitlines()[1:] == ["  topologie: unknown key"]


def test_merging_leaves_its_operands_alone() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(base, {"a": {"b": None, "e": 3}, "d": [2]}) == {"a": {"c": 2, "e": 3}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}
