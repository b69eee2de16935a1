"""Manners on a terminal and off it: help, colours, progress, quiet and verbose, pipes, signals."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
import pytest

from helpers.terminal import on_terminal
from optc.cli import main
from optc.cli.app import app_of
from optc.cli.command import Verb, VerbGroup, examples_of
from optc.cli.progress import Work, duration
from optc.cli.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "models" / "mnist_resnet.onnx"
OPTC = [sys.executable, "-c", "from optc.cli import entry; entry()"]
ESCAPE = "\x1b["


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    shutil.copy(MODEL, tmp_path / "m.onnx")
    path = tmp_path / "r.yaml"
    path.write_text("schema_version: 1\nmodel: m.onnx\ntargets: [clx]\noutput: out\n")
    return path


def off_terminal(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [*OPTC, *words], cwd=cwd, env={**base, **more}, capture_output=True, text=True, check=False
    )


# ---- help --------------------------------------------------------------------------------------


def verbs(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from verbs(inner, (*words, name))


VERBS = dict(verbs(app_of(), ()))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_help_fits_and_begins_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert isinstance(VERBS[words], (Verb, VerbGroup))
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    examples = examples_of(VERBS[words].help)
    assert examples
    for example in examples:
        assert "optc" in example
        assert f"  {example}\n" in out
    assert out.index("Examples:\n") < out.index("Options:\n")
    assert "Example:" not in out
    for option in ("-v, --verbose", "-q, --quiet", "--log-file FILE", "-h, --help"):
        assert option in out
    assert ESCAPE not in out


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_examples_are_of_their_verb(words: tuple[str, ...]) -> None:
    for example in examples_of(VERBS[words].help):
        assert " ".join(("optc", *words)) in example


def test_help_is_as_narrow_as_the_terminal(tmp_path: Path) -> None:
    code, out = on_terminal([*OPTC, "compile", "--help"], cwd=tmp_path, columns=60)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 60
    code, out = on_terminal([*OPTC, "compile", "--help"], cwd=tmp_path, columns=200)
    assert max(map(len, out.splitlines())) <= 100


# ---- colours -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_errors_are_coloured_on_a_terminal(
    tmp_path: Path, environment: dict[str, str], coloured: bool
) -> None:
    words = [*OPTC, "check", "none.yaml"]
    code, out = on_terminal(words, cwd=tmp_path, environment=environment)
    assert code == 1
    assert "none.yaml" in out
    assert (ESCAPE in out) is coloured


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_errors_are_plain_elsewhere(
    tmp_path: Path, environment: dict[str, str], coloured: bool
) -> None:
    done = off_terminal("check", "none.yaml", cwd=tmp_path, **environment)
    assert done.returncode == 1
    assert (ESCAPE in done.stderr) is coloured


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_tables_and_usage_have_no_codes_without_colour(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for words in (("targets",), ("compile",), ("--help",)):
        _, out = on_terminal([*OPTC, *words], cwd=tmp_path, environment=environment)
        assert ESCAPE not in out


# ---- progress, quiet, verbose, log -------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_only(recipe: Path) -> None:
    words = ["compile", recipe.name]
    code, out = on_terminal([*OPTC, *words], cwd=recipe.parent)
    assert code == 0
    assert "━" in out
    assert re.search(r"[a-z]+(-[a-z0-9]+)*\b.*\d+/\d+", out)  # which step is drawn is chance
    done = off_terminal(*words, cwd=recipe.parent)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "━" not in done.stdout


def test_no_progress_with_quiet_json_or_a_dumb_terminal(recipe: Path) -> None:
    for words, environment in ((["-q"], {}), (["--json"], {}), ([], {"TERM": "dumb"})):
        command = [*OPTC, "compile", recipe.name, *words]
        code, out = on_terminal(command, cwd=recipe.parent, environment=environment)
        assert code == 0
        assert "━" not in out
        assert ESCAPE not in out


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_prints_nothing_on_success(recipe: Path, place: str) -> None:
    words = ["compile", recipe.name, "--no-verify"]
    words = ["-q", *words] if place == "before" else [*words, "--quiet"]
    done = off_terminal(*words, cwd=recipe.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (recipe.parent / "out" / "manifest.json").is_file()


def test_quiet_does_not_hide_a_warning(recipe: Path) -> None:
    words = ["compile", recipe.name, "--no-verify", "--quiet", "--set", "emit.opset=11"]
    done = off_terminal(*words, cwd=recipe.parent)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("warning: emit.opset asks")
    assert done.stderr.count("warning: ") == len(done.stderr.splitlines())


def test_quiet_prints_answers_and_errors(recipe: Path) -> None:
    done = off_terminal("inspect", "m.onnx", "-q", cwd=recipe.parent)
    assert "operations:" in done.stdout
    done = off_terminal("check", "none.yaml", "-q", cwd=recipe.parent)
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_says_what_each_step_took(recipe: Path, place: str) -> None:
    words = ["compile", recipe.name]
    words = ["-v", *words] if place == "before" else [*words, "-v"]
    done = off_terminal(*words, cwd=recipe.parent)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert all(re.fullmatch(r" +\d+\.\d\d s  \S+", line) for line in lines)
    names = [line.split()[-1] for line in lines]
    assert names.index("fold-batchnorm") < names.index("verify")


def test_verbose_on_a_terminal(recipe: Path) -> None:
    code, out = on_terminal([*OPTC, "compile", recipe.name, "-v"], cwd=recipe.parent)
    assert code == 0
    assert re.search(r"\d+\.\d\d s  fold-batchnorm", out)


def test_a_log_has_everything_with_the_time(recipe: Path) -> None:
    log = recipe.parent / "run.log"
    words = ["compile", recipe.name, "--log-file", str(log), "--set", "emit.opset=11", "-q"]
    done = off_terminal(*words, cwd=recipe.parent)
    assert (done.returncode, done.stdout) == (0, "")
    text = log.read_text()
    for line in text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", line)
    for word in (
        "s  fold-batchnorm\n",
        "warning: emit.opset asks",
        "written to out",
        "exit code 0",
    ):
        assert word in text
    done = off_terminal("check", "none.yaml", "--log-file", str(log), cwd=recipe.parent)
    text = log.read_text()
    assert "error code recipe-invalid\n" in text
    assert "error: none.yaml: no such file\n" in text


def test_a_log_that_cannot_be_written(recipe: Path) -> None:
    done = off_terminal("check", "r.yaml", "--log-file", "no/x.log", cwd=recipe.parent)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no/x.log: cannot write: ")
    assert "--log-file" in done.stderr


def test_settings_do_not_outlive_a_run(recipe: Path) -> None:
    assert main(["check", str(recipe), "-q", "-v", "--log-file", str(recipe.parent / "l")]) == 0
    assert not SETTINGS.quiet
    assert not SETTINGS.verbose
    assert SETTINGS.log is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_estimated_within_a_stretch() -> None:
    clock = Clock()
    shown: list[tuple[str, int, int, str]] = []
    work = Work(show=lambda *call: shown.append(call), clock=clock)
    for second in range(5):
        clock.now = 10.0 * second
        work("verify", second * 10, 100)
    assert [call[3] for call in shown] == [
        "0/100", "10/100, 1 min 30 s left", "20/100, 1 min 20 s left", "30/100, 1 min 10 s left",
        "40/100, 1 min 0 s left",
    ]  # fmt: skip
    clock.now = 41.0
    work("accuracy", 0, 8)  # another stretch: what the one before took says nothing about it
    clock.now = 43.0
    work("accuracy", 2, 8)
    assert [call[3] for call in shown[5:]] == ["0/8", "2/8, 6 s left"]
    work("accuracy", 8, 8)
    assert shown[-1][3] == "8/8"


def test_what_took_how_long() -> None:
    clock = Clock()
    said: list[str] = []
    work = Work(say=said.append, clock=clock)
    work("first", 0, 2)
    clock.now = 1.5
    work("second", 1, 2)
    clock.now = 3.75
    work.end()
    assert said == ["    1.50 s  first", "    2.25 s  second"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (4800, "1 h 20 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- pipes and signals -------------------------------------------------------------------------


def test_a_reader_that_goes_is_no_bug(tmp_path: Path) -> None:
    """More text than a pipe holds, and a reader of one line."""
    count = 9000
    nodes = "".join(f"v{i} = Relu (v{i - 1})\n" for i in range(1, count))
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    text = f"{head} g (float[4] v0) => (float[4] v{count - 1}) {{ {nodes} }}"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [*OPTC, "inspect", "m.onnx", "--text"],
        cwd=tmp_path,
        # Without a buffer, Python takes a write that was cut short for a whole one.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert os.read(ours, 18) == b"opsets ai.onnx 17\n"
    os.close(ours)
    _, message = process.communicate()
    assert message == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_reader_of_a_table_that_goes_is_no_bug(tmp_path: Path) -> None:
    """Also where it goes before anything is printed, and where rich prints."""
    for words in (["targets"], ["passes"], ["--help"], ["check", "none.yaml", "--json"]):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(
            [*OPTC, *words], cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, check=False
        )
        os.close(theirs)
        assert b"Traceback" not in done.stderr
        assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_a_signal_leaves_nothing_half_written(
    recipe: Path, number: signal.Signals, code: int, word: str
) -> None:
    before = sorted(path.name for path in recipe.parent.iterdir())
    process = subprocess.Popen(
        [*OPTC, "compile", recipe.name], cwd=recipe.parent, stderr=subprocess.PIPE, text=True
    )
    while not list(recipe.parent.glob(".out.optc-*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, message = process.communicate()
    assert process.returncode == code
    assert message == f"warning: {word}; an output that was there before is untouched\n"
    assert sorted(path.name for path in recipe.parent.iterdir()) == before


def test_a_signal_while_a_class_is_made_is_no_bug() -> None:
    """Python 3.11 makes a RuntimeError of what is raised there."""
    text = """if True:
        import os, signal, sys
        from optc import cli
        class Named:
            def __set_name__(self, owner, name):
                os.kill(os.getpid(), signal.SIGTERM)
        cli.app_of = lambda verb: type("Made", (), {"name": Named()})
        sys.exit(cli.main(["passes"]))
    """
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "warning: terminated; an output that was there before is untouched\n"


def test_a_signal_of_which_only_the_text_is_left_is_no_bug() -> None:
    """As in the errors of pydantic, whose Rust code wraps what is raised."""
    text = """if True:
        import os, signal, sys
        from optc import cli
        def lost(verb):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:
                text = str(error)
            raise ValueError(text)
        cli.app_of = lost
        sys.exit(cli.main(["passes"]))
    """
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "warning: terminated; an output that was there before is untouched\n"


def test_a_signal_waits_until_an_extension_module_is_loaded() -> None:
    """One whose initialization is interrupted may end the process with a segmentation fault."""
    text = """if True:
        import os, signal, sys, time
        from importlib.machinery import ExtensionFileLoader
        from optc import cli
        class Loader(ExtensionFileLoader):
            def create_module(self, spec):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
                print("loaded", flush=True)
        def load(verb):
            Loader("made", "made.so").create_module(None)
            time.sleep(60)
        cli.app_of = load
        sys.exit(cli.main(["passes"]))
    """
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == "loaded\n"
    assert done.stderr == "warning: terminated; an output that was there before is untouched\n"


def test_golden_texts_are_whole_whenever_a_signal_comes(recipe: Path) -> None:
    command = [*OPTC, "golden", "update", recipe.name]
    start = time.perf_counter()
    subprocess.run(command, cwd=recipe.parent, check=True, capture_output=True)
    took = time.perf_counter() - start
    path = recipe.parent / "r.golden" / "cascadelake.txt"
    whole = path.read_text()
    for part in (0.3, 0.6, 0.8, 0.9, 0.95, 1.0):
        shutil.rmtree(path.parent, ignore_errors=True)
        process = subprocess.Popen(
            command, cwd=recipe.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(took * part)
        process.send_signal(signal.SIGTERM)
        # 0: it was done; -15: the interpreter was still, or no longer, the one that handles signals
        assert process.wait() in (0, 143, -signal.SIGTERM)
        if path.parent.exists():
            assert {file.name for file in path.parent.iterdir()} <= {path.name}
        if path.exists():
            assert path.read_text() == whole


def test_what_is_ignored_stays_ignored(recipe: Path) -> None:
    """As under nohup."""
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *OPTC, "compile", recipe.name]
    process = subprocess.Popen(command, cwd=recipe.parent, stdout=subprocess.PIPE, text=True)
    while not list(recipe.parent.glob(".out.optc-*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "written to out" in out
