"""Build the view of the source tree that type checkers understand.

The folders `compiler/`, `passes/`, `targets/` and `recipes/` are the import packages `optc`,
`optc.passes`, … (see pyproject.toml). Type checkers do not follow that mapping for an editable
install, so this script lays the same files out as `build/typing/optc/**`, as symlinks.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VIEW = ROOT / "build" / "typing"
LAYOUT = {
    "compiler": "optc",
    "passes": "optc/passes",
    "recipes": "optc/recipes",
    "targets": "optc/targets",
}

shutil.rmtree(VIEW, ignore_errors=True)
for folder, package in LAYOUT.items():
    for source in sorted((ROOT / folder).rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            link = VIEW / package / source.relative_to(ROOT / folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
