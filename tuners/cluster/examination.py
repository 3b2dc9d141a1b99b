"""What a node of a cluster finds out about itself; ``doctor.py`` asks every node for it.

Nothing here judges: ``faults.py`` does.
"""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem

from tuners.errors import in_a_line
from tuners.gpu import hearing_jax
from tuners.outputs import nearest_there
from tuners.versions import program_version, versions

GB = 1e9
DRIVER = "driver"
_PATIENCE = 3.0  # seconds; an NFS client may remember for a moment that a file was not there


@dataclass(frozen=True)
class NodeFacts:
    """What is known about a node, or about the driver.

    Attributes:
        node: what lines and tables call it.
        cpus: that Ray may use there.
        gpus: that Ray may use there.
        ray_folder: where Ray keeps its own files there.
        error: why nothing else is known, or "".
        versions: of Python, of what results depend on, and of the code.
        device: kind of the devices that JAX has there.
        gpus_in_jax: how many of them are GPUs.
        device_error: why JAX has none, or "".
        plugin_error: why JAX's plug-in for GPUs did not start, or "".
        memory: free, GB.
        disks: free GB, by folder.
        store_error: why it cannot write to the shared store, or "".
        unseen: the nodes whose files in the store it cannot read.
        clock_offset: its clock minus the driver's, s.
        clock_error: how wrong ``clock_offset`` may be, s.
        train_seconds: that compiling the trainer and training a segment took; None if untried.
        train_error: why that failed, or "".
    """

    node: str
    cpus: float = 0.0
    gpus: float = 0.0
    ray_folder: str = "/"
    error: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    gpus_in_jax: int = 0
    device_error: str = ""
    plugin_error: str = ""
    memory: float = 0.0
    disks: Mapping[str, float] = field(default_factory=dict)
    store_error: str = ""
    unseen: Sequence[str] = ()
    clock_offset: float = 0.0
    clock_error: float = 0.0
    train_seconds: float | None = None
    train_error: str = ""


@dataclass(frozen=True)
class SharedStore:
    """The shared store, and in it a folder in which every node leaves a file for the others.

    Attributes:
        place: a folder's absolute path, or a URI that Arrow knows, such as ``s3://bucket/runs``.
        mark: of this examination.
    """

    place: str
    mark: str

    def leave(self, node: str) -> str:
        """Writes the node's file; returns why it could not, or ""."""
        try:
            files, folder = self._open()
            files.create_dir(folder, recursive=True)
            with files.open_output_stream(_file(folder, node)) as file:
                file.write(node.encode())
        except Exception as error:  # Arrow raises other kinds for other stores
            return in_a_line(error)
        return ""

    def unseen(self, nodes: Iterable[str], patience: float = _PATIENCE) -> tuple[str, ...]:
        """Returns those of the nodes whose files cannot be read here."""
        deadline = time.monotonic() + patience
        missing = tuple(node for node in nodes if not self._sees(node))
        while missing and time.monotonic() < deadline:
            time.sleep(0.2)
            missing = tuple(node for node in missing if not self._sees(node))
        return missing

    def clean(self, node: str) -> None:
        """Removes the node's file, and the folder with the last of them."""
        # Of Arrow's errors none matters: nothing was written here, or another node was sooner.
        with suppress(Exception):
            files, folder = self._open()
            with suppress(Exception):
                files.delete_file(_file(folder, node))
            if not files.get_file_info(FileSelector(folder)):
                files.delete_dir(folder)

    def remove(self) -> None:
        """Removes the folder with all that is still in it."""
        with suppress(Exception):
            files, folder = self._open()
            files.delete_dir(folder)

    def _sees(self, node: str) -> bool:
        try:
            files, folder = self._open()
            with files.open_input_stream(_file(folder, node)) as file:
                return bool(file.read() == node.encode())
        except Exception:  # whatever the reason, it cannot be read
            return False

    def _open(self) -> tuple[FileSystem, str]:
        files, folder = FileSystem.from_uri(self.place)
        return files, f"{folder}/.doctor-{self.mark}"


def examine(node: NodeFacts, store: SharedStore) -> NodeFacts:
    """Returns what this process finds out about its node, and leaves the node's file in the store.

    Args:
        node: what the driver knows of it.
        store: where trials will write.
    """
    # JAX would take three quarters of a GPU's memory, which trials may be using.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    folders = [] if "://" in store.place else [store.place]
    return replace(
        look_for_devices(node),
        versions=software(),
        memory=free_memory() / GB,
        disks=free_space([*folders, node.ray_folder]),
        store_error=store.leave(node.node),
    )


def compare_store(node: NodeFacts, store: SharedStore, wrote: Iterable[str]) -> NodeFacts:
    """Returns the facts with the nodes whose files in the store cannot be read here.

    Args:
        node: what is known so far; one that cannot write is not asked to read either.
        store: where all have left their files.
        wrote: those who could.
    """
    others = () if node.store_error else set(wrote) - {node.node}
    return replace(node, unseen=store.unseen(sorted(others)))


def software() -> dict[str, str]:
    """Returns the versions of Python, of what results depend on, and of the code."""
    return {"python": platform.python_version(), **versions(), "code": program_version()}


def look_for_devices(facts: NodeFacts) -> NodeFacts:
    """Returns the facts with the devices that JAX has in this process."""
    with hearing_jax() as heard:
        facts = _with_devices(facts)
    return replace(facts, plugin_error="; ".join(heard))


def _with_devices(facts: NodeFacts) -> NodeFacts:
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # plug-ins for devices raise all kinds
        return replace(facts, device_error=in_a_line(error))
    gpus = sum(device.platform == "gpu" for device in devices)
    return replace(facts, device=devices[0].device_kind, gpus_in_jax=gpus)


def free_memory() -> float:
    """Returns the bytes free here, of the container's where Ray sees that it is in one."""
    # Private, but it is by this number that Ray itself ends processes.
    from ray._private.utils import estimate_available_memory

    return float(estimate_available_memory())


def free_space(folders: Iterable[str]) -> dict[str, float]:
    """Returns the free GB for each of the folders; one of those on the same disk stands for all."""
    disks: dict[int, tuple[str, float]] = {}
    for folder in folders:
        nearest = nearest_there(Path(folder))
        free = shutil.disk_usage(nearest).free / GB
        disks.setdefault(nearest.stat().st_dev, (folder, free))
    return dict(disks.values())


def train_a_segment(node: NodeFacts) -> NodeFacts:
    """Returns the facts with how long a small trainer takes here to compile and train a segment."""
    from tuners.config import TrialConfig, baseline
    from tuners.presets import PRESETS
    from tuners.trial import Trial

    ppo = PRESETS["smoke"]["ppo"]
    config = TrialConfig(reward=baseline("swingup"), ppo=ppo, budget=ppo.steps_per_segment)
    started = time.perf_counter()
    try:
        row = Trial(config, list(range(ppo.seeds_per_trial))).advance()
    except Exception as error:  # of XLA, of a driver, of the folder that keeps compiled programs
        return replace(node, train_error=in_a_line(error))
    failed = "the numbers are not finite" if row["diverged"] else ""
    return replace(node, train_seconds=time.perf_counter() - started, train_error=failed)


def clock_offset(samples: Iterable[tuple[float, float, float]]) -> tuple[float, float]:
    """Returns how far another clock is ahead of this one, and how wrong that may be, in seconds.

    The other clock was read at some moment between asking and the answer: the quickest answer
    leaves the least doubt about which.

    Args:
        samples: (asked, the other clock, answered), the first and last by this clock.
    """
    asked, there, answered = min(samples, key=lambda sample: sample[2] - sample[0])
    return there - (asked + answered) / 2, (answered - asked) / 2


def _file(folder: str, node: str) -> str:
    return f"{folder}/{re.sub(r'[^A-Za-z0-9.-]', '-', node)}"
