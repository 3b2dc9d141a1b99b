"""One driver a sweep: a lock on its folder, which ends with the process that holds it."""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlcore.files import remove_unfinished
from tuners.errors import BadInput
from tuners.layout import LOCK_FILE, SPEC_FILE, TRACKING_LOCK_FILE


@contextmanager
def writing_to_mlflow(folder: Path) -> Iterator[None]:
    """Waits until no other process writes a sweep to MLflow, then keeps others from it.

    A driver that was killed leaves such a process behind, which first ends what it was about.
    """
    with (folder / TRACKING_LOCK_FILE).open("a") as file:
        with suppress(OSError):  # the file server knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def driving(folder: Path, *, is_new: bool = False) -> Iterator[None]:
    """Holds a sweep for this process, and clears away the unfinished files of one that was killed.

    The kernel lets go of the lock of a process that has ended, however it did.  Where the file
    server knows no locks there is none.

    Args:
        folder: of the sweep.
        is_new: whether the folder was made just now: if the sweep is refused before it has begun,
            nothing is left of it.

    Raises:
        BadInput: which process drives it.
    """
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            driver = file.read().strip() or "another process"
            raise BadInput(
                f"sweep '{folder.name}' is being driven by {driver}; wait for it, or stop it"
            ) from None
        except OSError:
            pass
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        remove_unfinished(folder)
        try:
            yield
        except BadInput:
            if is_new and {path.name for path in folder.iterdir()} == {SPEC_FILE, LOCK_FILE}:
                shutil.rmtree(folder)
            raise
