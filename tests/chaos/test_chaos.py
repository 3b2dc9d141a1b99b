"""What is checked at the end of a chaos run can fail, and a seed decides the run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chaos.chaos import (
    assert_nothing_lost,
    assert_same,
    assert_tidy,
    make_plan,
    table,
)
from tests.chaos.faults import FAULTS
from tests.chaos.world import VARIANTS, Watcher
from tests.e2e.processes import wait_until
from tests.tuners.small import segment_row, trial_row
from tuners.results import ResultsWriter, read_segments


def test_a_seed_decides_everything() -> None:
    plans = [make_plan(seed, as_root=True) for seed in range(200)]
    assert plans == [make_plan(seed, as_root=True) for seed in range(200)]
    assert {name for plan in plans for name in plan.faults} == set(FAULTS)
    assert {plan.variant for plan in plans} == set(VARIANTS)
    for plan in plans:
        for name in plan.faults:
            assert plan.variant in (FAULTS[name].variants or VARIANTS)
        assert list(plan.moments) == sorted(plan.moments)


def test_without_root_no_disk_is_filled() -> None:
    faults = {name for seed in range(200) for name in make_plan(seed, as_root=False).faults}
    assert faults == {name for name, fault in FAULTS.items() if not fault.small_disk}


@pytest.fixture
def writer(tmp_path: Path) -> ResultsWriter:
    """Tables of a sweep with three reports."""
    writer = ResultsWriter(tmp_path / "sweep", "swingup")
    writer.put_trial(trial_row("trial-000"))
    for segment in (1, 2, 3):
        writer.add_segment(segment_row("trial-000", segment))
        writer.flush()
    return writer


@pytest.fixture
def watcher(writer: ResultsWriter, tmp_path: Path) -> Iterator[Watcher]:
    watcher = Watcher(writer.folder, tmp_path / "acknowledged.jsonl")
    wait_until(lambda: len(watcher.seen) == 3, "the reports are seen", 30)
    yield watcher
    watcher.close()


def parts(writer: ResultsWriter) -> list[Path]:
    return sorted((writer.folder / "segments.parquet").iterdir())


def world_of(watcher: Watcher, folder: Path) -> SimpleNamespace:
    return SimpleNamespace(watcher=watcher, folder=folder)


def test_a_record_is_kept_outside(watcher: Watcher, writer: ResultsWriter, tmp_path: Path) -> None:
    lines = (tmp_path / "acknowledged.jsonl").read_text().splitlines()
    assert [json.loads(line)[:2] for line in lines] == [list(key) for key in watcher.seen]
    assert_nothing_lost(world_of(watcher, writer.folder))


def test_a_lost_report_is_noticed(watcher: Watcher, writer: ResultsWriter) -> None:
    parts(writer)[1].unlink()
    with pytest.raises(AssertionError, match="is there 0 times"):
        assert_nothing_lost(world_of(watcher, writer.folder))


def test_a_doubled_report_is_noticed(watcher: Watcher, writer: ResultsWriter) -> None:
    shutil.copy(parts(writer)[0], writer.folder / "segments.parquet" / "00000004-00000004.parquet")
    with pytest.raises(AssertionError, match="is there 2 times"):
        assert_nothing_lost(world_of(watcher, writer.folder))


def test_a_changed_report_is_noticed(watcher: Watcher, writer: ResultsWriter) -> None:
    other = ResultsWriter(writer.folder.with_name("other"), "swingup")
    other.put_trial(trial_row("trial-000"))
    other.add_segment(segment_row("trial-000", 1, score=12.5))
    other.flush()
    shutil.copy(parts(other)[0], parts(writer)[0])
    with pytest.raises(AssertionError, match="and is"):
        assert_nothing_lost(world_of(watcher, writer.folder))


def test_another_curve_is_noticed(writer: ResultsWriter) -> None:
    copy = writer.folder.with_name("copy")
    shutil.copytree(writer.folder, copy)
    assert_same(copy, writer.folder, "all")
    writer.add_segment(segment_row("trial-000", 4))
    writer.flush()
    with pytest.raises(AssertionError):
        assert_same(copy, writer.folder, "all")
    assert len(read_segments(copy)) == 3


def test_another_winner_is_noticed(writer: ResultsWriter) -> None:
    def put(folder: Path, winner: str) -> None:
        entries = {"winner": winner, "table": {}, "validation": {}}
        (folder / "comparison.json").write_text(json.dumps(entries))

    copy = writer.folder.with_name("copy")
    put(writer.folder, "baseline")
    shutil.copytree(writer.folder, copy)
    assert_same(copy, writer.folder, "all")
    put(copy, "trial-000")
    with pytest.raises(AssertionError):
        assert_same(copy, writer.folder, "all")


@pytest.mark.parametrize("left", [".trials.parquet.0123abcd.tmp", "media/.a.png.00000000.tmp"])
def test_an_unfinished_file_is_noticed(writer: ResultsWriter, left: str) -> None:
    assert_tidy(writer.folder)
    (writer.folder / "media").mkdir()
    (writer.folder / left).touch()
    with pytest.raises(AssertionError):
        assert_tidy(writer.folder)


def test_a_half_written_checkpoint_of_a_trial_that_ended_is_noticed(writer: ResultsWriter) -> None:
    writer.put_trial(trial_row("trial-000", status="finished", checkpoint="tune/x"))
    writer.flush()
    (writer.folder / "tune" / "x").mkdir(parents=True)
    (writer.folder / "tune" / "x" / "state.safetensors").write_bytes(b"half")
    with pytest.raises(AssertionError, match="tune/x"):
        assert_tidy(writer.folder)


def test_the_table_counts_runs_and_those_that_held() -> None:
    entries = [
        {"faults": ["driver_killed"], "done": ["driver_killed"], "violation": None},
        {"faults": ["driver_killed", "interrupted"], "done": [], "violation": "Traceback"},
        {"faults": ["interrupted"], "done": [], "violation": None},  # it had ended before
    ]
    lines = table(entries).splitlines()
    assert "| `kill -9` of the driver | 2 | 1 |" in lines
    assert "| Ctrl-C | 1 | 0 |" in lines
