"""OpenVINO is imported without what sends usage reports."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

SCRIPT = """
import sys
from optc.launch.engines import OpenVinoEngine
from optc.numerics.backends import import_openvino
openvino = import_openvino()
assert openvino is import_openvino() is sys.modules["openvino"]
reports = [name for name in sys.modules if name.startswith("openvino_telemetry")]
print(reports, sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__)
"""


def test_nothing_that_reports_is_loaded() -> None:
    environment = {name: text for name, text in os.environ.items() if name != "CI"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    out = subprocess.check_output(command, text=True, env=environment)
    assert out.split() == ["[]", "openvino.tools.ovc.telemetry_stub"]
