"""Names from outside: none leads out of its folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuners.small import refusal
from tuners.names import check_name, is_below, is_plain
from tuners.store import Store, bring

PLAIN = ("trial-001", "validation-trial-001-0", "a", "test.1", "x" * 100)
HOSTILE = (
    *("", ".", "..", "../x", "/etc/passwd", "a/../../x", "a/..", "./a", "a//b", "a/", "~/../x/"),
    *("a\0b", "a\nb", "a\x1b[2J", "a\\..\\b", "C:\\x", "..\\x", "x" * 5000),
)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name_is_taken(name):
    assert is_plain(name)
    assert is_below(name)
    check_name(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name):
    assert not is_plain(name)
    assert not is_below(name)
    assert "letters, digits" in refusal(check_name, name)


@pytest.mark.parametrize("name", [None, 1, b"a", ["a"]])
def test_what_is_no_text_is_no_name(name):
    assert not is_plain(name)
    assert not is_below(name)


def test_a_name_may_lie_deeper_where_that_is_asked_for():
    assert is_below("tune/session-001/trial-001/checkpoint_000000/state.safetensors")
    assert not is_plain("tune/session-001")


@given(st.text(max_size=30) | st.text("./\\~a\0", max_size=12))
def test_no_name_that_is_taken_leads_out_of_its_folder(name):
    folder = Path("/a/folder")
    if is_below(name):
        assert folder in (folder / name).resolve().parents
    if is_plain(name):
        assert (folder / name).resolve().parent == folder


class Listing:
    """A store's files that are called as somebody wanted them to be."""

    def __init__(self, files, name):
        self._files, self._name = files, name

    def get_file_info(self, selector):
        (info,) = self._files.get_file_info(selector)
        return [_Renamed(info, f"{selector.base_dir}/{self._name}")]


class _Renamed:
    def __init__(self, info, path):
        self.type, self.path = info.type, path


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a\\x", "a\nb"])
def test_no_file_of_a_store_is_fetched_to_another_place(name, tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "sweep.yaml").touch()
    address = (tmp_path / "store").as_uri()

    def open_store(self, address):
        original(self, address)
        self._files = Listing(self._files, name)

    original = Store.__init__
    monkeypatch.setattr(Store, "__init__", open_store)
    message = refusal(bring, address, tmp_path / "here")
    assert "no name of a sweep's file" in message
    assert not (tmp_path / "here").exists()
