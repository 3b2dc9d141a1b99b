"""One configuration trained in this process, on disk and in MLflow like a sweep of one trial."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlcore.video import Recording, load_recording, write_film_strip, write_video
from tuners import following
from tuners.checkpoints import newest_checkpoint
from tuners.interrupts import noticing
from tuners.job_names import BASELINE, FIRST_TRIAL
from tuners.layout import (
    CHECKPOINTS_KEPT,
    MEDIA_FOLDER,
    RECORDING_FILE,
    film_strip_path,
    session_folder,
    video_path,
)
from tuners.results import ResultsWriter, read_segments
from tuners.spec import SweepSpec
from tuners.trial import Trial

CHECKPOINT_EVERY = 8


def run_single(
    spec: SweepSpec,
    *,
    video_every: int,
    on_segment: Callable[[dict[str, Any]], None],
) -> bool:
    """Trains ``spec.base`` to the end of its budget; returns whether MLflow holds everything.

    Args:
        spec: its seeds of the search phase are trained, on from where its folder says they are;
            ``tuners.spec.prepare`` has made the folder or checked it.
        video_every: films the policy every so many segments; 0 films the last only.
        on_segment: is told each segment's row.

    Raises:
        KeyboardInterrupt: after a Ctrl-C during training the segment has ended, and a checkpoint
            is on disk.
    """
    follower = following.start_following(spec.folder, spec.tracking_uri)
    try:
        with ThreadPoolExecutor(1) as drawing:
            _train(spec, video_every, on_segment, drawing)
        return following.stop_following(follower, timeout=60.0)
    finally:
        if follower.poll() is None:
            following.stop_following(follower, timeout=10.0)


def _train(
    spec: SweepSpec,
    video_every: int,
    on_segment: Callable[[dict[str, Any]], None],
    drawing: ThreadPoolExecutor,
) -> None:
    writer = ResultsWriter(spec.folder, spec.base.task)
    (spec.folder / MEDIA_FOLDER).mkdir(exist_ok=True)
    seeds = spec.seeds("search")
    trial = Trial(spec.base, seeds)
    known = read_segments(spec.folder, ["diverged"])
    diverged = bool(known) and bool(known[-1]["diverged"])  # and killed before that was written
    checkpoint = newest_checkpoint(spec.folder, FIRST_TRIAL)
    if checkpoint is not None:
        trial.load(checkpoint)
    elif FIRST_TRIAL not in writer.trials:
        config = spec.base.to_dict()
        writer.begin_trial(FIRST_TRIAL, phase="search", row=BASELINE, seeds=seeds, config=config)
    drawn: list[Future[None]] = []
    interrupted = threading.Event()
    with noticing(interrupted):
        while not (trial.finished or diverged or interrupted.is_set()):
            row = _segment(spec, trial, writer)
            on_segment(row)
            if diverged := row["diverged"]:
                break
            if video_every and row["segment"] % video_every == 0:
                path = video_path(spec.folder, f"{FIRST_TRIAL}@{row['env_steps']:09d}")
                drawn.append(drawing.submit(write_video, path, trial.recording()))
            if row["segment"] % CHECKPOINT_EVERY == 0:
                _checkpoint(spec.folder, trial)
    folder = _checkpoint(spec.folder, trial)
    if interrupted.is_set():
        writer.flush()
        raise KeyboardInterrupt
    _end(spec, trial, writer, folder, drawing, drawn)


def _segment(spec: SweepSpec, trial: Trial, writer: ResultsWriter) -> dict[str, Any]:
    row = trial.advance() | {"trial": FIRST_TRIAL, "phase": "search"}
    row["stop_reason"] = None
    if row["done"]:
        row["stop_reason"] = "diverged" if row["diverged"] else "budget"
    writer.add_segment(row)
    writer.flush()
    return row


def _end(
    spec: SweepSpec,
    trial: Trial,
    writer: ResultsWriter,
    checkpoint: Path,
    drawing: ThreadPoolExecutor,
    drawn: list[Future[None]],
) -> None:
    # Killed or interrupted between its last segment and this, it has trained nothing since.
    last = trial.last_row or read_segments(spec.folder)[-1]
    recording = _recording(trial, checkpoint)
    if recording is not None:
        drawn.append(
            drawing.submit(write_film_strip, film_strip_path(spec.folder, FIRST_TRIAL), recording)
        )
        drawn.append(drawing.submit(write_video, video_path(spec.folder, FIRST_TRIAL), recording))
    for future in drawn:
        future.result()
    reason = "diverged" if last["diverged"] else "budget"
    writer.end_trial(FIRST_TRIAL, reason, last, str(checkpoint.relative_to(spec.folder)))
    writer.flush()


def _recording(trial: Trial, checkpoint: Path) -> Recording | None:
    """Returns the episodes of the last evaluation, those of an earlier process if need be."""
    if trial.episodes is not None:
        return trial.recording()
    try:
        return load_recording(checkpoint / RECORDING_FILE)
    except (OSError, ValueError):
        return None


def _checkpoint(folder: Path, trial: Trial) -> Path:
    """Writes a checkpoint under a name of its own and removes all but the last few."""
    parent = folder / session_folder(1) / FIRST_TRIAL
    path = parent / f"checkpoint_{trial.env_steps:012d}"
    path.mkdir(parents=True, exist_ok=True)
    trial.save(path)
    for old in sorted(parent.glob("checkpoint_*"))[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old)
    return path
