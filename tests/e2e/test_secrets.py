"""Secrets are planted everywhere, and nothing that a sweep writes, prints or starts tells one."""

import base64
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import PLAIN
from tests.e2e.processes import Finished, Scripts, command_line, descendants, wait_until
from tests.e2e.record import assert_whole

pytestmark = pytest.mark.slow

PASSWORD = "planted-password"
PLANTED = {
    "MLFLOW_TRACKING_TOKEN": "",  # MLflow would take it in place of the password
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "AWS_SESSION_TOKEN": "planted-aws-token",
    "PGPASSWORD": "planted-pg-password",
    "DATABASE_URL": "postgresql://me:planted-database@host/x",
}
SECRETS = [*(value for value in PLANTED.values() if "://" not in value and value), PASSWORD]
SECRETS += ["planted-database", base64.b64encode(f"me:{PASSWORD}".encode()).decode()]


@dataclass
class Refusing:
    """A server that takes no call, and remembers who called."""

    port: int = 0
    logins: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def server() -> Iterator[Refusing]:
    refusing = Refusing()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refusing.logins.add(self.headers.get("Authorization", ""))
            self.send_error(403, "not you")

        def log_message(self, *arguments: object) -> None:
            pass

    Handler.do_POST = Handler.do_GET  # type: ignore[attr-defined]
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    refusing.port = listening.server_port
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield refusing
    listening.shutdown()
    listening.server_close()


@dataclass(frozen=True)
class Told:
    """A sweep that knew all the secrets."""

    scripts: Scripts
    finished: Finished
    commands: set[str]  # of all processes that it started


@pytest.fixture(scope="module")
def told(make_scripts: Callable[[str], Scripts], server: Refusing) -> Told:
    scripts = make_scripts("secrets")
    scripts.env |= PLANTED | {"no_proxy": "127.0.0.1", "RAY_TMPDIR": scripts.env["RAY_TMPDIR"]}
    uri = f"http://me:{PASSWORD}@127.0.0.1:{server.port}"
    flags = ("--preset", "smoke", "--num-trials", "2", *PLAIN, "--name", "told")
    running = scripts.start("reward_search", *flags, MLFLOW_TRACKING_URI=uri)
    commands: set[str] = set()

    def look() -> bool:
        commands.update(map(command_line, descendants(running.pid)))
        return running.ended

    wait_until(look, "the sweep ended")
    return Told(scripts, running.wait(), commands)


def told_in(folder: Path) -> list[tuple[str, str]]:
    """The files below a folder that hold a secret, and which."""
    return [
        (path.relative_to(folder).as_posix(), secret)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for secret in SECRETS
        if secret.encode() in path.read_bytes()
    ]


def test_the_sweep_ends_well_and_the_server_was_told(told, server):
    assert told.finished.code == 0, told.finished
    assert_whole(told.scripts.folder / "runs" / "told")
    login = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert server.logins == {f"Basic {login}"}


def test_no_file_holds_a_secret(told):
    """Among them sweep.yaml, mlflow.log, the tables, Tune's state and all that was printed."""
    folder = told.scripts.folder
    assert "MLflow lacks part" in (folder / "stdout-0").read_text()
    assert "403" in (folder / "runs" / "told" / "mlflow.log").read_text()
    assert told_in(folder) == []


def test_none_of_rays_own_files_holds_one(told):
    folder = Path(told.scripts.env["RAY_TMPDIR"], "ray")
    assert any(folder.rglob("raylet.out"))
    assert told_in(folder) == []


def test_no_command_line_holds_one(told):
    assert any("tuners.following" in command for command in told.commands)
    assert any("gcs_server" in command for command in told.commands)
    assert not [c for c in told.commands for secret in SECRETS if secret in c]


def test_a_secret_would_be_noticed(tmp_path):
    (tmp_path / "file").write_bytes(b"\0" + PASSWORD.encode() + b"\0")
    assert told_in(tmp_path) == [("file", PASSWORD)]


def test_what_mlflow_lacks_can_be_written_with_the_login_given_again(told, server):
    scripts = told.scripts
    track = ("track", "told")
    uri = f"http://me:{PASSWORD}@127.0.0.1:{server.port}"
    again = scripts.run(*track, "--tracking-uri", uri)
    assert again.code == 1
    assert "does not take it" in again.stderr
    assert "403" in again.stderr
    assert told_in(scripts.folder) == []
    assert os.listdir(scripts.folder / "runs") == ["told"]
