"""Cores claimed by processes: no two share one, and a process that is killed frees its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORES = sorted(os.sched_getaffinity(0))

# Says which core it claimed, in the call and in the one after, then waits to be ended.
CLAIM = """
import os, sys
from tuners.pinning import pin_to_free_core
print(pin_to_free_core(), pin_to_free_core(), *sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""
LAST = """
import os
from tuners.pinning import pin_to_last_core
pin_to_last_core()
print(*os.sched_getaffinity(0))
"""


@pytest.fixture
def claim(tmp_path):
    """Starts a process that claims a core; returns it and what it said."""
    processes = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        said = process.stdout.readline().split()
        return process, [None if word == "None" else int(word) for word in said]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_process_keeps_to_the_core_it_claimed(claim):
    _, said = claim()
    assert said == [CORES[0]] * 3


def test_each_process_has_a_core_of_its_own_and_one_too_many_has_none(claim):
    claimed = [claim()[1] for _ in CORES]
    assert claimed == [[core] * 3 for core in CORES]
    _, said = claim()
    assert said == [None, None, *CORES], "it runs on any of them"


def test_a_process_that_is_killed_frees_its_core(claim):
    processes = [claim()[0] for _ in CORES]
    processes[-1].kill()
    processes[-1].wait()
    assert claim()[1] == [CORES[-1]] * 3


def test_the_last_core_is_taken_without_a_claim(claim, tmp_path):
    claim()
    process = subprocess.run(
        [sys.executable, "-c", LAST],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == [str(CORES[-1])]


IDLE = """
import os, subprocess, sys
from tuners.pinning import use_idle_time
use_idle_time()
child = "import os; print(os.sched_getscheduler(0))"
print(os.sched_getscheduler(0), subprocess.check_output([sys.executable, "-c", child], text=True))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has SCHED_IDLE")
def test_idle_time_is_for_what_a_process_starts_as_well():
    command = [sys.executable, "-c", IDLE]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert said.stdout.split() == [str(os.SCHED_IDLE)] * 2, said.stderr
