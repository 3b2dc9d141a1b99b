"""Killed, interrupted or crashed, a sweep goes on as if nothing had happened.

A trial's curve depends on its configuration and seeds alone, so every curve here must equal that of
the same trial in a sweep that nobody disturbed, to the last bit.
"""

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlcore.checkpoint import read_metadata
from tests.e2e.conftest import LONG, PLAIN, Sweep
from tests.e2e.processes import (
    Running,
    Scripts,
    alive,
    command_line,
    descendants,
    kill,
    wait_until,
)
from tests.e2e.record import (
    Curves,
    assert_one_run_a_trial,
    assert_whole,
    curves,
    segments_once,
    trials_once,
)
from tuners.checkpoints import newest_checkpoint
from tuners.layout import STATE_FILE, film_strip_path
from tuners.results import read_segments, read_trials
from tuners.schedulers import SCHEDULERS
from tuners.spec import load_spec

pytestmark = pytest.mark.slow

Moment = Callable[[list[dict[str, Any]], list[dict[str, Any]]], bool]


def ended(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["status"] != "running"]


# When a sweep is disturbed, by what its tables say:


def early(segments: list[dict[str, Any]], trials: list[dict[str, Any]]) -> bool:
    return len(segments) > 0


def in_the_middle(segments: list[dict[str, Any]], trials: list[dict[str, Any]]) -> bool:
    return len(ended(trials)) >= 2


def late(segments: list[dict[str, Any]], trials: list[dict[str, Any]]) -> bool:
    return any(row["phase"] == "validation" for row in segments)


def after_a_stop(segments: list[dict[str, Any]], trials: list[dict[str, Any]]) -> bool:
    return any(trial["stop_reason"] == "asha" for trial in trials)


@dataclass
class Disturbed:
    """A sweep that was ended before its end, and resumed until it had one.

    Attributes:
        sweep: in the end.
        before: its folder at each disturbance, copied.
    """

    sweep: Sweep
    before: list[Path]


def wait_for(moment: Moment, running: Running, folder: Path) -> None:
    def come() -> bool:
        assert not running.ended, f"it ended before it could be disturbed:\n{running.output}"
        return (folder / "trials.parquet").exists() and moment(
            read_segments(folder), read_trials(folder)
        )

    wait_until(come, "the moment to disturb it")


def disturb(
    scripts: Scripts,
    name: str,
    flags: tuple[str, ...],
    moments: list[Moment],
    end: Callable[[Running], None],
    script: str = "reward_search",
) -> Disturbed:
    """Runs a sweep, ends it at each moment, and resumes it each time."""
    folder = scripts.folder / "runs" / name
    arguments = (*flags, "--name", name)
    before = []
    for number, moment in enumerate(moments):
        running = scripts.start(script, *arguments)
        wait_for(moment, running, folder)
        end(running)
        copy = scripts.folder / f"before-{number}"
        # Optuna's lock, which a killed driver leaves, is a link that leads nowhere.
        shutil.copytree(folder, copy, symlinks=True, ignore=shutil.ignore_patterns("*.tmp"))
        before.append(copy)
        arguments = ("--resume", name)
    return Disturbed(Sweep(scripts, name, scripts.run(script, *arguments)), before)


@pytest.fixture(scope="module")
def killed(make_scripts: Callable[[str], Scripts]) -> Disturbed:
    """Twice `kill -9` of the driver and all it had started, MLflow's follower included."""
    flags = (*LONG, *PLAIN, "--scheduler", "none")
    return disturb(make_scripts("killed"), "killed", flags, [early, late], Running.kill)


def kill_driver_alone(running: Running) -> None:
    """What the system's out-of-memory killer does; Ray's processes notice and end."""
    kill(running.pid)
    running.wait()


@pytest.fixture(scope="module")
def killed_asha(make_scripts: Callable[[str], Scripts]) -> Disturbed:
    """`kill -9` of the driver alone once ASHA has stopped a trial, and resumed at once."""
    scripts = make_scripts("killed_asha")
    flags = (*LONG, *PLAIN)
    return disturb(scripts, "killed_asha", flags, [after_a_stop], kill_driver_alone)


def interrupt(running: Running) -> None:
    running.interrupt()
    finished = running.wait()
    assert finished.code == 130, finished
    assert "Traceback" not in finished.stderr
    command = r"python\S* \S*sweeps/reward_search.py --resume interrupted\n"
    assert re.search(command, finished.stdout)


@pytest.fixture(scope="module")
def interrupted(make_scripts: Callable[[str], Scripts]) -> Disturbed:
    """Ctrl-C in the middle of the search."""
    return disturb(make_scripts("interrupted"), "interrupted", LONG, [in_the_middle], interrupt)


@dataclass
class LostWorker:
    """A sweep that lost a worker process in the middle of a trial."""

    sweep: Sweep
    trial: str
    worker: str


@pytest.fixture(scope="module")
def lost_worker(make_scripts: Callable[[str], Scripts]) -> LostWorker:
    scripts = make_scripts("lost_worker")
    running = scripts.start("reward_search", *LONG, *PLAIN, "--scheduler", "none", "--name", "lost")
    folder = scripts.folder / "runs" / "lost"
    # A trial takes half a second, less than the table is behind: its process is held still until
    # the table has its first segment, after which comes its first checkpoint.
    wait_until(lambda: any(folder.glob("tune/*/*/checkpoint_*")), "a trial's first checkpoint")
    workers = [pid for pid in descendants(running.pid) if "ray::" in command_line(pid)]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    wait_for(early, running, folder)
    last = read_segments(folder)[-1]
    assert not last["done"]
    lost = int(last["worker"].rpartition(":")[2])
    kill(lost)
    wait_until(lambda: not alive(lost), "the worker ended", 30)
    for pid in set(workers) - {lost}:
        os.kill(pid, signal.SIGCONT)
    return LostWorker(Sweep(scripts, "lost", running.wait()), last["trial"], last["worker"])


def assert_it_ended_well(sweep: Sweep) -> None:
    assert sweep.finished.code == 0, sweep.finished
    assert_whole(sweep.folder)
    for words in ("Test on", "the score as reward"):
        assert words in sweep.finished.stdout


def assert_what_was_reported_stayed(disturbed: Disturbed) -> None:
    after = segments_once(disturbed.sweep.folder)
    for folder in disturbed.before:
        for key, row in segments_once(folder).items():
            assert repr(after[key]) == repr(row)


def assert_ended_trials_were_left_alone(disturbed: Disturbed) -> None:
    after = segments_once(disturbed.sweep.folder)
    trials = trials_once(disturbed.sweep.folder)
    for number, folder in enumerate(disturbed.before):
        sessions = sorted((disturbed.sweep.folder / "tune").glob("session-*"))[number + 1 :]
        done = {
            name: row for name, row in trials_once(folder).items() if row["status"] != "running"
        }
        for name, row in done.items():
            assert trials[name] == row
            assert not [session for session in sessions if (session / name).exists()]
        reported = segments_once(folder)
        assert not [key for key in after if key[0] in done and key not in reported]


def on_common_ground(sweep: Sweep, other: Sweep) -> tuple[Curves, Curves]:
    """Curves of the segments that both have, without what ASHA decided."""
    ours, theirs = (curves(s.folder, decisions=False) for s in (sweep, other))
    common = ours.keys() & theirs.keys()
    return {key: ours[key] for key in common}, {key: theirs[key] for key in common}


def test_a_killed_sweep_ends_well(killed):
    assert_it_ended_well(killed.sweep)


def test_a_killed_sweep_equals_one_that_was_not(killed, undisturbed):
    assert curves(killed.sweep.folder) == curves(undisturbed.folder)
    for name, trial in trials_once(killed.sweep.folder).items():
        expected = trials_once(undisturbed.folder)[name]
        for column in ("seeds", "config", "stop_reason", "env_steps", "objective", "area"):
            assert trial[column] == expected[column], (name, column)


def test_a_kill_loses_nothing_that_was_reported(killed):
    assert_what_was_reported_stayed(killed)


def test_trials_that_had_ended_are_not_trained_again_after_a_kill(killed):
    assert_ended_trials_were_left_alone(killed)


def test_a_killed_sweep_has_one_mlflow_run_a_trial(killed):
    assert_one_run_a_trial(killed.sweep.tracking_uri, killed.sweep.folder)


def test_a_killed_driver_takes_ray_along(killed_asha):
    """No worker keeps its core, or writes checkpoints, beside those of the resumed sweep."""
    workers = {row["worker"] for row in read_segments(killed_asha.before[0])}
    for worker in workers:
        assert not alive(int(worker.rpartition(":")[2]))


@pytest.mark.parametrize("part", ["/raylet/raylet ", "/gcs_server "], ids=["raylet", "gcs"])
def test_a_sweep_whose_ray_dies_ends_with_a_line(make_scripts, part):
    """Trials that are tried again would wait for ever for a process."""
    scripts = make_scripts("ray_died")
    flags = ("--preset", "smoke", "--budget", "16777216")
    running = scripts.start("reward_search", *flags, "--name", "ray_died")
    wait_for(early, running, scripts.folder / "runs" / "ray_died")
    (doomed,) = (p for p in descendants(running.pid) if part in command_line(p))
    kill(doomed)
    finished = running.wait(300)
    assert finished.code == 1, finished
    last = finished.stderr.splitlines()[-1]
    assert "Ray's node on this machine, or its head, has died" in last, finished
    assert "--resume" in last


def test_a_killed_sweep_with_asha_ends_well(killed_asha):
    assert_it_ended_well(killed_asha.sweep)
    assert_what_was_reported_stayed(killed_asha)
    assert_ended_trials_were_left_alone(killed_asha)


def test_a_killed_sweep_with_asha_has_the_curves_of_one_that_was_not(killed_asha, undisturbed):
    ours, theirs = on_common_ground(killed_asha.sweep, undisturbed)
    assert len(ours) > 100
    assert ours == theirs


def test_a_killed_sweep_with_asha_has_one_mlflow_run_a_trial(killed_asha):
    """Although the follower of the killed driver was still writing when the next one began."""
    assert_one_run_a_trial(killed_asha.sweep.tracking_uri, killed_asha.sweep.folder)


def test_rungs_rebuilt_from_the_record_are_those_of_the_record(killed_asha):
    spec = load_spec(killed_asha.sweep.folder)
    for folder in (*killed_asha.before, killed_asha.sweep.folder):
        scheduler: Any = SCHEDULERS["asha"](spec)
        scheduler.replay(read_segments(folder))
        searched = [row for row in read_segments(folder) if row["phase"] == "search"]
        expected: dict[int, dict[str, float]] = {}
        milestone = spec.grace_period
        while milestone < spec.base.full_length:
            at = [row for row in searched if row["env_steps"] == milestone]
            expected[milestone] = {row["trial"]: row["objective"] for row in at}
            milestone *= spec.reduction_factor
        assert scheduler.rungs == expected


def test_asha_decided_as_if_it_had_never_been_killed(killed_asha):
    """Each stop follows from the reports before it, in the order of the record."""
    spec = load_spec(killed_asha.sweep.folder)
    milestones = {spec.grace_period * spec.reduction_factor**k for k in range(10)}
    recorded: dict[int, list[float]] = {}
    for row in read_segments(killed_asha.sweep.folder):
        if row["phase"] != "search" or row["stop_reason"] == "budget":
            continue
        earlier = recorded.setdefault(row["env_steps"], [])
        stops = False
        if row["env_steps"] in milestones:
            if earlier:
                stops = row["objective"] < percentile(earlier, 1 - 1 / spec.reduction_factor)
            earlier.append(row["objective"])
        assert (row["stop_reason"] == "asha") == stops, row


def percentile(values: list[float], share: float) -> float:
    """Linear between the values around, as the paper's code and Ray's have it."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def test_ctrl_c_prints_how_to_go_on_and_going_on_ends_well(interrupted):
    """Exit code and words of the interrupted run are checked where it is interrupted."""
    assert_it_ended_well(interrupted.sweep)
    assert_what_was_reported_stayed(interrupted)
    assert_ended_trials_were_left_alone(interrupted)
    assert_one_run_a_trial(interrupted.sweep.tracking_uri, interrupted.sweep.folder)


def test_ctrl_c_loses_no_segment(interrupted, undisturbed):
    ours, theirs = on_common_ground(interrupted.sweep, undisturbed)
    assert len(ours) > 100
    assert ours == theirs


def test_film_strips_that_ctrl_c_kept_from_being_drawn_are_drawn_later(interrupted):
    folder = interrupted.sweep.folder
    for name in trials_once(folder):
        assert film_strip_path(folder, name).exists(), name


def test_ctrl_c_leaves_a_checkpoint_at_the_last_report(make_scripts):
    """So that nothing has to be trained again."""
    scripts = make_scripts("ctrl_c")
    folder = scripts.folder / "runs" / "interrupted"
    # A trial takes some seconds, and the table is behind by less.
    flags = ("--preset", "smoke", "--budget", "2000000", *PLAIN, "--scheduler", "none")
    running = scripts.start("reward_search", *flags, "--name", "interrupted")
    wait_for(early, running, folder)
    interrupt(running)
    last: dict[str, int] = {row["trial"]: row["env_steps"] for row in read_segments(folder)}
    trials = trials_once(folder)
    interrupted = [name for name in last if trials[name]["status"] == "running"]
    assert interrupted
    for name in interrupted:
        checkpoint = newest_checkpoint(folder, name)
        assert checkpoint is not None
        assert read_metadata(checkpoint / STATE_FILE)["env_steps"] == last[name]


def test_a_sweep_survives_the_loss_of_a_worker(lost_worker):
    assert_it_ended_well(lost_worker.sweep)
    workers = {
        row["worker"]
        for (name, _), row in segments_once(lost_worker.sweep.folder).items()
        if name == lost_worker.trial
    }
    assert lost_worker.worker in workers
    assert len(workers) == 2


def test_the_loss_of_a_worker_changes_no_curve(lost_worker, undisturbed):
    assert curves(lost_worker.sweep.folder) == curves(undisturbed.folder)
    assert_one_run_a_trial(lost_worker.sweep.tracking_uri, lost_worker.sweep.folder)
