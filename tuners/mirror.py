"""A copy of a sweep's folder in the shared store, kept while the sweep runs."""

import io
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tuners.layout import SEGMENTS_FOLDER, TRIALS_FILE
from tuners.login import error_line
from tuners.results import covering
from tuners.store import Store, is_kept

EVERY = 2.0  # s


class Mirror:
    """Copies to the store what changes in a sweep's folder, in a thread: training never waits."""

    def __init__(self, folder: Path, address: str, every: float = EVERY) -> None:
        """Begins to copy.

        Args:
            folder: of the sweep.
            address: of the sweep in the store.
            every: seconds from one look to the next.
        """
        self._folder = folder
        self._address = address
        self._every = every
        self._sent: dict[str, tuple[int, ...]] = {}
        self._error = ""
        self.has_tables_of = (
            -math.inf
        )  # when (``time.monotonic``) the tables were as they are there
        self._is_tidy = False  # a driver before may have been killed between sending and deleting
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> list[str]:
        """Copies the rest; returns a line if the store lacks something in the end."""
        self._ended.set()
        self._thread.join()
        self._try_to_copy(math.inf)
        missing = list(self._changed())
        if not missing:
            return []
        return [f"{self._address} lacks {len(missing)} files, such as {missing[0]}: {self._error}"]

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._try_to_copy(self._every)

    def _try_to_copy(self, seconds: float) -> None:
        try:
            self._copy(seconds)
        except Exception as error:  # the store is away or full: tried again at the next look
            self._error = error_line(error)

    def _copy(self, seconds: float) -> None:
        """Copies the tables, and for so long what else has changed."""
        store = Store(self._address)
        self._copy_tables(store)
        begun = time.monotonic()
        for name, state in self._changed().items():
            if name == TRIALS_FILE or name.startswith(SEGMENTS_FOLDER):
                continue  # written meanwhile: at the next look, in their order
            if time.monotonic() - begun > seconds:
                return  # so that the tables are not late
            with (self._folder / name).open("rb") as file:
                self._send(store, file, name, state)

    def _copy_tables(self, store: Store) -> None:
        """Copies what is new in the tables, such that no trial ends before its last segment.

        The sweep writes a segment before it writes the end of its trial, so they are read here in
        the opposite order.
        """
        begun = time.monotonic()
        table = self._folder / TRIALS_FILE
        if not table.exists():
            return
        changed = self._changed()  # before it is read: it may change meanwhile
        trials = table.read_bytes()
        for name, state in self._changed().items():
            if name.startswith(SEGMENTS_FOLDER):
                with (self._folder / name).open("rb") as file:
                    self._send(store, file, name, state)
        if TRIALS_FILE in changed:
            self._send(store, io.BytesIO(trials), TRIALS_FILE, changed[TRIALS_FILE])
        self.has_tables_of = begun
        self._forget_merged(store)

    def _forget_merged(self, store: Store) -> None:
        """Deletes the small files in the store that a larger one covers, as the sweep did here."""
        gone = {
            name
            for name in self._sent
            if name.startswith(SEGMENTS_FOLDER) and not (self._folder / name).exists()
        }
        if self._is_tidy and not gone:
            return
        there = store.names(SEGMENTS_FOLDER)
        needed = covering(Path(name).name for name in there)
        for name in there:
            if Path(name).name not in needed:
                store.delete(name)
        for name in gone:
            del self._sent[name]
        self._is_tidy = True

    def _send(self, store: Store, source: IO[bytes], name: str, state: tuple[int, ...]) -> None:
        store.put(source, name)
        self._sent[name] = state

    def _changed(self) -> dict[str, tuple[int, ...]]:
        """Returns the files to copy, and how they are now."""
        found = dict(_states(self._folder))
        return {name: state for name, state in found.items() if self._sent.get(name) != state}


def _states(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields each file of a sweep that no checkpoint holds, by name, and what tells it is new."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not is_kept(name) or path.name.startswith("."):
            continue  # the latter are on their way
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # merged into another meanwhile
        if path.is_file():
            yield name, (status.st_size, status.st_mtime_ns, status.st_ino)
