"""What decides whether a sweep may be resumed: a hash of trainer sources and file schemas."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

import rlcore
from tuners import results
from tuners.versions import code_version, git_revision


@pytest.fixture
def own_rlcore(tmp_path, monkeypatch):
    """A copy of rlcore's sources that a test may change."""
    copy = tmp_path / "copy" / "rlcore"
    shutil.copytree(Path(rlcore.__file__).parent, copy)
    monkeypatch.setattr(rlcore, "__file__", str(copy / "__init__.py"))
    return copy


def test_the_code_version_depends_on_the_trainer_alone(own_rlcore):
    before = code_version()
    assert len(before) == 12
    (own_rlcore / "notes.txt").write_text("no code")
    assert code_version() == before
    source = own_rlcore / "ppo" / "gae.py"
    source.write_text(source.read_text() + "\n# a change\n")
    changed = code_version()
    assert changed != before
    source.rename(own_rlcore / "ppo" / "advantages.py")
    assert code_version() not in (before, changed)


def test_the_code_version_depends_on_the_file_schemas(own_rlcore, monkeypatch):
    before = code_version()
    monkeypatch.setattr(results, "SCHEMA_VERSION", results.SCHEMA_VERSION + 1)
    assert code_version() != before


@pytest.mark.parametrize("table", ["TRIALS_SCHEMA", "_SEGMENT_FLOATS"])
def test_a_column_more_is_another_code_version(own_rlcore, monkeypatch, table):
    """Nobody need think of raising a number."""
    before = code_version()
    if table == "TRIALS_SCHEMA":
        monkeypatch.setattr(results, table, results.TRIALS_SCHEMA.append(pa.field("x", pa.int64())))
    else:
        monkeypatch.setitem(results._SEGMENT_FLOATS, "x", "a column more")
    assert code_version() != before


def test_the_code_version_of_a_copy_is_that_of_the_original(own_rlcore, monkeypatch):
    copied = code_version()
    monkeypatch.undo()
    assert code_version() == copied


def test_the_revision_is_unknown_outside_a_checkout(own_rlcore, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(own_rlcore.parents[1]))
    assert git_revision() == "unknown"
