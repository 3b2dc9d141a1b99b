"""What the scripts share: flags from a dataclass, and errors of one plain line."""

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

FlagsT = TypeVar("FlagsT")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HELP = ("For full helptext", "Argument helptext")
_RULE = re.compile(r"╰?[─-]{3,}╯?")


def run(flags: type[FlagsT], main: Callable[[FlagsT], int | None], about: str | None) -> None:
    """Parses the command line into ``flags``, calls ``main`` with it, and exits.

    Exit codes: 0 done, 2 bad input, 130 interrupted.
    """
    os.environ.setdefault("JAX_PLATFORMS", "")  # the driver's own JAX takes what there is
    parsed = parse(flags, about)
    try:
        sys.exit(main(parsed) or 0)
    except ValueError as error:
        if type(error).__name__ != "BadInput":
            raise
        refuse(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        refuse(f"{error.strerror}{f': {error.filename}' if error.filename else ''}", code=1)
    except KeyboardInterrupt:
        refuse("interrupted", code=130)


def parse(flags: type[FlagsT], about: str | None) -> FlagsT:
    """Returns the flags given; a wrong one ends the program with one line and exit code 2."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(flags, description=about, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as ended:
        if ended.code:
            refuse(_plain(printed.getvalue()))
        raise


def refuse(reason: str, code: int = 2) -> None:
    """Ends the program with one line."""
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)


def _plain(box: str) -> str:
    """Returns what tyro's error box says as one line, without its frame and its help."""
    lines = (line.strip("│ ") for line in _COLOUR.sub("", box).splitlines()[1:])
    text = (line for line in lines if line and not _RULE.fullmatch(line))
    return " ".join(itertools.takewhile(lambda line: not line.startswith(_HELP), text))
