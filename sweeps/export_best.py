"""Write the best of a finished sweep as files, and register its policy as an MLflow model.

The folder holds the config, the policy (safetensors, and NumPy code that runs it), the test's
statistics, the video and a README.  Takes a few seconds.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from sweeps import places
from sweeps.cli import SweepName
from sweeps.commands import program_here
from sweeps.places import find_sweep


@dataclass(frozen=True)
class Flags:
    """Which sweep, and where to."""

    sweep: SweepName
    """Name of the sweep."""
    out: Path = Path("best")
    """Folder to write; it must not exist."""
    runs_dir: Path = field(default_factory=places.runs_dir)
    """Folder that holds one folder a sweep; $SHAPESWEEP_RUNS_DIR or runs if not given."""
    storage: str | None = field(default_factory=places.default_storage)
    """Folder of sweeps in a store, such as s3://bucket/runs, where there may be a newer copy of it;
    $SHAPESWEEP_STORE/runs if not given and that is such an address."""
    tracking_uri: str | None = None
    """MLflow store or server; the sweep's own if not given."""
    register: tyro.conf.FlagConversionOff[bool] = True
    """--register False leaves out registering the policy as an MLflow model."""


def main(flags: Flags) -> int:
    """Exports, then registers; a server that does not answer does not undo the export."""
    from rlcore.tasks import TASKS
    from tuners.export import check_out, export, load_best, register
    from tuners.login import error_line
    from tuners.outputs import check_tracking_uri
    from tuners.tracking_check import tracking_fault

    check_out(flags.out)
    spec = find_sweep(flags.runs_dir, flags.sweep, flags.storage)
    uri = flags.tracking_uri or spec.tracking_uri
    check_tracking_uri(uri)
    best = load_best(spec.folder)
    export(best, flags.out)
    print(f"{flags.out}: {', '.join(sorted(path.name for path in flags.out.iterdir()))}")
    if not flags.register:
        return 0
    if fault := tracking_fault(uri):  # else MLflow would try for minutes
        reason = fault.removeprefix("driver: ")
        print(f"warning: the policy was not registered in MLflow: {reason}", file=sys.stderr)
        return 1
    try:
        model = register(best, flags.out, uri)
    except Exception as error:  # MLflow raises all kinds, and the files are written already
        reason = error_line(error)
        print(f"warning: the policy was not registered in MLflow: {reason}", file=sys.stderr)
        return 1
    print(f"registered as {model}; to run it on observations:")
    observation = [0] * TASKS[best.config.task].observation_size
    print(f"  echo '{{\"inputs\": {[observation]}}}' > observations.json")
    print(
        f"  MLFLOW_TRACKING_URI={shlex.quote(uri)} {program_here('mlflow')} models predict"
        f" -m {model} -i observations.json --env-manager local"
    )
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
