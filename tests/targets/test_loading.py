"""Finding targets and runtimes by name, and reading descriptor files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import optc.targets
from optc.errors import TargetError
from optc.targets import load_runtime, load_target, runtime_names, target_names
from optc.targets.loading import MAX_BYTES, key_path

FOLDER = Path(optc.targets.__file__).parent
CASCADELAKE = (FOLDER / "cpus" / "cascadelake.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cascadelake", "cascadelake"),
        ("CLX", "cascadelake"),
        ("skx", "skylake"),
        ("cpx", "cooperlake"),
        ("emr", "emeraldrapids"),
        ("icx", "icelake"),
        ("IceLake-SP", "icelake"),
        ("spr", "sapphirerapids"),
        ("SapphireRapids", "sapphirerapids"),
    ],
)
def test_targets_are_found_by_name_and_alias_in_any_case(given: str, name: str) -> None:
    assert load_target(given).id == name
    assert load_target(given) is load_target(name)


def test_unknown_target_names_the_nearest_and_all_known() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("cascadelaek")
    assert caught.value.code == "target-unknown"
    assert caught.value.message == (
        "there is no target 'cascadelaek'; known: skylake (skx, skylake-sp, skylake-avx512), "
        "cascadelake (clx), cooperlake (cpx), icelake (icx, icelake-sp, icelake-server), "
        "sapphirerapids (spr), emeraldrapids (emr), host, or the path of a .yaml file"
    )
    assert caught.value.hint == "did you mean 'cascadelake'?"


def test_unknown_target_far_from_all_has_no_hint() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("epyc")
    assert caught.value.hint is None


def test_runtimes_are_found_in_any_case_and_unknown_ones_explained() -> None:
    assert load_runtime("OpenVINO").id == "openvino"
    with pytest.raises(TargetError) as caught:
        load_runtime("onnxrt")
    assert str(caught.value) == (
        "there is no runtime 'onnxrt'; known: onnxruntime, openvino\n  did you mean 'onnxruntime'?"
    )


def test_a_descriptor_file_is_loaded_by_path_or_by_text_that_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(CASCADELAKE.replace("id: cascadelake", "id: mine"), encoding="utf-8")
    assert load_target(file).id == "mine"
    assert load_target(str(file)).id == "mine"


def broken(tmp_path: Path, content: str | bytes) -> TargetError:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TargetError) as caught:
        load_target(file)
    assert str(tmp_path) in str(caught.value.location)
    return caught.value


def test_a_key_given_twice_is_an_error_with_its_place(tmp_path: Path) -> None:
    content = CASCADELAKE.replace("  family: 6\n", "  family: 6\n  family: 7\n")
    error = broken(tmp_path, content)
    line = content[: content.index("  family: 7")].count("\n") + 1
    assert error.code == "descriptor-invalid"
    assert error.message == "identification.family: the key is given twice"
    assert error.location == f"{tmp_path}/broken.yaml:{line}:3"


def test_all_problems_of_a_file_are_reported_with_key_paths(tmp_path: Path) -> None:
    content = CASCADELAKE.replace("gcc_march:", "gcc_arch:").replace("family: 6", "family: six")
    error = broken(tmp_path, content.replace("steppings: [5, 6, 7]", "steppings: [5, 16]"))
    assert error.code == "descriptor-invalid"
    assert error.message.splitlines() == [
        "not a valid target descriptor",
        "  identification.family: Input should be a valid integer",
        "  identification.models[0].steppings[1]: Input should be less than or equal to 15",
        "  toolchain.gcc_march: missing key",
        "  toolchain.gcc_arch: unknown key",
    ]


def test_an_empty_list_is_refused_where_one_entry_is_needed(tmp_path: Path) -> None:
    error = broken(tmp_path, CASCADELAKE.replace("steppings: [5, 6, 7]", "steppings: []"))
    assert error.message.splitlines()[1:] == [
        "  identification.models[0].steppings: needs at least one entry"
    ]


def test_a_rule_across_fields_is_reported_in_its_own_words(tmp_path: Path) -> None:
    error = broken(tmp_path, CASCADELAKE.replace("    - avx512_vnni\n", ""))
    assert error.message.splitlines()[1] == (
        "  (whole file): compute.ops_per_cycle.int8_vnni: the target lacks avx512_vnni"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id: [1, 2", "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "but found another document"),
        ("x: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: \x07", "cannot be read as YAML"),
        (b"a: \xff\xfe\xff", "cannot be read as YAML"),
        ("[" * 50_000, "cannot be read as YAML"),
        ("a: &x 1\nb: *x\n", "b: aliases are not allowed"),
        ("#" * (MAX_BYTES + 1), "larger than 256 KiB"),
        ("", "(whole file): Input should be"),
        ("- 1\n", "(whole file): Input should be"),
    ],
)
def test_files_that_are_not_plain_data_are_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    error = broken(tmp_path, content)
    assert message in error.message
    assert error.code in {"descriptor-unreadable", "descriptor-invalid"}


def test_a_missing_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: No such file or directory"


def test_key_paths_read_like_the_file() -> None:
    assert key_path(("models", 0, "steppings")) == "models[0].steppings"
    assert key_path(()) == "(whole file)"


def test_importing_the_targets_loads_no_runtime_and_no_template_engine() -> None:
    code = (
        "import sys, optc.targets; heavy = {'onnx', 'onnxruntime', 'openvino', 'jinja2', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_names_are_listed_oldest_generation_first() -> None:
    assert target_names() == (
        "skylake",
        "cascadelake",
        "cooperlake",
        "icelake",
        "sapphirerapids",
        "emeraldrapids",
    )
    assert runtime_names() == ("onnxruntime", "openvino")
