"""What all tests need. Options and fixtures for golden files are those of `optc.pytest_plugin`."""

import os
from contextlib import suppress

import pytest

from optc.numerics.backends import import_openvino


def pytest_configure(config: pytest.Config) -> None:
    # What a test compiles must not come from what another one, or the user, has compiled.
    os.environ["OPTC_CACHE_DIR"] = "off"
    with suppress(ImportError):
        import_openvino()  # before any test does: a plain import sends a usage report
