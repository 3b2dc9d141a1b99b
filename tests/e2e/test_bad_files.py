"""A mistaken file of a user, or a damaged one of a sweep, ends with one plain line and code 2."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.refusals import (
    PARAMETER,
    SAVED,
    SEGMENTS,
    assert_refused,
    comparison,
    everything_in,
    run_here,
)
from tests.tuners.small import CONFIG
from tuners.layout import STATE_FILE
from tuners.results import TRIALS_SCHEMA
from tuners.sealed_table import write_table
from tuners.spec_file import read_spec_file, write_entries

# A space file with one entry, and what its one line must hold.
SPACES: dict[str, tuple[Mapping[str, Any] | list[Any] | str, str]] = {
    "unknown term": ({"reward.cosine.weight": 1.0}, "reward.cos.weight"),
    "unknown parameter of a term": ({"reward.cos.sharpness": 1.0}, "reward.cos.weight"),
    "unknown parameter": ({"learning_rte": 1e-3}, "learning_rate"),
    "unknown constant": ({"task.pole_colour": 1.0}, "task.pole_mass"),
    "the score itself": ({"reward.task_score.weight": {"uniform": [0, 1]}}, "score itself"),
    "lower above upper": ({PARAMETER: {"uniform": [1.0, 0.5]}}, "below the upper"),
    "lower equal to upper": ({PARAMETER: {"uniform": [1.0, 1.0]}}, "below the upper"),
    "log range from 0": ({"learning_rate": {"log_uniform": [0, 1e-3]}}, "above 0"),
    "log range below 0": ({"learning_rate": {"log_uniform": [-1, 1e-3]}}, "above 0"),
    "one bound": ({PARAMETER: {"uniform": [1.0]}}, "[low, high]"),
    "three bounds": ({PARAMETER: {"uniform": [1, 2, 3]}}, "[low, high]"),
    "bounds that are words": ({PARAMETER: {"uniform": ["a", "b"]}}, "[low, high]"),
    "a bound that is no number": ({PARAMETER: {"uniform": [0, float("nan")]}}, "finite"),
    "an infinite bound": ({PARAMETER: {"uniform": [0, float("inf")]}}, "finite"),
    "unknown domain": (
        {PARAMETER: {"normal": [0, 1]}},
        "uniform, log_uniform, one_minus_log_uniform, choice",
    ),
    "two domains": ({PARAMETER: {"uniform": [0, 1], "choice": [1]}}, PARAMETER),
    "no choice": ({PARAMETER: {"choice": []}}, "at least one"),
    "a choice that is a number": ({PARAMETER: {"choice": 3}}, "at least one"),
    "a choice that is nothing": ({PARAMETER: {"choice": [None]}}, PARAMETER),
    "a choice that is a mapping": ({PARAMETER: {"choice": [{"a": 1}]}}, PARAMETER),
    "a list": ({PARAMETER: [0, 1]}, PARAMETER),
    "nothing": ({PARAMETER: None}, PARAMETER),
    "a list of names": ([PARAMETER], "map"),
    "a word": ("reward", "map"),
    "a switch that is a number": ({"reward.peak.on": {"choice": [0, 1]}}, "true, false"),
    "a weight that is a word": ({PARAMETER: "high"}, "number"),
    "unknown combination": ({"reward.combine": {"choice": ["sum", "max"]}}, "sum, mean, product"),
    "minibatches that do not divide": ({"num_minibatches": {"choice": [2, 5]}}, "the nearest"),
    "a range of minibatches": ({"num_minibatches": {"uniform": [2, 4]}}, "choice"),
    "half an environment": ({"num_envs": {"choice": [16.5]}}, "whole number"),
    "unknown activation": ({"activation": {"choice": ["sine"]}}, "tanh, relu, swish"),
    "widths that are a word": ({"hidden_sizes": {"choice": ["wide"]}}, "widths"),
    "seeds": ({"seeds_per_trial": {"choice": [1, 2]}}, "cannot be searched"),
    "a discount above 1": ({"gamma": {"uniform": [0.9, 1.1]}}, "at most 1"),
    "a learning rate of 0": ({"learning_rate": 0.0}, "above 0"),
    "a pole without mass": ({"task.pole_mass": 0.0}, "above 0"),
    "a product of weights above 1": (
        {"reward.combine": "product", PARAMETER: {"uniform": [0, 2]}},
        "within [0, 1]",
    ),
    "a longer segment than the budget": ({"updates_per_segment": {"choice": [2, 1000]}}, "budget"),
    "a segment that misses the grace period": (
        {"updates_per_segment": {"choice": [2, 3]}},
        "grace_period",
    ),
}

# A config file: what is changed in a good one, and what the one line must hold.
CONFIGS: dict[str, tuple[Mapping[str, Any], str]] = {
    "unknown part": ({"rewards": {}}, "rewards"),
    "unknown task": ({"task": "no-such-task"}, "swingup"),
    "a budget that is a word": ({"budget": "long"}, "budget"),
    "a budget below a segment": ({"budget": 3}, "one segment"),
    "unknown hyperparameter": ({"hyperparameters": {"momentum": 0.9}}, "momentum"),
    "a learning rate that is a word": ({"hyperparameters": {"learning_rate": "low"}}, "low"),
    "unknown term": ({"reward": {"cosine.weight": 1.0}}, "cosine"),
    "a reward that is a list": ({"reward": [1]}, "reward"),
    "unknown setting": ({"ppo": {"num_env": 4}}, "num_envs"),
    "minibatches that do not divide": ({"ppo": {"num_minibatches": 7}}, "the nearest"),
    "unknown constant": ({"constants": {"pole_colour": 1}}, "pole_mass"),
}


def put(name: str, content: str | bytes) -> Callable[[], None]:
    """Writes a file of the finished sweep."""
    data = content.encode() if isinstance(content, str) else content
    return lambda: Path("runs/done", name).write_bytes(data) and None


def spec_with(**changes: Any) -> Callable[[], None]:
    """Changes entries of the finished sweep's description."""

    def change() -> None:
        folder = Path("runs/done")
        entries = read_spec_file(folder)
        write_entries(folder, entries | {"spec": entries["spec"] | changes})

    return change


def trial_with(**changes: Any) -> Callable[[], None]:
    """Changes columns of a validated trial in the table of trials."""

    def change() -> None:
        path = Path("runs/done/trials.parquet")
        rows = pq.read_table(path).to_pylist()
        rows[-1] |= changes
        write_table(path, pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA))

    return change


def without_column(name: str) -> Callable[[], None]:
    """Leaves a column out of the table of trials."""

    def change() -> None:
        path = Path("runs/done/trials.parquet")
        write_table(path, pq.read_table(path).drop_columns([name]))

    return change


EXPORT, REPORT = "export_best done --out new", "report done"
# Of a sweep's files: what happened to one, what is typed then, and what its one line must hold.
FILES: dict[str, tuple[Callable[[], None], str, str]] = {
    "no comparison": (put("comparison.json", ""), EXPORT, "comparison.json is damaged"),
    "half a comparison": (put("comparison.json", comparison()[:200]), EXPORT, "is damaged"),
    "a list": (put("comparison.json", "[1]"), REPORT, "comparison.json is damaged"),
    "nested JSON": (put("comparison.json", "[" * 100_000), REPORT, "comparison.json is damaged"),
    "no table": (put("comparison.json", comparison(table=None)), REPORT, "damaged at table"),
    "a winner of nowhere": (put("comparison.json", comparison(winner="../x")), REPORT, "damaged"),
    "an unknown winner": (put("comparison.json", comparison(winner="trial-9")), REPORT, "trial-9"),
    "an unknown best": (put("comparison.json", comparison(best_trial="a")), EXPORT, "lacks a"),
    "a config of no task": (put("comparison.json", comparison(config={"task": 1})), EXPORT, "task"),
    "no trials": (put("trials.parquet", b""), REPORT, "trials.parquet is damaged"),
    "a text of trials": (put("trials.parquet", "trial, row"), EXPORT, "trials.parquet is damaged"),
    "no column of configs": (without_column("config"), REPORT, "no column config"),
    "no column of trials": (without_column("trial"), EXPORT, "no column trial"),
    "a trial elsewhere": (trial_with(trial="../../x"), REPORT, "../../x"),
    "a parent elsewhere": (trial_with(parent="/etc"), REPORT, "/etc"),
    "a checkpoint elsewhere": (trial_with(checkpoint="tune/../../x"), EXPORT, "tune/../../x"),
    "an absolute checkpoint": (trial_with(checkpoint="/etc"), EXPORT, "/etc"),
    "no trial's name": (trial_with(trial=None), REPORT, "trials.parquet is damaged"),
    "no checkpoint": (trial_with(checkpoint=None), EXPORT, "lacks validation-trial-001-0"),
    "a config that is no JSON": (trial_with(config="{"), REPORT, "config in the trials table"),
    "a checkpoint that is none": (put(f"{SAVED}/{STATE_FILE}", "x" * 99), EXPORT, "checkpoint"),
    "a segment that is none": (put(SEGMENTS, b"PAR1"), REPORT, "is damaged"),
    "a spec with a name": (spec_with(num_trials="many"), REPORT, "num_trials is 'many'"),
    "half a trial": (spec_with(num_trials=1.5), REPORT, "num_trials is 1.5"),
    "a spec of no task": (spec_with(base={"task": "x"}), REPORT, "task is 'x'"),
    "a store of nobody": (spec_with(storage="ftp://host"), REPORT, "s3://, file://"),
    "a list of URIs": (spec_with(tracking_uri=["a"]), "track done", "tracking_uri"),
    "an entry of nobody": (spec_with(colour="red"), REPORT, "sweep.yaml is damaged"),
    "a password": (
        spec_with(tracking_uri="http://me:planted@host"),
        "track done",
        "MLFLOW_TRACKING_URI",
    ),
    "a password that is not kept": (
        spec_with(tracking_uri="postgresql://me:***@host/mlflow"),
        "reward_search --resume done",
        "is not kept with the sweep: set MLFLOW_TRACKING_URI",
    ),
    "a server's password that is not kept": (
        spec_with(tracking_uri="http://me:***@host"),
        "track done",
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_wrong_space_file_is_refused(name, workplace, monkeypatch, capsys):
    entries, fragment = SPACES[name]
    (workplace / "wrong.yaml").write_text(yaml.safe_dump(entries))
    before = everything_in(workplace)
    assert_refused(
        *run_here("reward_search --preset smoke --space wrong.yaml", monkeypatch, capsys), fragment
    )
    assert everything_in(workplace) == before


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_config_file_is_refused(name, workplace, monkeypatch, capsys):
    changes, fragment = CONFIGS[name]
    (workplace / "wrong.yaml").write_text(yaml.safe_dump(CONFIG.to_dict() | changes))
    before = everything_in(workplace)
    assert_refused(*run_here("train --config wrong.yaml", monkeypatch, capsys), fragment)
    assert everything_in(workplace) == before


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_sweep_is_refused(name, workplace, monkeypatch, capsys):
    change, command, fragment = FILES[name]
    change()
    before = everything_in(workplace)
    assert_refused(*run_here(command, monkeypatch, capsys), fragment)
    assert everything_in(workplace) == before
