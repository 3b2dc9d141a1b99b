"""What 100, 300 and 1,000 trials cost the driver and MLflow, with a trainer that returns at once.

    python benchmarks/many_trials.py [TRIALS ...]      # two cores, about five minutes

Whole search phases through Ray Tune, with ASHA, tables and the live screen, each in a process of
its own.  Then the last of them is copied into an MLflow store, and its runs are opened in Chromium
by the link that a sweep prints.  Ray's own processes are not counted as the driver's.  Where others
use the machine, go by the CPU seconds.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console

from benchmarks.instant import search
from benchmarks.pinned import cores, run_pinned, work_if_asked
from tuners.ray_settings import apply_ray_settings
from tuners.spec import prepare

SLOTS = 8
LOADS = 5  # of the page
PATIENCE = 60_000  # ms
SCREENSHOT = "many_trials.png"
# No sandbox: it needs rights that a container's root lacks.
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Reading(NamedTuple):
    """What the driver has taken at some moment."""

    wall: float
    cpu: float
    memory: float


def read_driver() -> Reading:
    """Returns seconds, CPU seconds and MB of this process."""
    return Reading(time.monotonic(), time.process_time(), psutil.Process().memory_info().rss / 1e6)


def run_trials(request: dict[str, Any]) -> None:
    """Runs one search and prints what each tenth of its reports took, as JSON."""
    apply_ray_settings(None)
    from tests.tuners.small import SEGMENT, small_spec
    from tuners.console import SweepConsole

    readings: list[Reading] = []

    class Meter(SweepConsole):
        def listen(self, event: str, row: dict[str, Any]) -> None:
            super().listen(event, row)
            if event == "segment":
                readings.append(read_driver())

    spec = small_spec(
        Path(request["folder"]),
        name=f"trials-{request['trials']}",
        slots=SLOTS,
        num_trials=request["trials"],
        budget=8 * SEGMENT,
        grace_period=2 * SEGMENT,
    )
    prepare(spec, resume=False)
    terminal = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=110)
    search(spec, lambda plan: Meter(plan, terminal))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"readings": readings, "peak": peak, "folder": str(spec.folder)}))


def print_row(trials: int, ran: dict[str, Any]) -> None:
    """Prints a line of the table: of all reports, and of the first and the last tenth."""
    readings = [Reading(*reading) for reading in ran["readings"]]
    tenth = len(readings) // 10
    parts = (readings, readings[:tenth], readings[-tenth:])
    wall, cpu = ([_milliseconds(part, name) for part in parts] for name in ("wall", "cpu"))
    print(
        f"{trials:7}{len(readings):9}{ran['peak']:10.0f}{readings[0].memory:10.0f}"
        f"{readings[-1].cpu - readings[0].cpu:10.1f}"
        + "".join(f"{value:9.2f}" for value in (*wall, *cpu)),
        flush=True,
    )


def _milliseconds(readings: list[Reading], name: str) -> float:
    """Returns what a report took."""
    taken = getattr(readings[-1], name) - getattr(readings[0], name)
    return 1000.0 * taken / (len(readings) - 1)


def follow(folder: Path, uri: str) -> None:
    """Copies a sweep into MLflow and prints how long that takes, and a second look at it."""
    from tuners.tracking import Follower

    follower = Follower(folder, uri)
    for what in ("all of it", "nothing new"):
        before = read_driver()
        follower.sync()
        after = read_driver()
        print(
            f"into MLflow, {what}: {after.wall - before.wall:.2f} s,"
            f" of them CPU {after.cpu - before.cpu:.2f} s",
            flush=True,
        )
    follower.finish()


@contextmanager
def mlflow_pages(uri: str) -> Iterator[str]:
    """Yields the address of MLflow's pages over a store."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"]
    command += ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as started:
        try:
            _wait_for(f"{url}/health", started)
            yield url
        finally:
            for process in psutil.Process(started.pid).children(recursive=True):
                process.terminate()
            started.terminate()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("MLflow's server ended")


def children_cpu() -> dict[int, float]:
    """Returns the CPU seconds of browser and server: of each process that this one has started."""
    seconds = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds[process.pid] = times.user + times.system
    return seconds


def open_page(address: str, first_row: str) -> list[tuple[float, float]]:
    """Returns seconds and CPU seconds until a page shows a run, each time from nothing."""
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS
        )
        for _ in range(LOADS):
            page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
            begun, cpu = time.monotonic(), children_cpu()
            page.goto(address)
            page.get_by_text(first_row).first.wait_for(timeout=PATIENCE)
            spent = sum(value - cpu.get(pid, 0.0) for pid, value in children_cpu().items())
            seconds.append((time.monotonic() - begun, spent))
            page.wait_for_timeout(5000)
            page.screenshot(path=SCREENSHOT)
            page.close()
        browser.close()
    return seconds


def main(counts: list[int]) -> None:
    """Prints the table, then what MLflow takes."""
    from tuners.results import read_trials
    from tuners.tracking import run_link

    with tempfile.TemporaryDirectory() as folder:
        print("MB of the driver at most and at its first report; ms a report, of all and of the")
        print("first and last tenth of the reports")
        print(f"{'trials':>7}{'reports':>9}{'MB most':>10}{'MB first':>10}{'CPU s':>10}", end="")
        print(f"{'wall ms':>9}{'first':>9}{'last':>9}{'CPU ms':>9}{'first':>9}{'last':>9}")
        for trials in counts:
            request = {"trials": trials, "folder": folder}
            ((ran,),) = run_pinned(__file__, [(set(cores()), request)])
            print_row(trials, ran)
        sweep, uri = Path(ran["folder"]), f"sqlite:///{folder}/mlflow.db"
        follow(sweep, uri)
        newest = max(read_trials(sweep), key=lambda trial: float(trial["started"]))["trial"]
        with mlflow_pages(uri) as url:
            seconds = open_page(f"{url}/{run_link(sweep)}", newest)
        shown = ", ".join(f"{wall:.2f} s (CPU {cpu:.2f} s)" for wall, cpu in seconds)
        print(f"MLflow's page of {counts[-1]} runs shows them after {shown}; see {SCREENSHOT}")


if __name__ == "__main__" and not work_if_asked(run_trials):
    main([int(count) for count in sys.argv[1:]] or [100, 300, 1000])
