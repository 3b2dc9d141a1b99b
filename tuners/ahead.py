"""Compiles CPU trials' programs into the cache on disk while Ray starts: a process of its own.

python -m tuners.ahead CONFIGS_AS_JSON
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from tuners.config import TrialConfig
from tuners.pinning import pin_to_last_core


def start_compiling(configs: Sequence[TrialConfig]) -> "subprocess.Popen[bytes]":
    """Returns the process; workers that need a program meanwhile wait for it."""
    entries = json.dumps([config.to_dict() for config in configs])
    command = [sys.executable, "-m", "tuners.ahead", entries]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def _compile(configs: Sequence[TrialConfig]) -> None:
    # On one core, as a worker: what XLA makes depends on the number of cores it sees.
    pin_to_last_core()
    from tuners.trial import segment_program

    for config in configs:
        segment_program(config)


if __name__ == "__main__":
    _compile([TrialConfig.from_dict(entries) for entries in json.loads(sys.argv[1])])
