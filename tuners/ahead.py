"""Compiles CPU trials' programs into the cache on disk while Ray starts: a process of its own.

python -m tuners.ahead < CONFIGS_AS_JSON
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable

from tuners.config import TrialConfig
from tuners.pinning import pin_to_last_core

MOST = 4


def start_compiling(configs: Iterable[TrialConfig]) -> None:
    """Starts the process; workers that need a program meanwhile wait for it.

    It compiles the first few programs; any more are left to the worker that first needs them.
    """
    entries = [config.to_dict() for config in itertools.islice(configs, MOST)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tuners.ahead"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(json.dumps(entries).encode())


def _compile(configs: Iterable[TrialConfig]) -> None:
    # On one core, as a worker: what XLA makes depends on the number of cores it sees.
    pin_to_last_core()
    from tuners.programs import segment_program

    for config in configs:
        segment_program(config)


if __name__ == "__main__":
    _compile([TrialConfig.from_dict(entries) for entries in json.load(sys.stdin)])
