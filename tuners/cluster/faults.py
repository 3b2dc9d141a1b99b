"""What is wrong with a cluster, judged from what its nodes found out; each fault is one line.

A line says which node, what was found, what is wanted, and what to do about it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tuners.cluster.examination import DRIVER, NodeFacts
from tuners.versions import JAX_SETTINGS

# GB.  A full disk ends a sweep; what Ray and a few trials write in a minute is well below this.
MIN_DISK = 1.0
# GB a CPU.  A trial's process takes 0.75 (measured), Ray's own processes want a share of the rest.
MIN_MEMORY = 1.0
MAX_CLOCK_OFFSET = 2.0  # s; reports and MLflow's points are ordered by the nodes' clocks
_INSTALL = "install requirements.lock there, on GPU nodes requirements-cuda12.lock"
_SYNC = "copy the project there as it is here; `ray up` does, with file_mounts"
_NAMED = 3  # nodes in one line


def find_faults(driver: NodeFacts, nodes: Sequence[NodeFacts], expect_gpus: int = 0) -> list[str]:
    """Returns a line for each fault, none if all is well.

    Args:
        driver: whose versions and clock every node must have.
        nodes: all nodes of the cluster.
        expect_gpus: GPUs that JAX must have on all nodes together.
    """
    lines = [f"{driver.node}: {found}" for found in _store_faults(driver)]
    lines += [f"{node.node}: {found}" for node in nodes for found in _faults_of(node, driver)]
    lines += _not_shared([driver, *nodes])
    in_jax = sum(node.gpus_in_jax for node in nodes)
    if in_jax < expect_gpus:
        lines.append(
            f"all nodes: {_gpus(in_jax)} in JAX, wanted {expect_gpus}: start more GPU nodes, or"
            " mend those named above"
        )
    return lines


def _faults_of(node: NodeFacts, driver: NodeFacts) -> Iterator[str]:
    if node.error:
        yield f"could not be examined: {node.error}; {_remedy(node.error)}"
        return
    yield from _skew(node, driver)
    yield from _device_faults(node)
    yield from _shortages(node)
    yield from _store_faults(node)
    yield from _clock_faults(node)
    if node.train_error:
        yield (
            f"the trainer does not run: {node.train_error}; wanted one segment trained: run"
            " `python sweeps/train.py --preset smoke` there, it shows the whole error"
        )


def _remedy(error: str) -> str:
    if "No module named" in error:
        return _SYNC
    if "never ran" in error:  # so it is where the driver has a token that the cluster does not want
        return "set RAY_AUTH_MODE here as it was when Ray was started there"
    return "Ray's logs there say more, in /tmp/ray/session_latest/logs"


def _skew(node: NodeFacts, driver: NodeFacts) -> Iterator[str]:
    remedies = {"python": "start Ray there with that Python", "code": _SYNC}
    remedies |= {
        name: f"give {name.upper()} the same value there and here" for name in JAX_SETTINGS
    }
    for name, wanted in driver.versions.items():
        found = node.versions.get(name, "not there")
        if found != wanted:
            what = "the code's version" if name == "code" else name
            remedy = remedies.get(name, _INSTALL)
            yield f"{what} is {found}, wanted {wanted} as in the driver: {remedy}"


def _device_faults(node: NodeFacts) -> Iterator[str]:
    if node.device_error:
        yield f"JAX has no device: {node.device_error}; wanted a GPU or a CPU: {_INSTALL}"
    elif node.gpus_in_jax < node.gpus:
        says = f"; its plug-in says: {node.plugin_error}" if node.plugin_error else ""
        yield (
            f"{_gpus(node.gpus_in_jax)} in JAX (which has: {node.device}{says}), wanted"
            f" {node.gpus:g} as Ray has: see whether nvidia-smi shows them there, install"
            " requirements-cuda12.lock, and leave JAX_PLATFORMS unset"
        )


def _shortages(node: NodeFacts) -> Iterator[str]:
    for folder, free in node.disks.items():
        if free < MIN_DISK:
            yield (
                f"{free:.1f} GB free on the disk of {folder}, wanted {MIN_DISK:.0f} GB: delete what"
                " is old there, or choose a larger disk"
            )
    wanted = MIN_MEMORY * node.cpus
    if node.memory < wanted:
        yield (
            f"{node.memory:.1f} GB of memory free, wanted {wanted:g} GB, which is"
            f" {MIN_MEMORY:.0f} GB a CPU: end other programs there, or start Ray with --num-cpus"
            f" {max(1, int(node.memory / MIN_MEMORY))}"
        )


def _store_faults(node: NodeFacts) -> Iterator[str]:
    if node.store_error:
        yield (
            f"cannot write to the store: {node.store_error}; wanted a store that every node can"
            " write: mount it writable there, or let that node's role write to the bucket"
        )


def _clock_faults(node: NodeFacts) -> Iterator[str]:
    if abs(node.clock_offset) - node.clock_error > MAX_CLOCK_OFFSET:
        side = "ahead of" if node.clock_offset > 0 else "behind"
        yield (
            f"its clock is {abs(node.clock_offset):.1f} s {side} the driver's, wanted at most"
            f" {MAX_CLOCK_OFFSET:.0f} s: have NTP (chrony) set it"
        )


def _not_shared(nodes: Sequence[NodeFacts]) -> Iterator[str]:
    """Yields a line for each node that must be apart, so that the others see one another's files.

    Where one of two must be and either would do, the driver is not it.
    """
    pairs = {(node.node, other) for node in nodes for other in node.unseen}
    while pairs:
        counts = Counter(name for pair in pairs for name in pair)
        apart = max(counts, key=lambda name: (counts[name], name != DRIVER, name))
        others = sorted({name for pair in pairs if apart in pair for name in pair} - {apart})
        pairs = {pair for pair in pairs if apart not in pair}
        yield (
            f"{apart}: the store is not shared: it and {_names(others)} do not read each other's"
            " files, wanted one --runs-dir for all: mount the same share there,"
            " or give a search --storage s3://bucket/runs"
        )


def _names(nodes: Sequence[str]) -> str:
    more = len(nodes) - _NAMED
    return ", ".join(nodes[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"
