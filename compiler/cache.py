"""A store of what was computed before: bytes by kind and key, shared between processes.

A key is a digest of everything that decides the content, so an entry is never wrong, only missing;
`digest_of` makes keys. An entry is one file that says what it is and carries the digest of its
content: what was flipped, cut or renamed since is found when it is read, removed, and counted as a
miss. Files appear by a rename and are never changed, so nobody waits for anybody: no lock is held.

Reading sets the time of a file; when the store outgrows its limit, those that were read longest
ago go first. A store that cannot be written, on a full disk say, is a slow one and no error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from optc.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_LIMIT: Final = 5 << 30
FOLDER_VARIABLE: Final = "OPTC_CACHE_DIR"
LIMIT_VARIABLE: Final = "OPTC_CACHE_SIZE"
OFF: Final = "off"
"""As the folder: no cache."""

_VERSION: Final = "v1"
_MAGIC: Final = b"optc-cache-1"
_HEAD: Final = 512  # more than any header has
_CHUNK: Final = 1 << 20
_ABANDONED: Final = 24 * 3600.0  # seconds after which an unfinished file belongs to nobody
_FULL: Final = 0.9  # trimmed down to this part of the limit
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Store(Protocol):
    """Keeps bytes by kind and key; what was put may be gone when it is asked for."""

    def get(self, kind: str, key: str) -> bytes | None:
        """The content, or None."""
        ...

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep content."""
        ...


class MemoryStore:
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], bytes] = {}

    def get(self, kind: str, key: str) -> bytes | None:
        """The content, or None."""
        return self._entries.get((kind, key))

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep content."""
        self._entries[kind, key] = data


def as_bytes(data: object) -> bytes:
    """JSON data as bytes to keep; numbers of numpy become plain ones."""
    return json.dumps(data, separators=(",", ":"), default=_plain).encode()


def _plain(item: Any) -> Any:
    return item.item()


def digest_of(*parts: object) -> str:
    """A key: SHA-256 (hex) of JSON data, the same for every order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class CacheStats:
    """What a store holds.

    Attributes:
        folder: where it is.
        limit: bytes that it may take up.
        kinds: entries and bytes by kind.
    """

    folder: Path
    limit: int
    kinds: Mapping[str, tuple[int, int]]

    @property
    def entries(self) -> int:
        """Number of entries."""
        return sum(count for count, _ in self.kinds.values())

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size in self.kinds.values())

    def to_dict(self) -> dict[str, object]:
        """As data."""
        return {
            "folder": str(self.folder),
            "limit": self.limit,
            "entries": self.entries,
            "bytes": self.size,
            "kinds": {k: {"entries": n, "bytes": b} for k, (n, b) in self.kinds.items()},
        }


class Cache:
    """A store in a folder.

    Attributes:
        folder: where it is; made when something is put.
        limit: bytes that it may take up.
        trust_times: take files for unchanged whose size and times are, without reading them.
        hits: entries that were found by this object.
        misses: entries that were not.
        damaged: of these, entries that were there and not as they were written.
        problem: why the last entry could not be written; None while all is well.
    """

    def __init__(
        self, folder: str | Path, limit: int = DEFAULT_LIMIT, *, trust_times: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.limit = limit
        self.trust_times = trust_times
        self.hits = self.misses = self.damaged = 0
        self.problem: str | None = None
        self._room: int | None = None  # bytes that may be put before the store is looked through

    # ---- reading -------------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> bytes | None:
        """The content of an entry; None when there is none, or not as it was written."""
        path = self._path(kind, key)
        try:
            with path.open("rb") as file:
                data = file.read()
        except OSError:
            self.misses += 1
            return None
        head, found, _ = data[:_HEAD].partition(b"\n")
        content = memoryview(data)[len(head) + 1 :]
        if not found or head != _header(kind, key, hashlib.sha256(content).digest(), len(content)):
            self._discard(path)
            return None
        self._used(path)
        return bytes(content)

    def get_file(self, kind: str, key: str, target: Path) -> bool:
        """Write the content of an entry to a new file; False, and no file, when there is none."""
        path = self._path(kind, key)
        try:
            with path.open("rb") as file, target.open("xb") as copy:
                head = file.readline(_HEAD).rstrip(b"\n")
                sha, size = hashlib.sha256(), 0
                while chunk := file.read(_CHUNK):
                    sha.update(chunk)
                    size += copy.write(chunk)
        except FileNotFoundError:
            self.misses += 1
            return False
        if head != _header(kind, key, sha.digest(), size):
            target.unlink()
            self._discard(path)
            return False
        self._used(path)
        return True

    def _discard(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink()
        self.damaged += 1
        self.misses += 1

    def _used(self, path: Path) -> None:
        self.hits += 1
        with suppress(OSError):  # gone, or not ours: then others decide how long it stays
            os.utime(path)

    # ---- writing -------------------------------------------------------------------------------

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep content; an entry that is there is replaced."""
        self._write(kind, key, iter((data,)), hashlib.sha256(data).digest(), len(data))

    def put_file(self, kind: str, key: str, source: Path) -> None:
        """Keep the content of a file, unless there is such an entry."""
        if self._path(kind, key).exists():
            return
        with source.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").digest()
            size = file.tell()
            file.seek(0)
            self._write(kind, key, iter(lambda: file.read(_CHUNK), b""), sha, size)

    def _write(self, kind: str, key: str, parts: Iterator[bytes], sha: bytes, size: int) -> None:
        if size > self.limit:
            return
        path = self._path(kind, key)
        draft = self.folder / _VERSION / "drafts" / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("xb") as file:
                    file.write(_header(kind, key, sha, size) + b"\n")
                    for part in parts:
                        file.write(part)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            self.problem = f"cannot write to {self.folder}: {error.strerror or error}"
            return
        self._account(size)

    def _account(self, size: int) -> None:
        """Note what was added; look through the store when it may have outgrown its limit."""
        if self._room is not None:
            self._room -= size
        if self._room is None or self._room < 0:
            self._room = self.limit - self.trim()

    # ---- housekeeping --------------------------------------------------------------------------

    def trim(self) -> int:
        """Remove what was read longest ago until the limit is kept; returns the bytes left."""
        found = []
        for path in self._files():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, str(path), status.st_size))
        total = sum(size for _, _, size in found)
        if total > self.limit:
            for _, name, size in sorted(found):
                if total <= self.limit * _FULL:
                    break
                with suppress(OSError):
                    os.unlink(name)
                total -= size
        self._remove_drafts()
        return total

    def _remove_drafts(self) -> None:
        before = time.time() - _ABANDONED
        for draft in (self.folder / _VERSION / "drafts").glob("*"):
            with suppress(OSError):
                if draft.stat().st_mtime < before:
                    draft.unlink()

    def stats(self) -> CacheStats:
        """What the store holds."""
        kinds: dict[str, tuple[int, int]] = {}
        for path in self._files():
            with suppress(OSError):
                count, size = kinds.get(path.parent.parent.name, (0, 0))
                kinds[path.parent.parent.name] = count + 1, size + path.stat().st_size
        return CacheStats(self.folder, self.limit, dict(sorted(kinds.items())))

    def clear(self) -> int:
        """Remove every entry; returns how many there were.

        Only what a store writes is removed, whatever else the folder holds.
        """
        count = sum(1 for _ in self._files())
        shutil.rmtree(self.folder / _VERSION, ignore_errors=True)
        self._room = None
        return count

    def verify(self) -> tuple[int, list[Path]]:
        """Read every entry; returns their number and those that were damaged, now removed."""
        count, broken = 0, []
        for path in sorted(self._files()):
            kind, key = path.parent.parent.name, path.name
            status = path.stat()
            before = self.damaged
            self.get(kind, key)
            count += 1
            if self.damaged > before:
                broken.append(path)
            else:
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # not a use
        return count, broken

    def _files(self) -> Iterator[Path]:
        return (self.folder / _VERSION).glob("[a-z]*/[0-9a-f][0-9a-f]/*")

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / _VERSION / kind / key[:2] / key


def _header(kind: str, key: str, sha: bytes, size: int) -> bytes:
    return b" ".join((_MAGIC, kind.encode(), key.encode(), sha.hex().encode(), b"%d" % size))


def open_cache(
    folder: str | Path | None = None, limit: int | None = None, *, trust_times: bool = False
) -> Cache | None:
    """The cache of the user.

    Args:
        folder: where it is; None: as the environment says, `OPTC_CACHE_DIR`, else ``optc`` in
            `XDG_CACHE_HOME`, else in ``~/.cache``. ``off``, here or there, means none.
        limit: bytes; None: `OPTC_CACHE_SIZE`, else 5 GiB.
        trust_times: as for `Cache`.

    Raises:
        OutputError: the folder that was asked for is none.
    """
    place = str(folder or os.environ.get(FOLDER_VARIABLE) or _default_folder())
    if place == OFF:
        return None
    if os.path.exists(place) and not os.path.isdir(place):
        raise OutputError(
            "cache-not-a-folder",
            "there is a file where the cache should be",
            location=place,
            hint=f"give another folder, or {OFF} for no cache",
        )
    if limit is None:
        limit = parse_size(os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT))
    return Cache(place, limit, trust_times=trust_times)


def _default_folder() -> str:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "optc")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``5GiB``, ``500M`` or ``1000000``: powers of 1024.

    Raises:
        OutputError: it is no size.
    """
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if found is None:
        raise OutputError(
            "cache-size",
            f"{text!r} is no size",
            hint="write bytes, or a number with K, M, G or T, e.g. 5G",
        )
    return int(found[1]) * _UNITS[found[2]]
