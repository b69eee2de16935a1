"""Verifications that were made before, of the same graph on the same data and the same CPU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from optc.cache import as_bytes, digest_of
from optc.emit.folder import file_digest
from optc.kept import dump_verification, load_verification
from optc.reads import data_files
from optc.toolchain import machine, toolchain

if TYPE_CHECKING:
    from optc.cache import Store
    from optc.recipe import Recipe
    from optc.verdict import Verification

_KIND: Final = "verification"
_SECTIONS: Final = ("inputs", "runtime", "data", "emit", "accuracy", "verify")


def verification_key(recipe: Recipe, graph: str, target: str) -> str:
    """Digest of everything that a verification depends on.

    The kind of CPU is a part of it: kernels differ. The number of its threads is not, which moves
    roundings and no verdict.

    Args:
        recipe: says what is compared, on which data, and how the graph is written.
        graph: digest of what decides the graph, which includes the source model.
        target: digest of what else the target decides; empty where that is nothing.
    """
    sections = recipe.model_dump(mode="json", include=set(_SECTIONS))
    data = [file_digest(path) for path in data_files(recipe) if path.is_file()]
    return digest_of("verification", toolchain(), machine(), graph, target, sections, data)


def find_verification(store: Store, key: str) -> Verification | None:
    """The verification of a key; None when it has to be made."""
    found = store.get(_KIND, key)
    return None if found is None else load_verification(json.loads(found))


def keep_verification(store: Store, key: str, made: Verification) -> None:
    """Keep a verification, unless it missed a goal: that is said anew each time."""
    if made.missed is None:
        store.put(_KIND, key, as_bytes(dump_verification(made)))
