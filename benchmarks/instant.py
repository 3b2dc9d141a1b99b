"""A search phase whose trainer returns at once: what a sweep costs beside training."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

from rlcore.ppo.config import PPOConfig
from tuners.spec import SweepSpec
from tuners.tracking import METRICS

if TYPE_CHECKING:
    from tuners.console import SweepConsole
    from tuners.phases import Plan


class InstantPack:
    """A pack whose trials have trained as soon as they ask."""

    def __init__(self, slots: int) -> None:
        from tests.tuners.small import segment_row

        self._row = segment_row("", 0) | {"worker": "", "wall_seconds": 1e-6, "cpu_seconds": 0.0}
        self._steps: dict[str, tuple[int, int, int]] = {}
        self.slots = slots

    def enter(self, job: str, entry: dict[str, Any]) -> None:
        """Begins a job."""
        ppo = PPOConfig(**entry["config"]["ppo"] | {"hidden_sizes": (8,)})
        self._steps[job] = 0, ppo.steps_per_segment, entry["config"]["budget"]

    def leave(self, job: str) -> None:
        """Forgets a job."""
        self._steps.pop(job, None)

    def advance(self, jobs: list[str]) -> dict[str, dict[str, Any]]:
        """Returns rows with a number in each column that MLflow is given, the same in all."""
        rows = {}
        for job in jobs:
            steps, segment, budget = self._steps[job]
            self._steps[job] = steps + segment, segment, budget
            changes = {"env_steps": steps + segment, "done": steps + 2 * segment > budget}
            changes["segment"] = steps // segment + 1
            score = random.Random(job).uniform(0.0, 1000.0)  # for a scheduler to tell them apart
            numbers = dict.fromkeys(METRICS, score) | {"device": "none"}
            rows[job] = {**self._row, **numbers, **changes, "time": time.time()}
            rows[job] |= {"slots": self.slots, "live_slots": len(jobs)}
        return rows

    def snapshot(self, job: str) -> "InstantPack":
        """Returns something that can be written."""
        return self

    def write(self, folder: Path) -> None:
        """Writes a checkpoint of nothing."""
        (folder / "state.safetensors").write_bytes(b"")


def search(
    spec: SweepSpec, make_screen: "Callable[[Plan], SweepConsole]", trainable: type | None = None
) -> None:
    """Runs a sweep's search phase through Ray Tune, tables and all.

    ``tuners.ray_settings.apply_ray_settings`` has been called before.

    Args:
        spec: with packs; ``tuners.spec.prepare`` has made its folder.
        make_screen: returns what shows the plan.
        trainable: the trials' class in place of ``PackedTrainable``.
    """
    import ray

    from tuners import run, workers
    from tuners.packs import server
    from tuners.phases import Plan

    class SearchOnly(Plan):
        def _candidates(self) -> Any:
            return self._searches()

    server.make_pack = InstantPack
    if trainable is not None:
        workers.PackedTrainable = trainable  # type: ignore[misc, assignment]
    plan = SearchOnly(spec)
    alone: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": 40,
    }
    ray.init("local", num_cpus=1, **alone)
    try:
        with make_screen(plan) as screen:
            run._train(spec, plan, screen, MagicMock(), lambda trial: False, None)
    finally:
        ray.shutdown()
