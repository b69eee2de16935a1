"""The scripts of benchmarks/ fit the package: each of them can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# They run where PyTorch and the models of its ecosystem are.
EXPORTING = ("exports.py", "exports_models.py")


def test_every_script_imports() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.name not in EXPORTING)
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
