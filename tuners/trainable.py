"""Ray Tune's view of a trial: one segment a step.

Nothing that loads JAX is imported here at module level: a worker is pinned to its core first.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from tuners.gpu import gpu_environment, require_gpu
from tuners.login import error_line
from tuners.pinning import pin_to_free_core
from tuners.store import at_hand

if TYPE_CHECKING:
    from tuners.trial import Trial


class CheckpointClock:
    """Asks Tune for a checkpoint every so many seconds: that much training can be lost."""

    def __init__(self, seconds: float) -> None:
        """Counts from now."""
        self._seconds = seconds
        self._last = time.monotonic()

    def mark(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns a report, marked if a checkpoint is due after it."""
        due = time.monotonic() - self._last >= self._seconds
        if due:
            self._last = time.monotonic()
        return row | {SHOULD_CHECKPOINT: due}


def begin_again(job: str, error: ValueError) -> None:
    """Says that a job begins where it began before: what it trains is the same a second time."""
    print(f"{job} begins again: {error_line(error)}", file=sys.stderr, flush=True)


class SegmentTrainable(tune.Trainable):
    """Trains one job of a sweep; its process and compiled programs serve one job after another.

    The config of a job is what ``tuners/run.py`` makes of it for Tune.
    """

    trial: "Trial"

    def setup(self, config: dict[str, Any]) -> None:
        """Pins the process if it trains on the CPU, and begins the job."""
        if not config["uses_gpu"]:
            pin_to_free_core()
            os.environ["JAX_PLATFORMS"] = "cpu"
        else:
            os.environ.update(gpu_environment(config["precision"]))
            require_gpu()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins the next job in the same process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains a segment and returns its row."""
        return self._clock.mark(self.trial.advance())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trial's state."""
        self.trial.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continues from what ``save_checkpoint`` wrote; from the start if that is damaged."""
        try:
            self.trial.load(Path(checkpoint_dir))
        except ValueError as error:
            begin_again(self.config["job"], error)
            self._begin(self.config)

    def _begin(self, config: dict[str, Any]) -> None:
        from tuners.trial import Trial

        self._clock = CheckpointClock(config["checkpoint_seconds"])
        self.trial = Trial.from_entry(config)
        if config["resume_from"] is not None:
            with at_hand(config["resume_from"]) as folder:
                self.trial.load(folder)
