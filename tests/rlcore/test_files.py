"""Files that appear whole or not at all."""

import os

import pytest

from rlcore.files import replacing


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    for content in (b"first, and longer", b"second"):
        with replacing(path) as beside:
            assert beside.parent == tmp_path
            assert beside.name.startswith(".")
            beside.write_bytes(content[:3])
            assert not path.exists() or path.read_bytes() == b"first, and longer"
            beside.write_bytes(content)
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path, earlier, failure):
    path = tmp_path / "file"
    if earlier:
        path.write_bytes(b"earlier")
    with pytest.raises(type(failure)), replacing(path) as beside:
        beside.write_bytes(b"half")
        raise failure
    assert os.listdir(tmp_path) == (["file"] if earlier else [])
    assert not earlier or path.read_bytes() == b"earlier"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_nothing(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "file") as beside:
        beside.write_bytes(b"whole")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "missing" / "file"):
        raise AssertionError("nothing to write to")


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as one:
        with replacing(path) as other:
            assert one != other
            other.write_bytes(b"other")
        one.write_bytes(b"one")
    assert path.read_bytes() == b"one"
