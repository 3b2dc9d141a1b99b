"""The tables on disk: nothing reported is lost, counted twice, or half written."""

import errno
import os
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcore.rewards import TERMS
from tests.tuners.small import SEGMENT, refusal, segment_row, trial_row
from tuners import results
from tuners.results import (
    TRIALS_SCHEMA,
    ResultsWriter,
    read_segments,
    read_segments_after,
    read_trials,
    segments_schema,
)

MERGE_ABOVE = 8
NO_SPACE = OSError(28, "No space left on device")


@pytest.fixture
def writer(tmp_path):
    return ResultsWriter(tmp_path, "swingup")


def parts(folder):
    return sorted(path.name for path in (folder / "segments.parquet").iterdir())


def identities(folder):
    return [(row["trial"], row["segment"]) for row in read_segments(folder)]


@pytest.fixture(autouse=True)
def merge_early(monkeypatch):
    """A merge after a few files is the same as one after many, and quicker to reach."""
    monkeypatch.setattr("tuners.results.MERGE_ABOVE", MERGE_ABOVE)


def fill(writer, count, trial="trial-000", first=1):
    """Adds segments and flushes after each, as a slow sweep does."""
    for segment in range(first, first + count):
        writer.add_segment(segment_row(trial, segment))
        writer.flush()


def fail_to_replace(monkeypatch):
    def fail(*_):
        raise NO_SPACE

    monkeypatch.setattr(os, "replace", fail)


def test_a_new_sweep_has_no_rows(tmp_path, writer):
    assert read_trials(tmp_path) == []
    assert read_segments(tmp_path) == []
    writer.flush()
    assert parts(tmp_path) == []
    assert not (tmp_path / "trials.parquet").exists()


def test_what_was_added_is_read_back_once_flushed(tmp_path, writer):
    rows = [segment_row("trial-000", 1), segment_row("trial-001", 1, score=12.5, objective=None)]
    for row in rows:
        assert writer.add_segment(row)
    assert read_segments(tmp_path) == []
    writer.flush()
    read = read_segments(tmp_path)
    assert [{name: row[name] for name in rows[0]} for row in read] == rows
    assert read[0]["policy_loss"] is None, "a column not given is empty"
    assert list(read[0]) == segments_schema("swingup").names


def test_rows_keep_the_order_in_which_they_were_reported(tmp_path, writer):
    for segment in (3, 1, 2):
        writer.add_segment(segment_row("trial-001", segment))
    writer.flush()
    writer.add_segment(segment_row("trial-000", 1))
    writer.flush()
    assert identities(tmp_path) == [
        *(("trial-001", 3), ("trial-001", 1), ("trial-001", 2), ("trial-000", 1))
    ]


def test_a_row_is_taken_once(tmp_path, writer):
    assert writer.add_segment(segment_row("trial-000", 1))
    assert not writer.add_segment(segment_row("trial-000", 1, score=99.0))
    assert writer.add_segment(segment_row("trial-001", 1))
    writer.flush()
    assert not writer.add_segment(segment_row("trial-000", 1))
    assert identities(tmp_path) == [("trial-000", 1), ("trial-001", 1)]
    assert read_segments(tmp_path)[0]["score"] == 11.0


def test_a_later_writer_goes_on_and_knows_what_is_there(tmp_path, writer):
    fill(writer, 3)
    writer.put_trial(trial_row("trial-000"))
    writer.flush()
    later = ResultsWriter(tmp_path, "swingup")
    assert list(later.trials) == ["trial-000"]
    assert not later.add_segment(segment_row("trial-000", 3))
    fill(later, 2, first=4)
    assert identities(tmp_path) == [("trial-000", segment) for segment in range(1, 6)]


def test_each_file_is_whole_on_its_own(tmp_path, writer):
    fill(writer, 3)
    assert parts(tmp_path) == [f"0000000{i}-0000000{i}.parquet" for i in (1, 2, 3)]
    for i, name in enumerate(parts(tmp_path)):
        table = pq.ParquetFile(tmp_path / "segments.parquet" / name).read()
        assert table.schema.equals(segments_schema("swingup"))
        assert table["segment"].to_pylist() == [i + 1]


def test_files_once_written_do_not_change(tmp_path, writer):
    fill(writer, 2)
    first = tmp_path / "segments.parquet" / parts(tmp_path)[0]
    before, stamp = first.read_bytes(), first.stat().st_mtime_ns
    fill(writer, 2, first=3)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (before, stamp)


def test_another_reader_takes_the_folder_as_one_table(tmp_path, writer):
    fill(writer, 3)
    table = pq.read_table(tmp_path / "segments.parquet")
    assert table["segment"].to_pylist() == [1, 2, 3]


def test_some_columns_only(tmp_path, writer):
    fill(writer, 2)
    assert read_segments(tmp_path, ["segment", "score"]) == [
        *({"segment": 1, "score": 11.0}, {"segment": 2, "score": 22.0})
    ]


def test_many_small_files_become_one(tmp_path, writer):
    fill(writer, MERGE_ABOVE)
    assert len(parts(tmp_path)) == MERGE_ABOVE
    fill(writer, 1, first=MERGE_ABOVE + 1)
    assert parts(tmp_path) == [f"00000001-{MERGE_ABOVE + 1:08d}.parquet"]
    expected = [("trial-000", segment) for segment in range(1, MERGE_ABOVE + 2)]
    assert identities(tmp_path) == expected
    fill(writer, 1, first=MERGE_ABOVE + 2)
    assert identities(tmp_path) == [*expected, ("trial-000", MERGE_ABOVE + 2)]
    later = ResultsWriter(tmp_path, "swingup")
    fill(later, 1, first=MERGE_ABOVE + 3)
    assert len(identities(tmp_path)) == MERGE_ABOVE + 3


def test_large_files_are_left_as_they_are(tmp_path, writer, monkeypatch):
    """A reader refuses a file beyond bounds, so none may grow there."""
    fill(writer, MERGE_ABOVE + 1)
    (large,) = (tmp_path / "segments.parquet").iterdir()
    monkeypatch.setattr("tuners.results.LARGE", large.stat().st_size)
    before = large.read_bytes()
    fill(writer, 3 * MERGE_ABOVE, first=MERGE_ABOVE + 2)
    assert large.read_bytes() == before
    assert len(parts(tmp_path)) <= MERGE_ABOVE
    assert len(identities(tmp_path)) == 4 * MERGE_ABOVE + 1


def test_small_files_that_a_kill_left_beside_the_large_one_are_cleared_away(tmp_path, writer):
    """Other readers take the folder as one table."""
    fill(writer, MERGE_ABOVE)
    small = {path: path.read_bytes() for path in (tmp_path / "segments.parquet").iterdir()}
    fill(writer, 1, first=MERGE_ABOVE + 1)
    for path, content in small.items():
        path.write_bytes(content)
    ResultsWriter(tmp_path, "swingup")
    assert parts(tmp_path) == [f"00000001-{MERGE_ABOVE + 1:08d}.parquet"]
    assert pq.read_table(tmp_path / "segments.parquet").num_rows == MERGE_ABOVE + 1


def test_files_that_are_merged_while_they_are_read_are_looked_for_again(
    tmp_path, writer, monkeypatch
):
    fill(writer, MERGE_ABOVE)
    read, seen = results._read_segments, []

    def merged_meanwhile(path, columns=None):
        if path not in seen:
            seen.append(path)
            fill(writer, 1, first=MERGE_ABOVE + 1)
        return read(path, columns)

    monkeypatch.setattr(results, "_read_segments", merged_meanwhile)
    assert len(read_segments(tmp_path)) == MERGE_ABOVE + 1
    assert not seen[0].exists()


def test_only_what_is_new_can_be_read(tmp_path, writer):
    def steps(number):
        rows, number = read_segments_after(tmp_path, number, ["env_steps"])
        return [row["env_steps"] // SEGMENT for row in rows], number

    assert steps(0) == ([], 0)
    fill(writer, 2)
    found, number = steps(0)
    assert found == [1, 2]
    assert steps(number) == ([], number)
    fill(writer, 1, first=3)
    found, number = steps(number)
    assert found == [3]
    fill(writer, MERGE_ABOVE, first=4)  # all in one file now, also what was read
    found, number = steps(number)
    assert set(found) >= set(range(4, MERGE_ABOVE + 4))
    assert steps(number) == ([], number)


def test_a_large_file_is_not_written_again_for_a_few_small_ones(tmp_path):
    writer, draw = ResultsWriter(tmp_path, "swingup"), random.Random(0)
    for segment in range(1, 5001):
        unlike = {name: draw.random() for name in ("score", "objective", "entropy", "grad_norm")}
        writer.add_segment(segment_row("trial-000", segment, **unlike))
    writer.flush()
    fill(writer, MERGE_ABOVE, trial="trial-001")
    assert parts(tmp_path) == ["00000001-00000001.parquet", "00000002-00000009.parquet"]
    assert len(identities(tmp_path)) == 5000 + MERGE_ABOVE


def merged_with_remains(tmp_path, survivors):
    """A folder as a crash leaves it: merged, but not all the small files removed yet."""
    writer = ResultsWriter(tmp_path, "swingup")
    fill(writer, MERGE_ABOVE)
    copies = tmp_path / "copies"
    shutil.copytree(tmp_path / "segments.parquet", copies)
    fill(writer, 1, first=MERGE_ABOVE + 1)
    for name in sorted(os.listdir(copies))[:: max(1, MERGE_ABOVE // survivors)]:
        shutil.copy(copies / name, tmp_path / "segments.parquet" / name)
    return [("trial-000", segment) for segment in range(1, MERGE_ABOVE + 2)]


@pytest.mark.parametrize("survivors", [1, 3, MERGE_ABOVE])
def test_files_that_outlive_their_merge_count_no_row_twice(tmp_path, survivors):
    expected = merged_with_remains(tmp_path, survivors)
    assert len(parts(tmp_path)) > 1
    assert identities(tmp_path) == expected
    later = ResultsWriter(tmp_path, "swingup")
    assert not later.add_segment(segment_row("trial-000", 2))
    fill(later, 3, first=MERGE_ABOVE + 2)
    assert identities(tmp_path)[: len(expected)] == expected
    assert len(identities(tmp_path)) == len(expected) + 3


def test_a_crash_before_the_merged_file_is_there_loses_nothing(tmp_path, writer, monkeypatch):
    fill(writer, MERGE_ABOVE)
    writer.add_segment(segment_row("trial-000", MERGE_ABOVE + 1))
    replace, calls = os.replace, []

    def fail_at_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise NO_SPACE
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    expected = [("trial-000", segment) for segment in range(1, MERGE_ABOVE + 2)]
    assert identities(tmp_path) == expected
    monkeypatch.undo()
    fill(writer, 1, first=MERGE_ABOVE + 2)
    assert identities(tmp_path) == [*expected, ("trial-000", MERGE_ABOVE + 2)]


@settings(max_examples=20)
@given(flushes=st.lists(st.integers(0, 3), max_size=12), merge_above=st.integers(2, 4))
def test_merging_keeps_every_row_once_and_in_order(tmp_path_factory, flushes, merge_above):
    folder = tmp_path_factory.mktemp("tables")
    added = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuners.results.MERGE_ABOVE", merge_above)
        writer = ResultsWriter(folder, "swingup")
        for count in flushes:
            for _ in range(count):
                added.append(("trial-000", len(added) + 1))
                assert writer.add_segment(segment_row(*added[-1]))
            writer.flush()
            assert identities(folder) == added
            assert len(parts(folder)) <= merge_above + 1


def test_the_last_word_on_a_trial_counts(tmp_path, writer):
    writer.put_trial(trial_row("trial-000"))
    writer.put_trial(trial_row("trial-001"))
    writer.flush()
    writer.put_trial({"trial": "trial-000", "status": "finished", "objective": 7.0})
    writer.flush()
    first, second = read_trials(tmp_path)
    assert (first["trial"], first["status"], first["objective"]) == ("trial-000", "finished", 7.0)
    assert first["seeds"] == [0, 1], "columns not named stay"
    assert second["status"] == "running"
    assert list(first) == TRIALS_SCHEMA.names
    assert first["ended"] is None


def test_a_trial_seen_in_memory_is_the_one_on_disk(tmp_path, writer):
    writer.put_trial(trial_row("trial-000"))
    writer.flush()
    assert read_trials(tmp_path) == [writer.trials["trial-000"]]
    assert ResultsWriter(tmp_path, "swingup").trials == writer.trials


@pytest.mark.parametrize("table", ["segments", "trials"])
def test_a_write_that_fails_keeps_the_rows_for_the_next_try(tmp_path, writer, monkeypatch, table):
    fill(writer, 1)
    writer.put_trial(trial_row("trial-000"))
    writer.flush()
    trials = (tmp_path / "trials.parquet").read_bytes()
    if table == "segments":
        writer.add_segment(segment_row("trial-000", 2))
    writer.put_trial({"trial": "trial-000", "status": "finished"})
    fail_to_replace(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    assert identities(tmp_path) == [("trial-000", 1)]
    assert (tmp_path / "trials.parquet").read_bytes() == trials
    files = {path.name for path in tmp_path.rglob("*")}
    assert files == {"segments.parquet", "trials.parquet", "00000001-00000001.parquet"}

    monkeypatch.undo()
    writer.flush()
    assert len(identities(tmp_path)) == (2 if table == "segments" else 1)
    assert read_trials(tmp_path)[0]["status"] == "finished"


def test_segments_reach_the_disk_before_the_end_that_speaks_of_them(tmp_path, writer, monkeypatch):
    written = []
    replace = os.replace

    def note(source, target):
        written.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    writer.put_trial(trial_row("trial-000", status="finished"))
    writer.add_segment(segment_row("trial-000", 1))
    writer.flush()
    assert written == ["00000001-00000001.parquet", "trials.parquet"]


def test_a_file_half_written_is_never_read(tmp_path, writer):
    fill(writer, 1)
    folder = tmp_path / "segments.parquet"
    (folder / ".00000002-00000002.parquet.ab12.tmp").write_bytes(b"half a")
    (folder / "notes.txt").write_text("mine")
    assert identities(tmp_path) == [("trial-000", 1)]
    fill(ResultsWriter(tmp_path, "swingup"), 1, first=2)
    assert identities(tmp_path) == [("trial-000", 1), ("trial-000", 2)]


@pytest.mark.parametrize("table", ["segments", "trials"])
def test_a_damaged_table_is_named_in_one_line(tmp_path, writer, table):
    writer.put_trial(trial_row("trial-000"))
    fill(writer, 2)
    path = tmp_path / "trials.parquet"
    read = read_trials
    if table == "segments":
        path = tmp_path / "segments.parquet" / parts(tmp_path)[1]
        read = read_segments
    whole = path.read_bytes()
    assert read(tmp_path)
    cut = [b"", b"PAR1", b"not parquet at all", whole[: len(whole) // 2], whole[:-1]]
    blotted = [whole[:at] + bytes(50) + whole[at + 50 :] for at in range(0, len(whole), 1000)]
    places = range(7, len(whole), 150)
    flipped = [whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :] for at in places]
    for content in cut + blotted + flipped:
        path.write_bytes(content)
        message = refusal(read, tmp_path)
        assert f"{path} is damaged" in message
        assert "\n" not in message


def test_a_table_that_nobody_sealed_is_refused(tmp_path, writer):
    writer.put_trial(trial_row("trial-000"))
    writer.flush()
    path = tmp_path / "trials.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert "its checksum differs" in refusal(read_trials, tmp_path)


def test_a_table_that_cannot_be_looked_at_is_no_table_yet_to_nobody(tmp_path, writer, monkeypatch):
    """Else the next flush would write a table without the trials there were."""
    writer.put_trial(trial_row("trial-000"))
    writer.flush()

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_bytes", stale)
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as from Python 3.14 on
    with pytest.raises(OSError, match="Stale"):
        ResultsWriter(tmp_path, "swingup")


def test_each_column_is_described():
    schema = segments_schema("swingup")
    for field in [*schema, *TRIALS_SCHEMA]:
        assert (field.metadata or {}).get(b"about"), field.name


def test_each_reward_term_has_its_three_columns():
    names = set(segments_schema("swingup").names)
    terms = {name for name in names if name.startswith("term_")}
    assert terms == {f"term_{t}_{s}" for t in TERMS["swingup"] for s in ("mean", "min", "max")}


def test_the_schema_and_its_descriptions_are_in_the_files(tmp_path, writer):
    writer.put_trial(trial_row("trial-000"))
    fill(writer, 1)
    read = pq.ParquetFile(tmp_path / "segments.parquet" / parts(tmp_path)[0]).schema_arrow
    assert (
        read.field("score").metadata[b"about"]
        == b"mean over seeds, in [0, 1000]; 0 of one that diverged"
    )
    assert read.field("seed_scores").type == pa.list_(pa.float64())
    assert pq.ParquetFile(tmp_path / "trials.parquet").schema_arrow.names == TRIALS_SCHEMA.names
