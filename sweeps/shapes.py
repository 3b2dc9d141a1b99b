"""What ``sweeps/balance_shapes.py`` does: from flags to a comparison, and its table."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeps.cli import make_console
from sweeps.search import check_address_joinable
from tuners.ahead import refuse_untraceable, start_compiling
from tuners.config import baseline
from tuners.errors import BadInput
from tuners.lock import driving
from tuners.login import masked
from tuners.ray_settings import apply_ray_settings
from tuners.spec import SweepSpec, make_spec, prepare

if TYPE_CHECKING:
    from tuners.shapes import ShapeSummary

_TRAP = (
    "product is a trap: more than 0.21 m from the middle the factor for the position is negative,"
    " so that a pole held upright costs at every step, and ending the episode pays."
)


def compare_shapes(flags: Any, task: str, shapes: Sequence[str]) -> int:
    """Trains the shapes and prints what each led to; returns the exit code."""
    apply_ray_settings(flags.address)
    console = make_console()
    check_address_joinable(flags.address, "sweeps/balance_shapes.py")
    spec = _spec(flags, task)
    prepare(spec, resume=False)
    console.print(
        Text.assemble(
            (spec.name, "bold"),
            f"  {len(shapes)} shapes x {spec.test_seeds} seeds,"
            f" {spec.base.full_length:,} env_steps each",
        )
    )
    compiling = start_compiling(spec.base, [spec.base] if spec.trains_each_alone else [])
    from tuners.shapes import plot_path, run_shapes

    begun = time.monotonic()
    try:
        with driving(spec.folder, is_new=True):
            refuse_untraceable(compiling)
            summaries, ran = run_shapes(
                spec, shapes, console=console, videos=flags.videos, address=flags.address
            )
    except KeyboardInterrupt:
        console.print(f"Interrupted; what was trained is in {spec.folder}.")
        return 130
    _print_table(console, summaries)
    for failure in ran.failures:
        console.print(masked(failure), style="yellow")
    if not ran.segments:
        return 1  # every trial failed, for the reasons above
    times = [row["time"] for row in ran.segments]
    first = min(row["time"] - row["wall_seconds"] for row in ran.segments)
    console.print(
        f"{time.monotonic() - begun:.0f} s in all, {max(times) - first:.0f} s from first to last"
        " training step",
    )
    console.print(f"plot      {plot_path(spec.folder)}")
    if flags.videos:
        console.print(f"videos    {spec.folder / 'media'}/*.mp4")
    return 0


def _spec(flags: Any, task: str) -> SweepSpec:
    if flags.seeds < 1:
        raise BadInput(f"seeds is {flags.seeds}, but must be at least 1")
    name = f"{task}-shapes-{time.strftime('%Y%m%d-%H%M%S')}" if flags.name is None else flags.name
    return make_spec(
        name=name,
        preset=flags.preset,
        task=task,
        reward=baseline(task),
        space={},
        seed=flags.seed,
        seeds_per_trial=flags.seeds,
        validation_seeds=flags.seeds,
        test_seeds=flags.seeds,
        budget=flags.budget,
        scheduler="none",
        tracking_uri=flags.tracking_uri,
        runs_dir=flags.runs_dir,
    )


def _print_table(console: Console, summaries: "Sequence[ShapeSummary]") -> None:
    table = Table(title="At the end of training, mean over seeds")
    table.add_column("shape")
    for title in ("episode length [worst, best seed]", "own shaped return", "agreement of the two"):
        table.add_column(title, justify="right")
    for row in summaries:
        table.add_row(
            row.shape,
            f"{row.episode_length:.0f} [{row.shortest:.0f}, {row.longest:.0f}]",
            "-" if row.shaped_return is None else f"{row.shaped_return:.1f}",
            "-" if row.agreement is None else f"{row.agreement:.2f}",
        )
    console.print()
    console.print(table)
    if any(row.shape == "product" for row in summaries):
        console.print(_TRAP)
