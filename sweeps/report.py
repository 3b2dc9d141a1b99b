"""Write the report of a sweep again, also while it runs.

One HTML file with everything in it: the test, what changed, the search, its parameters, warnings,
film strips and videos.  It opens without a network.  Takes a few seconds.
"""

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
    out: Path | None = None
    """File to write; report.html in the sweep's folder if not given."""


def main(flags: Flags) -> int:
    """Writes the report and prints where it is."""
    from tuners.outputs import check_out_file
    from tuners.report.write import write_report

    if flags.out is not None:
        check_out_file(flags.out, "--out")
    path = write_report(places.sweep_folder(flags.runs_dir, flags.sweep, flags.storage), flags.out)
    print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
