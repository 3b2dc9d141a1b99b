"""A sweep so small that a test can write it by hand: specs, rows of both tables, outcomes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks.dynamics import CartPoleState
from rlcore.tasks.swingup import SwingUp
from rlcore.video import Recording
from tuners.config import TrialConfig, baseline
from tuners.errors import BadInput
from tuners.objectives import Outcome
from tuners.phases import Job
from tuners.presets import PRESETS
from tuners.results import config_json
from tuners.space import Uniform
from tuners.spec import SweepSpec, make_spec

PPO = PRESETS["smoke"]["ppo"]
SEGMENT: int = PPO.steps_per_segment
SPACE = {"learning_rate": Uniform(1e-4, 1e-2)}
CONFIG = TrialConfig(reward=baseline("swingup"), ppo=PPO, budget=8 * SEGMENT)


def small_spec(folder: Path, **overrides: Any) -> SweepSpec:
    """The smoke preset's sweep in ``folder``: 4 trials, 8 segments, two seeds in each phase."""
    entries: dict[str, Any] = {"name": "sweep", "preset": "smoke", "task": "swingup"}
    entries |= {"reward": baseline("swingup"), "space": SPACE, "runs_dir": folder}
    return make_spec(**entries | overrides)


def trial_row(trial: str, phase: str = "search", row: str = "baseline", **columns: Any) -> dict:
    """A trial that has just begun, with some columns changed."""
    entries = {"trial": trial, "phase": phase, "row": row, "seeds": [0, 1], "status": "running"}
    entries |= {"parent": None, "until": None, "stop_reason": None}
    return entries | {"config": config_json(CONFIG.to_dict()), "started": 1000.0} | columns


def segment_row(trial: str, segment: int, phase: str = "search", **columns: Any) -> dict:
    """The report of a segment, with some columns changed."""
    entries = {
        "trial": trial,
        "phase": phase,
        "segment": segment,
        "env_steps": segment * SEGMENT,
        "time": 1000.0 + segment,
        "objective": 10.0 * segment,
        "score": 11.0 * segment,
        "final_score": 10.0 * segment,
        "area": 8.0 * segment,
        "steps_to_threshold": 1e-6 * (segment + 1) * SEGMENT,
        "seed_scores": [11.0 * segment, 11.0 * segment],
        "diverged": False,
        "done": False,
        "stop_reason": None,
    }
    return entries | columns


def budget(objective: float) -> Outcome:
    """How a job ends that nobody stops."""
    return Outcome(objective, "budget", final_score=objective)


def names(jobs: Sequence[Job | None]) -> list[str | None]:
    """The jobs' names; None where none was handed out."""
    return [job.name if job is not None else None for job in jobs]


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    """The one line with which ``call`` refuses its arguments."""
    with pytest.raises(BadInput) as refused:
        call(*arguments, **named)
    message = str(refused.value)
    assert message and "\n" not in message
    return message


def plant_mistake(folder: Path) -> None:
    """Lets every Python with ``folder`` on its path know a term by somebody who mistyped a name."""
    (folder / "sitecustomize.py").write_text(  # which Python runs first
        "from dataclasses import replace\n"
        "from rlcore.rewards import TERMS\n"
        "def value(task, state, action, next_state): return next_state.thetta\n"
        "for terms in TERMS.values():\n"
        "    terms['alive'] = replace(terms['alive'], value=value)\n"
    )


def without(entries: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    """The entries but for some."""
    return {name: value for name, value in entries.items() if name not in left_out}


def swing(steps: int = 200, lengths: Sequence[int] = (200, 200, 200)) -> Recording:
    """Three episodes in which the pole goes round, with the task's own score rates."""
    phase = np.linspace(0.0, 6.0, steps + 1)[:, None] + np.array([0.0, 1.0, 2.0])
    parts = [np.sin(phase), np.cos(phase), 3.0 * phase, 4.0 * np.sin(phase)]
    states = np.stack(parts, axis=-1).astype(np.float32)
    actions = np.sin(2.0 * phase[1:]).astype(np.float32)
    after = CartPoleState.from_array(jnp.asarray(states[1:]))
    rates = np.array(SwingUp().score_rate(after, jnp.asarray(actions[..., None])))
    rates[np.arange(steps)[:, None] >= np.array(lengths)] = 0.0
    return Recording(states, actions, rates, np.array(lengths), 0.02, 2.4, 1.0)
