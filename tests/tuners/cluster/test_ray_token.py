"""Ray's token can be read by nobody else."""

import os

import pytest
from ray._private.authentication.authentication_token_setup import generate_and_save_token

from tuners.cluster.ray_token import keep_token_private


@pytest.fixture
def token(monkeypatch, tmp_path):
    """Where it would be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "TOKEN", "TOKEN_PATH"):
        monkeypatch.delenv(f"RAY_AUTH_{name}", raising=False)
    return tmp_path / ".ray" / "auth_token"


def permissions(path):
    return oct(path.stat().st_mode & 0o777)


def test_a_token_is_made_for_this_user_alone(token):
    keep_token_private()
    assert len(token.read_text()) >= 32
    assert permissions(token) == "0o600"
    assert permissions(token.parent) == "0o700"


def test_one_that_ray_made_is_closed_to_others_and_stays(token):
    generate_and_save_token()
    token.chmod(0o644)
    made = token.read_text()
    keep_token_private()
    assert permissions(token) == "0o600"
    assert token.read_text() == made


@pytest.mark.parametrize(("name", "value"), [("MODE", "disabled"), ("TOKEN_PATH", "/elsewhere")])
def test_none_is_made_where_none_is_asked_for(token, monkeypatch, name, value):
    monkeypatch.setenv(f"RAY_AUTH_{name}", value)
    keep_token_private()
    assert not token.exists()


def test_where_no_home_can_be_written_it_is_in_the_environment_of_this_sweep(token, monkeypatch):
    """As in a container that runs as another user than it was made for."""
    token.parent.write_text("a file")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # so that what is set is gone after the test
    keep_token_private()
    assert token.parent.read_text() == "a file"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.parametrize("mode", ["", "token"])
def test_a_home_that_is_full_is_like_none(token, monkeypatch, mode):
    """Ray's write leaves an empty file."""
    token.parent.mkdir()
    token.touch()
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    keep_token_private()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_one_that_is_given_stays(token, monkeypatch):
    token.parent.write_text("a file")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    keep_token_private()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"
