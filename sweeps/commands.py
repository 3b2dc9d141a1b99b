"""Commands to run next, as they can be typed in the terminal that a script was started in."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.places import runs_dir

if TYPE_CHECKING:
    from tuners.spec import SweepSpec


def on_sweep(script: str, flag: str, spec: "SweepSpec") -> str:
    """Returns what starts a script of ``sweeps/`` on a sweep, with this Python.

    Args:
        script: the file's name.
        flag: that the sweep's name follows; "" where it follows none.
        spec: the sweep.
    """
    words = [program_here(Path(sys.executable).name), _typed(Path(__file__).with_name(script))]
    if flag:
        words.append(flag)
    words.append(spec.name)
    if spec.runs_dir != runs_dir():  # elsewhere it is found without
        words += ["--runs-dir", shlex.quote(str(spec.runs_dir))]
    return " ".join(words)


def program_here(name: str) -> str:
    """Returns how to call a program beside this Python: by name, or by path if a shell needs that.

    It does after ``make``, which leaves ``.venv`` inactive: its ``mlflow`` is then not found, and
    ``python`` is another's.
    """
    folder = Path(sys.executable).parent
    found = shutil.which(name)
    if found is not None and Path(found).parent.resolve() == folder.resolve():
        return name
    return _typed(folder / name)


def _typed(path: Path) -> str:
    """Returns a path for a shell, the shorter way from where one is."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith(os.pardir) else relative)
