"""The laptop of a user: a checkout of the project, a cluster file with values chosen, a shell."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import yaml

from tests.cluster.hosts import Hosts, environment
from tests.e2e.processes import command_line, descendants

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
CLUSTER_FILE = "cluster.onprem.yaml"
LAPTOP = "10.77.0.1"
HEAD = "10.77.0.10"
WORKERS = {"w1": "10.77.0.11", "w2": "10.77.0.12"}
CHECKOUT = "shapesweep"

# The values of the cluster file that the tests choose; the rest stays as it comes.  The hosts share
# one virtual environment: installed it would take minutes for each.
CHOSEN = {
    "head": HEAD,
    "workers": f"[{', '.join(WORKERS.values())}]",
    "user": "root",
    "install": (
        f"ln -sfn {VENV} ~/shapesweep/.venv &&"
        " echo 'export PYTHONPATH=~/shapesweep' >> ~/.shapesweep_env &&"
        " make -C ~/shapesweep setup LOCK=requirements.lock"
    ),
}


def overlay(text: str) -> str:
    """Returns the cluster file with the chosen values in the place of the examples."""
    for name, value in CHOSEN.items():
        text, count = re.subn(rf"(?m)^(  {name}: &{name} ).*$", lambda m, v=value: m[1] + v, text)
        assert count == 1, f"{CLUSTER_FILE} has {count} lines that choose {name}"
    return text


class Laptop:
    """The host from which a person works.

    Args:
        hosts: one of them is the laptop.
        logs: folder for what long commands print.
    """

    def __init__(self, hosts: Hosts, logs: Path) -> None:
        self.hosts = hosts
        self.logs = logs
        self.home = hosts.start("laptop", LAPTOP, sees_shared=False).home
        self._env = {
            "PATH": f"{VENV / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"/root/{CHECKOUT}",
            "JAX_PLATFORMS": "cpu",
            "COLUMNS": "120",
        }
        self._check_out()

    def run(self, command: str, seconds: float = 120.0) -> str:
        """Returns what a shell command in the checkout prints; it must end well, and in time."""
        done = self.try_to(command, seconds)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def try_to(self, command: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in the checkout; standard error comes in between."""
        return subprocess.run(
            self.hosts.command("laptop", f"cd {CHECKOUT}; {command}"),
            env=environment(**self._env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def start(self, command: str, name: str) -> "Started":
        """Starts a shell command in the checkout; ``name`` is of its log."""
        log = self.logs / f"{name}.log"
        return Started(
            self.hosts.start_command("laptop", f"cd {CHECKOUT}; exec {command}", log, self._env),
            log,
        )

    def _check_out(self) -> None:
        checkout = self.home / CHECKOUT
        checkout.mkdir()
        text = (ROOT / CLUSTER_FILE).read_text()
        (checkout / CLUSTER_FILE).write_text(overlay(text))
        for name in yaml.safe_load(text)["file_mounts"].values():
            if name.startswith("~"):
                continue
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, checkout / name)  # make setup goes by its time


class Started:
    """A command that runs on the laptop."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def interrupt(self) -> None:
        """Sends Ctrl-C's signal to the script, past the commands that brought it onto the host."""
        (script,) = (
            pid for pid in descendants(self.process.pid) if command_line(pid).startswith("python ")
        )
        os.kill(script, signal.SIGINT)

    def wait(self, seconds: float) -> int:
        """Returns the exit code."""
        return self.process.wait(seconds)
