"""Completion, in the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from optc.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ("bash", "zsh", "fish")
WORD = {
    "bash": """source ./script
COMP_WORDS=(optc golden up); COMP_CWORD=2; _optc_completion optc; printf '%s\\n' "${COMPREPLY[@]}"
COMP_WORDS=(optc golden check -t sapph); COMP_CWORD=4; _optc_completion optc
printf '%s\\n' "${COMPREPLY[@]}"
COMP_WORDS=(optc passes fold-b); COMP_CWORD=2; _optc_completion optc
printf '%s\\n' "${COMPREPLY[@]}"
COMP_WORDS=(optc comp); COMP_CWORD=1; _optc_completion optc; printf '%s\\n' "${COMPREPLY[@]}"
""",
    "fish": """source ./script
complete -C "optc golden up"
complete -C "optc golden check -t sapph"
complete -C "optc passes fold-b"
complete -C "optc comp"
""",
    # compsys completes for a line editor only: what the script asks optc for is asked by hand.
    "zsh": """compdef() { print -r -- "for $2: $1" }
source ./script
_describe() { print -l -- ${(P)3} }
compadd() { print -l -- ${(P)5} }
words=(optc golden up); CURRENT=3; _optc_completion
words=(optc golden check -t sapph); CURRENT=5; _optc_completion
words=(optc passes fold-b); CURRENT=3; _optc_completion
words=(optc comp); CURRENT=2; _optc_completion
""",
}


def need(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


def write_script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    script = folder / "script"
    script.write_text(capsys.readouterr().out)
    return script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_accepts_the_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script(shell, tmp_path, capsys)
    done = subprocess.run(
        [need(shell), "-n", str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes_verbs_targets_and_passes(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_script(shell, tmp_path, capsys)
    optc = tmp_path / "optc"
    optc.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from optc.cli import entry; entry()' \"$@\"\n"
    )
    optc.chmod(0o755)
    done = subprocess.run(
        [need(shell), "-c", WORD[shell]],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout
    for word in ("update", "compile", "compare", "completion", "sapphirerapids", "fold-batchnorm"):
        assert word in found
    for verb in ("check", "golden\n", "targets"):
        assert verb not in found


def test_another_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
