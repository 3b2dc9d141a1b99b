"""Train one configuration: a preset's baseline, or an exported best.

Shows return, score, steps/s, losses and time left for each segment; writes runs/NAME/ and is
followed in MLflow like a trial.  The preset `laptop` takes about five seconds on one core and ends
at a score of about 830; `notebook` takes some twenty minutes on one.
"""

from dataclasses import dataclass, field
from pathlib import Path

from sweeps import places


@dataclass(frozen=True)
class Flags:
    """What to train, and for how long."""

    config: Path | None = None
    """An exported config.yaml, in place of --preset, --task and --shape."""
    preset: str = "laptop"
    """smoke, laptop, notebook, gpu, cluster, gpu-cluster: the settings of that preset's trials."""
    task: str = "swingup"
    """swingup, balance or dmc_swingup, without --config."""
    shape: str = "baseline"
    """Named reward shape of the task, without --config: baseline, task_score, ..."""
    name: str | None = None
    """Name of the run; task and time if not given."""
    resume: str | None = None
    """Name of an interrupted run to go on with, as it was begun."""
    seed: int | None = None
    """Decides the training seeds; 0 if not given."""
    seeds_per_trial: int | None = None
    """How many seeds; as the config or the preset has it if not given."""
    budget: int | None = None
    """Environment steps per seed, cut to whole segments; as the config or the preset has it if not
    given."""
    video_every: int = 0
    """Film the policy every so many segments; 0 films the last only."""
    tracking_uri: str | None = field(default_factory=places.tracking_uri)
    """MLflow store or server; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if not given."""
    runs_dir: Path = field(default_factory=places.runs_dir)
    """Folder that holds one folder a run; $SHAPESWEEP_RUNS_DIR or runs if not given."""


def main(flags: Flags) -> int:
    """Trains and prints where everything lies."""
    from sweeps.training import run_training

    return run_training(flags)


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
