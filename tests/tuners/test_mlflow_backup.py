"""Copies of MLflow's database: whole though it is in use, and fetched only where there is none."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tuners.mlflow_backup import COPY, backup, keep, restore


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "head" / "mlflow.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table runs (name text)")
        connection.commit()
    return path


def insert(database, name):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("insert into runs values (?)", (name,))
        connection.commit()


def names(database):
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("select name from runs")]


def test_a_new_head_has_what_was_saved(database, tmp_path):
    store = tmp_path / "store" / "shapesweep"
    insert(database, "trial-000")
    backup(database, str(store))
    insert(database, "trial-001")
    backup(database, str(store))
    insert(database, "lost")
    database.unlink()
    assert restore(database, str(store))
    assert names(database) == ["trial-000", "trial-001"]
    assert [path.name for path in store.iterdir()] == [COPY]
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]


def test_a_database_that_is_there_stays(database, tmp_path):
    backup(database, str(tmp_path / "store"))
    insert(database, "newer")
    assert not restore(database, str(tmp_path / "store"))
    assert names(database) == ["newer"]


def test_the_first_head_begins_with_nothing(tmp_path):
    assert not restore(tmp_path / "mlflow.db", str(tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_leaves_out_what_is_being_written(database, tmp_path):
    insert(database, "trial-000")
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("insert into runs values ('half')")
        backup(database, str(tmp_path / "store"))
    assert names(tmp_path / "store" / COPY) == ["trial-000"]


def test_a_store_that_fails_keeps_the_earlier_copy(database, tmp_path):
    store = tmp_path / "store"
    insert(database, "trial-000")
    backup(database, str(store))
    (store / f"{COPY}.part").mkdir()  # nothing can be written beside the copy
    insert(database, "trial-001")
    with pytest.raises(OSError):
        backup(database, str(store))
    assert names(store / COPY) == ["trial-000"]


def test_it_keeps_on_where_a_store_fails_and_ends_with_its_parent(
    database, tmp_path, monkeypatch, capsys
):
    parents = iter([7, 7, 7, 7, 1])
    slept = []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr("tuners.mlflow_backup.time.sleep", slept.append)
    outcomes = iter([OSError("the store is away"), None])

    def save(database, store):
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr("tuners.mlflow_backup.backup", save)
    keep(database, str(tmp_path), every=60.0)  # the third time nothing has changed
    assert slept == [60.0] * 3
    assert "the store is away" in capsys.readouterr().err


def test_the_commands_that_the_server_script_runs(database, tmp_path):
    insert(database, "trial-000")
    place = [str(database), str(tmp_path / "store")]
    for action in ("once", "restore"):
        command = [sys.executable, "-m", "tuners.mlflow_backup", action, *place]
        subprocess.run(command, check=True, timeout=60)
        database.unlink(missing_ok=True)
    assert names(tmp_path / "store" / COPY) == ["trial-000"]
