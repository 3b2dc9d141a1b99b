"""Where results go, refused before anything begins if they could not be written there."""

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tuners.errors import BadInput
from tuners.login import masked, whole_uri, without_password

TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
_SQLITE = b"SQLite format 3\0"


def check_tracking_uri(uri: str) -> None:
    """Refuses a tracking URI that can never work.  A server that does not answer may yet.

    Raises:
        BadInput: an unknown scheme, a local store that cannot be written, or a password that the
            sweep did not keep and nobody gave again.
    """
    shown = masked(uri)
    try:
        parts = urlsplit(without_password(uri))
        scheme, named = parts.scheme.split("+")[0], parts.hostname
        _ = parts.port  # which is no number, or too large
    except ValueError as error:
        raise BadInput(f"tracking URI is '{shown}', but {error}") from None
    if scheme not in TRACKING_SCHEMES:
        raise BadInput(f"tracking URI is '{shown}'; allowed schemes: {', '.join(TRACKING_SCHEMES)}")
    if scheme == "sqlite":
        if not uri.startswith("sqlite:///"):
            raise BadInput(f"tracking URI is '{shown}'; of a local store give sqlite:///FILE")
        store = Path(uri.removeprefix("sqlite:///"))
        check_out_file(store, "MLflow store")
        if store.exists() and _first_bytes(store, len(_SQLITE)) not in (b"", _SQLITE):
            raise BadInput(f"MLflow store {store} is no SQLite database; name another file")
    elif not named:
        raise BadInput(f"tracking URI is '{shown}', but names no host")
    elif scheme.startswith("http") and parts.username and not parts.password:
        raise BadInput(f"tracking URI is '{shown}'; a name needs a password, as NAME:PASSWORD@HOST")
    whole_uri(uri)


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def check_out_file(path: Path, what: str, suffix: str | None = None) -> None:
    """Refuses a file that cannot be written, or whose name does not say what it will be.

    Raises:
        BadInput: why.
    """
    check_writable(path, what)
    if path.is_dir():
        raise BadInput(f"{what} {path} is a folder; name a file in it")
    if suffix is not None and path.suffix.lower() != suffix:
        raise BadInput(f"{what} is {path}, but must end in {suffix}")


def check_is_folder(runs_dir: Path) -> None:
    """Refuses an address as the folder of sweeps: it would become folders called "s3:" and so on.

    Raises:
        BadInput: how to give one.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(runs_dir)):
        raise BadInput(
            "runs_dir is an address, but must be a folder here; a search takes s3://bucket/runs as"
            " --storage"
        )


def check_programs_folder() -> None:
    """Refuses a folder of compiled programs that cannot be written: each trial would fail.

    Raises:
        BadInput: why.
    """
    folder, what = programs_folder(), "folder of compiled programs (SHAPESWEEP_CACHE)"
    check_writable(folder, what)
    if folder.is_file():
        raise BadInput(f"{what} {folder} is not a folder")


def programs_folder() -> Path:
    """Returns where compiled programs are kept: SHAPESWEEP_CACHE, or ~/.cache/shapesweep.

    Raises:
        BadInput: this user has no home.
    """
    try:
        return Path(os.environ.get("SHAPESWEEP_CACHE") or Path.home() / ".cache" / "shapesweep")
    except RuntimeError as error:
        raise BadInput("this user has no home: set SHAPESWEEP_CACHE to a folder") from error


def nearest_there(path: Path) -> Path:
    """Returns the path if it is there, else the first of its parents that is.

    Raises:
        OSError: that cannot be said, or the name is too long.
    """
    for place in (path, *path.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            place.stat()  # ``exists`` says from Python 3.14 on that what cannot be is not there
            return place
    return path


def check_writable(path: Path, what: str) -> None:
    """Refuses a file or folder that this user cannot write, or whose first parent is not a folder.

    Raises:
        BadInput: what it is, and where.
    """
    try:
        nearest = nearest_there(path)
    except (OSError, ValueError) as error:  # such as a name that is too long, or holds a nul
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{what} {path} cannot be written: {reason}") from error
    if nearest != path and not nearest.is_dir():
        raise BadInput(f"{what} {path} cannot be written: {nearest} is not a folder")
    if not os.access(nearest, os.W_OK):
        raise BadInput(f"{what} {path} cannot be written: {nearest} is read-only for this user")
    if nearest.is_dir() and os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise BadInput(f"{what} {path} cannot be written: {nearest} is on a read-only file system")
