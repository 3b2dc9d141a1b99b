"""Sweeps in this process, on the Ray cluster that the session shares."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest
from rich.console import Console

from tuners import following
from tuners.run import SweepResult, run_sweep
from tuners.spec import SweepSpec, prepare

ON_RAY = [
    pytest.mark.ray,
    # Of Ray, which shares sockets and subprocesses with what it starts.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass(frozen=True)
class Ran:
    spec: SweepSpec
    result: SweepResult


def without_mlflow(folder: Path, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """A follower that writes nothing."""
    program = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)


def run_quietly(spec: SweepSpec, address: str, *, resume: bool = False) -> Ran:
    prepare(spec, resume=resume)
    # As the cluster's workers: a driver that has other settings is refused.
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(following, "start_following", without_mlflow)
        return Ran(spec, run_sweep(spec, console=Console(quiet=True), address=address))
