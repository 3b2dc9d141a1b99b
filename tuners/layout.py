"""Where everything lies in a sweep's folder."""

import re
from pathlib import Path

SPEC_FILE = "sweep.yaml"
COMPARISON_FILE = "comparison.json"
SHAPES_FILE = "shapes.json"
TRACKING_FILE = "mlflow.json"
MLFLOW_LOG = "mlflow.log"
TRACKING_LOCK_FILE = "mlflow.lock"
LOCK_FILE = "driver.lock"
TRIALS_FILE = "trials.parquet"
SEGMENTS_FOLDER = "segments.parquet"
MEDIA_FOLDER = "media"
PLOTS_FOLDER = "plots"
REPORT_FILE = "report.html"
TUNE_FOLDER = "tune"
SESSION = f"{TUNE_FOLDER}/session-"  # and the number of the run of Tune
CHECKPOINTS_KEPT = 2  # of a trial: the one before serves where the last is damaged
STUDY_FILE = f"{TUNE_FOLDER}/optuna.journal"  # trusted like Tune's own state: CMA-ES pickles there

# In a checkpoint's folder.
STATE_FILE = "state.safetensors"
RECORDING_FILE = "recording.safetensors"


def sweep_address(storage: str, name: str) -> str:
    """Returns where a store has the folder of a sweep."""
    return f"{storage.rstrip('/')}/{name}"


def session_folder(number: int) -> str:
    """Returns where a run of Tune keeps its trials, relative to the sweep's folder."""
    return f"{SESSION}{number:03d}"


def film_strip_path(folder: Path, trial: str) -> Path:
    """Returns where a trial's film strip lies."""
    return folder / MEDIA_FOLDER / f"{trial}.png"


def video_path(folder: Path, trial: str) -> Path:
    """Returns where a trial's video lies, if it has one."""
    return folder / MEDIA_FOLDER / f"{trial}.mp4"


def trial_of(name: str) -> str:
    """Returns whose a folder of a session is.

    A job that failed before it ran is another trial to Tune, which ends that one's folder in four
    digits more.
    """
    return re.sub(r"_[0-9a-f]{4}$", "", name)
