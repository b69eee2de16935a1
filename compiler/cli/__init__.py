"""The command line: one thin file per verb over the library.

Exit codes: 0 done · 1 the recipe, model, data or target is wrong (or the answer is "no",
"differs") · 2 command-line usage · 3 a bug of optc · 4 built, but a goal was missed · 130
interrupted.
"""

from __future__ import annotations

import sys

import click

from optc.cli.app import app
from optc.cli.console import show_crash, show_error
from optc.errors import OptcError

__all__ = ["app", "main"]

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run optc with these arguments (default: the process's) and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words
    try:
        code = app(args=words, prog_name="optc", standalone_mode=False)
    except click.exceptions.Abort:
        return _INTERRUPTED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OptcError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is left to say
        return 1
    except Exception as error:
        # The last line of defence: what nobody foresaw becomes a report that can be pasted.
        show_crash(error, words, as_json=as_json)
        return 3
    return code if isinstance(code, int) else 0
