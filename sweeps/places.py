"""Where results go where no flag says: the environment, as a cluster's head has it, or here."""

import os
from pathlib import Path

RUNS_DIR = Path("runs")


def runs_dir() -> Path:
    """Returns the folder of sweeps: SHAPESWEEP_RUNS_DIR, or ``runs``."""
    return Path(os.environ.get("SHAPESWEEP_RUNS_DIR") or RUNS_DIR)


def tracking_uri() -> str | None:
    """Returns MLflow's store or server: MLFLOW_TRACKING_URI, as MLflow has it, or None."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None
