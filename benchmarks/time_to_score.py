"""How soon training first reaches a score and keeps it, over 20 seeds.

    python benchmarks/time_to_score.py swingup task_score found baseline    # a minute a shape

Default PPO settings of the laptop preset, 1 M steps a seed, evaluated about every 0.05 M.  A seed
has arrived at the first of three evaluations in a row above the threshold.  Seconds are those of
one core that trains one seed, evaluation included and compile time apart.
"""

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.pinned import cores, run_pinned, work_if_asked
from rlcore.rewards import SHAPES
from tuners.config import TrialConfig
from tuners.spec import make_spec
from tuners.validate import THRESHOLD

SEEDS = range(50_000, 50_020)
BUDGET = 1_000_000
EVALUATED_EVERY = 50_000
IN_A_ROW = 3


def config_of(task: str, shape: str) -> TrialConfig:
    """Returns the laptop preset's config, with one segment from an evaluation to the next."""
    base = make_spec(
        name="x", preset="laptop", task=task, reward=SHAPES[task][shape], space={}
    ).base
    updates = max(1, round(EVALUATED_EVERY / base.ppo.steps_per_update))
    ppo = replace(base.ppo, updates_per_segment=updates, seeds_per_trial=1)
    return replace(base, ppo=ppo, budget=BUDGET)


def work(request: Any) -> None:
    """Prints each seed's scores and the seconds of its segments as a line of JSON."""
    from tuners.trial import Trial

    task, shape, seeds = request
    config = config_of(task, shape)
    for seed in seeds:
        trial, scores, seconds = Trial(config, [seed]), [], []
        while not trial.finished:
            row = trial.advance()
            scores.append(row["score"])
            seconds.append(row["wall_seconds"])
        print(json.dumps({"scores": scores, "seconds": seconds}), flush=True)


def arrival(scores: list[float]) -> int | None:
    """Returns the index of the evaluation at which a seed has arrived, None if it never does."""
    above = np.array(scores) > THRESHOLD
    for start in range(len(above) - IN_A_ROW + 1):
        if np.all(above[start : start + IN_A_ROW]):
            return start
    return None


def main(task: str, shapes: list[str]) -> None:
    """Prints a line a shape."""
    shares = np.array_split(SEEDS, len(cores()))
    print(f"{task}: first of {IN_A_ROW} evaluations in a row above {THRESHOLD:.0f}, 20 seeds")
    for shape in shapes:
        segment = config_of(task, shape).ppo.steps_per_segment
        requests = [
            ({core}, (task, shape, share.tolist()))
            for core, share in zip(cores(), shares, strict=True)
        ]
        runs = [run for lines in run_pinned(__file__, requests) for run in lines]
        arrivals = [(arrival(run["scores"]), run) for run in runs]
        steps = [(first + 1) * segment / 1e6 for first, _ in arrivals if first is not None]
        times = [sum(run["seconds"][: first + 1]) for first, run in arrivals if first is not None]
        kept = sum(run["scores"][-1] > THRESHOLD for first, run in arrivals if first is not None)
        line = f"  {shape:12} {len(steps)} of {len(runs)} seeds, {kept} still above at 1 M"
        if steps:
            low, middle, high = np.percentile(steps, [25, 50, 75])
            line += f"; {middle:.2f} M steps [{low:.2f} to {high:.2f}, last {max(steps):.2f}]"
            line += f", {np.median(times):.1f} s"
        print(line, flush=True)


if __name__ == "__main__" and not work_if_asked(work):
    main(sys.argv[1], sys.argv[2:])
