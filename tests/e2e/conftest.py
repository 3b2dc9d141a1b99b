"""What the tests with real processes share: sweeps that several tests look at."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.processes import (
    Finished,
    Scripts,
    descendants,
    listening_beyond_loopback,
    wait_until,
)
from tests.e2e.refusals import template, workplace  # noqa: F401, fixtures
from tuners.ray_settings import SETTINGS

# Trials long enough to be caught in the middle: 64 segments of about 10 ms.
LONG = ("--preset", "smoke", "--budget", "65536")
# Nothing is drawn: half of the time of a small sweep.
PLAIN = ("--media", "False")


@dataclass
class Sweep:
    """A sweep, and the scripts that ran it."""

    scripts: Scripts
    name: str
    finished: Finished
    tracking_uri: str = ""
    listening: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tracking_uri = self.tracking_uri or f"sqlite:///{self.scripts.folder}/mlflow.db"

    @property
    def folder(self) -> Path:
        return self.scripts.folder / "runs" / self.name

    def printed_command(self, label: str) -> str:
        """A command under "Next", as it was printed."""
        (line,) = re.findall(rf"^  {label} +(.*)$", self.finished.stdout, re.MULTILINE)
        return line


@pytest.fixture(scope="session")
def programs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where scripts and Ray keep compiled programs: empty when the test session begins."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # this process has a folder in that of the session
        folder = folder.parent
    (folder / "programs").mkdir(exist_ok=True)
    return folder / "programs"


@pytest.fixture(scope="session")
def environment(programs_folder: Path) -> Iterator[Mapping[str, str]]:
    """Of every process: a compilation cache and a folder for Ray of this test session alone."""
    foreign = ("RAY_", "MLFLOW_", "SHAPESWEEP_CACHE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Ray puts sockets there, whose paths may have 107 characters at most.
    ray_folder = tempfile.mkdtemp(prefix="e2e-", dir="/tmp")
    yield kept | {
        "SHAPESWEEP_CACHE": str(programs_folder),
        "RAY_TMPDIR": ray_folder,
        "JAX_PLATFORMS": "cpu",
        "COLUMNS": "120",  # or tables would be folded, and words in them cut
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_address(programs_folder: Path) -> Iterator[str]:
    """Address of a local Ray cluster with two cores and a GPU that is only pretended."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPESWEEP_CACHE", str(programs_folder))
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # as in tests/conftest.py
        # Rounding must not grow into another curve where two trainings are compared.
        patch.setenv("JAX_ENABLE_X64", "1")
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False},
        )
        yield cluster.address
        cluster.shutdown()


@pytest.fixture(scope="session")
def make_scripts(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Scripts]]:
    """Makes a folder in which to run scripts; ends what still runs there when the session ends."""
    made: list[Scripts] = []

    def make(name: str) -> Scripts:
        made.append(Scripts(tmp_path_factory.mktemp(name), dict(environment)))
        return made[-1]

    yield make
    for scripts in made:
        scripts.close()


@pytest.fixture(scope="session")
def smoke(make_scripts: Callable[[str], Scripts]) -> Sweep:
    """The smoke preset's sweep, ended; while it ran, its sockets were looked at.

    It lies, and so does its Python, where somebody's own folders may have such names, and a shell
    would not find that Python.
    """
    scripts = make_scripts("My smoke ü")
    (scripts.folder / "a venv").symlink_to(sys.prefix)
    scripts.python = str(scripts.folder / "a venv" / "bin" / "python")
    scripts.env["PATH"] = os.defpath  # as `make` leaves it: what is printed must start all the same
    listening: set[str] = set()
    running = scripts.start("reward_search", "--preset", "smoke", "--name", "smoke")

    def look() -> bool:
        listening.update(listening_beyond_loopback({running.pid, *descendants(running.pid)}))
        return running.ended

    wait_until(look, "the smoke sweep ended")
    return Sweep(scripts, "smoke", running.wait(), listening=listening)


@pytest.fixture(scope="session")
def undisturbed(make_scripts: Callable[[str], Scripts]) -> Sweep:
    """A sweep of long trials that nobody stops: what each trial's curve must be."""
    scripts = make_scripts("undisturbed")
    finished = scripts.run(
        "reward_search", *LONG, *PLAIN, "--scheduler", "none", "--name", "undisturbed"
    )
    assert finished.code == 0, finished
    return Sweep(scripts, "undisturbed", finished)
