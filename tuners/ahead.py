"""Compiles a CPU trial's program into the cache on disk while Ray starts: a process of its own.

python -m tuners.ahead CONFIG_AS_JSON
"""

import json
import os
import subprocess
import sys

from tuners.config import TrialConfig
from tuners.pinning import pin_to_last_core


def start_compiling(config: TrialConfig) -> "subprocess.Popen[bytes]":
    """Returns the process; workers that need the program meanwhile wait for it."""
    command = [sys.executable, "-m", "tuners.ahead", json.dumps(config.to_dict())]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def _compile(config: TrialConfig) -> None:
    # On one core, as a worker: what XLA makes depends on the number of cores it sees.
    pin_to_last_core()
    from tuners.trial import segment_program

    segment_program(config)


if __name__ == "__main__":
    _compile(TrialConfig.from_dict(json.loads(sys.argv[1])))
