"""When a preset's baseline reaches a quarter and a half of its final score: ASHA's grace period.

    python benchmarks/grace_period.py [PRESET] [SEEDS]      # laptop, 8 seeds: about a minute

Before that point all trials look alike, and stopping would rank noise.  The grace period in
``tuners/presets.py`` is a whole number of segments between the two points.
"""

import sys

import numpy as np

from tuners.config import TrialConfig, baseline
from tuners.presets import PRESETS
from tuners.trial import Trial


def curve(preset: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns env_steps and the scores [segments, seeds] of the preset's baseline."""
    entries = PRESETS[preset]
    config = TrialConfig(
        reward=baseline("swingup"),
        hyperparameters=entries.get("hyperparameters", {}),
        ppo=entries["ppo"],
        budget=entries["budget"],
    )
    batch = config.ppo.seeds_per_trial
    steps: list[int] = []
    scores = []
    for start in range(0, seeds, batch):
        trial, rows = Trial(config, list(range(1000 + start, 1000 + start + batch))), []
        while not trial.finished:
            rows.append(trial.advance())
        steps = [row["env_steps"] for row in rows]
        scores.append([row["seed_scores"] for row in rows])
    return np.array(steps), np.concatenate(scores, axis=1)


def main(preset: str, seeds: int) -> None:
    """Prints the curve and the two points."""
    steps, scores = curve(preset, seeds)
    mean = scores.mean(axis=1)
    final = mean[-3:].mean()
    print(f"preset {preset}, baseline, {seeds} seeds; final score {final:.0f}")
    print(f"{'env_steps':>12}{'mean':>8}{'lowest':>8}{'highest':>8}")
    for step, seed_scores in zip(steps, scores, strict=True):
        print(
            f"{step:12,}{seed_scores.mean():8.0f}{seed_scores.min():8.0f}{seed_scores.max():8.0f}"
        )
    for share in (0.25, 0.5):
        reached = steps[mean >= share * final]
        print(f"{share:.0%} of the final score at {reached[0]:,} env_steps")
    print(f"grace period in the preset: {PRESETS[preset]['grace_period']:,}")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "laptop", int(sys.argv[2]) if len(sys.argv) > 2 else 8
    )
