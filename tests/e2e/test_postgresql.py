"""PostgreSQL as MLflow's store: a real server, on the loopback interface, in a folder of its own.

It refuses to run as root; then an account that may do nothing runs it.
"""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import Sweep
from tests.e2e.processes import Scripts
from tests.e2e.record import (
    assert_one_run_a_trial,
    assert_whole,
    mlflow_client,
    mlflow_runs,
    segments_once,
    trials_once,
)
from tests.e2e.test_tracking import free_port
from tuners.tracking import METRICS, flat_config

pytestmark = pytest.mark.services

USER = "tracker"


def programs() -> Path:
    """The folder of the server's programs; Debian keeps them off the PATH, by version."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found += [path.parent for path in sorted(debian, key=lambda path: int(path.parts[-3]))]
    assert found, "no PostgreSQL server (initdb) on the PATH: run `make system`"
    return found[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a database server, without the name of a database."""
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not in pytest's folder, which the other account cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="e2e-postgresql-", dir="/tmp"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    port, data = free_port(), folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs() / program, "-D", data, *arguments],
            cwd=folder,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            check=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not a pipe: the server would keep it open
        )

    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -p {port} -c fsync=off"
    try:
        run("initdb", "-U", USER, "--auth=trust", "--encoding=UTF8", "--no-sync")
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tracked(server: str, make_scripts: Callable[[str], Scripts]) -> Sweep:
    """A sweep that is followed into a database made for it."""
    with closing(psycopg.connect(f"{server}/postgres", autocommit=True)) as connection:
        connection.execute("CREATE DATABASE mlflow")
    scripts, uri = make_scripts("postgresql"), f"{server}/mlflow"
    flags = ("--preset", "smoke", "--name", "tracked", "--tracking-uri", uri)
    return Sweep(scripts, "tracked", scripts.run("reward_search", *flags), uri)


def test_a_sweep_followed_into_postgresql_ends_well(tracked):
    assert tracked.finished.code == 0, tracked.finished
    assert_whole(tracked.folder)
    assert "MLflow lacks" not in tracked.finished.stdout


def test_the_database_has_one_run_a_trial(tracked):
    assert_one_run_a_trial(tracked.tracking_uri, tracked.folder)


def test_the_database_has_every_number_of_every_report(tracked):
    client = mlflow_client(tracked.tracking_uri)
    ids = {run.data.tags["trial"]: run.info.run_id for run in runs(tracked)}
    for metric in METRICS:
        expected: dict[str, dict[int, float]] = {}
        for (trial, env_steps), row in segments_once(tracked.folder).items():
            if row[metric] is not None:
                expected.setdefault(trial, {})[env_steps] = row[metric]
        for trial, numbers in expected.items():
            history = client.get_metric_history(ids[trial], metric)
            assert {point.step: point.value for point in history} == numbers, (trial, metric)
            assert len(history) == len(numbers)


def test_the_database_has_what_each_trial_was_and_how_it_ended(tracked):
    trials = trials_once(tracked.folder)
    for run in runs(tracked):
        if run.data.tags["kind"] == "sweep":
            continue
        trial = trials[run.data.tags["trial"]]
        assert run.data.tags["status"] == trial["status"]
        assert run.data.tags["stop_reason"] == trial["stop_reason"]
        assert run.data.tags["rung"] == str(trial["env_steps"])
        assert set(run.data.params) == set(flat_config(json.loads(trial["config"])))


def test_the_rows_are_in_postgresql_itself(tracked):
    with closing(psycopg.connect(tracked.tracking_uri)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone() or (0,)
    assert count == len(trials_once(tracked.folder)) + 1
    assert not (tracked.scripts.folder / "mlflow.db").exists()


def test_files_go_beside_the_sweeps_where_a_database_keeps_none(tracked):
    names = {path.name for path in (tracked.scripts.folder / "mlartifacts").rglob("*")}
    assert {"trial-000.png", "comparison.json", "state.safetensors"} <= names
    assert not (tracked.scripts.folder / "mlruns").exists()


def test_the_best_is_registered_in_postgresql(tracked):
    printed = tracked.scripts.succeed("export_best", "tracked", "--out", "best")
    assert "registered as models:/shapesweep-swingup/1" in printed


def runs(tracked: Sweep) -> list:
    return mlflow_runs(tracked.tracking_uri, tracked.name)
