"""The script that turns a worker off whose head is lost, on a machine that is pretended."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import wait_until

SCRIPT = Path(__file__).resolve().parents[3] / "cluster" / "off_without_ray.sh"


@pytest.fixture
def machine(tmp_path):
    """Starts the script where Ray runs while there is a file "raylet"."""
    commands = {
        "pgrep": f'cd {tmp_path}; touch looked; test "$*" = "-x raylet" || exit 3; test -e raylet',
        "sudo": f'echo "$*" >> {tmp_path}/off',
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    started = []

    def start(patience):
        command = ["bash", str(SCRIPT), str(patience), "0.1"]
        started.append(subprocess.Popen(command, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_machine_on_which_ray_ended_is_turned_off(machine, tmp_path):
    (tmp_path / "raylet").touch()
    watch = machine(2)
    with pytest.raises(subprocess.TimeoutExpired):
        watch.wait(4)
    (tmp_path / "raylet").unlink()
    assert watch.wait(20) == 0
    assert (tmp_path / "off").read_text() == "shutdown -h now\n"


def test_where_it_cannot_be_seen_whether_ray_runs_the_machine_stays(machine, tmp_path):
    (tmp_path / "pgrep").write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(subprocess.TimeoutExpired):
        machine(1).wait(3)
    assert not (tmp_path / "off").exists()


def test_one_watch_is_enough(machine, tmp_path):
    (tmp_path / "raylet").touch()
    first = machine(100)
    wait_until((tmp_path / "looked").exists, "it watches", 20)
    assert machine(100).wait(20) == 0
    assert first.poll() is None
