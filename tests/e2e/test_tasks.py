"""The other two tasks from the command line to files, in processes of their own."""

import json
import re

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.suite import needs_suite
from tests.tuners.small import plant_mistake

pytestmark = pytest.mark.slow
SHAPES = ["survival", "mean", "product", "geometric", "kinetic"]


def test_five_shapes_side_by_side(make_scripts):
    scripts = make_scripts("shapes")
    small = ("--preset", "smoke", "--seeds", "2", "--budget", "8192", "--videos")
    finished = scripts.run("balance_shapes", *small, "--name", "five")
    assert finished.code == 0, finished
    folder = scripts.folder / "runs" / "five"
    table = [re.search(rf"│ {shape} +│ +(\d+) \[", finished.stdout) for shape in SHAPES]
    assert all(table), finished.stdout
    summaries = json.loads((folder / "shapes.json").read_text())
    assert [summary["shape"] for summary in summaries] == SHAPES
    for shown, summary in zip(table, summaries, strict=True):
        assert shown[1] == f"{summary['episode_length']:.0f}"
        assert 8 <= summary["shortest"] <= summary["longest"] <= 500
    # The score is the mean episode length, so survival's return is it too.
    assert summaries[0]["agreement"] == pytest.approx(1.0, abs=1e-3)
    with Image.open(folder / "plots" / "shapes.png") as plot:
        assert plot.size[0] > 800
    assert len(list((folder / "media").glob("*.mp4"))) == len(SHAPES)
    trials = pq.read_table(folder / "trials.parquet").to_pylist()
    assert sorted(trial["row"] for trial in trials) == sorted(SHAPES)
    assert {trial["status"] for trial in trials} == {"finished"}


@pytest.mark.parametrize("script", ["reward_search", "balance_shapes", "train"])
def test_a_term_with_a_mistake_is_refused_before_anything_is_there(make_scripts, script):
    scripts = make_scripts("mistaken")
    plant_mistake(scripts.folder)
    begun = scripts.start(script, "--preset", "smoke", PYTHONPATH=str(scripts.folder))
    finished = begun.wait()
    assert finished.code == 2, finished
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.endswith("has no attribute 'thetta'\n")
    assert finished.stderr.count("\n") == 1
    assert list((scripts.folder / "runs").iterdir()) == []
    assert not (scripts.folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("task", "simulator", "highest"),
    [
        ("balance", "gymnasium", 500.0),
        pytest.param("dmc_swingup", "dm_control", 1000.0, marks=needs_suite),
    ],
)
def test_a_search_ends_in_a_simulator_of_others(make_scripts, task, simulator, highest):
    scripts = make_scripts(task)
    search = ("--preset", "smoke", "--task", task, "--budget", "4096", "--grace-period", "2048")
    finished = scripts.run("reward_search", *search, "--num-trials", "2", "--name", "small")
    assert finished.code == 0, finished
    finished = scripts.run("export_best", "small", "--out", "best")
    assert finished.code == 0, finished
    finished = scripts.run("evaluate", "best", "--in", simulator, "--episodes", "3")
    assert finished.code == 0, finished
    assert finished.stderr == ""
    found = re.search(
        rf"3 episodes in {simulator}: mean (.*), lowest (.*), highest (.*)", finished.stdout
    )
    assert found, finished.stdout
    mean, low, high = map(float, found.groups())
    assert 0 <= low <= mean <= high <= highest
    assert task in (scripts.folder / "best" / "README.md").read_text()
    finished = scripts.run("evaluate", "best", "--episodes", "3")
    assert "score" in finished.stdout
