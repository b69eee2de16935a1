"""`optc compile` of several recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optc.cli.asked import Asked, Form


def run_many(
    recipes: Sequence[Path],
    asked: Asked,
    jobs: int | None,
    depfile: Path | None,
    form: Form,
) -> None:
    """Compile recipes in parallel processes."""
    raise NotImplementedError
