"""Recipes that ship with optc: presets, and complete examples in folders of their own.

A preset is a recipe without model and targets. `pipeline: {preset: fp32}` takes its pipeline,
`extends: fp32` all of it.
"""

from __future__ import annotations

from pathlib import Path

PRESETS = ("fp32", "int8", "bf16", "int8-bf16")
"""Names of the presets; each is `<name>.yaml` in this package."""


def preset_path(name: str) -> Path:
    """The file of a preset; KeyError when there is no preset of that name."""
    if name not in PRESETS:
        raise KeyError(name)
    return Path(__file__).parent / f"{name}.yaml"
