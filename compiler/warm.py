"""Whole results of compiles that nothing has changed since: hashed, fetched and written, not made.

What was asked for (the recipe's own text, targets, overrides, whether to verify), optc itself, its
libraries and the kind of CPU make a request. To a request belong results, each with the files that
were read for it and their digests: where all are as they were, the result is as well. So no recipe
is parsed and no library imported. Paths are kept relative to the recipe, so that a copy of a
project finds what the original left.

The verification that a fetched result tells of was made then, on a CPU of the same model and
features as this one, with the same libraries. That is why the CPU is part of the request: another
one may compute otherwise, and verifies for itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optc.cache import as_bytes, digest_of
from optc.emit.folder import MANIFEST, file_digest, replacing, write_json
from optc.kept import dump_step, dump_verification, load_step, load_verification
from optc.results import Artifact, CompileResult
from optc.toolchain import machine, package_folders, toolchain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.cache import Cache

FILE: Final = "file"
_REQUEST: Final = "request"
_RESULT: Final = "result"
_STAT: Final = "stat"
_VARIANTS: Final = 8  # results of one request: the same recipe beside other models
_EXECUTABLE: Final = 0o755


class _Gone(Exception):  # noqa: N818 - not an error: the result is made again
    """A part of a result is not in the cache any more."""


@dataclass(frozen=True)
class Request:
    """What a compile was asked for.

    Attributes:
        recipe: the recipe file.
        targets: targets instead of the recipe's; empty for these.
        overrides: settings on top of the recipe.
        verify: whether the result is compared with the source model.
    """

    recipe: Path
    targets: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    verify: bool = True

    def find(
        self, cache: Cache, output: Path | None, *, below: bool = False
    ) -> CompileResult | None:
        """The result, written to the output folder; None when it has to be made.

        Args:
            cache: where results are kept.
            output: where it goes; None: where the recipe says.
            below: it goes into a folder of its own name in `output`.

        Raises:
            OutputError: as for `optc.emit.folder.replacing`.
        """
        start = time.perf_counter()
        data = self._lookup(cache)
        if data is None:
            return None
        out = output or self._decode(data["output"])
        if output is not None and below:
            out = output / data["name"]
        try:
            with replacing(out) as folder:
                _write(cache, data, folder)
        except _Gone:
            return None
        return self._result(data, out, time.perf_counter() - start)

    def keep(self, cache: Cache, result: CompileResult, output: Path, since: float) -> None:
        """Keep a result, unless a file that was read for it may have changed meanwhile.

        Args:
            cache: where to.
            result: what was built.
            output: where the recipe says that it goes, wherever it went.
            since: when the compile began, in seconds since the epoch.
        """
        key = self._key()
        if key is None or result.missed is not None or _changed(result.inputs, since):
            return
        for name, about in _files(result.manifest).items():
            cache.put_file(FILE, about["sha256"], result.output / name)
        digests = _Digests(cache)
        reads = [[self._encode(path), digests.of(path)] for path in result.inputs]
        found = digest_of(key, reads)
        cache.put(_RESULT, found, as_bytes(self._data(result, output)))
        variants = [v for v in self._variants(cache, key) if v["result"] != found]
        variants = [{"reads": reads, "result": found}, *variants][:_VARIANTS]
        cache.put(_REQUEST, key, as_bytes({"variants": variants}))

    # ---- keys ----------------------------------------------------------------------------------

    def _key(self) -> str | None:
        try:
            text = file_digest(self.recipe)
        except OSError:
            return None
        asked = [self.targets, self.overrides, self.verify]
        return digest_of("request", toolchain(), machine(), text, asked)

    @staticmethod
    def _variants(cache: Cache, key: str) -> list[dict[str, Any]]:
        found = cache.get(_REQUEST, key)
        return [] if found is None else json.loads(found)["variants"]

    def _lookup(self, cache: Cache) -> dict[str, Any] | None:
        """What is kept of the result for the files as they are now."""
        key = self._key()
        if key is None:
            return None
        digests = _Digests(cache)
        for variant in self._variants(cache, key):
            if all(digests.of(self._decode(p)) == digest for p, digest in variant["reads"]):
                data = cache.get(_RESULT, variant["result"])
                if data is not None:
                    return json.loads(data)  # type: ignore[no-any-return]
        return None

    # ---- paths ---------------------------------------------------------------------------------

    @property
    def _home(self) -> Path:
        return self.recipe.parent

    def _encode(self, path: Path) -> list[str]:
        """A path by what it is relative to; a relative one stays as it would be printed."""
        if path.is_relative_to(self._home):
            return ["recipe", str(path.relative_to(self._home))]
        whole, real = Path(os.path.abspath(path)), self._home.resolve()
        if whole.is_relative_to(real):
            return ["folder", str(whole.relative_to(real))]
        for number, folder in enumerate(package_folders()):
            if whole.is_relative_to(folder):
                return [str(number), str(whole.relative_to(folder))]
        return ["", str(whole)]

    def _decode(self, data: Sequence[str]) -> Path:
        base, path = data
        if base == "recipe":
            return self._home / path
        if base == "folder":
            return self._home.resolve() / path
        return package_folders()[int(base)] / path if base else Path(path)

    # ---- results -------------------------------------------------------------------------------

    def _data(self, result: CompileResult, output: Path) -> dict[str, Any]:
        out = result.output
        first = next(iter(result.artifacts.values()))
        names = _files(result.manifest)
        return {
            "name": result.name,
            "runtime": result.runtime,
            "model": self._encode(result.model),
            "output": self._encode(output),
            "inputs": [self._encode(path) for path in result.inputs],
            "warnings": list(result.warnings),
            "model_file": first.model.name,
            "artifacts": {
                name: {
                    "steps": [dump_step(step) for step in artifact.steps],
                    "verification": artifact.verification
                    and dump_verification(artifact.verification),
                    "precision": {op: dict(row) for op, row in artifact.precision.items()},
                    "shares": dict(artifact.shares),
                }
                for name, artifact in result.artifacts.items()
            },
            "manifest": dict(result.manifest),
            "executable": [name for name in names if os.access(out / name, os.X_OK)],
        }

    def _result(self, data: Mapping[str, Any], out: Path, seconds: float) -> CompileResult:
        artifacts = {}
        for name, item in data["artifacts"].items():
            verification = item["verification"]
            artifacts[name] = Artifact.at(
                out / name,
                data["model_file"],
                tuple(load_step(step) for step in item["steps"]),
                None if verification is None else load_verification(verification),
                item["precision"],
                item["shares"],
            )
        return CompileResult(
            name=data["name"],
            model=self._decode(data["model"]),
            runtime=data["runtime"],
            output=out,
            artifacts=artifacts,
            manifest=data["manifest"],
            inputs=tuple(self._decode(path) for path in data["inputs"]),
            warnings=tuple(data["warnings"]),
            seconds={"total": seconds},
            cached=True,
        )


def _changed(paths: Sequence[Path], since: float) -> bool:
    """Whether a file is younger than that, or gone."""
    try:
        return any(path.stat().st_mtime >= since for path in paths)
    except OSError:
        return True


class _Digests:
    """Digests of what lies at paths, each taken once."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Of a file its content, of a folder the names in it; empty when there is nothing."""
        if path not in self._known:
            self._known[path] = self._read(path)
        return self._known[path]

    def _read(self, path: Path) -> str:
        try:
            if path.is_dir():
                inside = sorted(str(item.relative_to(path)) for item in path.rglob("*"))
                return hashlib.sha256("\0".join(inside).encode()).hexdigest()
            return self._trusted(path) if self._cache.trust_times else file_digest(path)
        except OSError:
            return ""

    def _trusted(self, path: Path) -> str:
        now = path.stat()
        stamp = [now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns]
        key = digest_of("stat", os.path.abspath(path), stamp)
        known = self._cache.get(_STAT, key)
        if known is not None:
            return known.decode()
        found = file_digest(path)
        self._cache.put(_STAT, key, found.encode())
        return found


def _files(manifest: Mapping[str, object]) -> Mapping[str, Mapping[str, Any]]:
    return manifest["files"]  # type: ignore[return-value] # as `write_manifest` wrote it


def _write(cache: Cache, data: Mapping[str, Any], folder: Path) -> None:
    for name, about in _files(data["manifest"]).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cache.get_file(FILE, about["sha256"], path):
            raise _Gone
        if name in data["executable"]:
            path.chmod(_EXECUTABLE)
    write_json(folder / MANIFEST, data["manifest"])
