"""A configuration in plain words: what changed, and how near its reward is to the score itself."""

from contextlib import suppress
from typing import Any

import jax
import numpy as np

from rlcore.ppo.config import HYPERPARAMETERS, STATIC
from rlcore.rewards import TERMS, shaped_reward
from rlcore.rewards.compose import MULTIPLIED, reward_defaults
from rlcore.tasks.dynamics import CartPoleState
from rlcore.video import load_recording
from tuners.config import TrialConfig, parse_config, value_of
from tuners.layout import RECORDING_FILE
from tuners.results import read_trials
from tuners.spec import SweepSpec
from tuners.store import fetch

_HYPERPARAMETERS = [name for name in HYPERPARAMETERS if name != "budget"]

_NOTHING = "nothing"


def describe_change(before: TrialConfig, after: TrialConfig) -> list[str]:
    """Returns a line for each way in which two configs differ in effect."""
    lines = _changed_settings(before, after)
    combine = [value_of(config, "reward.combine") for config in (before, after)]
    if combine[0] != combine[1]:
        lines.append(f"terms are combined by {combine[1]}, not by {combine[0]}")
    clips = [bool(value_of(config, "reward.clip")) for config in (before, after)]
    if clips[0] != clips[1] and combine[1] == "product":
        lines.append("factors are clipped to [0, 1]" if clips[1] else "factors are not clipped")
    old, new = active_terms(before), active_terms(after)
    for name in [name for name in new if name not in old]:
        lines.append(f"new: {name} ({_settings(new[name])})")
    for name in [name for name in old if name not in new]:
        why = "" if can_count(after, name) else f"; it has no part in a {combine[1]} reward"
        lines.append(f"gone: {name} ({_settings(old[name])}){why}")
    for name in [name for name in new if name in old and new[name] != old[name]]:
        lines.append(f"changed: {name} ({_settings(old[name])} -> {_settings(new[name])})")
    stages = [after.at(env_steps) for env_steps in (0, *(at for at, _ in after.schedule))]
    for (env_steps, _), one, next_one in zip(after.schedule, stages, stages[1:], strict=False):
        changes = [line for line in describe_change(one, next_one) if line != _NOTHING]
        lines += [f"from {env_steps:,} env_steps on, {line}" for line in changes]
    return lines or [_NOTHING]


def _changed_settings(before: TrialConfig, after: TrialConfig) -> list[str]:
    """Returns a line for each setting of PPO and each constant of the task that differs."""
    names = [*STATIC, *_HYPERPARAMETERS, *(f"task.{name}" for name in after.constants)]
    pairs = [(name, value_of(before, name), value_of(after, name)) for name in names]
    return [
        f"changed: {name} ({_number(old)} -> {_number(new)})"
        for name, old, new in pairs
        if old != new
    ]


def can_count(config: TrialConfig, name: str) -> bool:
    """Returns whether the config's way of combining takes a term in at all."""
    is_multiplied = value_of(config, "reward.combine") in MULTIPLIED
    return not is_multiplied or TERMS[config.task][name].unit is not None


def active_terms(config: TrialConfig) -> dict[str, dict[str, float]]:
    """Returns weight and inner parameters of each term that has any effect."""
    reward = {**reward_defaults(TERMS[config.task]), **config.reward}
    active = {}
    for name, term in TERMS[config.task].items():
        weight = float(reward[f"{name}.weight"])
        potential = float(reward.get(f"{name}.potential", 0.0))
        has_weight = weight and can_count(config, name) and reward[f"{name}.on"]
        if has_weight or potential:
            active[name] = {
                **({"weight": weight} if has_weight else {}),
                **({"potential": potential} if potential else {}),
                **{key: float(reward[f"{name}.{key}"]) for key in term.parameters},
            }
    return active


def likeness_to_score(spec: SweepSpec, row: str) -> str | None:
    """Returns how the row's reward correlates with the score's rate over its test episodes."""
    trials = [
        t
        for t in read_trials(spec.folder)
        if t["row"] == row and t["phase"] == "test" and t["checkpoint"]
    ]
    recordings = []
    for trial in trials:
        with suppress(OSError, ValueError):  # not there, or damaged
            path = fetch(spec.folder, f"{trial['checkpoint']}/{RECORDING_FILE}")
            recordings.append(load_recording(path))
    if not recordings:
        return None
    reward = _rewards(parse_config(trials[0]["config"]), recordings)
    rate = np.concatenate([r.score_rates[_lived(r)] for r in recordings])
    if not (np.std(reward) and np.std(rate)):
        return None
    correlation = float(np.corrcoef(reward, rate)[0, 1])
    return f"step by step it correlates with the score itself at {correlation:.2f}"


def _rewards(config: TrialConfig, recordings: list[Any]) -> np.ndarray:
    from tuners.programs import (
        parameters_of,  # brings the trainer, which scripts need not begin with
    )

    task, hyperparameters, params = parameters_of(config.at(config.full_length))

    @jax.jit
    def reward_of(states: Any, actions: Any) -> Any:
        before, after = (CartPoleState.from_array(s) for s in (states[:-1], states[1:]))
        reward, _ = shaped_reward(
            TERMS[config.task],
            params,
            task,
            before,
            actions[..., None],
            after,
            task.terminated(after),
            gamma=hyperparameters.gamma,
        )
        return reward

    return np.concatenate(
        [np.asarray(reward_of(r.states, r.actions))[_lived(r)] for r in recordings]
    )


def _lived(recording: Any) -> np.ndarray:
    """Returns the steps before an episode's end: nothing counts after it."""
    return np.arange(recording.horizon)[:, None] < recording.lengths


def _settings(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
