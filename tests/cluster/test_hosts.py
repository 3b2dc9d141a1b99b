"""The hosts themselves: what the stories rely on."""

import subprocess
import sys

import pytest

from tests.cluster.hosts import why_not
from tests.cluster.overlay import ROOT
from tests.e2e.processes import alive, descendants, wait_until

pytestmark = pytest.mark.cluster

PROGRAM = """
import sys, time, pathlib
from tests.cluster.hosts import Hosts
folder = pathlib.Path(sys.argv[1])
hosts = Hosts(folder)
hosts.make("one", "10.77.0.2")
hosts.switch_on("one")
hosts.start_command("one", "exec sleep 600", folder / "log", {})
print("up", flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_hosts_whose_maker_is_killed(tmp_path):
    if why_not():
        pytest.fail(why_not(), pytrace=False)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "up\n"
        started = descendants(maker.pid)
        assert len(started) > 3
        maker.kill()
    wait_until(lambda: not any(map(alive, started)), "all have ended", 20)
