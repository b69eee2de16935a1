"""Which models a bench measures, how they are called, with which options, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import optc
from optc.errors import CapabilityError, ModelError, OptcError
from optc.evidence.bench_caveats import caveats, measurable
from optc.evidence.bench_inputs import Facts
from optc.evidence.bench_models import Entry, choose_models, choose_recipe, resting
from optc.evidence.bench_throughput import plan_instances
from optc.evidence.subject import Subject, find_subject
from optc.launch.options import LaunchOptions, NeededFlags
from optc.launch.plan import Demand
from optc.launch.topology import sockets
from optc.targets import Host, detect_host

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "models" / "mnist_resnet.onnx"
CPUS = ROOT / "tests" / "targets" / "cpuinfo"
SPINNING = "session.intra_op.allow_spinning"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe for three targets, compiled."""
    folder = tmp_path_factory.mktemp("recipe")
    shutil.copy(MODEL, folder / "m.onnx")
    (folder / "recipe.yaml").write_text(
        "schema_version: 1\nname: m\nmodel: m.onnx\ntargets: [clx, spr]\noutput: out\n"
    )
    optc.compile(folder / "recipe.yaml", verify=False)
    return folder


def called(*places: str, runtimes: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    entries = choose_models(places, runtimes=runtimes).entries
    return [(entry.label, entry.subject.runtime) for entry in entries]


# ---- arguments ---------------------------------------------------------------------------------


def test_labels_and_runtimes_stand_before_the_path() -> None:
    assert called(str(MODEL)) == [(str(MODEL), "onnxruntime")]
    assert called(f"old={MODEL}") == [("old", "onnxruntime")]
    assert called(f"openvino:{MODEL}") == [(str(MODEL), "openvino")]
    assert called(f"ov=openvino:{MODEL}") == [("ov", "openvino")]


def test_what_exists_is_a_path_whatever_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.onnx", "openvino:m.onnx"):
        shutil.copy(MODEL, name)
    assert called("a=b.onnx") == [("a=b.onnx", "onnxruntime")]
    assert called("openvino:m.onnx") == [("openvino:m.onnx", "onnxruntime")]
    assert called("x=openvino:m.onnx") == [("x", "onnxruntime")]


def test_every_runtime_for_models_that_name_none() -> None:
    both = ("onnxruntime", "openvino")
    assert called(f"a={MODEL}", f"b=openvino:{MODEL}", runtimes=both) == [
        ("a (onnxruntime)", "onnxruntime"),
        ("a (openvino)", "openvino"),
        ("b", "openvino"),
    ]


def test_labels_are_unique() -> None:
    assert [label for label, _ in called(f"a={MODEL}", f"a={MODEL}", f"a={MODEL}")] == [
        "a",
        "a #2",
        "a #3",
    ]


@pytest.mark.parametrize(
    ("place", "code", "text"),
    [
        ("none.onnx", "model-missing", "none.onnx"),
        ("x=none.onnx", "model-missing", "none.onnx"),
        (f"onnxruntim:{MODEL}", "runtime-unknown", "did you mean 'onnxruntime'?"),
        (f"gpu:{MODEL}", "model-missing", "gpu:"),
    ],
)
def test_wrong_arguments_are_errors_that_help(place: str, code: str, text: str) -> None:
    with pytest.raises(OptcError) as caught:
        choose_models([place])
    assert caught.value.code == code
    assert text in str(caught.value)


def test_a_plain_model_gets_the_options_of_the_artefact_beside_it(compiled: Path) -> None:
    plain, artefact = choose_models([MODEL, compiled / "out" / "cascadelake"], threads=2).entries
    assert artefact.subject.options.target == "cascadelake"
    assert artefact.subject.options.session_config[SPINNING] == "1"
    assert artefact.demand is not None
    assert plain.subject.options.session_config[SPINNING] == "1"
    assert plain.subject.options.target == ""
    assert plain.subject.target is None
    assert plain.demand is None
    for entry in (plain, artefact):
        assert entry.subject.options.threads == 2
        assert resting(entry.subject).options.session_config[SPINNING] == "0"


# ---- recipes -----------------------------------------------------------------------------------


def test_a_recipe_means_its_source_and_its_results(compiled: Path) -> None:
    chosen = choose_recipe(compiled / "recipe.yaml")
    assert [entry.label for entry in chosen.entries] == ["source", "cascadelake"]
    source, result = chosen.entries
    assert source.subject.model == compiled / "m.onnx"
    # Both targets have the same graph and options: one is measured.
    assert [subject.label for subject in result.same] == ["sapphirerapids"]
    assert chosen.caveats == ()
    assert chosen.batch == 1


def test_targets_with_other_options_are_measured_each(compiled: Path, tmp_path: Path) -> None:
    shutil.copytree(compiled, tmp_path / "c")
    options = tmp_path / "c" / "out" / "sapphirerapids" / "launch" / "runtime.json"
    options.write_text(options.read_text().replace('"ORT_ENABLE_ALL"', '"ORT_ENABLE_BASIC"'))
    chosen = choose_recipe(tmp_path / "c" / "recipe.yaml")
    assert [entry.label for entry in chosen.entries] == ["source", "cascadelake", "sapphirerapids"]


def test_a_recipe_that_was_not_compiled_says_what_to_do(tmp_path: Path) -> None:
    shutil.copy(MODEL, tmp_path / "m.onnx")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("schema_version: 1\nmodel: m.onnx\ntargets: [clx]\n")
    with pytest.raises(ModelError) as caught:
        choose_recipe(recipe)
    assert caught.value.code == "not-compiled"
    assert caught.value.hint == f"run `optc compile {recipe}` first"


def test_a_result_of_another_recipe_is_told(compiled: Path, tmp_path: Path) -> None:
    shutil.copytree(compiled, tmp_path / "c")
    recipe = tmp_path / "c" / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "launch: {batch: 2}\n")
    (note,) = choose_recipe(recipe).caveats
    assert note.startswith("recipe or model have changed since")


# ---- what a machine can tell -------------------------------------------------------------------


def host(name: str) -> Host:
    return detect_host(CPUS / f"{name}.txt")


def entry(label: str, *, target: str = "", hint: str = "f32") -> Entry:
    options = LaunchOptions.default("openvino", target=target)
    properties = {**options.properties, "INFERENCE_PRECISION_HINT": hint}
    return Entry(Subject(label, MODEL, options.model_copy(update={"properties": properties})))


FP32 = Facts({}, {}, computes_bf16=False)
BF16 = Facts({}, {}, computes_bf16=True)


def test_bf16_is_measured_on_a_cpu_that_has_it_only() -> None:
    entries = [entry("source"), entry("hinted", hint="bf16"), entry("stated")]
    facts = {"source": FP32, "hinted": FP32, "stated": BF16}
    kept, skipped = measurable(entries, facts, host("cascadelake"))
    assert [item.label for item in kept] == ["source"]
    assert [item.label for item in skipped] == ["hinted", "stated"]
    assert "only emulates" in skipped[0].reason
    kept, skipped = measurable(entries, facts, host("sapphirerapids"))
    assert (kept, skipped) == (entries, [])


def test_ratios_against_emulated_bf16_are_refused() -> None:
    entries = [entry("hinted", hint="bf16"), entry("source")]
    with pytest.raises(CapabilityError) as caught:
        measurable(entries, {"hinted": FP32, "source": FP32}, host("icelake"))
    assert (caught.value.code, caught.value.location) == ("bf16-emulated", "hinted")


def test_a_machine_that_is_not_the_target_is_named() -> None:
    entries = [entry("source"), entry("a", target="cascadelake"), entry("b", target="cooperlake")]
    bare = host("cascadelake").flags - {"hypervisor"}
    (note,) = caveats(entries, replace(host("cascadelake"), flags=bare))
    assert "lacks instructions of cooperlake (avx512_bf16)" in note
    assert "not of the target" in note
    lines = list(caveats(entries, host("zen4")))
    assert "has the instructions of cascadelake, cooperlake but is another one" in lines[0]
    assert list(caveats([entry("source")], replace(host("skylake"), flags=bare))) == []


def test_what_would_be_wrong_on_this_cpu_is_told() -> None:
    need = NeededFlags(any_of=("avx512_vnni", "avx_vnni"), why="sums saturate")
    options = entry("a").subject.options.model_copy(update={"needs": (need,)})
    notes = list(caveats([Entry(Subject("a", MODEL, options))], host("skylake")))
    assert "a: no avx512_vnni and no avx_vnni here: sums saturate" in notes


def test_instances_are_those_of_the_launch_config(compiled: Path) -> None:
    machine = sockets(2, 8, 1)
    plain = Entry(find_subject(MODEL))
    four = Entry(find_subject(compiled / "out" / "cascadelake"), Demand(4, 4))
    assert [len(plan) for plan in plan_instances([plain], machine, None)] == [16]
    plans = plan_instances([plain, four], machine, None)
    assert [[place.cpu_list for place in plan] for plan in plans] == [
        ["0-3", "8-11", "4-7", "12-15"]
    ] * 2
    assert [len(plan) for plan in plan_instances([plain, four], machine, 8)] == [2, 2]
    with pytest.raises(OptcError) as caught:
        plan_instances([plain], machine, 9)
    assert caught.value.code == "launch-does-not-fit"
