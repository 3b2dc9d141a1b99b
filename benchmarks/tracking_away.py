"""What a sweep loses while its tracking server is away: pairs of sweeps, one of each.

    python benchmarks/tracking_away.py [PAIRS]    # 5: ten minutes on two cores

In each pair one sweep has MLflow's server on a loopback port, the other one an address of which the
server is stopped before the sweep begins (`--frozen`: it takes calls and never answers).  The order
changes from pair to pair.  Prints seconds of every sweep and the ratio of the medians; then writes
what is missing with `sweeps/track.py`, and how long that took.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWEEP = ("--preset", "laptop", "--num-trials", "8", "--media", "False")


class Server:
    """MLflow's server, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        mlflow = str(Path(sys.executable).with_name("mlflow"))
        store = (f"sqlite:///{self._folder}/served.db", "--artifacts-destination", "served")
        address = ("--workers", "1", "--port", str(self._port))
        self._process = subprocess.Popen(
            [mlflow, "server", *address, "--backend-store-uri", *store],
            cwd=self._folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("MLflow's server does not answer")

    def leave(self, *, frozen: bool = False) -> None:
        """Ends it, or freezes it."""
        os.killpg(self._process.pid, signal.SIGSTOP if frozen else signal.SIGKILL)
        if not frozen:
            self._process.wait()

    def come_back(self, *, frozen: bool) -> None:
        """Lets it answer again."""
        if frozen:
            os.killpg(self._process.pid, signal.SIGCONT)
        else:
            self.start()


def run(script: str, *arguments: str, folder: Path) -> float:
    """Runs a script; returns the seconds that it took."""
    begun = time.monotonic()
    command = [sys.executable, str(ROOT / "sweeps" / f"{script}.py"), *arguments]
    with (folder / "log").open("ab") as log:
        subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log)
    return time.monotonic() - begun


def main(pairs: int, *, frozen: bool) -> None:
    """Prints the seconds of each pair, their ratio, and those of writing the rest."""
    folder = Path("tracking-away").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    server = Server(folder)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    run("reward_search", *SWEEP, "--name", "warm-up", folder=folder)
    for pair in range(pairs):
        for away in (False, True) if pair % 2 else (True, False):
            if away:
                server.leave(frozen=frozen)
            name = f"{'away' if away else 'there'}-{pair}"
            flags = ("--tracking-uri", server.url, "--seed", str(pair), "--name", name)
            seconds[away].append(run("reward_search", *SWEEP, *flags, folder=folder))
            if away:
                server.come_back(frozen=frozen)
        print(f"pair {pair}: there {seconds[False][-1]:.1f} s, away {seconds[True][-1]:.1f} s")
    medians = {away: statistics.median(values) for away, values in seconds.items()}
    print(f"medians {medians[False]:.1f} s and {medians[True]:.1f} s:", end=" ")
    print(f"{medians[True] / medians[False]:.3f} times as long with the server away")
    writing = [run("track", f"away-{pair}", folder=folder) for pair in range(pairs)]
    print(f"written afterwards in {statistics.median(writing):.1f} s each (median)")
    server.leave()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What a sweep loses without its tracking server.")
    parser.add_argument("pairs", type=int, nargs="?", default=5)
    parser.add_argument("--frozen", action="store_true", help="it takes calls and never answers")
    given = parser.parse_args()
    main(given.pairs, frozen=given.frozen)
