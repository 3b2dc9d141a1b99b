"""The doctor on real clusters of several nodes on this machine, well and with planted faults.

Each node's processes run in a folder of their own, so that /proc/self/cwd is a path that is the
same on all nodes and leads each to another place: a store that is not shared.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

import rlcore
from tests.e2e.processes import Scripts
from tests.tuners.small import small_spec
from tuners import run
from tuners.cluster import doctor
from tuners.errors import BadInput
from tuners.ray_settings import SETTINGS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.services,
    # Of Ray, which shares sockets and subprocesses with what it starts.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PATIENCE = 300.0  # seconds; a node takes about 3 to answer on idle cores


def quick_check(runs_dir, tracking_uri=None, *, timeout=PATIENCE, **how):
    return doctor.diagnose(runs_dir, tracking_uri, timeout=timeout, trains=False, **how).faults


PATIENTLY = {"timeout": PATIENCE}
diagnose = partial(doctor.diagnose, **PATIENTLY)

OF_ITS_OWN = Path("/proc/self/cwd/store")
if not OF_ITS_OWN.parent.exists():
    pytest.skip("needs /proc, which tells the nodes apart", allow_module_level=True)


@dataclass(frozen=True)
class Nodes:
    """A head and a worker, which Ray has been joined as by this process, from the head's folder."""

    cluster: Any
    folder: Path
    head: str
    worker: str

    @contextlib.contextmanager
    def one_more(self, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """A third node: its name, and Ray's handle on it."""
        before = {entry["NodeID"] for entry in ray.nodes()}
        node = start_node(self.cluster, self.folder / "more", **arguments)
        try:
            (entry,) = (entry for entry in ray.nodes() if entry["NodeID"] not in before)
            yield name_of(entry), node
        finally:
            self.cluster.remove_node(node)


def start_node(cluster: Any, folder: Path, **arguments: Any) -> Any:
    folder.mkdir(exist_ok=True)
    with chdir(folder):
        return cluster.add_node(**{"num_cpus": 1, "include_dashboard": False, **arguments})


def name_of(entry: Mapping[str, Any]) -> str:
    name = f"{entry['NodeManagerAddress']}:{entry['NodeID'][:6]}"
    return f"{name} (head)" if "node:__internal_head__" in entry["Resources"] else name


@pytest.fixture(scope="module")
def nodes(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPESWEEP_CACHE", str(tmp_path_factory.mktemp("programs")))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in {**SETTINGS, **of_the_nodes(environment)}.items():
            patch.setenv(name, value)
        cluster = Cluster()
        try:
            for name in ("head", "worker"):
                start_node(cluster, folder / name)
            with chdir(folder / "head"):
                ray.init(address=cluster.address, log_to_driver=False)
            head, worker = sorted(map(name_of, ray.nodes()), key=lambda name: "head" not in name)
            yield Nodes(cluster, folder, head, worker)
        finally:
            ray.shutdown()
            cluster.shutdown()


def of_the_nodes(environment: Mapping[str, str]) -> dict[str, str]:
    """Where Ray notes that the cluster is there, and that it is open to all on this machine."""
    return {"RAY_TMPDIR": environment["RAY_TMPDIR"], "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(autouse=True)
def driver_beside_the_head(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("head", "worker"):
        (nodes.folder / name / "store").mkdir()
    monkeypatch.chdir(nodes.folder / "head")
    yield
    for name in ("head", "worker"):
        store = nodes.folder / name / "store"
        shutil.rmtree(store) if store.is_dir() else store.unlink()


def test_a_cluster_that_is_well(nodes, tmp_path):
    found = diagnose(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    assert found.faults == []
    assert [node.node for node in found.nodes] == [nodes.head, nodes.worker]
    for node in found.nodes:
        assert node.error == ""
        assert node.unseen == ()
        assert node.train_seconds is not None
        assert abs(node.clock_offset) < 0.5
        assert node.clock_error < 0.5
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_store_that_is_not_shared(nodes):
    (line,) = quick_check(OF_ITS_OWN)
    assert line.startswith(f"{nodes.worker}: the store is not shared")
    assert nodes.head in line
    for name in ("head", "worker"):
        assert os.listdir(nodes.folder / name / "store") == [], "nothing is left"


def test_a_store_with_an_address_is_looked_at_in_the_place_of_the_drivers_folder(
    tmp_path, monkeypatch
):
    """The folder of sweeps is then the head's own, and no worker sees it."""
    monkeypatch.setattr(
        run, "diagnose", lambda *given, **how: doctor.diagnose(*given, **how | PATIENTLY)
    )
    spec = small_spec(OF_ITS_OWN, storage=f"file://{tmp_path}/runs")
    run.refuse_if_unfit(spec)
    with pytest.raises(BadInput, match="the store is not shared"):
        run.refuse_if_unfit(replace(spec, storage=None))


def test_a_store_that_one_node_cannot_write(nodes):
    (nodes.folder / "worker" / "store").rmdir()
    (nodes.folder / "worker" / "store").touch()
    (line,) = quick_check(OF_ITS_OWN)
    assert line.startswith(f"{nodes.worker}: cannot write to the store: ")


def test_a_store_that_nobody_can_write(nodes, tmp_path):
    (tmp_path / "file").touch()
    lines = quick_check(tmp_path / "file" / "runs")
    assert [line.partition(": ")[0] for line in lines] == ["driver", nodes.head, nodes.worker]
    assert all("cannot write to the store" in line for line in lines)


def test_mlflow_that_is_away(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
    (line,) = quick_check(tmp_path, uri)
    assert line.startswith(f"driver: MLflow at {uri} cannot be used")


def test_a_gpu_that_jax_does_not_see(nodes, tmp_path):
    with nodes.one_more(num_gpus=1) as (name, _):
        lines = diagnose(tmp_path, None, expect_gpus=1, trains=False).faults
        assert quick_check(tmp_path, uses_gpus=False) == [], "nobody wants one"
    assert len(lines) == 2
    assert lines[0].startswith(f"{name}: 0 GPUs in JAX (which has: cpu), wanted 1 as Ray has")
    assert lines[1].startswith("all nodes: 0 GPUs in JAX, wanted 1")


def test_a_node_of_other_versions(nodes, tmp_path):
    """It has a copy of rlcore with one line more, and says that its JAX is another."""
    shutil.copytree(Path(rlcore.__file__).parent, tmp_path / "rlcore")
    with (tmp_path / "rlcore" / "types.py").open("a") as file:
        file.write("# one line more\n")
    (tmp_path / "jax-9.9.9.dist-info").mkdir()
    metadata = tmp_path / "jax-9.9.9.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: jax\nVersion: 9.9.9\n")
    searched = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with nodes.one_more(env_vars={"PYTHONPATH": searched}) as (name, _):
        lines = quick_check(tmp_path)
    assert len(lines) == 2
    assert lines[0].startswith(f"{name}: jax is 9.9.9, wanted ")
    assert lines[1].startswith(f"{name}: the code's version is ")


def test_a_node_whose_clock_is_ahead(nodes, tmp_path):
    """Python runs sitecustomize.py as it starts."""
    (tmp_path / "python").mkdir()
    program = "import time\nright = time.time\ntime.time = lambda: right() + 3600\n"
    (tmp_path / "python" / "sitecustomize.py").write_text(program)
    searched = os.pathsep.join([str(tmp_path / "python"), os.environ.get("PYTHONPATH", "")])
    with nodes.one_more(env_vars={"PYTHONPATH": searched}) as (name, _):
        (line,) = quick_check(tmp_path / "runs")
    assert line.startswith(f"{name}: its clock is 3600.0 s ahead of the driver's")


def test_a_node_without_the_code(nodes, tmp_path):
    (tmp_path / "tuners").mkdir()
    (tmp_path / "tuners" / "__init__.py").touch()
    searched = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with nodes.one_more(env_vars={"PYTHONPATH": searched}) as (name, _):
        (line,) = quick_check(tmp_path)
    assert line.startswith(f"{name}: could not be examined: ")
    assert "No module named 'tuners." in line
    assert "copy the project" in line


def test_a_node_on_which_jax_has_no_device(nodes, tmp_path):
    with nodes.one_more(env_vars={"JAX_PLATFORMS": "abacus"}) as (name, _):
        found = diagnose(tmp_path, None)
    assert [line.partition(": ")[0] for line in found.faults] == [name] * 2
    assert "JAX has no device" in found.faults[0]
    assert "the trainer does not run" in found.faults[1]


def test_a_node_on_which_the_trainer_does_not_compile(nodes, tmp_path):
    (tmp_path / "file").touch()
    programs = str(tmp_path / "file" / "programs")
    with nodes.one_more(env_vars={"SHAPESWEEP_CACHE": programs}) as (name, _):
        found = diagnose(tmp_path / "runs", None)
    (line,) = found.faults
    assert line.startswith(f"{name}: the trainer does not run: NotADirectoryError")


def test_a_node_that_does_not_answer(nodes, tmp_path):
    with nodes.one_more() as (name, node):
        raylet = node.all_processes["raylet"][0].process.pid
        os.kill(raylet, signal.SIGSTOP)
        try:
            (line,) = quick_check(tmp_path, timeout=20.0)
        finally:
            os.kill(raylet, signal.SIGCONT)
    assert line.startswith(f"{name}: could not be examined: TimeoutError: no answer within 20 s")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("making a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("making a small disk is not allowed here, as in many containers")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_nearly_full(nodes, small_disk):
    lines = quick_check(small_disk)
    assert [line.partition(": ")[0] for line in lines] == [nodes.head, nodes.worker]
    assert all(f"0.0 GB free on the disk of {small_disk}, wanted 1 GB" in line for line in lines)


def test_a_disk_that_is_full(nodes, small_disk):
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as file:
        file.write(bytes(100_000))
    lines = quick_check(small_disk)
    assert [line.partition(": ")[0] for line in lines] == [
        "driver",
        *(nodes.head, nodes.head),
        *(nodes.worker, nodes.worker),
    ]
    assert sum("No space left on device" in line for line in lines) == 3
    assert sum("0.0 GB free" in line for line in lines) == 2


@pytest.fixture
def scripts(make_scripts: Callable[[str], Scripts]) -> Scripts:
    return make_scripts("doctor")


def test_the_script_shows_a_row_a_node_and_leaves_nothing(nodes, scripts):
    finished = scripts.run("doctor", "--address", nodes.cluster.address, "--timeout", PATIENCE)
    assert finished.code == 0, finished
    for name in (nodes.head, nodes.worker):
        (row,) = (line for line in finished.stdout.splitlines() if line.strip().startswith(name))
        assert ray.__version__ in row
    assert "All is well" in finished.stdout
    left = {path.name for path in scripts.folder.rglob("*") if path.is_file()}
    assert left == {"stderr-0", "stdout-0"}


def test_the_script_finds_the_cluster_of_this_machine(nodes, scripts):
    (scripts.folder / "file").touch()
    arguments = ("--runs-dir", "file/runs", "--quick")
    finished = scripts.start("doctor", *arguments, RAY_AUTH_MODE="disabled").wait()
    assert finished.code == 1, finished
    faults = [line for line in finished.stdout.splitlines() if line.startswith("fault")]
    assert len(faults) == 3
    assert all("cannot write to the store" in line for line in faults)


def test_the_script_looks_at_the_store_that_the_environment_names(nodes, scripts, tmp_path):
    places = {"SHAPESWEEP_RUNS_DIR": str(OF_ITS_OWN), "SHAPESWEEP_STORE": f"file://{tmp_path}"}
    arguments = ("--address", nodes.cluster.address, "--quick")
    finished = scripts.start("doctor", *arguments, **places).wait()
    assert finished.code == 0, finished
    assert "All is well" in finished.stdout


def test_a_driver_with_a_token_that_the_cluster_does_not_want(nodes, scripts):
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    finished = scripts.start("doctor", "--quick", **token).wait()
    assert finished.code == 1, finished
    faults = [line for line in finished.stdout.splitlines() if line.startswith("fault")]
    assert len(faults) == 2
    assert all("could not be examined" in line and "RAY_AUTH_MODE" in line for line in faults)


def test_a_driver_of_another_version_is_told_so(nodes, scripts):
    program = (
        "import ray; ray.__version__ = '9.9.9'\n"
        "from sweeps import cli, doctor\n"
        "cli.run(doctor.Flags, doctor.main, None)"
    )
    command = [sys.executable, "-c", program, "--address", nodes.cluster.address]
    finished = scripts.start_command(command).wait()
    assert finished.code == 2, finished
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("error: Version mismatch: ")
    assert "Ray: 9.9.9" in line
    assert ray.__version__ in line
