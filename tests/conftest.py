"""Options and fixtures that all tests share."""

import os
from contextlib import suppress

import pytest

from optc.numerics.backends import import_openvino


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected files of snapshot tests instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    # What a test compiles must not come from what another one, or the user, has compiled.
    os.environ["OPTC_CACHE_DIR"] = "off"
    with suppress(ImportError):
        import_openvino()  # before any test does: a plain import sends a usage report
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError("--update-golden is refused in CI: it would hide every difference")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether snapshots are rewritten in this run."""
    return bool(request.config.getoption("--update-golden"))
