"""Single files that take their place in one step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from optc.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextmanager
def replacing_file(path: Path, draft: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and goes when it does not.

    Args:
        path: where it goes.
        draft: a file on the same file system that has the content already.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        if draft is not None:
            draft.replace(partial)
        with partial.open("wb" if draft is None else "ab") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file that the system refuses to write."""
    return OutputError(
        "output-unwritable",
        f"cannot write: {error.strerror or error}",
        location=str(path),
        hint="the folder must exist, be writable, and have room for the weights",
    )
