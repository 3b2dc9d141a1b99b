"""One trial in this process: a config and seeds, advanced a segment at a time.

Ray Tune's trainable and ``sweeps/train.py`` both drive it.
"""

import time
from pathlib import Path
from typing import Any

import jax

from rlcore.evaluate import Episodes
from rlcore.ppo.train import TrainState
from rlcore.video import Recording
from tuners.config import TrialConfig
from tuners.objectives import Objective
from tuners.programs import fresh_state, num_programs, segment_program
from tuners.progress import Effort, Progress, reports_of


class Trial(Progress):
    """One configuration, trained on its seeds side by side.

    Attributes:
        state: the train states, stacked over seeds.
        episodes: of the last evaluation that did not diverge.
        last_row: of the last segment.
        compile_seconds: what compiling took in this process for this trial, 0 if it was compiled.
    """

    def __init__(
        self,
        config: TrialConfig,
        seeds: list[int],
        objective: Objective | None = None,
        until: int | None = None,
        fails_together: bool = True,
    ) -> None:
        """Makes fresh states, and compiles the segment if this process has not yet."""
        super().__init__(config, seeds, objective, until, fails_together)
        self.state: TrainState = fresh_state(config, seeds)
        self.episodes: Episodes | None = None
        self.last_row: dict[str, Any] = {}
        started = time.perf_counter()
        programs = num_programs()
        self._segment = segment_program(config)
        is_new = num_programs() > programs
        self.compile_seconds = time.perf_counter() - started if is_new else 0.0

    def advance(self) -> dict[str, Any]:
        """Trains one segment and returns its row, as ``tuners/results.py`` describes it."""
        self.follow_schedule()
        task, *numbers = self.parameters
        wall, cpu = time.perf_counter(), time.process_time()
        self.state, metrics, episodes = self._segment(task, self.state, *numbers)
        (report,) = reports_of(jax.tree.map(lambda leaf: leaf[None], jax.device_get(metrics)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.last_row = self.take_in(report, Effort(wall, cpu, self.compile_seconds))
        self.compile_seconds = 0.0
        if not self.last_row["diverged"]:
            self.episodes = jax.device_get(episodes)
        return dict(self.last_row)

    def save(self, folder: Path) -> None:
        """Writes the state, and the last evaluation episodes of the best seed, into ``folder``."""
        self.write_checkpoint(folder, self.state, self.episodes)

    def load(self, folder: Path) -> None:
        """Continues from what ``save`` wrote.

        Raises:
            ValueError: the checkpoint is damaged or of another config.
        """
        self.state = self.read_checkpoint(folder, jax.eval_shape(lambda: self.state))

    def recording(self) -> Recording:
        """Returns the last evaluation episodes of the best seed; call it after a segment."""
        assert self.episodes is not None
        return self.recording_of_best(self.episodes)
