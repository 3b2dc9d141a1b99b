"""Handing a script to a cluster: the command, the forwarded port, what is shown, each refusal."""

import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.e2e.processes import alive
from tests.tuners.small import refusal
from tuners.cluster import submit
from tuners.errors import BadInput

# Stands in for `ray dashboard FILE -p PORT --remote-port 8265`.
DASHBOARD = """
import http.server, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers(), self.wfile.write(b"ray")
    def log_message(self, *_): pass
pathlib.Path(sys.argv[1]).with_suffix(".pid").write_text(str(os.getpid()))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
"""

# The same, where SSH has logged in, but nothing listens on the head.
HANGS_UP = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[3])))
while True:
    server.accept()[0].close()
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster file that passes, of a user who has a token."""
    path = tmp_path / "cluster.yaml"
    path.write_text("provider: {type: local, head_ip: 192.0.2.1}")
    token = tmp_path / "token"
    token.write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(submit, "check_cluster_file", lambda path: [])
    monkeypatch.setattr(submit, "unchosen_values", lambda path: [])
    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: name)
    connection = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(submit.socket, "create_connection", lambda address, timeout: connection)
    return path


def refused(cluster):
    with pytest.raises(BadInput) as raised:
        submit.check(cluster)
    return str(raised.value)


def test_a_cluster_in_order_passes(cluster):
    submit.check(cluster)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert f"{tmp_path}/none.yaml" in refused(tmp_path / "none.yaml")


@pytest.mark.parametrize("checked", ["check_cluster_file", "unchosen_values"])
def test_the_first_mistake_is_told_and_the_others_counted(cluster, monkeypatch, checked):
    monkeypatch.setattr(submit, checked, lambda path: ["no image", "no spot", "no token"])
    assert refused(cluster) == f"{cluster}: no image (and 2 more)"


def test_a_client_that_is_missing_is_named(cluster, monkeypatch):
    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'shapesweep[cluster]'" in refused(cluster)


def test_a_token_that_is_missing_is_named(cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    assert "/nowhere/token" in refused(cluster)


def test_a_head_that_is_off_is_named(cluster, monkeypatch):
    def fails(address, timeout):
        raise TimeoutError("timed out")

    monkeypatch.setattr(submit.socket, "create_connection", fails)
    line = refused(cluster)
    assert "192.0.2.1" in line
    assert "timed out" in line


def test_a_head_behind_another_machine_is_left_to_ssh(cluster, monkeypatch):
    monkeypatch.setattr(submit.socket, "create_connection", None)  # it is not called
    provider = "provider: {type: local, head_ip: 192.0.2.1}"
    cluster.write_text(f"{provider}\nauth: {{ssh_proxy_command: ssh -W %h:%p gate}}")
    submit.check(cluster)


def test_the_shell_on_the_head_sees_the_arguments_as_they_were_typed():
    command = submit.entrypoint("sweeps/reward_search.py", ["--name", "a b; $c", "--seed", "3"])
    assert command == (
        "cd ~/shapesweep && exec python sweeps/reward_search.py --name 'a b; $c' --seed 3"
    )


def test_a_copy_that_takes_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        submit, "_ray", lambda command: [sys.executable, "-c", "import time; time.sleep(9)"]
    )
    monkeypatch.setattr(submit, "_COPIED_WITHIN", 0.1)
    line = refusal(submit._upload, tmp_path / "cluster.yaml", tmp_path / "space.yaml", "there")
    assert line == f"{tmp_path / 'space.yaml'} was not copied to the head in 0 s"


def test_what_is_forwarded_answers_and_ends_with_its_use(tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "_ray", lambda command: [sys.executable, "-c", DASHBOARD])
    with submit.forwarded(tmp_path / "cluster.yaml") as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        assert urllib.request.urlopen(address, timeout=5).read() == b"ray"
        pid = int((tmp_path / "cluster.pid").read_text())
        assert alive(pid)
    assert not alive(pid)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "RuntimeError: Head node of cluster (shapesweep) not found!",
            "is not up, or was not brought up from this machine: `ray up ",
        ),
        ("root@192.0.2.1: Permission denied (publickey).", "look at auth in"),
        ("channel 3: open failed: connect failed: Connection refused", "no Ray answers"),
    ],
)
def test_why_nothing_answers_is_told_at_once(tmp_path, monkeypatch, said, told):
    fails = f"import sys; print({said!r}, file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(submit, "_ray", lambda command: [sys.executable, "-c", fails])
    with pytest.raises(BadInput) as raised, submit.forwarded(tmp_path / "cluster.yaml"):
        pytest.fail("nothing answers")
    assert told in str(raised.value)


def test_a_login_may_take_longer_than_an_answer(tmp_path, monkeypatch):
    slow = f"import time; time.sleep(1.5){DASHBOARD}"
    monkeypatch.setattr(submit, "_ray", lambda command: [sys.executable, "-c", slow])
    monkeypatch.setattr(submit, "_ANSWERS_WITHIN", 1.0)
    with submit.forwarded(tmp_path / "cluster.yaml") as address:
        assert urllib.request.urlopen(address, timeout=5).read() == b"ray"


def test_a_head_on_which_no_ray_listens_is_given_up_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "_ray", lambda command: [sys.executable, "-c", HANGS_UP])
    monkeypatch.setattr(submit, "_ANSWERS_WITHIN", 0.5)
    with (
        pytest.raises(BadInput, match="no Ray answers on the head"),
        submit.forwarded(tmp_path / "cluster.yaml"),
    ):
        pytest.fail("nothing answers")


class Client:
    """Ray's job client, of a job that ends so."""

    def __init__(self, status, code=None, error=None):
        self.info = SimpleNamespace(status=status, driver_exit_code=code, message="as it ended")
        self.error = error

    async def tail_job_logs(self, job):
        yield "[    0 s] starting "
        if self.error is not None:
            raise self.error
        yield "Ray\n"

    def get_job_info(self, job):
        return self.info


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (Client("SUCCEEDED", 0), 0),
        (Client("FAILED", 2), 2),
        (Client("FAILED"), 1),
        (Client("STOPPED"), 1),
    ],
)
def test_the_exit_code_is_that_of_the_script(capsys, client, code):
    assert submit._watch(client, Path("cluster.yaml"), "job-1") == code
    shown = capsys.readouterr()
    assert shown.out == "[    0 s] starting Ray\n"
    assert ("as it ended" in shown.err) == (code == 1)


def test_ctrl_c_stops_watching_and_says_how_to_go_on(capsys):
    client = Client("RUNNING", error=KeyboardInterrupt())
    assert submit._watch(client, Path("a b.yaml"), "job-1") == 130
    shown = capsys.readouterr().out
    assert "ray exec 'a b.yaml' 'ray job logs --follow job-1'" in shown
    assert "ray exec 'a b.yaml' 'ray job stop job-1'" in shown


def test_a_connection_that_breaks_does_not_end_the_job(capsys):
    client = Client("RUNNING", error=RuntimeError("WebSocket connection closed"))
    assert submit._watch(client, Path("cluster.yaml"), "job-1") == 1
    shown = capsys.readouterr()
    assert "job-1 goes on" in shown.err
    assert "ray job logs --follow job-1" in shown.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_the_terminal_ends_what_was_started(number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, submit._ended_by_signals():
        os.kill(os.getpid(), number)
        signal.pause()
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
