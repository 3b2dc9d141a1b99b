"""Traces and compiles CPU trials' programs while Ray starts: a process of its own.

python -m tuners.ahead < CONFIGS_AS_JSON
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable

from tuners.config import TrialConfig
from tuners.errors import BadInput
from tuners.pinning import pin_to_last_core

MOST = 4


def start_compiling(base: TrialConfig, configs: Iterable[TrialConfig]) -> subprocess.Popen[bytes]:
    """Starts the process, for ``refuse_untraceable``.  Workers that need a program wait for it.

    Args:
        base: whose program is traced, which finds the mistakes in a task or a reward term.
        configs: whose programs are compiled into the cache on disk; any but the first few are left
            to the worker that first needs them.
    """
    entries = [config.to_dict() for config in (base, *itertools.islice(configs, MOST))]
    process = subprocess.Popen(
        [sys.executable, "-m", "tuners.ahead"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(json.dumps(entries).encode())
    return process


def refuse_untraceable(process: subprocess.Popen[bytes]) -> None:
    """Waits until the process has traced the program; it goes on to compile.

    Raises:
        BadInput: as ``tuners.programs.check_traceable`` has it.
    """
    assert process.stdout is not None
    with process.stdout:
        answer = process.stdout.readline()
    if answer and (fault := json.loads(answer)):
        raise BadInput(fault)


def _work(base: TrialConfig, *configs: TrialConfig) -> None:
    # On one core, as a worker: what XLA makes depends on the number of cores it sees.
    pin_to_last_core()
    from tuners.programs import check_traceable, segment_program

    fault = ""
    try:
        check_traceable(base)
    except BadInput as error:
        fault = str(error)
    print(json.dumps(fault), flush=True)
    for config in () if fault else configs:
        segment_program(config)


if __name__ == "__main__":
    _work(*(TrialConfig.from_dict(entries) for entries in json.load(sys.stdin)))
