"""How many environment steps a second one core trains, and how well two trials side by side do.

    python benchmarks/throughput.py            # about two minutes on two cores

Each figure is the median over segments, evaluation included, compile time apart.  Trials side by
side are processes, each pinned to a core of its own, as in a sweep.
"""

import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = {
    "128 envs x 64, 64 hidden, 4 epochs x 8": {
        "num_envs": 128,
        "rollout_length": 64,
        "num_minibatches": 8,
        "epochs": 4,
        "hidden_sizes": [64, 64],
        "shuffle": "envs",
        "updates_per_segment": 8,
        "seeds_per_trial": 1,
    },
    "the laptop preset": {},
    "the notebook's settings": {
        "num_envs": 1024,
        "rollout_length": 128,
        "num_minibatches": 4,
        "epochs": 4,
        "hidden_sizes": [128, 128],
        "shuffle": "samples",
        "normalize_reward": False,
        "updates_per_segment": 2,
        "seeds_per_trial": 1,
    },
}
SEGMENTS = 24
SECONDS = 20.0


def measure(settings: dict[str, object], cores: set[int]) -> float:
    """Returns steps/s of one trial in this process, on ``cores``: the median over segments."""
    os.sched_setaffinity(0, cores)
    from tuners.config import TrialConfig, baseline, make_ppo_config
    from tuners.trial import Trial

    ppo = make_ppo_config(settings)
    budget = ppo.steps_per_segment * SEGMENTS
    trial = Trial(
        TrialConfig(reward=baseline("swingup"), ppo=ppo, budget=budget),
        list(range(ppo.seeds_per_trial)),
    )
    trial.advance()
    rates, begun = [], time.monotonic()
    while not trial.finished and time.monotonic() - begun < SECONDS:
        rates.append(trial.advance()["steps_per_second"])
    return statistics.median(rates)


def side_by_side(settings: dict[str, object], groups: list[set[int]]) -> list[float]:
    """Returns the steps/s of one process on each group of cores, all at the same time."""
    processes = []
    for cores in groups:
        request = json.dumps({"settings": settings, "cores": sorted(cores)})
        processes.append(
            subprocess.Popen([sys.executable, __file__, request], stdout=subprocess.PIPE, text=True)
        )
    return [float(process.communicate()[0]) for process in processes]


def main() -> None:
    """Prints the table."""
    cores = sorted(os.sched_getaffinity(0))
    print(f"{'':42}{'one core':>12}{'a trial a core':>16}{'ratio':>8}{'all cores, one':>16}")
    for name, settings in SHAPES.items():
        (alone,) = side_by_side(settings, [{cores[0]}])
        together = sum(side_by_side(settings, [{core} for core in cores]))
        (spread,) = side_by_side(settings, [set(cores)])
        print(
            f"{name:42}{alone:12,.0f}{together:16,.0f}{together / alone:8.2f}{spread:16,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asked = json.loads(sys.argv[1])
        print(measure(asked["settings"], set(asked["cores"])))
    else:
        main()
