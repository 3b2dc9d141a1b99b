"""MLflow's server is away while a sweep runs, and everything gets there later."""

import contextlib
import random
import re
import signal
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Sweep
from tests.e2e.processes import PATIENCE, Scripts, wait_until
from tests.e2e.record import assert_whole, mlflow_runs, trials_once
from tuners.following import start_following, stop_following

pytestmark = pytest.mark.slow

# With few processes: its job workers alone are 13 more.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    """A port of the loopback interface on which nothing listens.

    Not one that the system gives away by itself: a server that is started again finds it free.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def test_an_interrupt_of_every_process_leaves_the_follower_to_its_driver(tmp_path):
    """`ray job stop` sends it to each child of the job."""
    process = start_following(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")

    def ignores_interrupts() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        (ignored,) = re.findall(r"^SigIgn:\s*(\w+)$", status, re.MULTILINE)
        return bool(int(ignored, 16) & 1 << (signal.SIGINT - 1))

    wait_until(ignores_interrupts, "the follower ignores Ctrl-C")
    process.send_signal(signal.SIGINT)
    assert process.poll() is None
    stop_following(process, timeout=PATIENCE)
    assert process.returncode == 1, "there was no sweep, which it says"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def mlflow_server(scripts: Scripts, url: str) -> Iterator[None]:
    port = url.rpartition(":")[2]
    store = ["--backend-store-uri", "sqlite:///served.db", "--artifacts-destination", "served"]
    address = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    server = scripts.start_command(["mlflow", "server", *store, *address], **SERVER)
    try:
        wait_until(lambda: server.ended or answers(url), "MLflow's server answers")
        assert not server.ended, server.output
        yield
    finally:
        server.kill()


@pytest.fixture(scope="module")
def unanswered(make_scripts: Callable[[str], Scripts]) -> Sweep:
    """A sweep whose tracking server is away from the beginning to the end."""
    scripts = make_scripts("unanswered")
    url = f"http://127.0.0.1:{free_port()}"
    flags = ("--preset", "smoke", "--num-trials", "2", "--tracking-uri", url)
    return Sweep(scripts, "away", scripts.run("reward_search", *flags, "--name", "away"), url)


def test_a_sweep_ends_well_although_no_server_answers(unanswered):
    assert unanswered.finished.code == 0, unanswered.finished
    assert_whole(unanswered.folder)
    assert "the score as reward" in unanswered.finished.stdout


def test_it_says_that_mlflow_lacks_it_and_what_to_do(unanswered):
    assert "MLflow lacks" in unanswered.finished.stdout
    assert re.search(r"python\S* \S*sweeps/track.py away\n", unanswered.finished.stdout)


def test_it_leaves_no_store_of_its_own(unanswered):
    assert not (unanswered.scripts.folder / "mlflow.db").exists()
    assert not (unanswered.scripts.folder / "mlruns").exists()


def test_a_command_later_the_server_holds_everything(unanswered):
    scripts, url = unanswered.scripts, unanswered.tracking_uri
    while_away = scripts.run("track", "away")
    assert while_away.code == 1
    assert while_away.stderr.count("\n") == 1
    assert url in while_away.stderr
    with mlflow_server(scripts, url):
        for _ in range(2):  # once more changes nothing
            scripts.succeed("track", "away")
            runs = mlflow_runs(url, "away")
            counts = Counter(run.data.tags["trial"] for run in runs)
            assert counts == dict.fromkeys([*trials_once(unanswered.folder), "sweep"], 1)
            assert all(run.info.status == "FINISHED" for run in runs)
    # What was logged is there, not only announced.
    served = {path.name for path in (scripts.folder / "served").rglob("*") if path.is_file()}
    assert {"trial-000.png", "comparison.json", "state.safetensors"} <= served
