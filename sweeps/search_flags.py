"""The flags that every search script has.  It imports nothing slow: --help is quick."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from sweeps.cli import as_flag, flags_given


@dataclass(frozen=True)
class Flags:
    """What a search is asked for; None leaves a setting as the preset has it."""

    preset: str = "auto"
    """smoke, laptop, notebook, gpu, cluster, gpu-cluster; auto picks by what there is."""
    task: str = "swingup"
    """The task to solve: swingup, balance, dmc_swingup, or one that you added."""
    name: str | None = None
    """Name of the sweep; task and time if not given."""
    resume: str | None = None
    """Name of an interrupted sweep to go on with, as it was begun: beside it only --runs-dir,
    --storage, --address and --cluster."""
    extend: str | None = None
    """Name of a finished sweep to add --num-trials trials to."""
    warm_start: str | None = None
    """Name of a sweep whose best configurations are the first trials of this one; without --seed
    this one's seed is one more than the highest of it and of those that it began with."""
    space: Path | None = None
    """YAML file with a search space of your own, see the README; the task's default space if not
    given."""
    seed: int | None = None
    """Decides every trial's values and every training seed; 0 if not given, with --warm-start as
    said there."""
    num_trials: int | None = None
    """Trials of the search, the baseline included; with --extend those to add.  If not given the
    preset's, or with searcher grid its points and the baseline."""
    budget: int | None = None
    """Environment steps a trial may train, per seed, cut to whole segments; the preset's if not
    given."""
    seeds_per_trial: int | None = None
    """Seeds trained side by side in each trial, in all phases; the preset's if not given."""
    scheduler: str | None = None
    """asha (if not given), median, pbt, or none to train every trial to the end."""
    searcher: str | None = None
    """random, grid, tpe, gp, cmaes; see docs/search.md for what each is good for.  If not given
    random, or tpe in joint_search.py."""
    objective: str | None = None
    """What trials are ranked by: area (if not given), final_score, steps_to_threshold, pareto."""
    spread_penalty: float | None = None
    """Standard deviations over seeds that the objective takes off their mean; 0 if not given."""
    grace_period: int | None = None
    """Environment steps before a trial may be stopped, or with pbt of a generation; the preset's if
    not given."""
    slots: int | None = None
    """Trials in one program on each GPU; 1 gives each a process of its own, 0 as many as pay.
    If not given 1, or 0 with presets gpu and gpu-cluster."""
    precision: str | None = None
    """Of products on a GPU: float32 (if not given), or tensorfloat32, which is faster and rounds to
    ten bits."""
    num_finalists: int | None = None
    """Configurations trained again in validation, beside the baseline; the preset's if not
    given."""
    validation_seeds: int | None = None
    """Seeds of each of them; the preset's if not given."""
    test_seeds: int | None = None
    """Seeds of winner, baseline and the score as reward in the final test; the preset's if not
    given."""
    media: bool | None = None
    """--media False leaves out film strips, videos, plots and the report, which report.py makes
    later.  True if not given."""
    tracking_uri: str | None = None
    """MLflow store or server; $MLFLOW_TRACKING_URI or sqlite:///mlflow.db if not given."""
    runs_dir: Path | None = None
    """Folder that holds one folder a sweep; $SHAPESWEEP_RUNS_DIR or runs if not given."""
    storage: str | None = None
    """Folder in a store that all nodes reach, such as s3://bucket/runs, for checkpoints and a copy
    of the results; $SHAPESWEEP_STORE/runs if not given and that is such an address."""
    address: str | None = None
    """Address of a running Ray cluster, or "local" to start Ray here; if not given the cluster of
    this machine, if one runs."""
    cluster: Path | None = None
    """File of a cluster that `ray up` made: the search runs there, as a job that needs no
    terminal.  Other flags are read on its head, but --space is a file here."""


def as_arguments(flags: Flags) -> list[str]:
    """Returns the command line of all flags that are not as they are by default."""
    pairs = ((as_flag(name), str(getattr(flags, name))) for name in flags_given(flags))
    return list(itertools.chain(*pairs))
