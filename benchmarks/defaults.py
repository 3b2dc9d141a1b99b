"""Which PPO settings a task should have by default, judged by the worst quarter of 20 seeds.

    python benchmarks/defaults.py swingup       # a quarter of an hour on two cores

Round 1 draws settings at random, the present default among them, and trains each on 4 seeds and
each of the task's shapes below; round 2 trains the best quarter on 20 other seeds.  A setting is
worth the mean, over shapes, of the mean area under the score curve over the worst quarter of its
seeds.  The table goes to the terminal; docs/defaults.md says what was made of it.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.pinned import cores, run_pinned, work_if_asked
from rlcore.rewards import SHAPES
from tuners.config import TrialConfig
from tuners.space import Choice, Domain, LogUniform, Uniform, sample
from tuners.spec import make_spec

CANDIDATES = 32
KEPT = 8
ROUNDS = {"1": range(40_000, 40_004), "2": range(41_000, 41_020)}
# Of a task: the two shapes by which a setting is judged.
JUDGES = defaultdict(
    lambda: ("task_score", "baseline"),
    {
        "swingup": ("task_score", "found"),
        "dmc_swingup": ("task_score", "found"),
        "balance": ("survival", "mean"),
    },
)
SPACE: dict[str, Domain] = {
    "learning_rate": LogUniform(5e-4, 8e-3),
    "gae_lambda": Uniform(0.85, 0.99),
    "clip_range": Uniform(0.1, 0.35),
    "entropy_coef": Choice((0.0, 0.001, 0.01)),
    "max_grad_norm": LogUniform(0.3, 5.0),
    "init_log_std": Uniform(-1.0, 0.3),
    "one_minus_gamma": LogUniform(0.003, 0.03),
    # One compile for each.
    "static": Choice(("128x64/8", "64x64/8", "128x32/4", "64x128/16")),
}
BATCH = 4


def settings(number: int) -> dict[str, Any]:
    """Returns the changes of a candidate; number 0 is the present default."""
    if number == 0:
        return {}
    drawn = sample(SPACE, 0, number)
    gamma = 1.0 - drawn.pop("one_minus_gamma")
    envs, rest = drawn.pop("static").split("x")
    length, minibatches = map(int, rest.split("/"))
    updates = max(1, 32_768 // (int(envs) * length))
    return drawn | {
        "gamma": gamma,
        "num_envs": int(envs),
        "rollout_length": length,
        "num_minibatches": minibatches,
        "updates_per_segment": updates,
        "seeds_per_trial": BATCH,
    }


def config_of(task: str, shape: str, number: int) -> TrialConfig:
    """Returns a candidate's config with the laptop preset's budget."""
    reward = SHAPES[task][shape]
    base = make_spec(name="x", preset="laptop", task=task, reward=reward, space={}).base
    return base.with_values({"seeds_per_trial": BATCH} | settings(number))


def areas(config: TrialConfig, seeds: range) -> Iterator[float]:
    """Yields each seed's area under the score curve."""
    from tuners.trial import Trial

    for start in range(seeds.start, seeds.stop, BATCH):
        trial, curves = Trial(config, list(range(start, start + BATCH))), []
        while not trial.finished:
            curves.append(trial.advance()["seed_scores"])
        curves += [[0.0] * BATCH] * (config.num_segments - len(curves))
        yield from np.mean(curves, axis=0).tolist()


def work(request: Any) -> None:
    """Prints, for each candidate, its areas by shape as a line of JSON."""
    task, round_name, numbers = request
    for number in numbers:
        found = {
            shape: list(areas(config_of(task, shape, number), ROUNDS[round_name]))
            for shape in JUDGES[task]
        }
        print(json.dumps({"number": number, "areas": found}), flush=True)


def spread(task: str, round_name: str, numbers: list[int]) -> dict[int, dict[str, list[float]]]:
    """Returns each candidate's areas by shape; every core takes its share of the candidates."""
    # Equal static settings go to the same core: each compiles what it needs once.
    ordered = sorted(numbers, key=lambda number: str(settings(number).get("num_envs")))
    shares = np.array_split(ordered, len(cores()))
    requests = [
        ({core}, (task, round_name, share.tolist()))
        for core, share in zip(cores(), shares, strict=True)
    ]
    rows = [row for lines in run_pinned(__file__, requests) for row in lines]
    return {row["number"]: row["areas"] for row in rows}


def worth(by_shape: dict[str, list[float]]) -> float:
    """Returns the mean over shapes of the mean over the worst quarter of seeds."""
    quarters = [np.sort(values)[: len(values) // 4] for values in by_shape.values()]
    return float(np.mean([np.mean(quarter) for quarter in quarters]))


def show(title: str, results: dict[int, dict[str, list[float]]], task: str) -> list[int]:
    """Prints a table, best first, and returns its order."""
    order = sorted(results, key=lambda number: -worth(results[number]))
    columns = "".join(f"{shape + ' quarter/median':>28}" for shape in JUDGES[task])
    print(f"\n{title}\n{'':>4}{'worth':>7}{columns}  settings")
    for number in order:
        cells = ""
        for shape in JUDGES[task]:
            values = np.sort(results[number][shape])
            cells += f"{np.mean(values[: len(values) // 4]):20.0f} /{np.median(values):6.0f}"
        told = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in settings(number).items()
            if name not in ("updates_per_segment", "seeds_per_trial")
        }
        print(f"{number:4}{worth(results[number]):7.0f}{cells}  {told or 'the default'}")
    sys.stdout.flush()
    return order


def main(task: str) -> None:
    """Runs both rounds."""
    first = show("Round 1, 4 seeds", spread(task, "1", list(range(CANDIDATES))), task)
    kept = list(dict.fromkeys([0, *first[:KEPT]]))
    show("Round 2, 20 other seeds", spread(task, "2", kept), task)


if __name__ == "__main__" and not work_if_asked(work):
    main(sys.argv[1])
