"""The rendered launch folder: golden files, and only settings that do something."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from launch.cases import CASES, GOLDEN, TOPOLOGIES, Case, layout, rendered
from optc.errors import CapabilityError, InternalError, TargetError
from optc.launch import MODES, Emitted, Service, Settings, render_launch
from optc.launch.topology import parse_cpus, sockets
from optc.targets import load_runtime, load_target, runtime_names
from optc.targets.runtimes import SwitchedOff

EMITTED = Emitted("digits", "model.onnx")
SWITCH = "optimization.disable_specified_optimizers"


def simple(runtime: str, settings: Settings, target: str = "clx") -> dict[str, bytes]:
    return render_launch(load_target(target), load_runtime(runtime), EMITTED, settings)


def test_the_golden_files_are_what_is_rendered(update_golden: bool) -> None:
    expected = layout({case: rendered(case) for case in CASES})
    if update_golden:
        shutil.rmtree(GOLDEN, ignore_errors=True)
        for name, content in expected.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_bytes(content)
    found = {
        path.relative_to(GOLDEN).as_posix(): path.read_bytes()
        for path in GOLDEN.rglob("*")
        if path.is_file()
    }
    assert sorted(set(found) ^ set(expected)) == [], "golden files that are missing or left over"
    for name, content in expected.items():
        assert found[name].decode() == content.decode(), name


def test_the_golden_files_stay_reviewable() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_every_golden_script_is_clean_for_shellcheck() -> None:
    scripts = {path.read_bytes(): str(path) for path in sorted(GOLDEN.rglob("*.sh"))}
    done = subprocess.run(
        ["shellcheck", "--shell=sh", *scripts.values()], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("case", CASES, ids="/".join)
def test_only_settings_that_the_runtime_honours_are_written(case: Case) -> None:
    engine = load_runtime(case[0])
    files = rendered(case)
    options = json.loads(files["runtime.json"])
    names = [
        name
        for section in ("session_options", "session_config", "properties")
        for name in options.get(section, {})
    ]
    assert names
    assert [name for name in names if not engine.honours(name)] == []
    told = b"".join(content for name, content in files.items() if name != "ADVICE.md")
    ignored = [knob.name for knob in engine.knobs if not knob.honoured]
    assert [name for name in ignored if name.encode() in told] == []
    assert re.findall(rb"\b[OK]MP_\w+", told) == []


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
    settings = Settings(mode=mode)
    ort = json.loads(simple("onnxruntime", settings)["runtime.json"])["session_options"]
    assert ort["intra_op_num_threads"] == threads
    assert ort["inter_op_num_threads"] == 1
    ov = json.loads(simple("openvino", settings)["runtime.json"])["properties"]
    assert ov == {
        "ENABLE_CPU_PINNING": "NO",
        "ENABLE_HYPER_THREADING": "NO",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "PERFORMANCE_HINT": hint,
    }


@pytest.mark.parametrize(
    ("mode", "topology", "threads"),
    [
        ("latency", "two-sockets", 4),
        ("online", "two-sockets", 10),
        ("throughput", "two-sockets", 20),
        ("latency", "sub-numa", 4),
        ("online", "sub-numa", 6),
        ("throughput", "sub-numa", 6),
    ],
)
def test_a_declared_topology_decides_the_thread_count(
    mode: str, topology: str, threads: int
) -> None:
    files = rendered(("onnxruntime", mode, topology, "icelake"))
    options = json.loads(files["runtime.json"])["session_options"]
    assert options["intra_op_num_threads"] == threads
    assert f"\nOPTC_THREADS={threads}\n".encode() in files["env"]


@pytest.mark.parametrize(
    ("target", "tiles"), [("cooperlake", []), ("spr", ["amx_tile", "amx_bf16"])]
)
def test_bf16_changes_the_hint_and_the_flags_that_are_needed(target: str, tiles: list[str]) -> None:
    plain = json.loads(simple("openvino", Settings(), target)["runtime.json"])
    files = simple("openvino", Settings(precision="bf16"), target)
    options = json.loads(files["runtime.json"])
    assert plain["properties"].pop("INFERENCE_PRECISION_HINT") == "f32"
    assert options["properties"].pop("INFERENCE_PRECISION_HINT") == "bf16"
    assert plain.pop("tile_flags") == []
    assert options.pop("tile_flags") == tiles
    assert [need["any_of"] for need in plain.pop("needs")] == [["sse4_1"]]
    assert [need["any_of"] for need in options.pop("needs")] == [["sse4_1"], ["avx512_bf16"]]
    assert options == plain
    assert b"The accuracy in the report is that of the model in fp32" in files["ADVICE.md"]


@pytest.mark.parametrize(
    ("target", "runtime", "lacking"),
    [
        ("clx", "openvino", "cascadelake lacks bf16"),
        ("icx", "openvino", "icelake lacks bf16"),
        ("spr", "onnxruntime", "onnxruntime does not use bf16"),
    ],
)
def test_bf16_is_refused_where_it_would_be_emulated(
    target: str, runtime: str, lacking: str
) -> None:
    with pytest.raises(CapabilityError, match=f"launch.precision: bf16 cannot be had: {lacking}"):
        simple(runtime, Settings(precision="bf16"), target)


@pytest.mark.parametrize("runtime", runtime_names())
def test_nothing_with_cpu_numbers_is_written_without_a_topology(runtime: str) -> None:
    files = rendered((runtime, "latency", "two-sockets", "cascadelake"), declared=False)
    assert sorted(files) == [
        "ADVICE.md",
        "env",
        "host-tuning.sh",
        "kubernetes-node.yaml",
        "kubernetes.yaml",
        "launch.sh",
        "runtime.json",
    ]
    assert "launch.sh --topology" in files["ADVICE.md"].decode()


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mode", MODES)
def test_instances_of_the_units_share_no_cpu_and_stay_on_their_node(
    topology: str, mode: str
) -> None:
    files = rendered(("onnxruntime", mode, topology, "cascadelake"))
    nodes = {n.number: {c.cpu for c in n.cores} for n in TOPOLOGIES[topology].nodes}
    units = [content.decode() for name, content in files.items() if name.endswith(".service")]
    seen: list[int] = []
    for unit in units:
        lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
        cpus = parse_cpus(lines["AllowedCPUs"])
        assert nodes[int(lines["AllowedMemoryNodes"])].issuperset(cpus)
        assert f" --cpus {lines['AllowedCPUs']} --cores {len(cpus)} " in lines["ExecStart"]
        seen += cpus
    assert seen
    assert len(set(seen)) == len(seen)
    services = yaml.safe_load(files["compose.yaml"])["services"]
    assert [cpu for s in services.values() for cpu in parse_cpus(s["cpuset"])] == seen


def test_a_number_of_cores_in_the_recipe_is_the_number_of_threads() -> None:
    settings = Settings(mode="throughput", batch=16, instances=3, cores=6)
    files = simple("onnxruntime", settings)
    assert json.loads(files["runtime.json"])["session_options"]["intra_op_num_threads"] == 6
    script = files["launch.sh"].decode()
    assert "\nbatch=16\n" in script
    assert "\ninstances=3 " in script
    assert "\ncores=6 " in script
    assert "\njson_threads=6 " in script
    deployment = yaml.safe_load(files["kubernetes.yaml"])
    assert deployment["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("version", "there"), [(None, True), ("1.28.3", False), ("1.29", True), ("1.31.1", True)]
)
def test_a_variable_is_written_for_the_versions_that_read_it(
    version: str | None, there: bool
) -> None:
    files = simple("onnxruntime", Settings(runtime_version=version))
    assert (b'export ORT_INTRA_OP_NUM_THREADS="$threads"' in files["launch.sh"]) is there
    assert (b"\nORT_INTRA_OP_NUM_THREADS=4\n" in files["env"]) is there


def test_the_onnxruntime_variable_is_written_for_onnxruntime_only() -> None:
    told = b"".join(simple("openvino", Settings()).values())
    assert b"ORT_INTRA_OP_NUM_THREADS" not in told


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (
            Settings(mode="latancy"),
            "launch.mode: there is no mode 'latancy'; known: latency, online, throughput",
            "did you mean 'latency'?",
        ),
        (Settings(batch=0), "launch.batch: must be at least 1, not 0", None),
        (Settings(cores=0), "launch.cores: must be at least 1, not 0", None),
        (
            Settings(cores=29),
            "launch.cores: 29 cores per instance, but a socket of cascadelake has 28",
            "an instance never crosses a NUMA node: use fewer cores and more instances",
        ),
        (
            Settings(topology=sockets(1, 56, 1)),
            "launch.topology: node 0 has 56 cores, but a socket of cascadelake has 28",
            "`cores` lists one CPU per physical core; the other hardware threads of the cores are "
            "`siblings`",
        ),
    ],
)
def test_settings_that_no_machine_can_honour_are_refused(
    settings: Settings, message: str, hint: str | None
) -> None:
    with pytest.raises(TargetError) as caught:
        simple("openvino", settings)
    assert caught.value.code == "launch-invalid"
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_an_unknown_launch_rule_asks_for_cores_in_the_recipe() -> None:
    target = load_target("clx")
    unknown = target.launch.latency_cores.model_copy(update={"value": None, "note": "no source"})
    rules = target.launch.model_copy(update={"latency_cores": unknown})
    changed = target.model_copy(update={"launch": rules})
    runtime = load_runtime("onnxruntime")
    with pytest.raises(TargetError, match="how many cores") as caught:
        render_launch(changed, runtime, EMITTED)
    assert caught.value.hint == "set launch.cores in the recipe"
    exact = Settings(cores=2)
    assert render_launch(changed, runtime, EMITTED, exact) == simple("onnxruntime", exact)


def test_a_runtime_without_templates_is_a_bug_of_ours() -> None:
    runtime = load_runtime("onnxruntime").model_copy(update={"id": "other"})
    with pytest.raises(InternalError, match="no launch templates for runtime other"):
        render_launch(load_target("clx"), runtime, EMITTED)


@pytest.mark.parametrize("name", ["a $(touch pwned) 'b'", "x\ny", "", "../x"])
def test_names_that_scripts_would_read_otherwise_are_a_bug_of_ours(name: str) -> None:
    for emitted in (Emitted(name, "model.onnx"), Emitted("digits", name)):
        with pytest.raises(InternalError, match="not a name for scripts"):
            render_launch(load_target("clx"), load_runtime("onnxruntime"), emitted)


def test_the_environment_file_means_the_same_to_a_shell() -> None:
    service = Service(folder="/srv/models")
    text = simple("onnxruntime", Settings(service=service))["env"].decode()
    stated = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = [line.split("=")[0] for line in stated]
    show = "; ".join(f'echo "{name}=${name}"' for name in names)
    done = subprocess.run(
        ["sh", "-c", f"{text}\n{show}"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == stated
    assert stated[0] == "OPTC_MODEL=/srv/models/cascadelake/model.onnx"


@pytest.mark.parametrize("case", CASES[:: len(CASES) // 6], ids="/".join)
def test_advice_names_generation_and_source_of_what_sources_disagree_on(case: Case) -> None:
    text = rendered(case)["ADVICE.md"].decode()
    target = load_target(case[-1])
    for entry in target.advice:
        line = f"- {entry.topic}: {entry.advice} (for {entry.generation}: {entry.source})"
        assert line in text
    for topic in ("hyper-threading", "turbo", "sub-numa"):
        assert f"\n- {topic}: " in text
    assert "Nothing here is a requirement" in text


def test_throughput_below_the_recommended_size_is_told_with_its_source() -> None:
    text = rendered(("onnxruntime", "throughput", "sub-numa", "sapphirerapids"))["ADVICE.md"]
    assert b"at least 20 cores per instance for large batches\n(Intel, Tuning Guide" in text
    large = rendered(("onnxruntime", "throughput", "two-sockets", "sapphirerapids"))["ADVICE.md"]
    assert b"at least 20 cores" not in large


def test_harmful_optimizers_are_switched_off_where_the_model_has_what_they_harm() -> None:
    runtime = load_runtime("onnxruntime")
    entry = SwitchedOff(
        name="SomeFusion", until="1.40", ops=("Mish",), evidence="measured", confidence="high"
    )
    runtime = runtime.model_copy(update={"switched_off": (entry, *runtime.switched_off)})
    target = load_target("cascadelake")

    def config(ops: set[str], version: str | None = None) -> tuple[str | None, str]:
        emitted = Emitted("digits", "model.onnx", ops=frozenset(ops))
        files = render_launch(target, runtime, emitted, Settings(runtime_version=version))
        options = json.loads(files["runtime.json"])["session_config"]
        return options.get(SWITCH), files["ADVICE.md"].decode()

    assert runtime.honours(SWITCH)
    found, advice = config({"Mish", "LayerNormalization"})
    assert found == "SomeFusion;SkipLayerNormFusion"
    assert "SomeFusion (measured)" in advice
    assert config({"Mish"}, "1.41")[0] is None
    assert config({"Mish"}, "1.40.1")[0] == "SomeFusion"
    found, advice = config({"Conv"})
    assert found is None
    assert "Switched off" not in advice
