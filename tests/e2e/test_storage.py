"""A bucket as storage: a sweep is whole in it, and goes on from it where its folder is lost.

The bucket is moto's, behind a real server; what speaks to it is Arrow's client.
"""

import contextlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import S3FileSystem

from rlcore.checkpoint import read_metadata
from tests.e2e.conftest import PLAIN, Sweep
from tests.e2e.processes import Scripts, wait_until
from tests.e2e.record import (
    Curves,
    assert_one_run_a_trial,
    assert_whole,
    mlflow_client,
    mlflow_runs,
    segments_once,
    trials_once,
)
from tests.e2e.test_tracking import free_port
from tuners.layout import STATE_FILE
from tuners.results import read_segments
from tuners.store import Store

pytestmark = pytest.mark.services

BUCKET = "sweeps"
STORAGE = f"s3://{BUCKET}/team/runs"
KEY = "a-key-of-nobody"
SECRET = "a-secret-of-nobody"


@dataclass(frozen=True)
class Served:
    """A server of buckets, and how to make a folder whose scripts find it."""

    url: str
    make_scripts: Callable[[str], Scripts]

    def scripts(self, name: str) -> Scripts:
        scripts = self.make_scripts(name)
        scripts.env |= aws(self.url)
        return scripts


def aws(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def served(make_scripts: Callable[[str], Scripts]) -> Iterator[Served]:
    scripts, port = make_scripts("moto"), free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = scripts.start_command(command)
    wait_until(lambda: server.ended or connects(port), "moto's server answers")
    assert not server.ended, server.output
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws(url).items():
            patch.setenv(name, value)
        files = S3FileSystem(endpoint_override=url, allow_bucket_creation=True)
        files.create_dir(BUCKET)
        yield Served(url, make_scripts)
    server.kill()


def fetch_tables(address: str, folder: Path) -> Path:
    """Copies a sweep's tables from the bucket."""
    store = Store(address)
    shutil.rmtree(folder, ignore_errors=True)
    for name in [name for name in store.names() if ".parquet" in name]:
        store.get(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def stored(served: Served) -> Sweep:
    scripts = served.scripts("stored")
    flags = ("--preset", "smoke", "--name", "stored", "--storage", STORAGE)
    return Sweep(scripts, "stored", scripts.run("reward_search", *flags))


def test_a_sweep_ends_well_with_a_bucket_as_storage(stored):
    assert stored.finished.code == 0, stored.finished
    assert_whole(stored.folder)
    assert "lacks" not in stored.finished.stdout
    assert_one_run_a_trial(stored.tracking_uri, stored.folder)


def test_the_bucket_holds_all_that_the_folder_does_but_its_locks(stored, tmp_path):
    store = Store(f"{STORAGE}/stored")
    here = [path for path in stored.folder.rglob("*") if path.is_file()]
    names = {path.relative_to(stored.folder).as_posix(): path for path in here}
    del names["driver.lock"], names["mlflow.lock"]
    assert set(names) <= set(store.names())
    for name, path in names.items():
        store.get(name, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == path.read_bytes(), name


def test_each_trial_has_its_checkpoint_in_the_bucket_and_its_media(stored):
    names = set(Store(f"{STORAGE}/stored").names())
    for name, trial in trials_once(stored.folder).items():
        for file in ("state.safetensors", "recording.safetensors"):
            assert f"{trial['checkpoint']}/{file}" in names
        assert f"media/{name}.png" in names
    assert {"report.html", "comparison.json", "plots/search.png"} <= names
    assert any(name.endswith(".mp4") for name in names)


def test_mlflow_has_the_checkpoints_all_the_same(stored):
    client = mlflow_client(stored.tracking_uri)
    for run in mlflow_runs(stored.tracking_uri, "stored"):
        if run.data.tags["kind"] != "sweep":
            found = [file.path for file in client.list_artifacts(run.info.run_id, "checkpoint")]
            assert found == ["checkpoint/state.safetensors"]


def test_no_secret_is_written_anywhere(stored):
    for path in stored.scripts.folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_name_in_the_bucket_is_taken(stored, served):
    flags = ("--preset", "smoke", "--name", "stored", "--storage", STORAGE)
    again = served.scripts("again").run("reward_search", *flags)
    assert again.code == 2
    assert again.stderr.count("\n") == 1
    assert f"sweep 'stored' exists in {STORAGE}" in again.stderr


def test_the_best_is_exported_from_the_bucket_alone(stored, served):
    """On a laptop that has never seen the sweep."""
    scripts = served.scripts("laptop")
    arguments = ("stored", "--out", "best", "--register", "False", "--storage", STORAGE)
    scripts.succeed("export_best", *arguments)
    written = {path.name for path in (scripts.folder / "best").iterdir()}
    assert {"policy.safetensors", "config.yaml", "video.mp4"} <= written


def test_an_ended_sweep_is_resumed_from_the_bucket_alone(stored, served):
    """The store's folder is found in the environment, as on a cluster's head."""
    scripts = served.scripts("new_head")
    scripts.env["SHAPESWEEP_STORE"] = STORAGE.removesuffix("/runs")
    before = segments_once(stored.folder)
    scripts.succeed("reward_search", "--resume", "stored")
    assert_same(segments_once(scripts.folder / "runs" / "stored"), before)


@dataclass(frozen=True)
class Lost:
    """A sweep that lost its head, and what the bucket held of it then."""

    sweep: Sweep
    copy: Path
    saved: set[str]


@pytest.fixture(scope="module")
def lost(served: Served) -> Lost:
    """A sweep whose driver and folder are gone at a stroke, gone on with in an empty folder.

    All processes are ended with `kill -9`; only MLflow's file is left.
    """
    scripts = served.scripts("lost")
    address, copy = f"{STORAGE}/lost", scripts.folder / "copy"
    flags = ("--scheduler", "none", "--name", "lost", "--storage", STORAGE)
    sizes = ("--preset", "smoke", "--budget", "524288", "--num-trials", "3", *PLAIN)
    running = scripts.start("reward_search", *sizes, *flags)

    def half_way() -> bool:
        assert not running.ended, running.output
        return len(read_segments(fetch_tables(address, copy))) >= 100 and bool(saved(address, copy))

    wait_until(half_way, "the bucket has a hundred segments and a checkpoint")
    running.kill()
    fetch_tables(address, copy)
    usable = saved(address, copy)
    shutil.rmtree(scripts.folder / "runs")
    finished = scripts.run("reward_search", "--resume", "lost", "--storage", STORAGE)
    return Lost(Sweep(scripts, "lost", finished), copy, usable)


def saved(address: str, copy: Path) -> set[str]:
    """Running trials with a checkpoint in the bucket that its tables have reached."""
    reached: dict[str, int] = {}
    for trial, env_steps in segments_once(copy):
        reached[trial] = max(reached.get(trial, 0), env_steps)
    running = {name for name, row in trials_once(copy).items() if row["status"] == "running"}
    store, found, state = Store(address), set(), copy / STATE_FILE
    for name in store.names():
        if name.endswith(STATE_FILE) and (trial := name.split("/")[2]) in running:
            with contextlib.suppress(OSError, ValueError):  # deleted meanwhile, or half there
                store.get(name, state)
                if read_metadata(state)["env_steps"] <= reached.get(trial, 0):
                    found.add(trial)
    return found


def test_a_sweep_whose_head_is_lost_ends_well_on_another(lost):
    assert lost.sweep.finished.code == 0, lost.sweep.finished
    assert_whole(lost.sweep.folder)
    assert_one_run_a_trial(lost.sweep.tracking_uri, lost.sweep.folder)


def test_what_was_in_the_bucket_when_the_head_was_lost_is_there_once(lost):
    after, before = segments_once(lost.sweep.folder), segments_once(lost.copy)
    assert len(before) >= 100
    assert_same({key: after[key] for key in before}, before)


def test_trials_of_a_lost_head_went_on_from_their_checkpoints(lost):
    folder = lost.sweep.folder
    fetched = {path.parts[-3] for path in folder.glob("tune/session-001/*/*/*.safetensors")}
    assert lost.saved
    assert lost.saved <= fetched


def assert_same(ours: Curves, theirs: Curves) -> None:
    assert {key: repr(row) for key, row in ours.items()} == {
        key: repr(row) for key, row in theirs.items()
    }


def test_a_bucket_that_is_not_there_is_refused(served):
    flags = ("--preset", "smoke", "--storage", "s3://nobodys/runs")
    refused = served.scripts("nobodys").run("reward_search", *flags)
    assert refused.code == 2
    assert refused.stderr.count("\n") == 1
    assert "storage s3://nobodys/runs cannot be used" in refused.stderr
    assert "nobodys" in refused.stderr


def test_a_server_that_does_not_answer_is_refused(served):
    scripts = served.scripts("unanswered_store")
    scripts.env["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"
    refused = scripts.run("reward_search", "--preset", "smoke", "--storage", STORAGE)
    assert refused.code == 2
    assert refused.stderr.count("\n") == 1
    assert f"storage {STORAGE} cannot be used" in refused.stderr
