"""Compare sweeps of one task: a table here, and their figures in one HTML file.

Sweeps that are not finished are shown with what they have.  Takes a few seconds.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from sweeps import places


@dataclass(frozen=True)
class Flags:
    """Which sweeps, and where to."""

    sweeps: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME OTHER ...")
    ]
    """Names of the sweeps, two or more (required)."""
    runs_dir: Path = field(default_factory=places.runs_dir)
    """Folder that holds one folder a sweep; $SHAPESWEEP_RUNS_DIR or runs if not given."""
    storage: str | None = field(default_factory=places.default_storage)
    """Folder of sweeps in a store, such as s3://bucket/runs, where there may be newer copies;
    $SHAPESWEEP_STORE/runs if not given and that is such an address."""
    out: Path = Path("compare.html")
    """File to write the figures to."""


def main(flags: Flags) -> int:
    """Prints the table and writes the figures."""
    from rich.table import Table

    from sweeps.cli import make_console, print_table
    from tuners.outputs import check_out_file
    from tuners.report.side_by_side import (
        lines_of,
        load_sweeps,
        remark_on_areas,
        write_comparison,
    )

    check_out_file(flags.out, "--out")
    records = load_sweeps(
        [places.sweep_folder(flags.runs_dir, name, flags.storage) for name in flags.sweeps]
    )

    def make_table(between: str) -> Table:
        table = Table("")
        for record in records:
            table.add_column(record.spec.name, justify="right")
        for cells in lines_of(records):
            texts = (cell if isinstance(cell, str) else between.join(cell) for cell in cells)
            table.add_row(*texts)
        return table

    console = make_console()
    print_table(console, make_table)
    if remark := remark_on_areas(records):
        console.print(remark)
    write_comparison(records, flags.out)
    console.print(f"figures   {flags.out}")
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
