"""Find the reward shape that solves a task soonest and best, and prove it on fresh seeds.

Trial 0 is the hand-tuned baseline.  ASHA stops the hopeless trials; the best are trained again on
other seeds, and the winner is tested against the baseline on seeds nobody has seen.  Everything is
written to runs/<name>/ and followed in MLflow.

On two cores and no GPU the preset `laptop` takes about two minutes and ends at a test score of
about 870 of 1000.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Flags:
    """A reward-shape search."""

    preset: str = "auto"
    """smoke, laptop, notebook, gpu, cluster; auto picks by the cores and GPUs there are."""
    task: str = "swingup"
    """The task to solve."""
    name: str | None = None
    """Name of the sweep; task and time if not given."""
    resume: str | None = None
    """Name of an interrupted sweep to go on with; other flags of the search do not apply."""
    space: Path | None = None
    """YAML file with a search space of your own; see the README."""
    seed: int | None = None
    """Decides every trial's values and every training seed."""
    num_trials: int | None = None
    """Trials of the search, the baseline included."""
    budget: int | None = None
    """Environment steps a trial may train, per seed."""
    seeds_per_trial: int | None = None
    """Seeds trained side by side in each trial, in all phases."""
    scheduler: str | None = None
    """asha, or none to train every trial to the end."""
    searcher: str | None = None
    """random."""
    grace_period: int | None = None
    """Environment steps before a trial may be stopped."""
    num_finalists: int | None = None
    """Configurations trained again in validation, beside the baseline."""
    validation_seeds: int | None = None
    """Seeds of each of them."""
    test_seeds: int | None = None
    """Seeds of winner and baseline in the final test."""
    tracking_uri: str | None = None
    """MLflow store or server; sqlite:///mlflow.db if not given."""
    runs_dir: Path = Path("runs")
    """Folder that holds one folder a sweep."""
    address: str | None = None
    """Address of a running Ray cluster; Ray is started here if not given."""


def main(flags: Flags) -> int:
    """Runs the search and prints what it found."""
    from sweeps.search import run_search
    from tuners.default_spaces import reward_space

    return run_search(flags, reward_space)


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
