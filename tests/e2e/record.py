"""What a sweep wrote down, for comparing one sweep with another."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tuners.results import read_segments, read_trials

# How long things took, and where they ran.
_NOT_OF_THE_CURVE = (
    *("time", "wall_seconds", "cpu_seconds", "compile_seconds", "steps_per_second"),
    *("worker", "programs", "live_slots"),
)
# Whether ASHA let it go on depends on who came first.
_DECIDED = ("done", "stop_reason")

Curves = dict[tuple[str, int], dict[str, Any]]


def reported(folder: Path) -> list[dict[str, Any]]:
    """The segments so far; none before there is a table."""
    return read_segments(folder) if (folder / "trials.parquet").exists() else []


def segments_once(folder: Path) -> Curves:
    """Segments by trial and env_steps, each there once."""
    rows = read_segments(folder)
    keys = [(row["trial"], row["env_steps"]) for row in rows]
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    assert not doubled
    return dict(zip(keys, rows, strict=True))


def trials_once(folder: Path) -> dict[str, dict[str, Any]]:
    """Trials by name, each there once."""
    rows = read_trials(folder)
    counts = Counter(row["trial"] for row in rows)
    assert set(counts.values()) <= {1}, counts
    return {row["trial"]: row for row in rows}


def curves(folder: Path, *, decisions: bool = True) -> Curves:
    """Everything in the segments that training decides, to the last bit (``repr`` keeps NaN)."""
    left_out = _NOT_OF_THE_CURVE if decisions else _NOT_OF_THE_CURVE + _DECIDED
    return {
        key: {name: repr(value) for name, value in row.items() if name not in left_out}
        for key, row in segments_once(folder).items()
    }


def assert_whole(folder: Path) -> None:
    """Every trial ended, and its segments reach without a gap from the first to its end."""
    reached: dict[str, list[int]] = {}
    for _, row in sorted(segments_once(folder).items()):
        reached.setdefault(row["trial"], []).append(row["segment"])
    trials = trials_once(folder)
    for name, trial in trials.items():
        assert trial["status"] == "finished", trial
        last = segments_once(folder)[name, trial["env_steps"]]
        begin = 1 + (reached[trial["parent"]][-1] if trial["parent"] is not None else 0)
        assert reached[name] == list(range(begin, last["segment"] + 1)), name
        assert (last["objective"], last["done"]) == (trial["objective"], True)
        assert last["stop_reason"] == trial["stop_reason"]


def mlflow_client(uri: str) -> MlflowClient:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, when MLflow's tables are declared
        return MlflowClient(uri)


def mlflow_runs(uri: str, sweep: str) -> list[Any]:
    client = mlflow_client(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.sweep = '{sweep}'", max_results=1000))


def assert_one_run_a_trial(uri: str, folder: Path) -> None:
    """MLflow has a run for each trial and one for the sweep, all ended."""
    runs = mlflow_runs(uri, folder.name)
    counts = Counter(run.data.tags["trial"] for run in runs)
    assert counts == dict.fromkeys([*trials_once(folder), "sweep"], 1)
    assert all(run.info.status == "FINISHED" for run in runs)
