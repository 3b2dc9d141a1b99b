"""One driver a sweep."""

import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from tests.tuners.small import refusal
from tuners.errors import BadInput
from tuners.layout import SPEC_FILE
from tuners.lock import driving, writing_to_mlflow


def drive(folder):
    with driving(folder):
        pass


def drive_in_vain(folder, **how):
    with driving(folder, **how):
        raise BadInput("it cannot be")


@pytest.fixture
def other(tmp_path):
    """Another process that drives the sweep in ``tmp_path``."""
    program = (
        "import pathlib, sys, time; from tuners.lock import driving;\n"
        "with driving(pathlib.Path(sys.argv[1])): print('drives', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "drives\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_driver_is_refused_and_told_of_the_first(tmp_path, other):
    message = refusal(drive, tmp_path)
    assert f"sweep '{tmp_path.name}' is being driven by process {other.pid} on " in message
    assert refusal(drive, tmp_path) == message, "a refused one leaves the lock as it was"


def test_the_lock_of_a_process_that_was_killed_is_none(tmp_path, other):
    other.kill()
    other.wait()
    with driving(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / "driver.lock").read_text()


def test_one_driver_after_the_other(tmp_path):
    drive(tmp_path)
    first = (tmp_path / "driver.lock").read_text()
    drive(tmp_path)
    assert (tmp_path / "driver.lock").read_text().count("\n") == first.count("\n") == 1


def test_what_a_killed_process_was_writing_is_cleared_away_and_nothing_else(tmp_path):
    (tmp_path / "tune").mkdir()
    kept = [tmp_path / "trials.parquet", tmp_path / ".mine.tmp", tmp_path / "tune" / "a.tmp"]
    for path in (*kept, tmp_path / "tune" / ".a.0123abcd.tmp", tmp_path / ".b.c.00000000.tmp"):
        path.touch()
    drive(tmp_path)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, tmp_path / "driver.lock"}


def test_of_a_new_sweep_that_is_refused_nothing_is_left(tmp_path):
    (folder := tmp_path / "sweep").mkdir()
    (folder / SPEC_FILE).touch()
    assert refusal(partial(drive_in_vain, is_new=True), folder) == "it cannot be"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("is_new", "began"), [(False, False), (True, True)])
def test_one_that_was_there_or_has_begun_stays(tmp_path, is_new, began):
    kept = {SPEC_FILE} | ({"mlflow.log"} if began else set())
    for name in kept:
        (tmp_path / name).touch()
    refusal(partial(drive_in_vain, is_new=is_new), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept | {"driver.lock"}


def test_where_there_are_no_locks_a_sweep_is_driven_without(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    drive(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / "driver.lock").read_text()


def test_one_process_writes_to_mlflow_after_the_other(tmp_path):
    """One that outlives its driver ends what it was about before the next begins."""
    second = threading.Event()

    def wait_and_write():
        with writing_to_mlflow(tmp_path):
            second.set()

    waiting = threading.Thread(target=wait_and_write)
    with writing_to_mlflow(tmp_path):
        waiting.start()
        assert not second.wait(0.3)
    assert second.wait(60.0)
    waiting.join()
