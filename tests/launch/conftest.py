"""The machine that scripts run on in these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launch.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.artefact()
    made.tool("numactl", works=True)
    made.tool("taskset", works=True)
    return made
