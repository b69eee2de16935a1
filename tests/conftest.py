"""What all tests need. Options and fixtures for golden files are those of `optc.pytest_plugin`."""

from contextlib import suppress

import pytest

from optc.numerics.backends import import_openvino


def pytest_configure(config: pytest.Config) -> None:
    with suppress(ImportError):
        import_openvino()  # before any test does: a plain import sends a usage report
