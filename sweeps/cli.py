"""What the scripts share: flags from a dataclass, and errors of one plain line."""

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from rich.console import Console

from tuners.errors import BadInput
from tuners.interrupts import take_sigterm_as_ctrl_c
from tuners.login import hide_login, masked, without_password

if TYPE_CHECKING:
    from rich.table import Table

FlagsT = TypeVar("FlagsT")
SweepName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HELP = ("For full helptext", "Argument helptext")
_LOG_WIDTH = 110
_ENDLESS = 10_000
_LONGEST = 1200  # characters of a line
# What tyro says where a sweep's name follows a flag that there is not.
_NO_NAME = "Missing value for argument 'sweep'. Expected 1 values."
_RULE = re.compile(r"╰?[─-]{3,}╯?")


def run(flags: type[FlagsT], main: Callable[[FlagsT], int | None], about: str | None) -> None:
    """Parses the command line into ``flags``, calls ``main`` with it, and exits.

    Exit codes: 0 done, 1 something outside failed, 2 bad input, 130 interrupted.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started it had closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    os.environ.setdefault("JAX_PLATFORMS", "")  # the driver's own JAX takes what there is
    # Of a GPU it would take three quarters, which trials may need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    take_sigterm_as_ctrl_c()
    try:
        parsed = _without_login(parse(flags, about))
        sys.exit(main(parsed) or 0)
    except BadInput as error:
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


def flags_given(flags: Any) -> list[str]:
    """Returns the names of all flags of a script that are not as they are by default."""
    usual = type(flags)()
    names = (entry.name for entry in fields(flags))
    return [name for name in names if getattr(flags, name) != getattr(usual, name)]


def as_flag(name: str) -> str:
    """Returns a flag as it is typed."""
    return f"--{name.replace('_', '-')}"


def refuse_beside(given: str, idle: Iterable[str]) -> None:
    """Refuses flags that would change nothing beside another.

    Args:
        given: name of the one that decides what they would.
        idle: their names.

    Raises:
        BadInput: which flags to leave out.
    """
    named = ", ".join(map(as_flag, idle))
    if named:
        raise BadInput(f"--{given} says all of that already: leave out {named}")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        line = "error: whoever read the output has gone; --resume goes on with a sweep"
        print(line, file=sys.stderr)
        super().on_broken_pipe()


def make_console() -> Console:
    """Returns a console that leaves breaking lines to the terminal, and fits tables in a log.

    A log, also a coloured one, and a notebook get no screen that is drawn again and again.
    """
    on_screen = sys.stdout.isatty()
    return _Console(
        soft_wrap=True,
        width=None if on_screen else _LOG_WIDTH,
        highlight=False,
        markup=False,  # what is printed may have names: a folder may be called "[red]", or ":car:"
        emoji=False,
        force_interactive=None if on_screen and "JPY_PARENT_PID" not in os.environ else False,
    )


def print_table(console: Console, make_table: Callable[[str], "Table"]) -> None:
    """Prints a table whose cells may have two parts: one below the other where it is too wide.

    Args:
        console: where to.
        make_table: returns the table from what stands between the parts of a cell.
    """
    table = make_table(" ")
    is_too_wide = (
        console.measure(table, options=console.options.update(width=_ENDLESS)).maximum
        > console.width
    )
    console.print(make_table("\n") if is_too_wide else table)


def _without_login(flags: FlagsT) -> FlagsT:
    """Returns the flags with no password among them: from here on nobody can print it.

    Raises:
        BadInput: one that is meant for a cluster.
    """
    given = getattr(flags, "tracking_uri", None)
    if given is None or without_password(given) == given:
        return flags
    if getattr(flags, "cluster", None) is not None:
        raise BadInput(
            "--tracking-uri holds a password, but the command line of a job can be seen in Ray's"
            " dashboard: leave it out, and export MLFLOW_TRACKING_URI in the head's"
            " ~/.shapesweep_secrets (docs/cluster.md)"
        )
    return replace(flags, tracking_uri=hide_login(given))  # type: ignore[type-var]


def refuse(reason: str, code: int = 2) -> None:
    """Ends the program with one line: of a length that can be read, and with no login in it."""
    line = masked(" ".join(reason.split()))
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def _plain(box: str) -> str:
    """Returns what tyro's error box says as one line, without its frame and its help."""
    lines = (line.strip("│ ") for line in _COLOUR.sub("", box).splitlines()[1:])
    text = (line for line in lines if line and not _RULE.fullmatch(line))
    said = " ".join(itertools.takewhile(lambda line: not line.startswith(_HELP), text))
    return said.replace(_NO_NAME, "NAME is missing: the sweep's name, with no flag before it")
