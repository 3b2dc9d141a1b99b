"""Flags as a command line again, for a script that runs elsewhere."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sweeps import cli
from sweeps.search import run_search
from sweeps.search_flags import Flags, as_arguments
from tuners.cluster import submit
from tuners.errors import BadInput

GIVEN = {
    "preset": "smoke",
    "task": "balance",
    "name": "a b",
    "seed": 0,
    "spread_penalty": 0.5,
    "slots": 0,
    "space": Path("my space.yaml"),
    "runs_dir": Path("/elsewhere/runs"),
    "tracking_uri": "http://127.0.0.1:5000",
}


def test_the_defaults_are_an_empty_command_line(monkeypatch):
    assert as_arguments(Flags()) == []
    # What is usual on the laptop is not so on the head.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:7000")
    monkeypatch.setenv("SHAPESWEEP_RUNS_DIR", "/laptop/runs")
    assert as_arguments(Flags()) == []


def test_what_was_given_goes_there_even_if_it_is_usual_here(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    given = as_arguments(Flags(tracking_uri="https://mlflow.example"))
    assert given == ["--tracking-uri", "https://mlflow.example"]


def test_what_was_given_is_read_again_as_it_was(monkeypatch):
    flags = Flags(**GIVEN)
    monkeypatch.setattr(sys, "argv", ["reward_search.py", *as_arguments(flags)])
    assert cli.parse(Flags, None) == flags


def test_each_flag_has_its_place_in_the_command_line():
    for entry in fields(Flags):
        assert as_arguments(Flags(**{entry.name: "7"})) == [
            f"--{entry.name.replace('_', '-')}",
            "7",
        ]


@pytest.fixture
def submitted(monkeypatch):
    """What would have run on the cluster."""
    calls = []
    monkeypatch.setattr(submit, "run_on_cluster", lambda *given: calls.append(given) or 0)
    return calls


def search(**given):
    return run_search(Flags(**given), lambda task: {}, "/somewhere/sweeps/joint_search.py", "tpe")


def test_a_search_is_handed_to_the_cluster_as_it_was_typed(submitted):
    assert search(cluster=Path("cluster.yaml"), preset="smoke", seed=3) == 0
    ((cluster, script, arguments, files),) = submitted
    assert (cluster, script) == (Path("cluster.yaml"), "sweeps/joint_search.py")
    assert arguments == ["--preset", "smoke", "--seed", "3"]
    assert files == {}


def test_a_space_file_goes_with_it(submitted, tmp_path):
    space = tmp_path / "mine.yaml"
    space.write_text("learning_rate: {log_uniform: [1.0e-4, 1.0e-3]}")
    search(cluster=Path("cluster.yaml"), space=space)
    ((_, _, arguments, files),) = submitted
    assert files == {arguments[1]: space}
    assert arguments[0] == "--space"


def test_a_mistaken_space_file_is_refused_here(submitted, tmp_path):
    space = tmp_path / "mine.yaml"
    space.write_text("learning_rate: {log_uniform: [1.0e-3]}")
    with pytest.raises(BadInput, match="learning_rate"):
        search(cluster=Path("cluster.yaml"), space=space)
    assert not submitted


def test_a_cluster_and_an_address_are_one_too_many(submitted):
    with pytest.raises(BadInput, match="not both"):
        search(cluster=Path("cluster.yaml"), address="auto")
    assert not submitted
