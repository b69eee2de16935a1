"""OpenVINO as a library: imported when it is needed, and without its usage reports.

`import openvino` sends an event over the network, from a process that it forks, unless the machine
is known as CI; `openvino_telemetry` is the package that does. Nothing that optc starts reports to
anyone, so the import goes without that package, as OpenVINO itself does where it is missing.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any, Final

_REPORTS: Final = "openvino_telemetry"
_LOCK: Final = threading.Lock()


def import_runtime(name: str) -> Any:
    """The module of a runtime: ``onnxruntime`` or ``openvino``.

    Raises:
        ImportError: it is not installed.
    """
    return import_openvino() if name == "openvino" else importlib.import_module(name)


def import_openvino() -> Any:
    """The module `openvino`.

    A process that has imported it before keeps what it has.

    Raises:
        ImportError: it is not installed.
    """
    with _LOCK:
        modules: dict[str, Any] = sys.modules
        fresh = "openvino" not in modules
        known = modules.get(_REPORTS)
        if fresh:
            modules[_REPORTS] = None  # an import of it then fails
        try:
            return importlib.import_module("openvino")
        finally:
            if fresh and known is None:
                del modules[_REPORTS]
            elif fresh:
                modules[_REPORTS] = known
