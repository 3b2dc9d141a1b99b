"""A sweep from the command line to its files, its MLflow runs and its exported policy."""

import json
import os
import re
import socket
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from rlcore.policy import Policy
from tests.e2e.conftest import Sweep
from tests.e2e.processes import Finished, listening_beyond_loopback
from tests.e2e.record import (
    assert_whole,
    mlflow_client,
    mlflow_runs,
    segments_once,
    trials_once,
)
from tuners.tracking import METRICS, flat_config

pytestmark = pytest.mark.slow

PNG, MP4 = b"\x89PNG\r\n\x1a\n", b"ftyp"
ROWS = ("baseline", "task_score")
COLUMNS = {"final_score", "area", "steps_to_threshold"}


def test_it_ends_well_and_says_nothing_on_stderr(smoke: Sweep):
    assert smoke.finished.code == 0, smoke.finished
    assert smoke.finished.stderr == ""


def test_every_trial_ended_and_is_written_down_whole(smoke: Sweep):
    assert_whole(smoke.folder)
    assert not list(smoke.folder.rglob("*.tmp"))


def test_all_three_phases_were_run_on_disjoint_seeds(smoke: Sweep):
    trials = trials_once(smoke.folder).values()
    winner = json.loads((smoke.folder / "comparison.json").read_text())["winner"]
    by_phase = {
        phase: {trial["row"] for trial in trials if trial["phase"] == phase}
        for phase in ("search", "validation", "test")
    }
    assert by_phase["search"] == {"baseline", "trial-001", "trial-002", "trial-003"}
    assert len(by_phase["validation"]) == 2
    assert "baseline" in by_phase["validation"]
    assert by_phase["test"] == {winner, *ROWS}
    seeds = {
        phase: {seed for trial in trials if trial["phase"] == phase for seed in trial["seeds"]}
        for phase in by_phase
    }
    assert [len(group) for group in seeds.values()] == [2, 2, 2]
    assert len(set().union(*seeds.values())) == 6


def test_the_final_table_and_what_to_run_next_are_printed(smoke: Sweep):
    printed = smoke.finished.stdout
    for words in ("Test on 2 fresh seeds", "baseline", "the score as reward"):
        assert words in printed
    assert "P(beats" not in printed, "two seeds tell nothing"
    assert re.search(r"the cores spent \d+% of the time", printed)
    for command in (
        "report    runs/smoke/report.html",
        "/mlflow' ui",
        "export_best.py smoke",
    ):
        assert command in printed
    assert not re.search(r"warning|error|failed|Traceback", printed, re.IGNORECASE)


def test_the_comparison_holds_every_row_and_column(smoke: Sweep):
    comparison = json.loads((smoke.folder / "comparison.json").read_text())
    assert set(comparison["table"]) == {comparison["winner"], *ROWS}
    for cells in comparison["table"].values():
        assert set(cells) == COLUMNS
        assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in cells.values())
    assert comparison["improvement"] == {}, "two seeds tell nothing"
    assert comparison["best_trial"] in trials_once(smoke.folder)


def test_every_trial_has_a_film_strip_and_the_chosen_ones_a_video(smoke: Sweep):
    media = smoke.folder / "media"
    strips = {path.stem for path in media.glob("*.png")}
    assert strips == set(trials_once(smoke.folder))
    assert all((media / f"{name}.png").read_bytes().startswith(PNG) for name in strips)
    videos = {path.stem for path in media.glob("*.mp4")}
    validated = {n for n, t in trials_once(smoke.folder).items() if t["phase"] == "validation"}
    assert videos == validated
    assert all(MP4 in (media / f"{name}.mp4").read_bytes()[:16] for name in videos)
    plots = list((smoke.folder / "plots").glob("*.png"))
    assert len(plots) >= 8
    assert all(path.read_bytes().startswith(PNG) for path in plots)


def test_the_report_can_be_made_again_anywhere(smoke: Sweep):
    printed = smoke.scripts.succeed("report", "smoke", "--out", "elsewhere/page.html")
    assert re.fullmatch(r"elsewhere/page.html  \d+\.\d MiB\n", printed)
    page = (smoke.scripts.folder / "elsewhere" / "page.html").read_text()
    assert page.count("<section ") == (smoke.folder / "report.html").read_text().count("<section ")


def test_each_worker_compiled_the_training_program_once(smoke: Sweep):
    rows = segments_once(smoke.folder).values()
    workers = Counter(row["worker"] for row in rows)
    compiled = Counter(row["worker"] for row in rows if row["compile_seconds"] > 0)
    assert {row["programs"] for row in rows} == {1}
    assert compiled == dict.fromkeys(workers, 1)


def test_other_tools_read_the_segments_as_one_table(smoke: Sweep):
    table = pq.read_table(smoke.folder / "segments.parquet")
    assert table.num_rows == len(segments_once(smoke.folder))


def test_nothing_listens_beyond_loopback(smoke: Sweep):
    assert smoke.listening == set()


def test_what_listens_beyond_loopback_would_be_noticed():
    with socket.create_server(("127.0.0.1", 0)):
        assert listening_beyond_loopback([os.getpid()]) == set()
    with socket.create_server(("0.0.0.0", 0)):
        assert len(listening_beyond_loopback([os.getpid()])) == 1


def test_mlflow_holds_one_run_a_trial_and_one_of_the_sweep(smoke: Sweep):
    runs = {run.data.tags["trial"]: run for run in mlflow_runs(smoke.tracking_uri, smoke.name)}
    trials = trials_once(smoke.folder)
    assert len(mlflow_runs(smoke.tracking_uri, smoke.name)) == len(trials) + 1
    assert set(runs) == {*trials, "sweep"}
    kinds = Counter(run.data.tags["kind"] for run in runs.values())
    assert kinds == {"trial": 4, "validation": 2, "test": len(trials) - 6, "sweep": 1}
    for name, trial in trials.items():
        run = runs[name]
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time
        for tag, value in {
            "sweep": "smoke",
            "status": "finished",
            "stop_reason": trial["stop_reason"],
            "seeds": ",".join(map(str, trial["seeds"])),
            "rung": str(trial["env_steps"]),
            "row": trial["row"],
        }.items():
            assert run.data.tags[tag] == value
        for tag in ("git_revision", "versions", "precision", "device"):
            assert run.data.tags[tag]
        config = flat_config(json.loads(trial["config"]))
        assert run.data.params == {key: str(value) for key, value in config.items()}
        assert set(run.data.metrics) <= set(METRICS)
        assert len(run.data.metrics) <= 25


def test_mlflow_holds_every_point_of_a_curve_once(smoke: Sweep):
    client = mlflow_client(smoke.tracking_uri)
    (run,) = [
        r
        for r in mlflow_runs(smoke.tracking_uri, smoke.name)
        if r.data.tags["trial"] == "trial-000"
    ]
    history = client.get_metric_history(run.info.run_id, "objective")
    rows = [r for (name, _), r in segments_once(smoke.folder).items() if name == "trial-000"]
    points = [(point.step, point.value) for point in history]
    assert sorted(points) == sorted((row["env_steps"], row["objective"]) for row in rows)


def artifacts(client: MlflowClient, run_id: str, path: str = "") -> set[str]:
    found: set[str] = set()
    for entry in client.list_artifacts(run_id, path):
        found |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def test_mlflow_holds_the_files(smoke: Sweep):
    client = mlflow_client(smoke.tracking_uri)
    for run in mlflow_runs(smoke.tracking_uri, smoke.name):
        name = run.data.tags["trial"]
        found = artifacts(client, run.info.run_id)
        if name == "sweep":
            assert {"sweep.yaml", "comparison.json", "trials.parquet", "report.html"} <= found
            assert {"plots/test_curves.png", "plots/search.png"} <= found
            continue
        assert {"config.yaml", "checkpoint/state.safetensors", f"film_strip/{name}.png"} <= found
        assert (f"video/{name}.mp4" in found) == (run.data.tags["kind"] == "validation")


def test_a_name_that_is_taken_is_refused_and_changes_nothing(smoke: Sweep):
    files = {path: path.stat().st_mtime_ns for path in smoke.folder.rglob("*")}
    finished = smoke.scripts.run("reward_search", "--preset", "smoke", "--name", "smoke")
    assert finished.code == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert "--resume smoke" in finished.stderr
    assert {path: path.stat().st_mtime_ns for path in smoke.folder.rglob("*")} == files


@pytest.fixture(scope="module")
def export(smoke: Sweep) -> Finished:
    """The export, by the command that the sweep printed; it lies in ``best``."""
    finished = smoke.scripts.type(smoke.printed_command("export")).wait()
    assert finished.code == 0, finished
    return finished


def test_the_export_is_whole(smoke: Sweep, export: Finished):
    best = smoke.scripts.folder / "best"
    assert {path.name for path in best.iterdir()} == {
        *("config.yaml", "policy.safetensors", "policy.py", "test.json", "video.mp4", "README.md")
    }
    assert not list(smoke.scripts.folder.glob(".best*"))
    assert "warning" not in export.stderr.lower()
    policy = Policy.load(best / "policy.safetensors")
    assert policy(np.zeros((3, 5))).shape == (3, 1)


def test_an_exported_policy_can_be_scored_and_filmed(smoke: Sweep, export: Finished):
    printed = smoke.scripts.succeed(
        "evaluate", "best", "--episodes", "4", "--video", "films/one.mp4"
    )
    assert re.search(r"score\D+\d+\.\d+", printed)
    assert MP4 in (smoke.scripts.folder / "films" / "one.mp4").read_bytes()[:16]


def test_an_exported_config_can_be_trained_again(smoke: Sweep, export: Finished):
    printed = smoke.scripts.succeed(*("train", "--config", "best/config.yaml", "--name", "again"))
    folder = smoke.scripts.folder / "runs" / "again"
    assert_whole(folder)
    assert str(folder.relative_to(smoke.scripts.folder)) in printed
    assert (folder / "media" / "trial-000.mp4").exists()
    runs = mlflow_runs(smoke.tracking_uri, "again")
    assert Counter(run.data.tags["kind"] for run in runs) == {"trial": 1, "sweep": 1}


def test_mlflow_runs_the_registered_policy(smoke: Sweep, export: Finished):
    """By the commands that the export printed."""
    observations = [[0, 0, -1, 0, 0], [0.1, 0.2, 0.5, 0.8, -1.0]]
    (smoke.scripts.folder / "observations.json").write_text(json.dumps({"inputs": observations}))
    line = next(line for line in export.stdout.splitlines() if "/mlflow' models predict" in line)
    finished = smoke.scripts.type(line).wait()
    assert finished.code == 0, finished
    (answer,) = [line for line in finished.stdout.splitlines() if "predictions" in line]
    policy = Policy.load(smoke.scripts.folder / "best" / "policy.safetensors")
    np.testing.assert_allclose(
        json.loads(answer)["predictions"], policy(np.asarray(observations)), atol=1e-6
    )
