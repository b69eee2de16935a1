"""Each verb as a user types it: what it prints, and its exit code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import onnx
import onnx.parser
import pytest

from optc.cli import main

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
MODEL = str(QUICKSTART / "mnist_mobilenet.onnx")
RECIPE = str(QUICKSTART / "recipe.yaml")


@pytest.fixture
def optc(capsys: pytest.CaptureFixture[str]) -> object:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def call(optc: object, *words: str) -> tuple[int, str, str]:
    assert callable(optc)
    code, out, err = optc(*words)
    return code, out, err


def test_check(optc: object) -> None:
    code, out, _ = call(optc, "check", RECIPE)
    assert code == 0
    assert out.endswith("recipe.yaml: valid, for cascadelake, sapphirerapids\n")


def test_check_reports_every_mistake_at_its_place(optc: object, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "schema_version: 1\nmodl: m.onnx\ntargets: [cascadelaek]\npipeline: [fold-batchnrom]\n"
    )
    code, _, err = call(optc, "check", str(path))
    assert code == 1
    assert f"{path}:2:1: modl: unknown key" in err
    assert "did you mean 'model'?" in err
    assert "did you mean 'cascadelake'?" in err
    assert "did you mean 'fold-batchnorm'?" in err


def test_plan_shows_steps_refusals_and_near_misses_and_writes_nothing(
    optc: object, tmp_path: Path
) -> None:
    shutil.copytree(QUICKSTART, tmp_path / "q")
    code, out, _ = call(optc, "plan", str(tmp_path / "q" / "recipe.yaml"))
    assert code == 0
    assert "quickstart for cascadelake on onnxruntime" in out
    assert "fold-batchnorm: conv-batchnorm 20 (72 → 52 operations)" in out
    assert "nothing to do: freeze-initializers\n" in out
    assert "predicted for one core of cascadelake, batch = 1: " in out
    assert {path.name for path in (tmp_path / "q").iterdir()} == {
        path.name for path in QUICKSTART.iterdir()
    }
    assert not (tmp_path / "build").exists()


def test_plan_says_why_not_by_idea_and_by_node(optc: object, tmp_path: Path) -> None:
    model = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x) => (float[N,4] y, float[N,4] z)
    <float[4,4] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[4] s = {1,2,3,4}>
    { [product] a = MatMul (x, w) [scale] y = Mul (a, s) [other] z = Exp (a) }
    """
    onnx.save(onnx.parser.parse_model(model), tmp_path / "m.onnx")
    (tmp_path / "r.yaml").write_text(
        "schema_version: 1\nmodel: m.onnx\ntargets: [clx]\n"
        "pipeline: [fold-constants, fold-affine]\n"
    )
    recipe = str(tmp_path / "r.yaml")
    code, out, _ = call(optc, "plan", recipe)
    assert code == 0
    reason = "    MatMul output also feeds other: scale\n"
    assert f"why not more:\n  matmul-affine (fold-affine)\n{reason}" in out
    code, out, _ = call(optc, "plan", recipe, "--why", "matmul-affine")
    assert code == 0
    assert reason in out
    assert "fold-constants" not in out
    code, out, _ = call(optc, "plan", recipe, "--why", "gelu")
    assert "no near miss of gelu; near misses are of: " in out
    code, out, _ = call(optc, "plan", recipe, "--node", "scale")
    assert code == 0
    assert "  scale stays as it is: Mul\n" in out
    assert reason in out
    code, out, _ = call(optc, "plan", recipe, "--node", "product")
    assert "no pass came near to anything else there" in out
    code, _, err = call(optc, "plan", recipe, "--node", "scal")
    assert code == 1
    assert "did you mean 'scale'?" in err


def test_passes(optc: object) -> None:
    code, out, _ = call(optc, "passes")
    assert code == 0
    assert "fold-batchnorm" in out
    code, out, _ = call(optc, "passes", "fold-constants")
    assert code == 0
    assert "max_growth: integer, default" in out
    code, _, err = call(optc, "passes", "fold-constant")
    assert code == 1
    assert "did you mean 'fold-constants'?" in err


def test_targets(optc: object) -> None:
    code, out, _ = call(optc, "targets")
    assert code == 0
    assert "sapphirerapids" in out
    code, out, _ = call(optc, "targets", "show", "spr")
    assert code == 0
    assert "unknown" in out
    code, _, err = call(optc, "targets", "show", "sprr")
    assert code == 1
    assert "did you mean 'spr'?" in err


def test_inspect(optc: object) -> None:
    code, out, _ = call(optc, "inspect", MODEL)
    assert code == 0
    assert "image: f32[batch,1,32,32]" in out
    assert re.search(r"^  Conv +24 +- +- +24 +-$", out, re.MULTILINE)
    code, out, _ = call(optc, "inspect", MODEL, "--text")
    assert code == 0
    assert out.startswith("opsets ai.onnx 13\n")
    code, out, _ = call(optc, "inspect", MODEL, "--json")
    assert json.loads(out)["operations"]["BatchNormalization"] == 20


def test_diff_answers_with_its_exit_code(optc: object, tmp_path: Path) -> None:
    code, out, _ = call(optc, "diff", MODEL, MODEL)
    assert (code, out) == (0, "the models are equal\n")
    out_dir = tmp_path / "out"
    words = ("--output", str(out_dir), "--no-verify", "--target", "clx")
    assert call(optc, "compile", RECIPE, *words)[0] == 0
    code, out, _ = call(optc, "diff", MODEL, str(out_dir / "cascadelake" / "model.onnx"))
    assert code == 1
    assert "BatchNormalization" in out


def test_schema_is_valid_json(optc: object) -> None:
    code, out, _ = call(optc, "schema")
    assert code == 0
    assert json.loads(out)["$schema"].startswith("https://json-schema.org/")


def test_init_writes_a_recipe_that_checks_and_never_overwrites(
    optc: object, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "recipe.yaml"
    path.parent.mkdir()
    assert call(optc, "init", MODEL, "--recipe", str(path))[0] == 0
    assert call(optc, "check", str(path))[0] == 0
    path.write_text("mine")
    code, _, err = call(optc, "init", MODEL, "--recipe", str(path))
    assert code == 1
    assert "--force" in err
    assert path.read_text() == "mine"


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version(optc: object, word: str) -> None:
    code, out, _ = call(optc, word)
    assert code == 0
    assert "optc" in out


def test_a_bug_of_ours_prints_a_report_to_paste(
    optc: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: object, **options: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("optc.driver.prepare", broken)
    code, _, err = call(optc, "check", RECIPE)
    assert code == 3
    assert "ZeroDivisionError: by design" in err
    assert "Please report it" in err
    assert "onnxruntime" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compile", "--json"), "Missing argument 'RECIPE...'."),
        (("inspect", MODEL, "--json", "--top", "-1"), "-1 is not in the range x>=0"),
        (("inspect", MODEL, "--json", "--text"), "goes with neither --json nor --target"),
        (("inspect", MODEL, "--json", "--cores", "4"), "roofline, which needs a target"),
    ],
)
def test_usage_errors_are_json_too(optc: object, words: tuple[str, ...], message: str) -> None:
    code, out, err = call(optc, *words)
    assert code == 2
    error = json.loads(out)["error"]
    assert error["code"] == "usage"
    assert message in error["message"]
    assert "Error" in err


@pytest.mark.parametrize(
    ("place", "reason"), [("", "it is a folder"), ("none/x.d", "its folder does not exist")]
)
def test_a_depfile_that_cannot_be_written_ends_before_the_work(
    optc: object, tmp_path: Path, place: str, reason: str
) -> None:
    out = tmp_path / "out"
    depfile = str(tmp_path / place)
    code, _, err = call(optc, "compile", RECIPE, "-o", str(out), "--depfile", depfile)
    assert code == 1
    assert err.startswith(f"error: {depfile}: cannot write: {reason}")
    assert not out.exists()


def test_init_wants_a_file_name_not_a_folder(optc: object, tmp_path: Path) -> None:
    code, _, err = call(optc, "init", MODEL, "--recipe", str(tmp_path), "--force")
    assert code == 1
    hint = f"give --recipe a file name: {tmp_path}/recipe.yaml"
    assert err == f"error: {tmp_path}: cannot write: it is a folder\n  {hint}\n"


def test_an_opset_that_is_not_reached_is_a_warning(optc: object, tmp_path: Path) -> None:
    words = ("--set", "emit.opset=11", "--no-verify", "-o", str(tmp_path / "out"), "-t", "clx")
    code, out, err = call(optc, "compile", RECIPE, *words, "--set", "accuracy=[]")
    assert code == 0
    assert "  1 rewrite refused; optc plan tells why\n" in out
    assert err == "warning: emit.opset asks for 11; the model has 13 and is not lowered\n"


def test_goals_without_verification_are_said_to_be_unmeasured(optc: object, tmp_path: Path) -> None:
    words = ("--no-verify", "-o", str(tmp_path / "out"), "-t", "clx")
    code, _, err = call(optc, "compile", RECIPE, *words)
    assert code == 0
    assert err == "warning: accuracy goals were not measured: verification is switched off\n"


def test_run_refuses_to_fill_an_input_that_the_model_lacks(optc: object, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(optc, "compile", RECIPE, "--no-verify", "-o", str(out), "-t", "skylake")
    data = ("--data", str(QUICKSTART / "mnist.npz"), "--split", "test")
    code, _, err = call(optc, "run", str(out / "skylake"), *data, "--fill", "imag=0")
    assert code == 1
    assert err.startswith(
        "error: --fill imag=0: the model has no input 'imag'; its inputs are image"
    )
    assert "did you mean 'image'?" in err
