"""The rendered launch folder: golden files, and only settings that do something."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from optc.errors import InternalError, TargetError
from optc.launch import MODES, render_launch
from optc.targets import load_runtime, load_target, runtime_names, target_names

GOLDEN = Path(__file__).parent / "golden"
MODEL = {"onnxruntime": "model.onnx", "openvino": "model.xml"}
CASES = [(t, r, m) for t in target_names() for r in runtime_names() for m in MODES]


def rendered(target: str, runtime: str, mode: str) -> dict[str, bytes]:
    return render_launch(
        load_target(target), load_runtime(runtime), model_file=MODEL[runtime], mode=mode
    )


@pytest.mark.parametrize(("target", "runtime", "mode"), CASES)
def test_rendered_files_equal_the_golden_ones(
    target: str, runtime: str, mode: str, update_golden: bool
) -> None:
    folder = GOLDEN / target / runtime / mode
    files = rendered(target, runtime, mode)
    if update_golden:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_no_golden_folder_is_left_over() -> None:
    folders = {path.parent.relative_to(GOLDEN).parts for path in GOLDEN.rglob("launch.sh")}
    assert folders == set(CASES)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_every_golden_script_is_clean_for_shellcheck() -> None:
    scripts = sorted(str(path) for path in GOLDEN.rglob("launch.sh"))
    done = subprocess.run(
        ["shellcheck", "--shell=sh", *scripts], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize(("target", "runtime", "mode"), CASES)
def test_only_settings_that_the_runtime_honours_are_written(
    target: str, runtime: str, mode: str
) -> None:
    engine = load_runtime(runtime)
    files = rendered(target, runtime, mode)
    options = json.loads(files["runtime.json"])
    names = [
        name
        for section in ("session_options", "session_config", "properties")
        for name in options.get(section, {})
    ]
    assert names
    assert [name for name in names if not engine.honours(name)] == []
    for knob in engine.knobs:
        if not knob.honoured:
            assert knob.name.encode() not in files["launch.sh"] + files["runtime.json"]


@pytest.mark.parametrize(
    ("mode", "threads", "streams", "hint"),
    [
        ("latency", 4, "1", "LATENCY"),
        ("online", 8, "1", "LATENCY"),
        ("throughput", 20, "AUTO", "THROUGHPUT"),
    ],
)
def test_thread_counts_and_precision_are_always_explicit(
    mode: str, threads: int, streams: str, hint: str
) -> None:
    ort = json.loads(rendered("spr", "onnxruntime", mode)["runtime.json"])
    assert ort["session_options"]["intra_op_num_threads"] == threads
    assert ort["session_options"]["inter_op_num_threads"] == 1
    ov = json.loads(rendered("spr", "openvino", mode)["runtime.json"])["properties"]
    assert ov == {
        "ENABLE_CPU_PINNING": "NO",
        "ENABLE_HYPER_THREADING": "NO",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "PERFORMANCE_HINT": hint,
    }


def test_a_number_of_cores_in_the_recipe_is_the_number_of_threads() -> None:
    files = render_launch(
        load_target("clx"),
        load_runtime("onnxruntime"),
        model_file="model.onnx",
        mode="throughput",
        batch=16,
        instances=3,
        cores=6,
    )
    assert json.loads(files["runtime.json"])["session_options"]["intra_op_num_threads"] == 6
    script = files["launch.sh"].decode()
    assert "\nbatch=16\n" in script
    assert "\ninstances=3 " in script
    assert "\ncores=6 " in script
    assert "\njson_threads=6 " in script


def test_the_onnxruntime_variable_is_written_for_onnxruntime_only() -> None:
    line = b'export ORT_INTRA_OP_NUM_THREADS="$threads"'
    assert line in rendered("clx", "onnxruntime", "latency")["launch.sh"]
    assert line not in rendered("clx", "openvino", "latency")["launch.sh"]


@pytest.mark.parametrize(
    ("mode", "batch", "cores", "message", "hint"),
    [
        (
            "latancy",
            1,
            None,
            "launch.mode: there is no mode 'latancy'; known: latency, online, throughput",
            "did you mean 'latency'?",
        ),
        ("online", 0, None, "launch.batch: must be at least 1, not 0", None),
        ("online", 1, 0, "launch.cores: must be at least 1, not 0", None),
        (
            "online",
            1,
            29,
            "launch.cores: 29 cores per instance, but a socket of cascadelake has 28",
            "an instance never crosses a NUMA node: use fewer cores and more instances",
        ),
    ],
)
def test_settings_that_no_machine_can_honour_are_refused(
    mode: str, batch: int, cores: int | None, message: str, hint: str | None
) -> None:
    with pytest.raises(TargetError) as caught:
        render_launch(
            load_target("clx"),
            load_runtime("openvino"),
            model_file="model.xml",
            mode=mode,
            batch=batch,
            cores=cores,
        )
    assert caught.value.code == "launch-invalid"
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_an_unknown_launch_rule_asks_for_cores_in_the_recipe() -> None:
    target = load_target("clx")
    unknown = target.launch.latency_cores.model_copy(update={"value": None})
    rules = target.launch.model_copy(update={"latency_cores": unknown})
    with pytest.raises(TargetError, match="how many cores") as caught:
        render_launch(
            target.model_copy(update={"launch": rules}),
            load_runtime("onnxruntime"),
            model_file="model.onnx",
        )
    assert caught.value.hint == "set launch.cores in the recipe"
    changed = target.model_copy(update={"launch": rules})
    assert render_launch(
        changed, load_runtime("onnxruntime"), model_file="model.onnx", cores=2
    ) == render_launch(target, load_runtime("onnxruntime"), model_file="model.onnx", cores=2)


def test_a_runtime_without_templates_is_a_bug_of_ours() -> None:
    runtime = load_runtime("onnxruntime").model_copy(update={"id": "other"})
    with pytest.raises(InternalError, match="no launch templates for runtime other"):
        render_launch(load_target("clx"), runtime, model_file="model.onnx")


def test_hostile_names_stay_data() -> None:
    name = "a $(touch pwned) 'b' \"c\".onnx"
    script = render_launch(load_target("clx"), load_runtime("onnxruntime"), model_file=name)[
        "launch.sh"
    ].decode()
    line = next(line for line in script.splitlines() if line.startswith("model="))
    done = subprocess.run(
        ["sh", "-c", f'{line}\nprintf %s "$model"'],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == name
