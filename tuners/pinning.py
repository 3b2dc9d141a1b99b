"""One core a trial on a CPU: a worker claims a core before JAX is imported.

A core is claimed by a lock on a file, which the system frees with the process, however it ends.
"""

import fcntl
import os
import tempfile
from pathlib import Path

_held: list[int] = []  # open lock files; closing one would free its core


def pin_to_free_core() -> int | None:
    """Binds this process to a core no other worker here has; returns it, or None if all are taken.

    Called again in the same process, it keeps the core it has.
    """
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
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
