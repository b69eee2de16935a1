"""Units, compose.yaml and kubernetes.yaml: accepted by their own tools and published schemas."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from launch.cases import GOLDEN, TOPOLOGIES
from optc.launch import Emitted, Service, Settings, render_launch
from optc.launch.service import host_name, systemd_word, yaml_word
from optc.launch.topology import sockets
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = ("python3", "-c", "print('$HOME ${X} $(Y) %n \\ \"é\"')", "", "- #", "yes", "a: b", "{}")


def files_of(service: Service, **settings: Any) -> dict[str, bytes]:
    given = Settings(**{"topology": sockets(2, 20, 2), **settings}, service=service)
    emitted = Emitted("Det.v4", "model.onnx", model_bytes=3 << 30)
    return render_launch(load_target("spr"), load_runtime("onnxruntime"), emitted, given)


def golden(name: str) -> list[Any]:
    """The YAML of all golden files of a name, equal ones once."""
    texts = sorted({path.read_text(encoding="utf-8") for path in GOLDEN.rglob(name)})
    assert texts
    return [yaml.safe_load(text) for text in texts]


# ---- systemd -----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_systemd_accepts_the_units(tmp_path: Path, topology: str) -> None:
    service = Service(command=HOSTILE, folder=str(tmp_path))
    files = files_of(service, topology=TOPOLOGIES[topology])
    script = tmp_path / "sapphirerapids/launch/launch.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes(files["launch.sh"])
    script.chmod(0o755)
    units = []
    for name, content in files.items():
        if name.startswith("systemd/"):
            path = tmp_path / name.removeprefix("systemd/")
            path.write_bytes(content)
            units.append(str(path))
    assert len(units) > 4
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "optc-" in line]
    assert complaints == []
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("serve", "serve"),
        ("--port=80", "--port=80"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        (";", '";"'),
    ],
)
def test_words_of_a_command_line_are_escaped_for_systemd(word: str, expected: str) -> None:
    assert systemd_word(word) == expected


# ---- compose -----------------------------------------------------------------------------------


def compose_schema() -> dict[str, Any]:
    if not importlib.util.find_spec("check_jsonschema"):
        pytest.skip("check-jsonschema, which carries the schema, is not installed")
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema: dict[str, Any] = json.loads((folder / "compose-spec.json").read_text("utf-8"))
    return schema


def test_compose_files_validate_against_the_compose_specification() -> None:
    import jsonschema

    schema = compose_schema()
    validator = jsonschema.validators.validator_for(schema)(schema)
    hostile = yaml.safe_load(files_of(Service(command=HOSTILE))["compose.yaml"])
    for content in (*golden("compose.yaml"), hostile):
        assert list(validator.iter_errors(content)) == []
    broken = {**hostile, "services": {"x": {"cpu_set": "0"}}}
    assert list(validator.iter_errors(broken))


def test_compose_hands_on_the_command_as_the_recipe_has_it() -> None:
    files = files_of(Service(command=HOSTILE, image="registry:5000/det:1.2"))
    services = yaml.safe_load(files["compose.yaml"])["services"]
    assert len(services) == 10
    words = services["instance-3"]["command"]
    # Compose takes `$$` for a dollar sign.
    assert [word.replace("$$", "$") for word in words] == [
        "/opt/optc/Det.v4/sapphirerapids/launch/launch.sh",
        *("--instance", "3/10", "--cpus", "24-27", "--cores", "4", "--"),
        *HOSTILE,
    ]
    assert "$" not in "".join(words).replace("$$", "")
    assert services["instance-3"]["cpuset"] == "24-27"
    assert services["instance-3"]["image"] == "registry:5000/det:1.2"


# ---- Kubernetes --------------------------------------------------------------------------------


def test_kubernetes_files_validate_against_the_published_schema() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")
    hostile = yaml.safe_load(files_of(Service(command=HOSTILE))["kubernetes.yaml"])
    for content in (*golden("kubernetes.yaml"), hostile):
        validate.validate(content, validate.latest_version(), strict=True)
    hostile["spec"]["replica"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(hostile, validate.latest_version(), strict=True)


def test_pods_are_guaranteed_whole_cpus() -> None:
    for content in golden("kubernetes.yaml"):
        (container,) = content["spec"]["template"]["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert set(resources["limits"]) == {"cpu", "memory"}
        cores = int(container["command"][container["command"].index("--cores") + 1])
        # Both golden machines have two hardware threads per core, which Kubernetes counts.
        assert resources["limits"]["cpu"] == str(2 * cores)


@pytest.mark.parametrize(
    ("settings", "replicas", "cpu", "cpus_why", "replicas_why"),
    [
        ({}, 9, "8", "4 core(s) of 2", "what one machine"),
        ({"topology": sockets(2, 20, 1)}, 9, "4", "4 core(s) of 1", "what one machine"),
        ({"topology": None}, 1, "8", "4 core(s) of 2; 4 where Hyper-Threading is off", "one;"),
        ({"instances": 3, "cores": 5}, 3, "10", "5 core(s) of 2", "as launch.instances says"),
        ({"topology": sockets(1, 1, 1)}, 1, "1", "1 core(s) of 1", "what one machine"),
    ],
)
def test_pods_follow_from_topology_and_recipe(
    settings: dict[str, Any], replicas: int, cpu: str, cpus_why: str, replicas_why: str
) -> None:
    text = files_of(Service(), **settings)["kubernetes.yaml"].decode()
    content = yaml.safe_load(text)
    (container,) = content["spec"]["template"]["spec"]["containers"]
    assert content["spec"]["replicas"] == replicas
    assert container["resources"]["limits"]["cpu"] == cpu
    assert f"hardware threads: {cpus_why}\n" in text
    assert f"# {replicas_why}" in text


def test_kubernetes_hands_on_the_command_as_the_recipe_has_it() -> None:
    content = yaml.safe_load(files_of(Service(command=HOSTILE))["kubernetes.yaml"])
    (container,) = content["spec"]["template"]["spec"]["containers"]
    # Kubernetes takes `$$` for a dollar sign.
    assert [word.replace("$$", "$") for word in container["command"]] == [
        "/opt/optc/Det.v4/sapphirerapids/launch/launch.sh",
        *("--instances", "1", "--cores", "4", "--"),
        *HOSTILE,
    ]
    assert content["metadata"]["name"] == "det-v4"
    assert container["image"] == "det-v4:latest"


def test_memory_is_the_recipes_or_follows_from_the_model() -> None:
    # 1 GiB and three times the 3 GiB of the model.
    assert b"memory: 10Gi  # 1 GiB and 3 times the model" in files_of(Service())["kubernetes.yaml"]
    stated = files_of(Service(memory="512Mi"))["kubernetes.yaml"]
    assert b"memory: 512Mi  # as launch.service.memory says" in stated


def test_the_kubelet_keeps_one_whole_core_for_the_system() -> None:
    node = yaml.safe_load(files_of(Service())["kubernetes-node.yaml"])
    assert node["reservedSystemCPUs"] == "0,40"
    assert node["cpuManagerPolicy"] == "static"
    assert node["cpuManagerPolicyOptions"] == {"full-pcpus-only": "true"}
    assert node["topologyManagerPolicy"] == "single-numa-node"
    # The memory manager wants reservedMemory to be systemReserved plus evictionHard.
    mib = [int(node["systemReserved"]["memory"].removesuffix("Mi")), 100]
    assert node["evictionHard"] == {"memory.available": "100Mi"}
    assert sum(mib) == 1024
    assert node["reservedMemory"] == [{"numaNode": 0, "limits": {"memory": "1Gi"}}]


# ---- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [*HOSTILE, "null", "No", "1.5", "0x10", "~", "x:", "a #b", "'", "é", "2026-01-01"]
)
def test_words_survive_yaml(word: str) -> None:
    assert yaml.safe_load(f"[{yaml_word(word)}, {yaml_word(word)}]") == [word, word]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ppocr-det", "ppocr-det"), ("Det.v4_x", "det-v4-x"), ("A" * 60, "a" * 50), ("...", "model")],
)
def test_names_become_host_names(name: str, expected: str) -> None:
    assert host_name(name) == expected
