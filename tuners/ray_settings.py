"""What Ray reads from the environment, some of it when it is imported."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuners.errors import BadInput
from tuners.login import error_line

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own tables say it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # our own lets running segments end
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # a sweep resumes from its own tables
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",  # or it keeps the report of each checkpoint
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Of trials.  Ray's 15 is so low that what uses idle time only would still take a tenth.
    "RAY_worker_niceness": "5",
    # Processes that start at once.  Trials in packs need hardly any of a core, but start by the
    # dozen; Ray would let as many start as there are cores, and warn of each one more.
    "RAY_worker_maximum_startup_concurrency": "64",
}
LOCAL = "local"  # an address: Ray is started here, for one sweep
# Ray on one machine, as on Windows and macOS: it listens on the loopback interface alone.
ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Of products on a GPU, and JAX's names for them.  Of its own "tensorfloat32" XLA makes float32
# wherever a kernel of Triton's is faster than one of cuBLAS.
PRECISIONS = {"float32": "float32", "tensorfloat32": "default"}
# Bytes of a folder's path in which Ray's sockets have names of no more than the system's 107.
_LONGEST_FOLDER = 39
_USAGE = "RAY_USAGE_STATS_ENABLED"


def gpu_environment(precision: str) -> dict[str, str]:
    """Returns what a process that trains on a GPU needs in its environment before it imports JAX.

    Args:
        precision: of matrix products; name in ``PRECISIONS``.  JAX's own default on NVIDIA's GPUs
            is tensorfloat32, whose factors have ten bits.
    """
    return {
        # Named, a GPU that fails to start is an error; of one that is not seen JAX says nothing.
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS") or "cuda,cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": PRECISIONS[precision],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # other processes train on the same GPU
    }


@contextmanager
def hearing_jax() -> Iterator[list[str]]:
    """Yields a list of why JAX's plug-ins for devices did not start: it only logs that."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                heard.append(error_line(record.exc_info[1]))

    logger, ear = logging.getLogger("jax._src.xla_bridge"), Ear()
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


class UnusableGPU(RuntimeError):
    """A process was to train on a GPU that JAX cannot use."""


def require_gpu() -> None:
    """Loads JAX, and lets no process train on a CPU that was to train on a GPU.

    Where the driver shows no device, JAX leaves out "cuda", also if JAX_PLATFORMS names it, and
    takes the CPU without a word.

    Raises:
        UnusableGPU: in a line, where; not if JAX_PLATFORMS is "cpu": who says so wants the CPU.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return
    import jax

    with hearing_jax() as heard:
        try:
            device = jax.devices()[0]
        except RuntimeError as error:
            why = error_line(error)
        else:
            if device.platform == "gpu":
                return
            why = f"it would train on the {device.platform}"
    raise UnusableGPU("; ".join([f"JAX has no GPU on {socket.gethostname()}: {why}", *heard]))


def joins_cluster(address: str | None) -> bool:
    """Returns whether ``ray.init(address)`` joins a cluster: a named one, or that of this machine.

    The latter is one that ``ray start`` or ``ray up`` began; address "local" leaves it alone.
    """
    given = address or os.environ.get("RAY_ADDRESS")
    return given != LOCAL and bool(given or _runs_here())


def keep_keys_in_the_environment() -> None:
    """Keeps Tune from handing keys of AWS to its workers on their command line.

    There, and in Ray's logs, everyone on the machine could read them.  Workers of a Ray that was
    started here have them by inheritance.
    """
    # Private, and the only way to ask for it.
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    secret = {name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    ENV_VARS_TO_PROPAGATE.difference_update(secret)


def _runs_here() -> bool:
    """Returns whether the cluster that Ray noted on this machine last still answers."""
    noted = Path(_temporary_folder(), "ray", "ray_current_cluster")
    try:
        host, _, port = noted.read_text().strip().rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except (OSError, ValueError):
        return False


def _temporary_folder() -> str:
    """Returns the folder in which Ray has its own, by its own rule."""
    names = ["RAY_TMPDIR"] if sys.platform == "darwin" else ["RAY_TMPDIR", "TMPDIR"]
    return next((os.environ[name] for name in names if name in os.environ), "/tmp")


def apply_ray_settings(address: str | None) -> None:
    """Sets the environment for Ray; call it before Ray is imported.

    Args:
        address: that ``ray.init`` will be called with.

    Raises:
        BadInput: a variable has a value that Ray would not take.
    """
    os.environ.update(SETTINGS)
    folder = _temporary_folder()  # a batch system's may be too long
    too_long = len(os.fsencode(folder)) > _LONGEST_FOLDER and "RAY_TMPDIR" not in os.environ
    if not folder or too_long:
        os.environ["RAY_TMPDIR"] = "/tmp"
    if programs := os.environ.get("SHAPESWEEP_CACHE"):
        os.environ["SHAPESWEEP_CACHE"] = os.path.abspath(programs)  # trials work in folders of Tune
    if not joins_cluster(address):
        os.environ.update(ONE_MACHINE)
        # Ray would tell its makers how it is used; those who started a cluster decide for it.
        if os.environ.setdefault(_USAGE, "0") not in ("0", "1"):
            raise BadInput(f"{_USAGE} is '{os.environ[_USAGE]}'; allowed: 0, 1")
