"""What Ray reads from the environment, some of it when it is imported."""

import os
import socket
import sys
from pathlib import Path

from tuners.errors import BadInput

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
# Bytes of a folder's path in which Ray's sockets have names of no more than the system's 107.
_LONGEST_FOLDER = 39
_USAGE = "RAY_USAGE_STATS_ENABLED"


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
