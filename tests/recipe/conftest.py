"""Passes that exist only for these tests, so that messages do not change with the real ones."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from optc.passes.base import Pass, PassOptions
from optc.passes.selector import Keep


class FoldConstants(Pass):
    """Evaluate what depends on constants only.

    The second paragraph is for the documentation.
    """

    name = "fold-constants"

    class Options(PassOptions):
        max_growth: float = Field(default=2.0, ge=0, description="growth limit")
        keep: Keep = ()


class QuantizeInt8(Pass):
    """Compute in int8."""

    name = "quantize-int8"
    requires = ("vnni",)

    class Options(PassOptions):
        calibration: Literal["minmax", "percentile"] = Field(
            default="minmax", description="how ranges are taken"
        )
        percentile: float = Field(default=99.9, gt=50, le=100, description="what is kept")
        per_channel: bool = Field(default=True, description="one scale per output channel")
        bits: int = Field(default=8, ge=2, le=8, description="bits per weight")
        deny: frozenset[str] = Field(default=frozenset(), description="op types to leave")


class RemoveDead(Pass):
    """Remove what no output needs."""

    name = "remove-dead"


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[type[Pass], ...]:
    """The passes that recipes know in these tests, with a preset of them."""
    known = (FoldConstants, QuantizeInt8, RemoveDead)
    monkeypatch.setattr("optc.passes.ALL_PASSES", known)
    monkeypatch.setattr("optc.recipe.steps.entry_points", lambda group: ())
    preset = tmp_path / "fp32.yaml"
    preset.write_text("schema_version: 1\npipeline: [fold-constants, remove-dead]\n")
    monkeypatch.setattr("optc.recipe.sources.preset_path", lambda name: preset)
    return known
