"""A sweep in the shared store: an address that Arrow knows, such as ``s3://bucket/runs/sweep``.

Ray Tune writes checkpoints there itself, from whatever node trains.  Everything else is written to
the sweep's folder on the driver's disk, of which ``tuners/mirror.py`` keeps a copy in the store.
"""

import io
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from pyarrow import fs

from rlcore.files import replacing
from tuners.errors import BadInput
from tuners.layout import (
    COMPARISON_FILE,
    RECORDING_FILE,
    SEGMENTS_FOLDER,
    SESSION,
    SPEC_FILE,
    STATE_FILE,
    TUNE_FOLDER,
    sweep_address,
    trial_of,
)
from tuners.login import error_line, masked
from tuners.names import is_below
from tuners.reading import read_yaml
from tuners.results import covering, last_number

SCHEMES = ("s3", "file")
_PROBE = ".shapesweep-probe"
_PART = ".part"  # ends the name of what is on its way


class Store:
    """A folder in the store, and what lies below it by name."""

    def __init__(self, address: str) -> None:
        """Opens the folder; it need not be there.

        Args:
            address: one that Arrow knows, such as ``s3://bucket/runs/sweep``.
        """
        self.address = address
        self._files, self.root = fs.FileSystem.from_uri(address)

    def names(self, below: str = "", *, recursive: bool = True) -> list[str]:
        """Returns the names of the files below a folder, in order.

        If not ``recursive``, of the files and folders in it.

        Raises:
            BadInput: a name that would lead out of the folder it is fetched to.
        """
        place = self._place(below)
        selector = fs.FileSelector(place, recursive=recursive, allow_not_found=True)
        found = self._files.get_file_info(selector)
        if recursive:
            found = [info for info in found if info.type == fs.FileType.File]
        names = [info.path.removeprefix(self.root).lstrip("/") for info in found]
        for name in names:
            if not is_below(name):
                raise BadInput(f"{self.address} holds {name!r}, which is no name of a sweep's file")
        return sorted(name for name in names if not name.endswith(_PART))

    def has(self, name: str) -> bool:
        """Returns whether there is a file of that name."""
        return bool(self._files.get_file_info(self._place(name)).type == fs.FileType.File)

    def put(self, source: IO[bytes], name: str) -> None:
        """Writes a file, whole or not at all."""
        place = self._place(name)
        self._files.create_dir(place.rpartition("/")[0])
        with self._files.open_output_stream(place + _PART) as target:
            shutil.copyfileobj(source, target)
        self._files.move(place + _PART, place)

    def get(self, name: str, path: Path) -> None:
        """Fetches a file, whole or not at all.

        Raises:
            FileNotFoundError: it is not there.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._files.open_input_stream(self._place(name)) as source,
            replacing(path) as beside,
            beside.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)

    def delete(self, name: str) -> None:
        """Deletes a file."""
        self._files.delete_file(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def check_address(address: str) -> None:
    """Refuses an address of a store that cannot be one.

    Raises:
        BadInput: what is wrong with it.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise BadInput(f"storage is '{masked(address)}', but {error}") from None
    if parts.username is not None or parts.password is not None:
        raise BadInput(
            "storage holds a key, which would be written to sweep.yaml: leave it out, and set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise BadInput(f"storage is '{address}'; it may begin with {known}")
    if parts.query or parts.fragment:
        raise BadInput(
            f"storage is '{address.partition('?')[0]}?...'; leave out what follows the path:"
            " endpoint and region come from AWS_ENDPOINT_URL and AWS_REGION"
        )
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise BadInput(f"storage is '{address}'; of a folder give file:// and its absolute path")
    if parts.scheme != "file" and not parts.netloc:
        raise BadInput(f"storage is '{address}', but names no bucket")


def check_store(storage: str, fresh: str | None) -> None:
    """Writes a small file into the store and deletes it again.

    Args:
        storage: address of the store.
        fresh: name of a sweep that must not be there yet, if of any.

    Raises:
        BadInput: why the store cannot be used, or that the name is taken.
    """
    with refused(storage):
        probe = Store(storage)
        name = f"{_PROBE}-{secrets.token_hex(4)}"  # of two drivers neither deletes the other's
        probe.put(io.BytesIO(b"written to see whether it can be"), name)
        probe.delete(name)
        taken = fresh is not None and probe.has(f"{fresh}/{SPEC_FILE}")
    if taken:
        raise BadInput(
            f"sweep '{fresh}' exists in {storage}; take another name, or --resume {fresh}"
        )


@contextmanager
def refused(address: str) -> Iterator[None]:
    """Turns what a store answers into one plain line.

    Raises:
        BadInput: the store does not answer, or refuses.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"storage {address} cannot be used: {error_line(error)}") from error


def is_kept(name: str) -> bool:
    """Returns whether the store has a copy of a file: Tune puts its own there, locks are local."""
    return not name.startswith(SESSION) and ".lock" not in name


def bring(address: str, folder: Path) -> bool:
    """Fetches a sweep's folder if the store's is further than the one here; returns whether it was.

    Checkpoints stay there.  It is further if it has later segments, or as late ones and the final
    table, which is not here.  The segments come last: a fetch that was cut off is done again.

    Args:
        address: of the sweep in the store.
        folder: of the sweep here.

    Raises:
        BadInput: the store cannot be read.
    """
    with refused(address):
        store = Store(address)
        names = [name for name in store.names() if is_kept(name)]
        here = [path.name for path in (folder / SEGMENTS_FOLDER).glob("*")]
        parts = covering(Path(name).name for name in names if name.startswith(SEGMENTS_FOLDER))
        concluded = COMPARISON_FILE in names and not (folder / COMPARISON_FILE).exists()
        further = last_number(parts) - last_number(here)
        is_behind = not (folder / SPEC_FILE).exists() or further > 0 or (further == 0 and concluded)
        if SPEC_FILE not in names or not is_behind:
            return False
        for name in names:
            if not name.startswith(SEGMENTS_FOLDER):
                store.get(name, folder / name)
        # Listed again: the trials table, which is here by now, speaks of those that came meanwhile.
        there = [Path(name).name for name in store.names(SEGMENTS_FOLDER)]
        for part in covering(there):
            store.get(f"{SEGMENTS_FOLDER}/{part}", folder / SEGMENTS_FOLDER / part)
    for name in set(here) - set(there):
        (folder / SEGMENTS_FOLDER / name).unlink()  # reported here alone, and trained there again
    return True


def fetch(folder: Path, name: str) -> Path:
    """Returns the path of a file of a sweep, fetched from its store if it is only there.

    Args:
        folder: of the sweep.
        name: relative to it.

    Raises:
        OSError: the store cannot be read.
    """
    path = folder / name
    if not path.exists() and (address := address_of(folder)) is not None:
        store = Store(address)
        if store.has(name):
            store.get(name, path)
    return path


def fetch_checkpoints(folder: Path, trials: Iterable[str]) -> None:
    """Fetches the checkpoints that the store has of some trials of a sweep.

    Raises:
        BadInput: the store cannot be read.
    """
    wanted, address = set(trials), address_of(folder)
    if address is None or not wanted:
        return
    with refused(address):
        store = Store(address)
        for name in store.names(TUNE_FOLDER):
            parts = name.split("/")  # tune, session, trial, checkpoint, file
            if len(parts) != 5 or parts[4] != STATE_FILE or (folder / name).exists():
                continue
            if trial_of(parts[2]) in wanted:
                store.get(name, folder / name)


def count_sessions(folder: Path) -> int:
    """Returns how many times Ray Tune was started for a sweep."""
    names = {path.name for path in folder.glob(f"{SESSION}*")}
    if (address := address_of(folder)) is not None:
        found = Store(address).names(TUNE_FOLDER, recursive=False)
        names |= {Path(name).name for name in found if name.startswith(SESSION)}
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


def address_of(folder: Path) -> str | None:
    """Returns where the store has the sweep in ``folder``, if it is in one."""
    entries = read_yaml(folder / SPEC_FILE, "description")
    storage = entries["spec"].get("storage")
    return None if storage is None else sweep_address(storage, folder.name)


@contextmanager
def at_hand(place: str) -> Iterator[Path]:
    """Yields the path of a checkpoint's folder, fetched for as long if it is an address.

    Raises:
        OSError: the store cannot be read.
    """
    if "://" not in place:
        yield Path(place)
        return
    store = Store(place)
    with tempfile.TemporaryDirectory() as beside:
        for name in (STATE_FILE, RECORDING_FILE):
            if store.has(name):
                store.get(name, Path(beside) / name)
        yield Path(beside)
