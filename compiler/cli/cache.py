"""`optc cache`: what earlier compiles left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from optc.cli.command import VerbGroup
from optc.cli.console import cache_option, cache_size_option, json_option, say, say_json

if TYPE_CHECKING:
    from pathlib import Path

    from optc.cache import Cache

app = VerbGroup(
    "cache",
    help="Look at, empty and check the cache of compiles.\n\n"
    "Example: optc cache stats\n"
    "Example: optc cache verify",
    no_args_is_help=True,
)


@app.command("stats")
@cache_option
@cache_size_option
@json_option
def stats(cache: Path | None, cache_size: str | None, json: bool) -> None:
    """Show where the cache is and what it holds.

    Example: optc cache stats
    """
    found = _open(cache, cache_size).stats()
    if json:
        say_json(found.to_dict())
        return
    say(f"{found.folder}: {found.entries} entries, {_size(found.size)} of {_size(found.limit)}")
    for kind, (count, size) in found.kinds.items():
        say(f"  {kind:<14} {count:>6}  {_size(size):>10}")


@app.command("clear")
@cache_option
@json_option
def clear(cache: Path | None, json: bool) -> None:
    """Remove every entry. Whatever else lies in the folder stays.

    Example: optc cache clear
    """
    opened = _open(cache, None)
    count = opened.clear()
    if json:
        say_json({"folder": str(opened.folder), "removed": count})
    else:
        say(f"{opened.folder}: removed {count} entries")


@app.command("verify")
@cache_option
@json_option
def verify(cache: Path | None, json: bool) -> None:
    """Read every entry, and remove those that are not as they were written: exit code 1 then.

    A compile does so with what it reads; this looks at all of it.

    Example: optc cache verify
    """
    opened = _open(cache, None)
    count, broken = opened.verify()
    if json:
        names = [str(path.relative_to(opened.folder)) for path in broken]
        say_json({"folder": str(opened.folder), "entries": count, "damaged": names})
    else:
        for path in broken:
            say(f"damaged, removed: {path.relative_to(opened.folder)}")
        say(f"{opened.folder}: {count} entries, {len(broken)} damaged")
    if broken:
        raise click.exceptions.Exit(1)


def _open(folder: Path | None, size: str | None) -> Cache:
    from optc.cache import open_cache, parse_size
    from optc.errors import OutputError

    found = open_cache(folder, None if size is None else parse_size(size))
    if found is None:
        raise OutputError(
            "cache-off",
            "there is no cache: OPTC_CACHE_DIR is off",
            hint="name one with --cache DIR",
        )
    return found


def _size(count: int) -> str:
    """Bytes in a unit that makes few digits."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
