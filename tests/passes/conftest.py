"""Fixtures of the tests of passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from optc.numerics.evaluate import open_session
from optc.passes import constant_regions

if TYPE_CHECKING:
    from optc.numerics.evaluate import Session


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the models that were evaluated, one per session."""
    opened: list[int] = []

    def counted(model: bytes, **options: Any) -> Session:
        opened.append(len(model))
        return open_session(model, **options)

    monkeypatch.setattr(constant_regions, "open_session", counted)
    return opened
