"""Named sizes of a sweep.  Each is a change of the defaults in ``tuners/spec.py``."""

from dataclasses import replace
from typing import Any

from rlcore.ppo.config import PPOConfig

# The PPO settings of the notebook that this project began with.
_NOTEBOOK_PPO = PPOConfig(
    num_envs=1024,
    rollout_length=128,
    num_minibatches=4,
    epochs=4,
    hidden_sizes=(128, 128),
    shuffle="samples",
    normalize_reward=False,
    updates_per_segment=4,
    seeds_per_trial=1,
)
_NOTEBOOK_HYPERPARAMETERS = {
    "learning_rate": 1e-4,
    "learning_rate_end": 0.0,
    "gamma": 0.995,
    "gae_lambda": 0.95,
    "clip_range": 0.1,
    "entropy_coef": 0.01,
    "value_coef": 0.5,
    "max_grad_norm": 1.0,
    "adam_eps": 1e-8,
}
_LAPTOP_PPO = PPOConfig()
_SMOKE_PPO = PPOConfig(
    num_envs=16,
    rollout_length=32,
    num_minibatches=2,
    epochs=2,
    hidden_sizes=(16, 16),
    updates_per_segment=2,
    evaluation_episodes=4,
)

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything, learns nothing.  The tests use it.
    "smoke": {
        "ppo": _SMOKE_PPO,
        "budget": 8 * _SMOKE_PPO.steps_per_segment,
        "grace_period": 2 * _SMOKE_PPO.steps_per_segment,
        "num_trials": 4,
        "num_finalists": 1,
        "validation_seeds": 2,
        "test_seeds": 2,
    },
    # About two minutes on two cores.
    "laptop": {
        "ppo": _LAPTOP_PPO,
        "budget": 16 * _LAPTOP_PPO.steps_per_segment,
        "grace_period": 4 * _LAPTOP_PPO.steps_per_segment,
        "num_trials": 32,
        "num_finalists": 4,
        "validation_seeds": 6,
    },
    # The notebook's own settings and budget: some twenty minutes a trial on one core of a laptop.
    "notebook": {
        "ppo": _NOTEBOOK_PPO,
        "hyperparameters": _NOTEBOOK_HYPERPARAMETERS,
        "budget": 100_000_000,
        "grace_period": 24 * _NOTEBOOK_PPO.steps_per_segment,
        "num_trials": 4,
        "num_finalists": 1,
        "validation_seeds": 3,
        "test_seeds": 8,
    },
    # One machine with a GPU.
    "gpu": {
        "ppo": PPOConfig(num_envs=1024, updates_per_segment=2),
        "budget": 32 * 131_072,
        "grace_period": 6 * 131_072,
        "num_trials": 64,
        "gpus_per_trial": 0.25,
        "slots": 0,
    },
    # Many GPUs on several machines.
    "gpu-cluster": {
        "ppo": PPOConfig(num_envs=256, seeds_per_trial=4),
        "budget": 32 * 4 * 256 * 64,
        "grace_period": 4 * 4 * 256 * 64,
        "num_trials": 1024,
        "num_finalists": 8,
        "validation_seeds": 8,
        "test_seeds": 16,
        "gpus_per_trial": 0.25,
        "slots": 0,
    },
    # Many cores on several machines.
    "cluster": {
        "ppo": PPOConfig(seeds_per_trial=4),
        "budget": 32 * PPOConfig().steps_per_segment,
        "grace_period": 4 * PPOConfig().steps_per_segment,
        "num_trials": 512,
        "num_finalists": 8,
        "validation_seeds": 8,
        "test_seeds": 16,
    },
}

# What a task changes in every preset's static config.
_TASK_PPO: dict[str, dict[str, Any]] = {
    "dmc_swingup": {"action_repeat": 4},  # as published results have it
}
# What a task changes in the hyperparameters of presets that have none of their own; found as
# docs/defaults.md says.
_TASK_HYPERPARAMETERS: dict[str, dict[str, float]] = {
    "dmc_swingup": {
        "learning_rate": 4e-3,
        "gamma": 0.985,
        "gae_lambda": 0.91,
        "clip_range": 0.32,
        "entropy_coef": 0.001,
    },
    "balance": {
        "learning_rate": 4e-3,
        "gamma": 0.985,
        "gae_lambda": 0.96,
        "clip_range": 0.25,
        "entropy_coef": 0.001,
        "max_grad_norm": 5.0,
    },
}
# What a task changes in one preset.  That of balance and notebook: the settings of a
# second notebook.
_TASK_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    # Its horizon is twice as long, in decisions half as long: learning takes twice the steps.
    ("dmc_swingup", "laptop"): {
        "budget": 32 * _LAPTOP_PPO.steps_per_segment,
        "grace_period": 8 * _LAPTOP_PPO.steps_per_segment,
    },
    ("balance", "laptop"): {"ppo": PPOConfig(num_envs=64, updates_per_segment=8)},
    ("balance", "notebook"): {
        "ppo": PPOConfig(
            num_envs=4,
            rollout_length=128,
            num_minibatches=4,
            epochs=4,
            hidden_sizes=(64, 64),
            shuffle="samples",
            advantage_normalization="minibatch",
            normalize_reward=False,
            updates_per_segment=61,
            seeds_per_trial=3,
        ),
        "hyperparameters": {
            "learning_rate": 2.5e-4,
            "learning_rate_end": 2.34e-4,
            "weight_decay": 0.01,
            "entropy_coef": 0.01,
        },
        "budget": 16 * 61 * 512,
        "grace_period": 4 * 61 * 512,
        "num_trials": 8,
        "validation_seeds": 6,
        "test_seeds": 9,
    },
}


def preset_for(name: str, task: str) -> dict[str, Any]:
    """Returns what the preset changes in the defaults of a sweep on this task.

    Raises:
        KeyError: no such preset.
    """
    entries = {**PRESETS[name], **_TASK_PRESETS.get((task, name), {})}
    entries["ppo"] = replace(entries["ppo"], **_TASK_PPO.get(task, {}))
    entries.setdefault("hyperparameters", _TASK_HYPERPARAMETERS.get(task, {}))
    return entries
