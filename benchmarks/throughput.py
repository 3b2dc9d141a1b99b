"""How many environment steps a second one core trains, and how well two trials side by side do.

    python benchmarks/throughput.py [TASK ...]     # about two minutes a task on two cores

For every task and three shapes of the training.  Each figure is the median over segments,
evaluation included, compile time apart.  Trials side by side are processes, each pinned to a core
of its own, as in a sweep.  Steps are decisions: four simulation steps each on dmc_swingup.
"""

import json
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

from benchmarks.pinned import cores, run_pinned, work_if_asked
from rlcore.tasks import TASKS
from tuners.config import TrialConfig, baseline
from tuners.presets import preset_for

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "128 envs x 64, 64 hidden, 4 epochs x 8": (
        "laptop",
        {"num_envs": 128, "rollout_length": 64, "shuffle": "envs", "seeds_per_trial": 1},
    ),
    "preset laptop": ("laptop", {}),
    "preset notebook": ("notebook", {"seeds_per_trial": 1}),
}
SEGMENTS = 24
SECONDS = 16.0


def config_of(task: str, shape: str) -> TrialConfig:
    """Returns the config to train: segments of about as many steps as the preset has, at most."""
    preset, changes = SHAPES[shape]
    entries = preset_for(preset, task)
    ppo = replace(entries["ppo"], **changes)
    updates = min(ppo.updates_per_segment, max(1, 262_144 // ppo.steps_per_update))
    ppo = replace(ppo, updates_per_segment=updates)
    budget = ppo.steps_per_segment * SEGMENTS
    return TrialConfig(task, reward=baseline(task), ppo=ppo, budget=budget)


def measure(request: Any) -> None:
    """Prints the steps/s of one trial in this process: the median over segments."""
    from tuners.trial import Trial

    config = config_of(*request)
    trial = Trial(config, list(range(config.ppo.seeds_per_trial)))
    trial.advance()
    rates, begun = [], time.monotonic()
    while not trial.finished and time.monotonic() - begun < SECONDS:
        rates.append(trial.advance()["steps_per_second"])
    print(json.dumps(statistics.median(rates)))


def side_by_side(task: str, shape: str, groups: list[set[int]]) -> list[float]:
    """Returns the steps/s of one process on each group of cores, all at the same time."""
    return [rate for (rate,) in run_pinned(__file__, [(group, (task, shape)) for group in groups])]


def main(tasks: list[str]) -> None:
    """Prints the table."""
    heads = ("one core", "a trial a core", "ratio", "all cores, one")
    print(f"{'':13}{'':41}" + "".join(f"{head:>16}" for head in heads))
    for task in tasks:
        for shape in SHAPES:
            (alone,) = side_by_side(task, shape, [{cores()[0]}])
            together = sum(side_by_side(task, shape, [{core} for core in cores()]))
            (spread,) = side_by_side(task, shape, [set(cores())])
            figures = (f"{alone:,.0f}", f"{together:,.0f}", f"{together / alone:.2f}")
            cells = "".join(f"{cell:>16}" for cell in (*figures, f"{spread:,.0f}"))
            print(f"{task:13}{shape:41}{cells}", flush=True)


if __name__ == "__main__" and not work_if_asked(measure):
    main(sys.argv[1:] or list(TASKS))
