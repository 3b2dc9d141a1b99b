"""The copy of a sweep's folder in a store, while both are disturbed."""

import math
import shutil
import threading
import time

import pytest

from tests.tuners.small import segment_row, trial_row
from tuners import mirror as module
from tuners import results
from tuners.mirror import Mirror
from tuners.results import ResultsWriter, read_segments, read_trials
from tuners.store import Store


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sweep").mkdir()
    return tmp_path / "sweep"


@pytest.fixture
def copy(tmp_path):
    """The folder that the store is."""
    return tmp_path / "store" / "sweep"


@pytest.fixture
def begin(folder, copy):
    """Begins a mirror that copies when it is closed, or as often as is said."""
    begun = []

    def start(every=3600.0):
        begun.append(Mirror(folder, copy.as_uri(), every))
        return begun[-1]

    yield start
    for mirror in begun:
        mirror.close()


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def report(writer, number):
    writer.put_trial(trial_row("trial-000", env_steps=number))
    writer.add_segment(segment_row("trial-000", number))
    writer.flush()


def test_it_says_since_when_the_store_has_the_tables(folder, begin, monkeypatch):
    mirror = begin()
    assert mirror.has_tables_of == -math.inf
    report(ResultsWriter(folder, "swingup"), 1)
    before = time.monotonic()
    mirror._try_to_copy(0.0)
    assert before <= mirror.has_tables_of <= time.monotonic()

    def away(*_):
        raise OSError("the store is away")

    known = mirror.has_tables_of
    monkeypatch.setattr(Store, "put", away)
    report(ResultsWriter(folder, "swingup"), 2)
    mirror._try_to_copy(0.0)
    assert mirror.has_tables_of == known
    monkeypatch.undo()


def test_what_a_sweep_has_written_is_in_the_store_in_the_end(folder, copy, begin):
    report(ResultsWriter(folder, "swingup"), 1)
    (folder / "media").mkdir()
    (folder / "media" / "trial-000.png").write_bytes(b"a strip")
    (folder / "tune").mkdir()
    (folder / "tune" / "optuna.journal").write_bytes(b"a study")
    assert begin().close() == []
    assert files(copy) == files(folder)


def test_checkpoints_and_files_on_their_way_are_left_out(folder, copy, begin):
    for name in ("tune/session-001/trial-000/state.safetensors", "media/.strip.png.tmp", "kept"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert begin().close() == []
    assert set(files(copy)) == {"kept"}


def test_it_copies_while_the_sweep_runs(folder, copy, begin, monkeypatch):
    sent = threading.Event()
    put = Store.put

    def note(store, source, name):
        put(store, source, name)
        if name == "trials.parquet":
            sent.set()

    monkeypatch.setattr(module.Store, "put", note)
    begin(every=0.01)
    writer = ResultsWriter(folder, "swingup")
    for number in (1, 2):
        report(writer, number)
        assert sent.wait(20)
        sent.clear()
    assert [row["segment"] for row in read_segments(copy)] == [1, 2]


def test_only_what_changed_is_copied_again(folder, begin, monkeypatch):
    names = []
    monkeypatch.setattr(module.Store, "put", lambda store, source, name: names.append(name))
    (folder / "a").write_text("1")
    (folder / "b").write_text("1")
    mirror = begin()
    mirror.close()
    (folder / "b").write_text("22")
    mirror.close()
    assert names == ["a", "b", "b"]


def test_a_merged_file_takes_the_place_of_those_it_covers(folder, copy, begin, monkeypatch):
    monkeypatch.setattr(results, "MERGE_ABOVE", 4)
    writer = ResultsWriter(folder, "swingup")
    mirror = begin()
    for number in range(1, 12):
        report(writer, number)
        mirror.close()
        assert read_segments(copy) == read_segments(folder)
    assert files(copy) == files(folder)
    assert len(list((copy / "segments.parquet").iterdir())) < 11


def test_a_folder_that_is_lost_takes_nothing_from_the_store(folder, copy, begin):
    writer = ResultsWriter(folder, "swingup")
    report(writer, 1)
    mirror = begin()
    mirror.close()
    before = files(copy)
    shutil.rmtree(folder)
    mirror.close()
    assert files(copy) == before


def test_no_trial_in_the_store_is_ahead_of_its_segments(folder, copy, begin, monkeypatch):
    """Although the sweep goes on writing while its tables are copied."""
    writer = ResultsWriter(folder, "swingup")
    report(writer, 1)
    mirror, put = begin(), Store.put

    def put_while_written(store, source, name):
        put(store, source, name)
        report(writer, len(writer._known) + 1)

    with monkeypatch.context() as patch:
        patch.setattr(module.Store, "put", put_while_written)
        mirror._try_to_copy(0.0)
    assert len(read_segments(folder)) > 2
    (trial,) = read_trials(copy)
    assert trial["env_steps"] <= max(row["segment"] for row in read_segments(copy))


def test_what_the_tables_say_meanwhile_waits_for_the_next_look(folder, copy, begin, monkeypatch):
    """A film strip takes a while, and the tables that were written by then go in their order."""
    writer = ResultsWriter(folder, "swingup")
    report(writer, 1)
    (folder / "media").mkdir()
    (folder / "media" / "a.png").touch()
    mirror = begin()
    mirror._try_to_copy(math.inf)
    report(writer, 2)
    (folder / "media" / "b.png").touch()
    changed = mirror._changed

    def changed_while_written():
        found = changed()
        report(writer, len(writer._known) + 1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_changed", changed_while_written)
        mirror._try_to_copy(math.inf)
    assert (copy / "media" / "b.png").exists()
    (trial,) = read_trials(copy)
    assert trial["env_steps"] <= max(row["segment"] for row in read_segments(copy))
    mirror.close()
    assert files(copy) == files(folder)


def test_tables_go_first_and_do_not_wait_for_the_rest(folder, copy, begin):
    report(ResultsWriter(folder, "swingup"), 1)
    (folder / "a").touch()
    mirror = begin()
    mirror._try_to_copy(-1.0)
    assert set(files(copy)) == {"segments.parquet/00000001-00000001.parquet", "trials.parquet"}
    mirror.close()
    assert files(copy) == files(folder)


def test_a_store_that_is_away_is_a_line_and_is_tried_again(folder, copy, begin):
    copy.parent.mkdir()
    copy.touch()  # where the folder should be
    (folder / "a").touch()
    (folder / "b").touch()
    mirror = begin()
    (line,) = mirror.close()
    assert line.startswith(f"{copy.as_uri()} lacks 2 files, such as a: ")
    assert "\n" not in line
    copy.unlink()
    assert mirror.close() == []
    assert set(files(copy)) == {"a", "b"}
