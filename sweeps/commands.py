"""Commands to run next, as a shell with this environment can start them."""

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.places import runs_dir

if TYPE_CHECKING:
    from tuners.spec import SweepSpec


def on_sweep(script: str, spec: "SweepSpec", flag: str = "") -> str:
    """Returns what starts a script of ``sweeps/`` on a sweep, with this Python.

    Args:
        script: the file's name.
        spec: the sweep.
        flag: that the sweep's name follows, if it follows one.
    """
    words = [program_here(Path(sys.executable).name), _typed(Path(__file__).with_name(script))]
    if flag:
        words.append(flag)
    words.append(spec.name)
    if spec.runs_dir != runs_dir():  # the usual folder needs no flag
        words += ["--runs-dir", shlex.quote(str(spec.runs_dir))]
    return " ".join(words)


def program_here(name: str) -> str:
    """Returns how to call a program beside this Python: by name, or by path if a shell needs that.

    It does after ``make``, which leaves ``.venv`` inactive: its ``mlflow`` is then not found, and
    ``python`` is another's.
    """
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    is_found = found is not None and Path(found).parent.resolve() == here.parent.resolve()
    return name if is_found or not here.exists() else _typed(here)


def _typed(path: Path) -> str:
    """Returns a path for a shell: below the folder that one is in without that."""
    with suppress(ValueError, FileNotFoundError):  # it is elsewhere; where one is was deleted
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path) if "/" in str(path) else f"./{path}")
