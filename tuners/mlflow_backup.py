"""Copies of MLflow's SQLite database in the shared store, where a new head finds them.

usage: python -m tuners.mlflow_backup restore | once | keep DATABASE STORE
"""

import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tuners.store import Store

COPY = "mlflow.db"  # its name in the store
EVERY = 10.0  # s
SHARE = 0.05  # of the time may be spent on copying


def backup(database: Path, store: str) -> None:
    """Copies a database that may be in use to the store, whole or not at all.

    Args:
        database: the SQLite file.
        store: a folder, or an address that Arrow knows, like ``s3://bucket/prefix``.
    """
    with tempfile.TemporaryDirectory(dir=database.parent) as beside:
        snapshot = Path(beside) / COPY
        with closing(sqlite3.connect(database)) as used, closing(sqlite3.connect(snapshot)) as copy:
            used.backup(copy)
        with snapshot.open("rb") as source:
            Store(store).put(source, COPY)


def restore(database: Path, store: str) -> bool:
    """Fetches the store's copy if there is no database yet; returns whether it did."""
    copies = Store(store)
    if _is_there(database) or not copies.has(COPY):
        return False
    copies.get(COPY, database)
    return True


def keep(database: Path, store: str, every: float = EVERY) -> None:
    """Backs up what changed, until the process that started this one is gone.

    A large database is copied less often; a store that cannot be reached is tried again.
    """
    parent, saved, took = os.getppid(), None, 0.0
    while os.getppid() == parent:
        time.sleep(max(every, took / SHARE))
        changed = database.stat().st_mtime_ns if _is_there(database) else None
        if changed == saved:
            continue
        begun = time.monotonic()
        try:
            backup(database, store)
            saved = changed
        except (OSError, sqlite3.Error) as error:
            print(f"no backup of {database} to {store}: {error}", file=sys.stderr, flush=True)
        took = time.monotonic() - begun


def _is_there(database: Path) -> bool:
    """Returns whether there is one; if that cannot be said, raises OSError: a copy is older."""
    try:
        database.stat()
    except FileNotFoundError:
        return False
    return True


if __name__ == "__main__":
    action, database, store = sys.argv[1:]
    {"restore": restore, "once": backup, "keep": keep}[action](Path(database), store)
