"""Places that results could not go to are refused."""

import re

import pytest

from tests.tuners.small import refusal
from tuners.outputs import check_tracking_uri, check_writable


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///mlflow.db",
        "postgresql://user@host/base",
        "postgresql+psycopg2://user@host/base",
        "mysql://host/base",
        "http://127.0.0.1:1",
        "https://mlflow.example",
    ],
)
def test_a_tracking_uri_that_may_work(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_tracking_uri(uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["", "mlruns", "./mlruns", "file:///tmp/a", "ftp://host", "sqlit://"]
)
def test_a_tracking_uri_of_another_scheme_is_refused(uri):
    message = refusal(check_tracking_uri, uri)
    assert f"tracking URI is '{uri}'" in message
    assert "sqlite, postgresql, mysql, mssql, http, https" in message


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file/mlflow.db", "file/deep/mlflow.db"):
        message = refusal(check_tracking_uri, f"sqlite:///{tmp_path}/{path}")
        assert "MLflow store" in message
        assert "is not a folder" in message


def test_a_store_that_is_a_folder_is_refused(tmp_path):
    assert str(tmp_path) in refusal(check_tracking_uri, f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null (byte|character in path)"),  # as this Python says it
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, name, said):
    assert re.search(said, refusal(check_writable, tmp_path / name, "output folder"))


def test_a_place_however_deep_can_be_written(tmp_path):
    check_writable(tmp_path.joinpath(*["a"] * 1500), "output folder")


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    check_writable(tmp_path / "a" / "b" / "c", "output folder")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("os.access", lambda path, mode: False)
    message = refusal(check_writable, tmp_path / "a", "output folder")
    assert f"output folder {tmp_path / 'a'} cannot be written" in message
    assert f"{tmp_path} is read-only for this user" in message
