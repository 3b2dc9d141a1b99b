"""Whether MLflow can be used from here."""

import http.server
import socket
import sqlite3
import threading
from contextlib import closing

import pytest

from tuners.tracking_check import _log_in, tracking_fault


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return port


def serve(status, body):
    """Starts a server with one answer to all; returns it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"OK", ""),
        (200, b"<html>", "something answers there, but it is not MLflow"),
        (403, b"Invalid Host header", "HTTP Error 403: Forbidden"),
        (404, b"", "HTTP Error 404"),
        (500, b"", "HTTP Error 500"),
    ],
)
def test_a_server_answers(status, body, said):
    server = serve(status, body)
    try:
        line = tracking_fault(f"http://user:p/w@127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
    assert said in line
    assert bool(line) == bool(said)
    assert "p/w" not in line


def test_a_server_that_is_away(closed):
    line = tracking_fault(f"http://127.0.0.1:{closed}")
    assert line.startswith(f"driver: MLflow at http://127.0.0.1:{closed} cannot be used: ")
    assert "refused" in line
    assert "--tracking-uri" in line


def test_a_database_that_is_away_is_named_without_its_password(closed):
    line = tracking_fault(f"postgresql://user:secret@127.0.0.1:{closed}/mlflow")
    assert f"MLflow at postgresql://127.0.0.1:{closed}/mlflow cannot be used" in line
    assert "refused" in line
    assert "secret" not in line


def test_a_database_without_its_client_says_so():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = tracking_fault(f"postgresql+nosuch://user:secret@127.0.0.1:{port}/mlflow")
    assert "nosuch" in line
    assert "secret" not in line


def test_a_database_is_logged_in_to(tmp_path):
    _log_in(f"sqlite:///{tmp_path}/mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        tables = database.execute("select name from sqlite_master").fetchall()
    assert tables == [], "and left as it is"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/mlflow", "tracking URI is 'ftp://host/mlflow'; allowed schemes: sqlite"),
        ("http://", "names no host"),
        ("sqlite:///file/mlflow.db", "MLflow store file/mlflow.db cannot be written"),
    ],
)
def test_a_uri_that_can_never_work(uri, said, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert said in tracking_fault(uri)


def test_a_local_store_that_is_not_there_yet_is_not_made(tmp_path):
    assert tracking_fault(f"sqlite:///{tmp_path}/mlflow.db") == ""
    assert list(tmp_path.iterdir()) == []
