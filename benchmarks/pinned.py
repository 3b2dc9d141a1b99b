"""Worker processes of a benchmark, each pinned to the cores it is given."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any


def cores() -> list[int]:
    """Returns the cores this process may use."""
    return sorted(os.sched_getaffinity(0))


def run_pinned(script: str, requests: Sequence[tuple[set[int], Any]]) -> list[list[Any]]:
    """Runs ``script`` once for each request, all at the same time, on the cores that go with it.

    Returns:
        What each printed, a value for each line of JSON.

    Raises:
        RuntimeError: one of them failed.
    """
    processes = []
    on_cpu = os.environ | {"JAX_PLATFORMS": "cpu"}  # else all would take the same GPU
    for on_cores, request in requests:
        entries = json.dumps({"cores": sorted(on_cores), "request": request})
        command = [sys.executable, script, "--work", entries]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=on_cpu))
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"a worker of {script} failed")
    return [[json.loads(line) for line in lines.splitlines()] for lines in printed]


def work_if_asked(work: Callable[[Any], None]) -> bool:
    """Does a request if this process was started for one; returns whether it was."""
    if sys.argv[1:2] != ["--work"]:
        return False
    asked = json.loads(sys.argv[2])
    os.sched_setaffinity(0, asked["cores"])  # before JAX starts its threads
    work(asked["request"])
    return True
