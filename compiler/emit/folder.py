"""The output folder: written aside, then put in place in one step.

A reader, or a run that is killed, always finds the old folder or the new one, whole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import OutputError
from optc.files import replacing_file, unwritable, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "manifest.json"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CHUNK = 1 << 22


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A folder to write into, that takes the place of `target` when the block ends well.

    When the block raises, `target` stays as it was. What killed runs left beside `target` is
    removed.

    Raises:
        OutputError: `target` is not a folder that optc wrote, or holds files that optc did not
            write, or the file system refuses.
    """
    target = Path(os.path.abspath(target))
    check_replaceable(target)
    made = [parent for parent in target.parents if not parent.exists()]
    # Named before it exists: an interrupt at any point below finds it and removes it.
    fresh = target.with_name(f".{target.name}.optc-{secrets.token_hex(4)}")
    locks: list[int] = []
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(target)
            _make_locked(fresh, locks)
        except OSError as error:
            hint = "check the permissions of the folder above, or choose another output folder"
            raise unwritable(target, error, hint=hint) from error
        yield fresh
        _put_in_place(fresh, target)
    except OSError as error:
        place = Path(str(error.filename or target))
        hint = "check free space and permissions; the old output is untouched"
        raise unwritable(place, error, hint=hint) from error
    finally:
        for lock in locks:
            os.close(lock)
        shutil.rmtree(fresh, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: the block ended well
                parent.rmdir()


def check_replaceable(target: Path) -> None:
    """Refuse to replace anything that optc did not write.

    Raises:
        OutputError: with the first file that would be lost.
    """
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir():
        raise _not_a_folder(above)
    if not target.exists():
        return
    if not target.is_dir():
        raise _not_a_folder(target)
    found = sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if not p.is_dir())
    if not found:
        return
    known = _listed(target / MANIFEST)
    lost = [name for name in found if name not in known]
    if lost:
        raise OutputError(
            "output-not-ours",
            f"the folder holds files that optc did not write, e.g. {lost[0]}",
            location=str(target),
            hint="choose another output folder, or move these files away",
        )


def _not_a_folder(path: Path) -> OutputError:
    return OutputError(
        "output-not-a-folder",
        "there is a file where the output needs a folder",
        location=str(path),
        hint="choose another output folder, or move the file away",
    )


def write_manifest(folder: Path, content: Mapping[str, object]) -> None:
    """Write manifest.json: `content`, and size and SHA-256 of every other file of the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    listed = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in files
    }
    write_json(folder / MANIFEST, {**content, "files": listed})


def write_again(folder: Path, name: str, content: bytes) -> None:
    """Write a file of an output anew, and what the manifest says of it.

    Args:
        folder: the output folder; without a manifest only the file is written.
        name: the file's path in it.
        content: its bytes.

    Raises:
        OutputError: ``output-unwritable``.
    """
    manifest = folder / MANIFEST
    with replacing_file(folder / name) as file:
        file.write(content)
    if not _listed(manifest):
        return
    told = json.loads(manifest.read_text(encoding="utf-8"))
    told["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    told["files"] = dict(sorted(told["files"].items()))
    write_text(manifest, _as_text(told))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON as a person reads it: indented, in the order given, with a final newline."""
    path.write_text(_as_text(content), encoding="utf-8")


def _as_text(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def _listed(manifest: Path) -> set[str]:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return {MANIFEST, *content["files"].keys()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def _make_locked(fresh: Path, locks: list[int]) -> None:
    """Make the folder and lock it for as long as this process lives; the lock goes to `locks`."""
    while True:
        fresh.mkdir()
        locks.append(os.open(fresh, os.O_RDONLY))
        fcntl.flock(locks[-1], fcntl.LOCK_EX)
        if fresh.exists():
            return
        os.close(locks.pop())  # another run took it for abandoned before the lock was held


def _remove_abandoned(target: Path) -> None:
    for old in sorted(target.parent.glob(f".{target.name}.optc-*.old")):
        if not target.exists():
            old.rename(target)  # a run was killed between the two renames of `_put_in_place`
    for folder in sorted(target.parent.glob(f".{target.name}.optc-*")):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # another compile is writing it
        finally:
            os.close(lock)


def _put_in_place(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    check_replaceable(target)
    if not _exchange(fresh, target):
        # No atomic exchange on this file system: the gap between two renames is all there is.
        old = fresh.with_name(fresh.name + ".old")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically (renameat2, Linux 3.15); False when not supported here."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = (os.fsencode(one), os.fsencode(other))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(other))
