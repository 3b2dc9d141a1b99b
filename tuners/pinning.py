"""One core a trial on a CPU, and for everything beside training only what a trial leaves idle.

A worker claims a core before JAX is imported, by a lock on a file, which the system frees with the
process, however it ends.  Where the system cannot bind a process to a core (macOS), none is.
"""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

_CAN_BIND = hasattr(os, "sched_setaffinity")
_held: list[int] = []  # open lock files; closing one would free its core


def pin_to_free_core() -> int | None:
    """Binds this process to a core no other worker here has; returns it, or None if there is none.

    Called again in the same process, it keeps the core it has.
    """
    if not _CAN_BIND:
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if _held:
        return allowed[0]
    folder = Path(tempfile.gettempdir()) / f"shapesweep-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for core in allowed:
        lock = os.open(folder / f"core{core}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        os.sched_setaffinity(0, {core})
        return core
    return None


def pin_to_last_core() -> None:
    """Binds this process to one core without claiming it."""
    if _CAN_BIND:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def use_idle_time() -> None:
    """Lets this process, and those it starts, run only where no trial wants the core.

    The highest nice value would leave it a twentieth of a core that a trial could use.
    """
    with contextlib.suppress(OSError):
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.nice(19)
