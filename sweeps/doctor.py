"""Look at a Ray cluster before a sweep: every node in a row, every fault in a line.

Looks on each node at versions, devices, free memory and disk, the shared store and the clock, and
trains a segment there; looks at MLflow from here.  Run it on a machine of the cluster.  Takes about
10 s, up to a minute where nothing is compiled yet.  Exit code 1 if there are faults.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import places

if TYPE_CHECKING:
    from rich.table import Table

    from tuners.cluster.examination import NodeFacts


@dataclass(frozen=True)
class Flags:
    """Which cluster, and what a sweep would use there."""

    storage: str | None = None
    """Folder in a store that all nodes reach, such as s3://bucket/runs."""
    runs_dir: Path | None = None
    """Folder that holds one folder a sweep, the same on all nodes, where there is no store.  If
    neither is given $SHAPESWEEP_STORE/runs if that is such an address, else $SHAPESWEEP_RUNS_DIR or
    runs."""
    tracking_uri: str | None = field(default_factory=places.tracking_uri)
    """MLflow store or server; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if not given."""
    address: str | None = None
    """Address of a running Ray cluster, or "local" to start Ray here; if not given the cluster of
    this machine, if one runs."""
    expect_gpus: int = 0
    """GPUs that JAX must have on all nodes together."""
    timeout: float = 120.0
    """Seconds that a node has to answer, and again to compile and train."""
    quick: bool = False
    """Leave out compiling and training."""
    check: Path | None = None
    """Look at a cluster file only, such as cluster.yaml, and at no machine."""


def main(flags: Flags) -> int:
    """Examines the cluster and prints what it found; returns 1 if there are faults."""
    if flags.check is not None:
        return _check_file(flags.check)
    from rich.text import Text

    from sweeps.cli import make_console
    from tuners.errors import BadInput
    from tuners.login import masked
    from tuners.outputs import check_is_folder, check_tracking_uri
    from tuners.ray_settings import apply_ray_settings
    from tuners.spec import DEFAULT_TRACKING_URI
    from tuners.store import check_address

    tracking_uri = flags.tracking_uri or DEFAULT_TRACKING_URI
    check_tracking_uri(tracking_uri)
    shared = flags.storage or flags.runs_dir or places.default_storage() or places.runs_dir()
    if isinstance(shared, Path):
        check_is_folder(shared)
    else:
        check_address(shared)
    if not 0 < flags.timeout < float("inf"):
        raise BadInput(f"timeout is {flags.timeout:g} s, but must be above 0 and finite")
    if flags.expect_gpus < 0:
        raise BadInput(f"expect_gpus is {flags.expect_gpus}, but must be at least 0")
    apply_ray_settings(flags.address)
    from tuners.cluster.doctor import diagnose  # Ray takes seconds to import
    from tuners.cluster.joining import joined

    with joined(flags.address, "sweeps/doctor.py"):
        found = diagnose(
            str(shared),
            tracking_uri,
            expect_gpus=flags.expect_gpus,
            timeout=flags.timeout,
            trains=not flags.quick,
        )
    console = make_console()
    console.print(_table(found.nodes))
    for fault in found.faults:
        console.print(Text.assemble(("fault", "red"), f"  {masked(fault)}"))
    if not found.faults:
        console.print("All is well.")
    return 1 if found.faults else 0


def _check_file(path: Path) -> int:
    from tuners.cluster.cluster_file import check_cluster_file, unchosen_values
    from tuners.errors import BadInput

    if not path.is_file():
        raise BadInput(f"{path} is no file; cluster.yaml and cluster.onprem.yaml are examples")
    mistakes = check_cluster_file(path) or unchosen_values(path)
    for line in mistakes:
        print(line)
    if not mistakes:
        print(
            f"{path} is well-formed; whether its image boots and its machines are free shows only"
            " when they start."
        )
    return 1 if mistakes else 0


def _table(nodes: "Sequence[NodeFacts]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title="memory and disk: GB free; clock: s ahead of the driver's; trainer: s to train",
        box=box.SIMPLE,
    )
    table.add_column("node")
    for name in ("Python", "Ray", "JAX"):
        table.add_column(name, no_wrap=True)
    table.add_column("device")
    for name in ("memory", "disk", "store", "clock", "trainer"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in nodes:
        if node.error:
            table.add_row(node.node, "?")
        else:
            table.add_row(node.node, *_cells(node))
    return table


def _cells(node: "NodeFacts") -> list[str]:
    device = f"{node.gpus_in_jax} x {node.device}" if node.gpus_in_jax else node.device
    store = "not shared" if node.unseen else "shared"
    trained = "" if node.train_seconds is None else f"{node.train_seconds:.1f}"
    return [
        *(node.versions[name] for name in ("python", "ray", "jax")),
        "none" if node.device_error else device,
        f"{node.memory:.1f}",
        f"{min(node.disks.values()):.1f}",
        "not writable" if node.store_error else store,
        f"{node.clock_offset:+.3f}",
        "fails" if node.train_error else trained,
    ]


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
