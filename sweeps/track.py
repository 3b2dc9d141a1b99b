"""Write to MLflow what a sweep could not: its server was away, or the machine went down.

What MLflow holds already stays as it is.  Takes seconds.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from sweeps import places
from sweeps.cli import SweepName


@dataclass(frozen=True)
class Flags:
    """Which sweep, and where to."""

    sweep: SweepName
    """Name of the sweep."""
    runs_dir: Path = field(default_factory=places.runs_dir)
    """Folder that holds one folder a sweep; $SHAPESWEEP_RUNS_DIR or runs if not given."""
    storage: str | None = field(default_factory=places.default_storage)
    """Folder of sweeps in a store, such as s3://bucket/runs, where there may be a newer copy of it;
    $SHAPESWEEP_STORE/runs if not given and that is such an address."""
    tracking_uri: str | None = None
    """MLflow store or server; the sweep's own if not given."""


def main(flags: Flags) -> int:
    """Brings MLflow up to date once."""
    from tuners.lock import driving, writing_to_mlflow
    from tuners.login import error_line
    from tuners.outputs import check_tracking_uri
    from tuners.spec import load_spec
    from tuners.tracking import Follower

    spec = load_spec(places.sweep_folder(flags.runs_dir, flags.sweep, flags.storage))
    uri = flags.tracking_uri or spec.tracking_uri
    check_tracking_uri(uri)
    with driving(spec.folder):  # a sweep that runs writes to MLflow itself
        try:
            with writing_to_mlflow(spec.folder):
                Follower(spec.folder, uri).finish()
        except Exception as error:  # MLflow raises all kinds; none loses anything
            reason = error_line(error)
            print(f"error: MLflow at {uri} does not take it: {reason}", file=sys.stderr)
            return 1
    print(f"MLflow at {uri} holds all of {flags.sweep}")
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
