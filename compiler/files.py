"""Single files that take their place in one step: nobody sees half of one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from optc.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_HINT: Final = "the folder must exist, be writable, and have room"


@contextmanager
def replacing_file(
    path: Path, draft: Path | None = None, *, hint: str = _HINT
) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and goes when it does not.

    What is no file, such as ``/dev/stdout``, is written to and stays what it is.

    Args:
        path: where it goes.
        draft: a file on the same file system that has the content already.
        hint: what the user can do when it cannot be written.

    Raises:
        OutputError: ``output-unwritable``.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        if draft is not None:
            draft.replace(partial)
        with partial.open("wb" if draft is None else "ab") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise unwritable(path, error, hint=hint) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, hint: str = _HINT) -> None:
    """Write a text file in UTF-8, as `replacing_file`.

    Raises:
        OutputError: ``output-unwritable``.
    """
    with replacing_file(path, hint=hint) as file:
        file.write(text.encode())


def check_place(path: Path, *, hint: str = _HINT) -> None:
    """Refuse a place where no file can be written, before the work for it is done.

    Raises:
        OutputError: ``output-unwritable``: it is a folder, or in a folder that does not exist.
    """
    if path.is_dir():
        raise unwritable(path, OSError("it is a folder"), hint=hint)
    if not path.absolute().parent.is_dir():
        raise unwritable(path, OSError("its folder does not exist"), hint=hint)


def unwritable(path: Path, error: OSError, *, hint: str = _HINT) -> OutputError:
    """The error for what the system refuses to write."""
    return OutputError(
        "output-unwritable",
        f"cannot write: {error.strerror or error}",
        location=str(path),
        hint=hint,
    )
