"""Files that appear whole or not at all."""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new file beside ``path`` that takes its place on success and is deleted on failure.

    Its name begins with a dot, so readers that list the folder pass over it.

    Raises:
        OSError: the folder cannot be written; an earlier file is intact.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        sync(temporary)  # or a power cut could leave the new name on an empty file
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Waits until what was written to a file is on the disk; passes over one that is not there."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as written:
        os.fsync(written.fileno())


def check_room(folder: Path) -> None:
    """Writes as much as a few checkpoints take, and deletes it.

    Raises:
        OSError: the folder, which it names, cannot be written, or not that much.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def remove_unfinished(folder: Path) -> None:
    """Deletes what ``replacing`` was writing below ``folder`` in processes that were killed."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
