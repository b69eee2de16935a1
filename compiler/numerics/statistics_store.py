"""Stores of statistics that are files: one that is filled, one that a recipe names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.errors import DataError
from optc.files import replacing_file
from optc.numerics.statistics_file import Entry, merge_files, read_entries, write_entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class StatisticsFile:
    """A file that statistics are taken into: what is there is used, what is not comes beside it.

    Attributes:
        path: the file; it need not exist.
    """

    path: Path

    def get(self, key: str) -> bytes | None:
        """See `optc.numerics.statistics.Store`."""
        found = [entry for entry in self._entries() if entry.key == key]
        return write_entries(found) if found else None

    def put(self, key: str, content: bytes) -> None:
        """See `optc.numerics.statistics.Store`; no entries remove what is under the key."""
        new = read_entries(content, str(self.path))
        kept = [entry for entry in self._entries() if entry.key != key]
        with replacing_file(self.path) as file:
            file.write(write_entries([*kept, *new]))

    def _entries(self) -> tuple[Entry, ...]:
        if not self.path.exists():
            return ()
        return read_entries(self.path.read_bytes(), str(self.path))


@dataclass(frozen=True)
class GivenStatistics:
    """A file that has to hold all statistics that are asked for.

    Attributes:
        path: the file.
    """

    path: Path

    def get(self, key: str) -> bytes | None:
        """See `optc.numerics.statistics.Store`.

        Raises:
            DataError: ``statistics-stale``: there are none under the key, or not of all data.
        """
        try:
            entries = read_entries(self.path.read_bytes(), str(self.path))
        except OSError as error:
            raise DataError(
                "statistics-unreadable",
                f"the statistics cannot be read: {error.strerror}",
                location=str(self.path),
                hint="make them with `optc calibrate`",
            ) from error
        found = next((entry for entry in entries if entry.key == key), None)
        if found is None or not found.complete:
            what = (
                "there are none of this model, data, pipeline and versions"
                if found is None
                else f"{len(found.shards)} of {found.of} shards are there"
            )
            raise DataError(
                "statistics-stale",
                f"the statistics do not fit: {what}",
                location=str(self.path),
                hint="make them again with `optc calibrate`, or leave out `statistics:`",
            )
        return write_entries([found])

    def put(self, key: str, content: bytes) -> None:
        """Never called: what `get` does not find is an error."""


class StatisticsTaken(Exception):  # noqa: N818 - no error: the end of what was asked for
    """Raised when a shard has been taken and written."""


@dataclass(frozen=True)
class ShardFile:
    """A file for the statistics of one part of the data; the first that are complete end the work.

    Attributes:
        path: where they go.
        known: complete statistics of earlier steps of the pipeline.
        index: which part, from zero.
        of: number of parts.
    """

    path: Path
    known: StatisticsFile | None
    index: int
    of: int

    def get(self, key: str) -> bytes | None:
        """What earlier rounds have; unfinished work is not taken up again."""
        return None if self.known is None else self.known.get(key)

    def put(self, key: str, content: bytes) -> None:
        """Write the part.

        Raises:
            StatisticsTaken: it is written.
        """
        entries = read_entries(content, str(self.path))
        part = [replace(e, shards=(self.index,), of=self.of) for e in entries if e.final]
        if not part:
            return
        with replacing_file(self.path) as file:
            file.write(write_entries(part))
        raise StatisticsTaken


def merge_statistics(paths: Sequence[Path], out: Path) -> tuple[Entry, ...]:
    """Add up files of statistics, and write what comes out.

    Raises:
        DataError: a file is missing or damaged, or parts do not go together.
    """
    files: list[tuple[str, bytes]] = []
    for path in paths:
        try:
            files.append((str(path), path.read_bytes()))
        except OSError as error:
            raise DataError(
                "statistics-unreadable",
                f"the statistics cannot be read: {error.strerror}",
                location=str(path),
            ) from error
    entries = merge_files(files)
    with replacing_file(out) as file:
        file.write(write_entries(entries))
    return entries
