"""MLflow's follower, against a real local store and against a server that fails at any call."""

import copy
import getpass
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import yaml
from PIL import Image

from tests.tuners.small import CONFIG, SEGMENT, segment_row, small_spec, trial_row
from tuners import tracking
from tuners.errors import BadInput
from tuners.layout import film_strip_path, video_path
from tuners.results import OUTCOME_COLUMNS, ResultsWriter
from tuners.spec import load_spec, prepare
from tuners.tracking import METRICS, SUMMARY, Follower, flat_config, run_link

# MLflow's own models use a way of loading that SQLAlchemy will drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

FULL = 8 * SEGMENT
COMPARISON = {
    "winner": "trial-001",
    "table": {
        "trial-001": {"final_score": {"value": 870.0, "low": 860.0, "high": 880.0}},
        "baseline": {"final_score": {"value": 500.0, "low": 400.0, "high": 600.0}},
    },
    "improvement": {"baseline": {"final_score": {"value": 0.98, "low": 0.9, "high": 1.0}}},
    "over_tuning": 12.5,
}


@pytest.fixture(autouse=True)
def limits_of_the_client(monkeypatch):
    """The follower sets them for its process; here they end with the test."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A local store, made by the first who writes to it, which takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def sweep(tmp_path):
    """A sweep's folder: one trial has ended, one runs, one validation job has just begun."""
    spec = small_spec(tmp_path, name="my-sweep")
    prepare(spec, resume=False)
    writer = ResultsWriter(spec.folder, "swingup")
    config = json.dumps(CONFIG.with_values({"gamma": 0.9, "task.rail": 3.0}).to_dict())
    ended = {"status": "finished", "stop_reason": "asha", "env_steps": 2 * SEGMENT, "ended": 1010.0}
    writer.put_trial(trial_row("trial-000", **ended, checkpoint="tune/x"))
    writer.put_trial(trial_row("trial-001", row="trial-001", config=config, seeds=[4, 5]))
    writer.put_trial(trial_row("validation-baseline-0", "validation"))
    for trial, segments in (("trial-000", 2), ("trial-001", 3)):
        for segment in range(1, segments + 1):
            writer.add_segment(segment_row(trial, segment, entropy=None if segment == 1 else 0.5))
    writer.flush()
    (spec.folder / "tune" / "x").mkdir(parents=True)
    (spec.folder / "tune" / "x" / "state.safetensors").write_bytes(b"a state")
    return SimpleNamespace(folder=spec.folder, writer=writer, id=sweep_id(spec.folder))


def sweep_id(folder):
    return yaml.safe_load((folder / "sweep.yaml").read_text())["sweep_id"]


def add_media(sweep):
    strip = film_strip_path(sweep.folder, "trial-000")
    strip.parent.mkdir()
    Image.new("RGB", (4, 3), (1, 2, 3)).save(strip)
    video_path(sweep.folder, "trial-000").write_bytes(b"a video")


def runs_of(sweep, store):
    """The sweep's runs in a store by the name of their trial; a second one is an error."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("swingup")
    runs = {}
    if experiment is not None:
        wanted = f"tags.sweep_id = '{sweep.id}'"
        for run in client.search_runs([experiment.experiment_id], wanted):
            assert run.data.tags["trial"] not in runs, "one run a trial"
            runs[run.data.tags["trial"]] = run
    return client, runs


def points(client, run, metric="objective"):
    history = client.get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value, point.timestamp) for point in history)


def test_a_deleted_experiment_is_said_with_what_to_do(sweep, tmp_path):
    """MLflow would say of each run that something must be in the 'active' state."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    Follower(sweep.folder, store).sync()
    client, _ = runs_of(sweep, store)
    experiment = client.get_experiment_by_name("swingup").experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(BadInput, match=f"restore it .* --experiment-id {experiment}"):
        Follower(sweep.folder, store).sync()
    client.restore_experiment(experiment)
    Follower(sweep.folder, store).sync()


def test_an_experiment_of_ones_own(sweep, tmp_path, monkeypatch):
    """On a server that others use, too; the sweep stays where it was begun."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "/team/cart-poles")
    Follower(sweep.folder, store).sync()
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    Follower(sweep.folder, store).sync()
    client, runs = runs_of(sweep, store)
    assert (client.get_experiment_by_name("swingup"), runs) == (None, {})
    experiment = client.get_experiment_by_name("/team/cart-poles").experiment_id
    assert len(client.search_runs([experiment])) == 4


def test_a_sweep_in_a_store(sweep, store):
    add_media(sweep)
    Follower(sweep.folder, store).sync()
    client, runs = runs_of(sweep, store)
    assert {run.info.user_id for run in runs.values()} == {getpass.getuser()}
    assert set(runs) == {"trial-000", "trial-001", "validation-baseline-0", SUMMARY}
    assert {name: run.data.tags["kind"] for name, run in runs.items()} == {
        "trial-000": "trial",
        "trial-001": "trial",
        "validation-baseline-0": "validation",
        SUMMARY: "sweep",
    }
    written = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())
    for run in runs.values():
        assert run.data.tags["sweep"] == "my-sweep"
        assert run.data.tags["git_revision"] == written["git_revision"]
        assert f"jax {written['versions']['jax']}" in run.data.tags["versions"]

    first, second = runs["trial-000"], runs["trial-001"]
    assert first.info.run_name == "trial-000 (baseline)"
    assert second.info.run_name == "trial-001"
    tags = first.data.tags
    assert (tags["status"], tags["stop_reason"], tags["rung"]) == ("finished", "asha", "2048")
    assert (tags["seeds"], tags["row"], tags["precision"]) == ("0,1", "baseline", "float32")
    assert (first.info.status, first.info.start_time, first.info.end_time) == (
        *("FINISHED", 1_000_000, 1_010_000),
    )
    assert (second.info.status, second.data.tags["status"]) == ("RUNNING", "running")
    assert second.data.tags["seeds"] == "4,5"

    params = second.data.params
    assert (params["gamma"], params["task.rail"]) == ("0.9", "3.0")
    assert (params["reward.peak.weight"], params["num_envs"]) == ("1.5", "16")
    assert (params["task"], params["budget"]) == ("swingup", str(FULL))
    assert len(params) == len(flat_config(CONFIG.to_dict())) + 2

    assert points(client, second) == [
        (segment * SEGMENT, 10.0 * segment, 1_000_000 + 1000 * segment) for segment in (1, 2, 3)
    ]
    assert [step for step, _, _ in points(client, first, "entropy")] == [2 * SEGMENT]
    assert set(second.data.metrics) == {"entropy", *OUTCOME_COLUMNS}

    paths = {entry.path for entry in client.list_artifacts(first.info.run_id)}
    assert {"config.yaml", "checkpoint", "film_strip", "video"} <= paths
    (checkpoint,) = client.list_artifacts(first.info.run_id, "checkpoint")
    assert checkpoint.path == "checkpoint/state.safetensors"


def test_artifacts_lie_beside_a_local_store(sweep, store):
    Follower(sweep.folder, store).sync()
    _, runs = runs_of(sweep, store)
    folder = store.removeprefix("sqlite:///").rpartition("/")[0]
    assert runs["trial-000"].info.artifact_uri.startswith(f"file://{folder}/mlartifacts/swingup")


def test_a_second_sync_changes_nothing(sweep, store):
    follower = Follower(sweep.folder, store)
    follower.sync()
    before = snapshot(sweep, store)
    follower.sync()
    assert snapshot(sweep, store) == before


def test_segments_of_a_trial_that_is_not_in_its_table_yet_are_not_lost(sweep, store):
    """The writer has segments on disk before the trial's row."""
    follower = Follower(sweep.folder, store)
    sweep.writer.add_segment(segment_row("trial-002", 1))
    sweep.writer.flush()
    follower.sync()
    sweep.writer.put_trial(trial_row("trial-002"))
    sweep.writer.flush()
    follower.sync()
    client, runs = runs_of(sweep, store)
    assert [step for step, _, _ in points(client, runs["trial-002"])] == [SEGMENT]


@pytest.mark.parametrize("remembered", [True, False])
def test_another_follower_goes_on_where_one_ended(sweep, store, remembered):
    """Even without its file, it finds the runs by their tags and writes no point twice."""
    Follower(sweep.folder, store).sync()
    before = snapshot(sweep, store)
    if not remembered:
        (sweep.folder / "mlflow.json").unlink()
    Follower(sweep.folder, store).sync()
    assert snapshot(sweep, store) == before
    sweep.writer.add_segment(segment_row("trial-001", 4))
    sweep.writer.flush()
    Follower(sweep.folder, store).sync()
    client, runs = runs_of(sweep, store)
    assert [step for step, _, _ in points(client, runs["trial-001"])] == [
        segment * SEGMENT for segment in (1, 2, 3, 4)
    ]


def snapshot(sweep, store):
    client, runs = runs_of(sweep, store)
    return {
        name: (
            run.info.run_id,
            run.info.status,
            run.info.end_time,
            run.data.tags,
            run.data.params,
            [points(client, run, metric) for metric in ("objective", "score", "entropy")],
        )
        for name, run in runs.items()
    }


def test_what_comes_later_is_written_later(sweep, store):
    follower = Follower(sweep.folder, store)
    follower.sync()
    sweep.writer.add_segment(segment_row("trial-001", 4, diverged=True))
    sweep.writer.put_trial(
        {
            **{"trial": "trial-001", "status": "finished", "stop_reason": "diverged"},
            **{"env_steps": 4 * SEGMENT, "ended": 1020.0},
        }
    )
    sweep.writer.put_trial(
        {"trial": "validation-baseline-0", "status": "error", "stop_reason": "error", "ended": 2e3}
    )
    sweep.writer.flush()
    follower.sync()
    client, runs = runs_of(sweep, store)
    assert runs["trial-001"].info.status == "FAILED"
    assert runs["trial-001"].data.tags["stop_reason"] == "diverged"
    assert len(points(client, runs["trial-001"])) == 4
    assert runs["validation-baseline-0"].data.tags["status"] == "error"


def test_the_summary_run_carries_the_comparison_and_the_tables(sweep, store):
    (sweep.folder / "comparison.json").write_text(json.dumps(COMPARISON))
    (sweep.folder / "plots").mkdir()
    (sweep.folder / "plots" / "search.png").write_bytes(b"a plot")
    (sweep.folder / "report.html").write_bytes(b"a page")
    follower = Follower(sweep.folder, store)
    follower.finish()
    follower.finish()
    client, runs = runs_of(sweep, store)
    summary = runs[SUMMARY]
    assert summary.info.run_name == "my-sweep (summary)"
    assert (summary.info.status, summary.data.tags["status"]) == ("FINISHED", "finished")
    assert summary.data.tags["winner"] == "trial-001"
    assert summary.data.metrics == {
        "test_final_score_trial-001": 870.0,
        "test_final_score_baseline": 500.0,
        "improvement_final_score_over_baseline": 0.98,
        "over_tuning": 12.5,
    }
    paths = {entry.path for entry in client.list_artifacts(summary.info.run_id)}
    assert paths == {
        *("sweep.yaml", "comparison.json", "trials.parquet", "segments.parquet", "plots"),
        "report.html",
    }


def test_a_sweep_that_has_not_finished_leaves_its_summary_running(sweep, store):
    Follower(sweep.folder, store).finish()
    _, runs = runs_of(sweep, store)
    assert runs[SUMMARY].info.status == "RUNNING"


def test_a_sweep_that_is_extended_is_running_again(sweep, store):
    spec = load_spec(sweep.folder)
    entries = COMPARISON | {"num_trials": spec.num_trials}
    (sweep.folder / "comparison.json").write_text(json.dumps(entries))
    Follower(sweep.folder, store).finish()
    _, runs = runs_of(sweep, store)
    assert runs[SUMMARY].data.tags["status"] == "finished"
    replace(spec, num_trials=spec.num_trials + 2, extensions=(2,)).save()
    Follower(sweep.folder, store).sync()
    _, runs = runs_of(sweep, store)
    assert (runs[SUMMARY].info.status, runs[SUMMARY].data.tags["status"]) == ("RUNNING", "running")
    entries["num_trials"] += 2
    (sweep.folder / "comparison.json").write_text(json.dumps(entries))
    Follower(sweep.folder, store).finish()
    _, runs = runs_of(sweep, store)
    assert runs[SUMMARY].info.status == "FINISHED"
    assert runs[SUMMARY].data.tags["extended"] == "+2 trials"


def test_a_run_of_one_trial_that_has_ended_has_a_summary_that_ended(tmp_path, store):
    """What sweeps/train.py leaves behind: no comparison, but nothing is running any more."""
    spec = small_spec(tmp_path, space={}, num_trials=1, scheduler="none")
    spec = replace(spec, preset="train")
    prepare(spec, resume=False)
    writer = ResultsWriter(spec.folder, "swingup")
    ended = {"status": "finished", "stop_reason": "budget", "env_steps": FULL, "ended": 1010.0}
    writer.put_trial(trial_row("trial-000", **ended))
    writer.flush()
    Follower(spec.folder, store).finish()
    _, runs = runs_of(SimpleNamespace(id=sweep_id(spec.folder)), store)
    assert runs["trial-000"].info.status == "FINISHED"
    assert runs[SUMMARY].info.status == "FINISHED"


def sync_with(server, sweep, monkeypatch, uri="http://fake"):
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: FakeClient(server))
    Follower(sweep.folder, uri).sync()


@pytest.mark.parametrize("uri", ["http://fake", "http://elsewhere"])
def test_an_empty_store_is_filled_from_the_beginning(sweep, monkeypatch, uri):
    """Another one, or one of the same address that was made anew: it lacks the runs remembered."""
    before, after = FakeServer(), FakeServer()
    sync_with(before, sweep, monkeypatch)
    sync_with(after, sweep, monkeypatch, uri)
    assert after.contents() == before.contents()


@pytest.mark.parametrize("first", ["before", "begun", "half", "whole"])
def test_a_server_set_back_to_an_older_copy_gets_what_it_lost(sweep, monkeypatch, first):
    """Without a word: no call fails, and the runs have the ids that they had."""
    server, straight = FakeServer(), FakeServer()
    copies = {"before": copy.deepcopy(server.__dict__)}
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: FakeClient(server))
    follower = Follower(sweep.folder, "http://fake")
    follower.sync()
    copies["half"] = copy.deepcopy(server.__dict__)
    copies["begun"] = copy.deepcopy(server.__dict__)
    for run in copies["begun"]["runs"].values():
        run["metrics"].clear()
        run["params"].clear()
        run["status"] = "RUNNING"
        run["tags"] = {name: run["tags"][name] for name in ("trial", "sweep_id")}
    sweep.writer.add_segment(segment_row("trial-001", 4))
    sweep.writer.flush()
    follower.sync()
    copies["whole"] = copy.deepcopy(server.__dict__)
    sync_with(straight, sweep, monkeypatch)
    server.__dict__.update(copies[first])
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: FakeClient(server))
    follower.finish()
    for run in straight.runs.values():
        again = server.run(run["tags"]["trial"])
        for part in ("metrics", "params", "status"):
            assert again[part] == run[part]


def closed_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_server_that_does_not_answer_is_said_so_soon_and_costs_nothing(sweep, store):
    begun = time.monotonic()
    follower = Follower(sweep.folder, f"http://127.0.0.1:{closed_port()}")
    for _ in range(2):
        with pytest.raises(Exception, match="Max retries|Connection refused"):
            follower.sync()
    assert time.monotonic() - begun < 20.0
    assert not (sweep.folder / "mlflow.json").exists()
    assert runs_of(sweep, store)[1] == {}
    Follower(sweep.folder, store).sync()
    client, runs = runs_of(sweep, store)
    assert len(runs) == 4
    assert len(points(client, runs["trial-001"])) == 3


class FakeServer:
    """What a tracking server holds, and the call at which it goes away."""

    def __init__(self, failing=None, *, after=False):
        """Fails once, at call number ``failing``: before it has any effect, or ``after``."""
        self.failing, self.after = failing, after
        self.calls = []
        self.runs = {}
        self.experiment = None

    def call(self, name, effect):
        number = len(self.calls)
        self.calls.append(name)
        if number == self.failing and not self.after:
            raise ConnectionError(f"before {name}")
        result = effect()
        if number == self.failing:
            raise ConnectionError(f"after {name}")
        return result

    def run(self, trial):
        (found,) = [run for run in self.runs.values() if run["tags"]["trial"] == trial]
        return found

    def contents(self):
        """Everything it holds, but for the runs' ids."""
        return sorted((sorted(run.items()) for run in self.runs.values()), key=repr)


class FakeClient:
    """As much of MLflow's client as the follower uses."""

    def __init__(self, server):
        self.server = server

    def get_experiment_by_name(self, name):
        found = self.server.experiment and SimpleNamespace(
            experiment_id="1", name=name, lifecycle_stage="active"
        )
        return self.server.call("get_experiment_by_name", lambda: found)

    def create_experiment(self, name, artifact_location=None):
        def create():
            self.server.experiment = name
            return "1"

        return self.server.call("create_experiment", create)

    def search_runs(self, experiment_ids, filter_string="", **_):
        def search():
            found = [
                SimpleNamespace(
                    data=SimpleNamespace(tags=run["tags"], params=run["params"]),
                    info=SimpleNamespace(run_id=run_id, status=run["status"]),
                )
                for run_id, run in self.server.runs.items()
                if f"'{run['tags']['sweep_id']}'" in filter_string
            ]
            return Page(found)

        return self.server.call("search_runs", search)

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        def create():
            run_id = str(len(self.server.runs))
            self.server.runs[run_id] = {
                "name": run_name,
                "tags": dict(tags),
                "params": {},
                "metrics": set(),
                "files": set(),
                "status": "RUNNING",
            }
            return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

        return self.server.call("create_run", create)

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        def log():
            run = self.server.runs[run_id]
            run["metrics"] |= {(m.key, m.value, m.timestamp, m.step) for m in metrics}
            for param in params:
                assert run["params"].setdefault(param.key, param.value) == param.value
            run["tags"].update({tag.key: tag.value for tag in tags})

        self.server.call("log_batch", log)

    def set_tag(self, run_id, key, value):
        self.server.call("set_tag", lambda: self.server.runs[run_id]["tags"].update({key: value}))

    def set_terminated(self, run_id, status="FINISHED", end_time=None):
        ended = {"status": status}
        self.server.call("set_terminated", lambda: self.server.runs[run_id].update(ended))

    def update_run(self, run_id, status):
        self.server.call("update_run", lambda: self.server.runs[run_id].update(status=status))

    def _put(self, name, run_id, path):
        self.server.call(name, lambda: self.server.runs[run_id]["files"].add(path))

    def log_dict(self, run_id, dictionary, path):
        self._put("log_dict", run_id, path)

    def log_artifact(self, run_id, path, artifact_path=""):
        self._put("log_artifact", run_id, f"{artifact_path}/{path.rpartition('/')[2]}")

    def log_artifacts(self, run_id, path, artifact_path=""):
        self._put("log_artifacts", run_id, artifact_path)

    def log_image(self, run_id, image, key=None, step=None):
        self._put("log_image", run_id, f"{key} at {step}")


class Page(list):
    token = None


@pytest.fixture
def undisturbed(sweep, monkeypatch):
    """What a server holds that never fails, and how many calls that took."""
    add_media(sweep)
    (sweep.folder / "comparison.json").write_text(json.dumps(COMPARISON))
    monkeypatch.setattr(tracking, "time", SimpleNamespace(time=lambda: 5000.0))
    server = FakeServer()
    follow(sweep, server, monkeypatch)
    assert len(server.runs) == 4
    return server


def follow(sweep, server, monkeypatch, *, again=False):
    """Lets a follower finish, however often the server fails; ``again``: a new one each time."""
    (sweep.folder / "mlflow.json").unlink(missing_ok=True)
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: FakeClient(server))
    follower = Follower(sweep.folder, "http://fake")
    for _ in range(3):
        try:
            follower.finish()
            return
        except ConnectionError:
            if again:
                follower = Follower(sweep.folder, "http://fake")


@pytest.mark.parametrize("again", [False, True], ids=["same follower", "new follower"])
@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_a_server_that_fails_at_any_call_ends_up_with_everything_once(
    sweep, undisturbed, monkeypatch, after, again
):
    wrong = []
    for number, name in enumerate(list(undisturbed.calls)):
        server = FakeServer(number, after=after)
        follow(sweep, server, monkeypatch, again=again)
        if server.contents() != undisturbed.contents():
            wrong.append(f"call {number}: {name}, {len(server.runs)} runs")
    assert not wrong


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_a_local_store_whose_making_is_cut_short_is_not_there(sweep, tmp_path, monkeypatch, end):
    def killed(uri):
        Path(uri.removeprefix("sqlite:///")).write_text("half of the tables")
        raise end

    monkeypatch.setattr(mlflow, "MlflowClient", killed)
    before = set(tmp_path.iterdir())
    with pytest.raises(end):
        Follower(sweep.folder, f"sqlite:///{tmp_path}/mlflow.db").sync()
    assert set(tmp_path.iterdir()) == before


def test_a_store_that_another_follower_made_meanwhile_is_kept(tmp_path, monkeypatch):
    store = tmp_path / "mlflow.db"

    def slow(uri):
        Path(uri.removeprefix("sqlite:///")).write_text("mine")
        store.write_text("the other's")

    monkeypatch.setattr(mlflow, "MlflowClient", slow)
    tracking._make_store(f"sqlite:///{store}")
    assert store.read_text() == "the other's"
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_is_made_under_a_new_name_each_time(tmp_path, monkeypatch):
    """MLflow keeps what it had opened: under the same name it would go on with half of a store."""
    names = []

    def full(uri):
        names.append(uri)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlflow, "MlflowClient", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            tracking._make_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(set(names)) == 2


def test_what_a_killed_process_left_of_a_store_is_deleted(tmp_path, monkeypatch):
    hour_ago = time.time() - 3600.0
    kept = ("mlflow.db.bak", ".mlflow.db.backup", ".other.db.0123abcd")
    for name in (".mlflow.db.0123abcd", ".mlflow.db.0123abcd-journal", *kept):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (hour_ago, hour_ago))
    (tmp_path / ".mlflow.db.89abcdef").touch()  # of a process that still makes it
    monkeypatch.setattr(
        mlflow, "MlflowClient", lambda uri: Path(uri.removeprefix("sqlite:///")).touch()
    )
    tracking._make_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mlflow.db", ".mlflow.db.89abcdef"),
        *kept,
    }


def test_a_store_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("no hard links")

    def make(uri):
        Path(uri.removeprefix("sqlite:///")).write_text("mine")

    monkeypatch.setattr(mlflow, "MlflowClient", make)
    monkeypatch.setattr(tracking.os, "link", refused)
    tracking._make_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_many_points_are_written_in_calls_of_a_thousand(sweep, monkeypatch):
    numbers = dict.fromkeys(METRICS, 1.0)
    for segment in range(4, 104):
        sweep.writer.add_segment(segment_row("trial-001", segment, **numbers))
    sweep.writer.flush()
    server, sizes = FakeServer(), []
    client = FakeClient(server)
    log_batch = client.log_batch

    def count(run_id, metrics=(), **others):
        sizes.append(len(metrics))
        log_batch(run_id, metrics=metrics, **others)

    client.log_batch = count
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: client)
    Follower(sweep.folder, "http://fake").sync()
    assert max(sizes) == 1000, "MLflow takes no more in one call"
    assert len(server.run("trial-001")["metrics"]) == 100 * len(METRICS) + 3 * 5 + 2


def test_params_are_named_as_in_a_search_space():
    config = CONFIG.with_values({"gamma": 0.9, "task.rail": 3.0, "reward.combine": "product"})
    flat = flat_config(config.to_dict())
    assert flat["gamma"] == 0.9
    assert flat["task.rail"] == 3.0
    assert flat["reward.combine"] == "product"
    assert flat["hidden_sizes"] == [16, 16]


def test_the_link_to_a_sweep_in_mlflows_pages(tmp_path):
    """By what stays when its folder is renamed, and more trials are added under the new name."""
    spec = small_spec(tmp_path, name="mine")
    prepare(spec, resume=False)
    assert run_link(spec.folder) is None
    folder = spec.folder.rename(tmp_path / "renamed")
    state = {"tracking_uri": "", "experiment_id": "7", "experiment": "", "runs": {}, "logged": {}}
    state |= {"described": [], "ended": [], "files": []}
    (folder / "mlflow.json").write_text(json.dumps(state))
    assert run_link(folder).startswith("#/experiments/7/runs")
    known_by = yaml.safe_load((folder / "sweep.yaml").read_text())["sweep_id"]
    assert f"&searchFilter=tags.sweep_id%20%3D%20%27{known_by}%27&" in run_link(folder)
