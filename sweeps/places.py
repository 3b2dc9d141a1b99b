"""Where results go where no flag says: the environment, as a cluster's head has it, or here."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tuners.login import hide_login, masked

if TYPE_CHECKING:
    from tuners.spec import SweepSpec

RUNS_DIR = Path("runs")


def runs_dir() -> Path:
    """Returns the folder of sweeps: SHAPESWEEP_RUNS_DIR, or ``runs``."""
    return Path(os.environ.get("SHAPESWEEP_RUNS_DIR") or RUNS_DIR)


def tracking_uri() -> str | None:
    """Returns MLflow's store or server, its password hidden: MLFLOW_TRACKING_URI, or None."""
    return hide_login(os.environ.get("MLFLOW_TRACKING_URI", "")) or None


def default_storage() -> str | None:
    """Returns the folder of sweeps in the shared store, if there is a store with an address."""
    store = masked(os.environ.get("SHAPESWEEP_STORE", "")).rstrip("/")
    return f"{store}/runs" if "://" in store else None


def find_sweep(runs_dir: Path, name: str, storage: str | None) -> "SweepSpec":
    """Returns a sweep; its folder is fetched if the store's is further than the one here.

    Args:
        runs_dir: folder of sweeps here.
        name: of the sweep.
        storage: where to look for one that is not here.

    Raises:
        BadInput: there is no such sweep, or the store cannot be read.
    """
    from tuners.layout import SPEC_FILE, sweep_address
    from tuners.spec import load_spec
    from tuners.store import bring, check_address

    folder = _place_of(runs_dir, name)
    if os.path.exists(folder / SPEC_FILE):
        address = load_spec(folder).address
    elif storage is not None:
        check_address(storage)
        address = sweep_address(storage, name)
    else:
        address = None
    if address is not None:
        bring(address, folder)
    return load_spec(folder)


def sweep_folder(runs_dir: Path, name: str, storage: str | None) -> Path:
    """Returns the folder of a sweep to be read; fetched if the store at ``storage`` is further.

    What is here is read even so, with a warning, while its store cannot be.

    Raises:
        BadInput: the name is none, or it is only in the store, which cannot be read.
    """
    from tuners.errors import BadInput
    from tuners.layout import SPEC_FILE, sweep_address
    from tuners.spec import load_spec
    from tuners.store import bring

    folder = _place_of(runs_dir, name)
    if storage is None:
        return folder
    if not (folder / SPEC_FILE).exists():
        find_sweep(runs_dir, name, storage)
    elif (address := load_spec(folder).address) == sweep_address(storage, name):
        try:
            bring(address, folder)
        except BadInput as error:
            print(f"warning: {error}; shown is what is here", file=sys.stderr)
    return folder


def _place_of(runs_dir: Path, name: str) -> Path:
    """Returns where a sweep is, or would be; raises BadInput if it could be nowhere."""
    from tuners.names import check_name
    from tuners.outputs import check_is_folder

    check_is_folder(runs_dir)
    check_name(name)
    return runs_dir / name
