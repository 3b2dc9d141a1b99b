"""The composition root: a sweep's description in, its result out."""

import errno
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from rlcore.files import check_room, replacing
from tuners import following
from tuners.adapter import RETRIES, InterruptStopper, Listener, PlanSearcher, SweepCallback
from tuners.checkpoints import Checkpoints
from tuners.cluster.doctor import diagnose
from tuners.cluster.joining import joined
from tuners.console import SweepConsole
from tuners.errors import BadInput
from tuners.interrupts import noticing
from tuners.job_names import job_name
from tuners.layout import COMPARISON_FILE, REPORT_FILE, session_folder
from tuners.media import MediaQueue
from tuners.mirror import Mirror
from tuners.objectives import Outcome
from tuners.phases import BASELINE, Job, Plan
from tuners.population import PopulationPlan
from tuners.ray_settings import joins_cluster, keep_keys_in_the_environment
from tuners.results import ResultsWriter, read_segments, read_trials
from tuners.resume import restore
from tuners.schedulers import SCHEDULERS
from tuners.searchers import most_at_once
from tuners.spec import SweepSpec
from tuners.store import count_sessions
from tuners.store_wait import StoreWait
from tuners.validate import (
    Comparison,
    Curves,
    best_seed,
    compare,
    gather_curves,
    slot_use,
    utilisation,
)
from tuners.warm_workers import keeping_workers
from tuners.workers import Workers, refuse_without_gpu, workers_of

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_WORK = ("time", "wall_seconds", "cpu_seconds", "slots", "live_slots")  # columns
_MAX_ARTISTS = 8  # they draw faster than a large cluster ends trials


@dataclass(frozen=True)
class SweepResult:
    """What a finished sweep found.

    Attributes:
        plan: every job and how it ended.
        comparison: the final table.
        utilisation: CPU time inside segments, as a share of cores x wall time.
        slot_use: share of packs' slots, over their training time, that trained a trial; None
            without packs.
        tracked: whether MLflow holds everything.
        failures: one line for each thing that went wrong without ending the sweep.
    """

    plan: Plan
    comparison: Comparison
    utilisation: float
    slot_use: float | None
    tracked: bool
    failures: list[str]


def run_sweep(spec: SweepSpec, *, console: Console, address: str | None = None) -> SweepResult:
    """Runs a sweep to its end, on from where its folder says it is, and returns what it found.

    ``tuners.ray_settings.apply_ray_settings`` has been called before this module was imported.

    Args:
        spec: the sweep; ``tuners.spec.prepare`` has made its folder or checked it.
        console: where a person looks.
        address: of a Ray cluster, as ``tuners.ray_settings.joins_cluster`` has it.

    Raises:
        KeyboardInterrupt: after a Ctrl-C during training all segments have ended, and everything
            known is on disk.
    """
    plan = PopulationPlan(spec) if spec.scheduler == "pbt" else Plan(spec)
    comparisons: list[Comparison] = []

    def conclude(media: MediaQueue, screen: SweepConsole) -> list[str]:
        if plan.winner is None:
            raise RuntimeError("the sweep ended before its plan did")
        comparisons.append(_conclude(spec, plan))
        if not spec.media:
            (spec.folder / REPORT_FILE).unlink(missing_ok=True)  # of before the end
            return []
        screen.note("drawing plots, videos and the report")
        return _finish_media(spec, plan, media)

    ran = run_jobs(spec, plan, SweepConsole(plan, console), address, _filmed_first, conclude)
    return SweepResult(
        plan,
        comparisons[0],
        utilisation(ran.segments, ran.cores),
        slot_use(ran.segments),
        ran.tracked,
        ran.failures,
    )


@dataclass(frozen=True)
class Ran:
    """How the jobs of a plan went.

    Attributes:
        segments: when each row of this run was reported, and what it took.
        cores: of the cluster.
        tracked: whether MLflow holds everything.
        failures: one line for each thing that went wrong without ending the run.
    """

    segments: list[dict[str, Any]]
    cores: float
    tracked: bool
    failures: list[str]


def run_jobs(
    spec: SweepSpec,
    plan: Plan,
    screen: SweepConsole,
    address: str | None,
    is_filmed: Callable[[dict[str, Any]], bool],
    conclude: Callable[[MediaQueue, SweepConsole], list[str]],
) -> Ran:
    """Trains every job of a plan with Ray Tune, followed in MLflow, and concludes.

    Args:
        spec: whose folder everything goes to.
        plan: the jobs.
        screen: shows how it goes.
        address: of a Ray cluster, as ``run_sweep`` has it.
        is_filmed: whether the trial of a row that ended gets a video.
        conclude: called when every job has ended and Ray still runs; returns a line a failure.

    Raises:
        KeyboardInterrupt: as ``run_sweep`` has it.
        BadInput: the cluster cannot be joined, or is not fit.
    """
    follower = following.start_following(spec.folder, spec.tracking_uri)
    mirror = None if spec.address is None else Mirror(spec.folder, spec.address)
    tracked = False
    try:
        with screen:
            screen.note("starting Ray")
            with joined(address, say=screen.warn):
                if joins_cluster(address):
                    screen.note("looking at every node")
                    refuse_if_unfit(spec)
                else:
                    keep_keys_in_the_environment()
                    refuse_without_gpu(spec)
                cores = ray.cluster_resources().get("CPU", 1.0)
                # They draw on this machine, while workers may have yet to join.
                artists = int(cores) if spec.address is None else os.cpu_count() or 1
                media = MediaQueue(
                    spec.folder,
                    processes=min(_MAX_ARTISTS, max(1, artists)),
                    address=spec.address,
                )
                segments, failures = _train(spec, plan, screen, media, is_filmed, mirror)
                failures += conclude(media, screen)
            screen.note("writing to MLflow")
            tracked = following.stop_following(follower, timeout=60.0)
            if mirror is not None:
                screen.note("copying to the store")
                failures += mirror.close()
                mirror = None  # closed: the store is not asked once more
    finally:
        if follower.poll() is None:
            following.stop_following(follower, timeout=10.0)
        if mirror is not None:
            for line in mirror.close():
                screen.note(line)
    return Ran(segments, cores, tracked, failures)


def _train(
    spec: SweepSpec,
    plan: Plan,
    screen: SweepConsole,
    media: MediaQueue,
    is_filmed: Callable[[dict[str, Any]], bool],
    mirror: Mirror | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs every job of the plan; returns what its segments took, and a line a failed job."""
    writer = ResultsWriter(spec.folder, spec.base.task)
    scheduler = SCHEDULERS[spec.scheduler](spec)
    checkpoints = Checkpoints(restore(spec, plan, writer, scheduler), mirror)
    for row in writer.trials.values() if spec.media else ():
        media.film_strip(row)  # that an interruption kept from being drawn
    interrupted = threading.Event()
    segments: list[dict[str, Any]] = []

    def collect(event: str, row: dict[str, Any]) -> None:
        if event == "segment":
            segments.append({name: row[name] for name in _WORK})  # a sweep has a million of them
        elif event == "ended" and spec.media:
            media.film_strip(row)
            if is_filmed(row):
                media.video(row)

    listeners: list[Listener] = [collect, screen.listen]
    stopper = InterruptStopper(interrupted)
    callback = SweepCallback(plan, writer, scheduler, stopper, checkpoints, listeners)
    screen.note(_what_is_awaited(spec))
    if not plan.finished:
        with workers_of(spec) as workers, noticing(interrupted), keeping_workers():

            def to_tune(job: Job) -> dict[str, Any]:
                resume_from = checkpoints.resume_from.get(job.name) or _inherited(writer, job)
                return _to_tune(spec, job, _place(spec, resume_from)) | workers.config

            most = most_at_once(spec, workers.at_once)
            searcher = PlanSearcher(plan, to_tune, interrupted, most)
            tuner = _make_tuner(spec, workers, scheduler, searcher, stopper, callback)
            with _plain_about_storage(spec, callback.store):
                tuner.fit()
                writer.flush()
    if interrupted.is_set():
        raise KeyboardInterrupt
    failed = [t["trial"] for t in writer.trials.values() if t["status"] == "error"]
    return segments, [f"{name} failed {RETRIES + 1} times" for name in failed]


def _what_is_awaited(spec: SweepSpec) -> str:
    """Returns in words what happens before the first trial begins."""
    if spec.uses_gpu and not ray.cluster_resources().get("GPU"):
        return "waiting for a machine with a GPU to join (`ray status` says what Ray does for it)"
    if spec.slots == 0 and spec.uses_gpu:
        return "waiting for a free GPU, to measure how many trials pay unless that is known"
    return "starting workers"


@contextmanager
def _plain_about_storage(spec: SweepSpec, store: StoreWait | None) -> Iterator[None]:
    """Says of a disk that is full, or of a disk or a store that cannot be written, what to do.

    Raises:
        OSError: in one line.
    """
    try:
        yield
    except Exception as error:  # Tune wraps what its callbacks raise
        number = _why_unwritable(spec.folder, error)
        if number == errno.ENOENT:
            raise OSError(number, f"{spec.folder} is gone, and the sweep with it") from None
        if number is not None:
            fault = f"{spec.folder}: {os.strerror(number)}"
        elif store is not None and store.fault:
            number, fault = errno.EIO, store.fault
        else:
            raise
        then = f", and --resume {spec.name} goes on once it can be written" * spec.can_resume
        raise OSError(number, f"{fault}; what was reported is kept{then}") from None


def _why_unwritable(folder: Path, error: Exception) -> int | None:
    """Returns the error number if a folder cannot be written, or could not when an error came."""
    try:
        check_room(folder)
    except OSError as refused:
        return refused.errno
    number = error.errno if isinstance(error, OSError) else None
    return number if number in _UNWRITABLE else None


def _to_tune(spec: SweepSpec, job: Job, resume_from: str | None) -> dict[str, Any]:
    """Returns what Tune hands to a trainable of a job."""
    return {
        "job": job.name,
        "phase": job.phase,
        "seeds": list(job.seeds),
        "config": job.config.to_dict(),
        "resume_from": resume_from,
        "until": job.until,
        "uses_gpu": spec.uses_gpu,
        "precision": spec.precision,
        "objective": (spec.objective, spec.spread_penalty),
    }


def _inherited(writer: ResultsWriter, job: Job) -> str | None:
    """Returns the checkpoint that a job begins from, if it has a parent."""
    return writer.trials[job.parent]["checkpoint"] if job.parent is not None else None


def _place(spec: SweepSpec, checkpoint: str | None) -> str | None:
    """Returns where workers find a checkpoint that is named relative to the sweep's folder."""
    if checkpoint is None:
        return None
    if spec.address is not None:
        return f"{spec.address}/{checkpoint}"
    return str((spec.folder / checkpoint).absolute())


def _make_tuner(
    spec: SweepSpec,
    workers: Workers,
    scheduler: Any,
    searcher: PlanSearcher,
    stopper: InterruptStopper,
    callback: SweepCallback,
) -> tune.Tuner:
    # As many trials wait as run.  With fewer, Tune starts the workers one after the other, and
    # gives up each that is still starting when a trial ends elsewhere.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers.at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the callback tells of failures
    session = Path(session_folder(count_sessions(spec.folder) + 1))
    home = spec.address or str(spec.folder.absolute())
    return tune.Tuner(
        tune.with_resources(workers.trainable, workers.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=1_000_000,  # the plan says when it is finished
            reuse_actors=True,
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
        ),
        run_config=tune.RunConfig(
            name=session.name,
            storage_path=f"{home}/{session.parent}",
            stop=stopper,
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        ),
    )


def _job_name(trial: Any) -> str:
    return str(trial.config["job"])


def _conclude(spec: SweepSpec, plan: Plan) -> Comparison:
    """Writes ``comparison.json``: the final table and all that a reader needs beside it."""
    winner = plan.winner
    assert winner is not None and plan.validation is not None
    segments = read_segments(spec.folder, ["trial", "env_steps", "seed_scores"])
    curves = gather_curves(read_trials(spec.folder), segments, "test")
    comparison = compare(
        curves,
        winner=winner,
        over_tuning=_gap(spec, plan.searched(winner), curves.get(winner)),
        validated=plan.validation,
    )
    entries = {
        "sweep": spec.name,
        "num_trials": spec.num_trials,
        "winner": winner,
        "config": plan.config_of(winner).to_dict(),
        **comparison.to_dict(),
        "best_trial": best_validated_trial(spec, plan),
    }
    with replacing(spec.folder / COMPARISON_FILE) as beside:
        beside.write_text(json.dumps(entries, indent=2))
    return comparison


def _gap(spec: SweepSpec, searched: Outcome, tested: Curves | None) -> float | None:
    """Returns the winner's objective in the search minus that in the test, if it has both."""
    whole = searched.stop_reason == "budget" and math.isfinite(searched.objective)
    if tested is None or not whole:
        return None
    return searched.objective - spec.judge.value(tested)


def best_validated_trial(spec: SweepSpec, plan: Plan) -> str:
    """Returns the winner's validation job with the best seed; the policy comes from there.

    Raises:
        BadInput: all of them failed before their first checkpoint.
    """
    trials = {t["trial"]: t for t in read_trials(spec.folder) if t["row"] == plan.winner}
    scores: dict[str, list[list[float]]] = {}
    for row in read_segments(spec.folder, ["trial", "phase", "seed_scores"]):
        if row["phase"] == "validation" and row["trial"] in trials:
            scores.setdefault(row["trial"], []).append(row["seed_scores"])
    best = {
        name: best_seed(curve)[1]
        for name, curve in scores.items()
        # What diverged may have been the best until then; what it saved are no numbers.
        if trials[name]["checkpoint"] is not None and trials[name]["stop_reason"] != "diverged"
    }
    if not best:
        raise BadInput(f"{plan.winner} won, but each of its validation trials failed")
    return max(best, key=lambda name: (trials[name]["stop_reason"] == "budget", best[name]))


def _filmed_first(trial: dict[str, Any]) -> bool:
    """Returns whether a trial that ended is a finalist's first in validation."""
    return bool(trial["trial"] == _filmed_trial(trial["row"]))


def _filmed_trial(row: str) -> str:
    """Returns the job of a finalist, or of the baseline, that has a video."""
    return job_name("validation", row, 0)


def _finish_media(spec: SweepSpec, plan: Plan, media: MediaQueue) -> list[str]:
    """Draws plots, what videos are missing, and the report; returns a line a failure."""
    assert plan.winner is not None
    media.plots()
    trials = {trial["trial"]: trial for trial in read_trials(spec.folder)}
    others = [row for row in (BASELINE, *(plan.finalists or [])) if row != plan.winner]
    for name in (best_validated_trial(spec, plan), *map(_filmed_trial, others)):
        if name in trials:
            media.video(trials[name])
    failures = media.wait(timeout=120.0)
    media.report()  # the videos are in it
    return failures + media.wait(timeout=60.0)


def refuse_if_unfit(spec: SweepSpec) -> None:
    """Looks at every node of the cluster before the first trial.

    Raises:
        BadInput: what is wrong where, and what to do.
    """
    on_cpu = os.environ.get("JAX_PLATFORMS") == "cpu"  # whoever says so expects no GPU
    faults = diagnose(
        spec.storage or spec.runs_dir,  # with a store the folder of sweeps is the driver's alone
        None,
        uses_gpus=spec.uses_gpu and not on_cpu,
        timeout=120.0,
        trains=False,
    ).faults
    if faults:
        rest = f" (and {len(faults) - 1} more: sweeps/doctor.py lists them)" * (len(faults) > 1)
        raise BadInput(f"the cluster is not fit for a sweep: {faults[0]}{rest}")
