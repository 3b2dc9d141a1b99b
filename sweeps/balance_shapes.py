"""Train the five reward shapes of the balancing task and show what each really teaches.

Prints a table of episode length, the shape's own return and the agreement of the two, and draws a
plot.  Takes about half a minute on two cores.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sweeps import places

SHAPES = ("survival", "mean", "product", "geometric", "kinetic")


@dataclass(frozen=True)
class Flags:
    """How long, and on how many seeds."""

    seeds: int = 3
    """Seeds of each shape."""
    budget: int = 500_000
    """Environment steps a seed."""
    preset: str = "notebook"
    """notebook for the notebook's own PPO settings, laptop for this project's, smoke for a try."""
    videos: bool = False
    """Draw a video of each shape."""
    name: str | None = None
    """Name of the run; task and time if not given."""
    seed: int = 0
    """Decides the training seeds."""
    tracking_uri: str | None = field(default_factory=places.tracking_uri)
    """MLflow store or server; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if not given."""
    runs_dir: Path = field(default_factory=places.runs_dir)
    """Folder that holds one folder a run; $SHAPESWEEP_RUNS_DIR or runs if not given."""
    address: str | None = None
    """Address of a running Ray cluster, or "local" to start Ray here; if not given the cluster of
    this machine, if one runs.  A cluster's nodes must share --runs-dir: on AWS give "local"."""


def main(flags: Flags) -> int:
    """Trains, prints and draws."""
    from sweeps.shapes import compare_shapes

    return compare_shapes(flags, "balance", SHAPES)


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
