"""The laptop of a user: a checkout of the project, a cluster file with values chosen, a shell."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from tests.cluster.hosts import Hosts, end_session, environment
from tests.cluster.overlay import ROOT, VENV, Overlay
from tests.e2e.processes import command_line, descendants

CHECKOUT = "shapesweep"


class Laptop:
    """The host from which a person works.

    Args:
        hosts: one of them is the laptop.
        logs: folder for what long commands print.
        address: in the hosts' network.
        overlay: what is chosen in the cluster file.
        env: added to the person's environment.
    """

    def __init__(
        self, hosts: Hosts, logs: Path, address: str, overlay: Overlay, env: Mapping[str, str]
    ) -> None:
        self.hosts = hosts
        self.logs = logs
        self.file = overlay.file
        self._started: list[Started] = []
        self.home = hosts.make("laptop", address).home
        hosts.switch_on("laptop")
        self._env = {
            "PATH": f"{VENV / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"/root/{CHECKOUT}",
            "JAX_PLATFORMS": "cpu",
            "COLUMNS": "120",
            **env,
        }
        self._check_out(overlay)

    def up(self) -> None:
        """Has the cluster made."""
        self.run(f"ray up --yes {self.file}", seconds=600)

    def down(self) -> None:
        """Has the cluster taken down."""
        self.run(f"ray down --yes {self.file}", seconds=300)

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
        command = f"cd {CHECKOUT}; exec {command}"
        started = Started(self.hosts.start_command("laptop", command, log, self._env), log)
        self._started.append(started)
        return started

    def close(self) -> None:
        """Ends what was started and still runs."""
        for started in self._started:
            end_session(started.process)

    def mlflow_problem(self, sweep: Path) -> str:
        """What MLflow on the head lacks of a sweep, asked through a forwarded port."""
        forward = self.start(f"ray exec {self.file} -p 5000 'sleep 600'", "forward")
        check = (
            "import pathlib; from tests.e2e.record import assert_one_run_a_trial as check;"
            f" check('http://127.0.0.1:5000', pathlib.Path({str(sweep)!r}))"
        )
        ask = "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)"
        try:
            forward.until(lambda: self._in_network(ask).returncode == 0, 180.0)
            done = self._in_network(check)
            return done.stdout if done.returncode else ""
        finally:
            end_session(forward.process)

    def _in_network(self, program: str) -> subprocess.CompletedProcess[str]:
        """Runs Python here, but in the laptop's network."""
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"
        return subprocess.run(
            self.hosts.command("laptop", command, only_network=True),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _check_out(self, overlay: Overlay) -> None:
        checkout = self.home / CHECKOUT
        checkout.mkdir()
        text = (ROOT / self.file).read_text()
        (checkout / self.file).write_text(overlay.apply(text))
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

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Waits for what it is to bring about while it runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            said = self.output[-5000:]
            assert not self.ended, f"ended too early:\n{said}"
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s:\n{said}"
            time.sleep(0.5)

    def interrupt(self) -> None:
        """Sends Ctrl-C's signal to the script, past the commands that brought it onto the host."""
        (script,) = (
            pid for pid in descendants(self.process.pid) if command_line(pid).startswith("python ")
        )
        os.kill(script, signal.SIGINT)

    def wait(self, seconds: float) -> int:
        """Returns the exit code."""
        return self.process.wait(seconds)
