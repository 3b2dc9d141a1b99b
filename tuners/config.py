"""A trial's whole configuration, and how values of a search space change it.

``tuners/programs.py`` builds the arrays from it.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from rlcore.ppo.config import HYPERPARAMETERS, STATIC, Hyperparameters, PPOConfig
from rlcore.rewards import COMBINATIONS, SHAPES, TERMS
from rlcore.rewards.compose import MULTIPLIED, reward_defaults
from rlcore.tasks import TASKS
from tuners.errors import BadInput
from tuners.reading import read_yaml
from tuners.space import Choice, Space, hint_for_text, is_number

# name: (lowest, highest, whether the lowest itself is allowed)
_RANGES: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (0.0, 1.0, False),
    "learning_rate_end": (0.0, 1.0, True),
    "gamma": (0.0, 1.0, True),
    "gae_lambda": (0.0, 1.0, True),
    "clip_range": (0.0, 10.0, False),
    "entropy_coef": (0.0, 10.0, True),
    "value_coef": (0.0, 100.0, True),
    "max_grad_norm": (0.0, 1e6, False),
    "init_log_std": (-2.0, 0.5, True),
    "adam_eps": (0.0, 1.0, False),
    "weight_decay": (0.0, 1.0, True),
}
# Beyond these a term is NaN or infinite.
_TERM_RANGES = {
    "reward.peak.sharpness": (0.0, 1e6, True),
    "reward.centred.margin": (0.0, 1e6, False),
    "reward.calm.margin": (0.0, 1e6, False),
}
_TASK_RANGES = {
    # What a film can show, by rlcore/video.py: SMALLEST to LARGEST.  Twice its half is a pole.
    "task.rail": (1e-4, 1e4, True),
    "task.half_length": (5e-5, 5e3, True),
    # A world without friction is one.
    "task.cart_damping": (0.0, 1e6, True),
    "task.hinge_damping": (0.0, 1e6, True),
}
_MOST_STEPS = 2**31 - 1  # a trainer counts them in 32 bits
Route = Literal["static", "hyperparameter", "reward", "task"]


@dataclass(frozen=True)
class TrialConfig:
    """Everything that one trial's training depends on, but its seeds.

    Attributes:
        task: name in the registry of tasks.
        constants: physical constants that differ from the task's own.
        reward: the reward shape, as ``combine``, ``<term>.weight``, ``<term>.<parameter>``.
        hyperparameters: PPO's traced numbers that differ from their defaults.
        ppo: PPO's static config.
        budget: environment steps per seed.
        schedule: (env_steps, values of a search space) in rising order: from there on they hold, on
            top of what came before.  Traced values alone.
    """

    task: str = "swingup"
    constants: Mapping[str, float] = field(default_factory=dict)
    reward: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    budget: int = 524_288
    schedule: tuple[tuple[int, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        """Refuses a config that could not be trained.

        Raises:
            BadInput: one plain line, what was given and what is allowed.
        """
        if not isinstance(self.task, str) or self.task not in TASKS:
            raise BadInput(f"task is '{self.task}'; allowed: {', '.join(TASKS)}")
        for name, value in self.hyperparameters.items():
            if name not in _RANGES:
                known = ", ".join(_RANGES)
                raise BadInput(f"unknown parameter '{name}' in hyperparameters; known: {known}")
            check_value(self.task, name, value)
        for name, value in self.reward.items():
            check_value(self.task, f"reward.{name}", value)
        for name, value in self.constants.items():
            check_value(self.task, f"task.{name}", value)
        if not isinstance(self.budget, int) or self.budget < self.ppo.steps_per_segment:
            raise BadInput(
                f"budget is {self.budget} env_steps, but one segment has"
                f" {self.ppo.steps_per_segment} (num_envs {self.ppo.num_envs} x rollout_length"
                f" {self.ppo.rollout_length} x updates_per_segment {self.ppo.updates_per_segment})"
            )
        if self.budget > _MOST_STEPS:
            raise BadInput(f"budget is {self.budget} env_steps, but at most {_MOST_STEPS} a seed")
        horizon = TASKS[self.task].horizon
        if horizon % self.ppo.action_repeat:
            raise BadInput(
                f"action_repeat is {self.ppo.action_repeat}, but must divide the"
                f" {horizon} simulation steps of an episode of {self.task}"
            )

        self._check_schedule()

    def _check_schedule(self) -> None:
        segment, before = self.ppo.steps_per_segment, 0
        for env_steps, values in self.schedule:
            if not isinstance(env_steps, int) or env_steps <= before or env_steps % segment:
                raise BadInput(
                    f"schedule has {env_steps} env_steps after {before}, but must rise in whole"
                    f" segments of {segment}"
                )
            before = env_steps
            for name, value in values.items():
                if route(self.task, name) not in ("hyperparameter", "reward"):
                    raise BadInput(f"schedule has {name}, which cannot change during training")
                check_value(self.task, name, value)

    def at(self, env_steps: int) -> "TrialConfig":
        """Returns the config that holds when a trial has trained so far: one without a schedule."""
        if not self.schedule:
            return self
        config = replace(self, schedule=())
        for begins, values in self.schedule:
            if begins <= env_steps:
                config = config.with_values(values)
        return config

    @property
    def num_segments(self) -> int:
        """Whole segments in the budget."""
        return self.budget // self.ppo.steps_per_segment

    @property
    def full_length(self) -> int:
        """Environment steps per seed of a trial that nobody stops."""
        return self.num_segments * self.ppo.steps_per_segment

    def with_values(self, values: Mapping[str, Any]) -> "TrialConfig":
        """Returns this config with values of a search space put where they belong.

        Raises:
            BadInput: an unknown name, or a value that is not allowed.
        """
        parts: dict[Route, dict[str, Any]] = {
            "static": {},
            "hyperparameter": {},
            "reward": {},
            "task": {},
        }
        for name, value in values.items():
            parts[route(self.task, name)][name.split(".", 1)[-1]] = value
        return replace(
            self,
            ppo=make_ppo_config({**asdict(self.ppo), **parts["static"]}),
            hyperparameters={**self.hyperparameters, **parts["hyperparameter"]},
            reward={**self.reward, **parts["reward"]},
            constants={**self.constants, **parts["task"]},
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, strings, lists and dicts, as YAML and JSON have them."""
        ppo = asdict(self.ppo)
        ppo["hidden_sizes"] = list(self.ppo.hidden_sizes)
        schedule = [[env_steps, dict(values)] for env_steps, values in self.schedule]
        return {
            "task": self.task,
            "budget": self.budget,
            "constants": dict(self.constants),
            "reward": dict(self.reward),
            "hyperparameters": dict(self.hyperparameters),
            "ppo": ppo,
            **({"schedule": schedule} if schedule else {}),
        }

    @classmethod
    def from_dict(cls, entries: Any) -> "TrialConfig":
        """Returns the config that ``to_dict`` wrote; parts left out have their defaults.

        Raises:
            BadInput: an unknown part or name, or a value that is not allowed.
        """
        known = [entry.name for entry in fields(cls)]
        if not isinstance(entries, dict) or set(entries) - set(known):
            given = ", ".join(map(str, entries)) if isinstance(entries, dict) else repr(entries)
            raise BadInput(f"a config has the parts {', '.join(known)}; given: {given}")
        for name in ("constants", "reward", "hyperparameters", "ppo"):
            if not isinstance(entries.get(name, {}), dict):
                raise BadInput(f"{name} is {entries[name]!r}, but must map names to values")
        schedule = _parse_schedule(entries.get("schedule", []))
        ppo = make_ppo_config(entries.get("ppo", {}))
        return cls(**{**entries, "ppo": ppo, "schedule": schedule})


def _parse_schedule(entries: Any) -> tuple[tuple[int, Mapping[str, Any]], ...]:
    pairs = entries if isinstance(entries, list | tuple) else [entries]
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[1], dict)):
            raise BadInput(f"schedule has {pair!r}, but must list pairs of env_steps and values")
    return tuple((at, values) for at, values in pairs)


def load_config(path: Path) -> TrialConfig:
    """Returns the config in a YAML file, such as an export's ``config.yaml``.

    Raises:
        BadInput: the file cannot be read or does not hold a config.
    """
    entries = read_yaml(path, "config")
    try:
        return TrialConfig.from_dict(entries)
    except BadInput as error:
        raise BadInput(f"config {path}: {error}") from error


def parse_config(text: Any) -> TrialConfig:
    """Returns the config that a row of the trials table holds as JSON.

    Raises:
        BadInput: it is damaged.
    """
    try:
        return TrialConfig.from_dict(json.loads(text))
    except BadInput:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput("a config in the trials table is damaged; restore it from a copy") from error


def make_ppo_config(entries: Mapping[str, Any]) -> PPOConfig:
    """Returns PPO's static config.

    Raises:
        BadInput: an unknown name, or a value that is not allowed.
    """
    for name in entries:
        if name not in STATIC:
            raise BadInput(f"unknown PPO setting '{name}'; known: {', '.join(STATIC)}")
    sizes = entries.get("hidden_sizes", PPOConfig.hidden_sizes)
    if not isinstance(sizes, list | tuple):
        raise BadInput(f"hidden_sizes is {sizes!r}, but must list the layers' widths")
    try:
        return PPOConfig(**{**entries, "hidden_sizes": tuple(sizes)})
    except ValueError as error:
        raise BadInput(str(error)) from error


def route(task: str, name: str) -> Route:
    """Returns which part of a config a search space's name belongs to.

    Raises:
        BadInput: no such term, parameter, constant or setting.
    """
    head, _, rest = name.partition(".")
    if head == "reward" and rest:
        known = [f"reward.{entry}" for entry in reward_defaults(TERMS[task])]
        if name not in known:
            raise BadInput(f"unknown reward parameter '{name}'; known: {', '.join(known)}")
        return "reward"
    if head == "task" and rest:
        constants = [entry.name for entry in fields(TASKS[task])]
        if rest not in constants:
            known = [f"task.{entry}" for entry in constants]
            raise BadInput(f"unknown task constant '{name}'; known: {', '.join(known)}")
        return "task"
    if name in STATIC:
        return "static"
    if name in _RANGES:
        return "hyperparameter"
    raise BadInput(
        f"unknown parameter '{name}'; known: reward.<term>.<parameter>, task.<constant>,"
        f" {', '.join((*_RANGES, *STATIC))}"
    )


def value_of(config: TrialConfig, name: str) -> Any:
    """Returns what a config has under a search space's name.

    Raises:
        BadInput: no such term, parameter, constant or setting.
    """
    where = route(config.task, name)
    if where == "static":
        return getattr(config.ppo, name)
    if where == "hyperparameter":
        return config.hyperparameters.get(name, getattr(Hyperparameters, name))
    key = name.split(".", 1)[1]
    if where == "task":
        return config.constants.get(key, getattr(TASKS[config.task], key))
    return config.reward.get(key, reward_defaults(TERMS[config.task])[key])


def values_in_space(config: TrialConfig, space: Space) -> dict[str, Any] | None:
    """Returns a config as a point of ``space``, or None if it lies outside."""
    values = {name: value_of(config, name) for name in space}
    inside = all(space[name].contains(value) for name, value in values.items())
    return values if inside else None


def check_value(task: str, name: str, value: Any) -> None:
    """Refuses a value that the parameter ``name`` cannot take.

    Raises:
        BadInput: an unknown name, a wrong type, or a number out of range.
    """
    where = route(task, name)
    if where == "static":
        return  # PPOConfig checks its own
    if name == "reward.combine":
        if value not in COMBINATIONS:
            raise BadInput(f"{name} is {value!r}; allowed: {', '.join(COMBINATIONS)}")
        return
    if where == "reward" and (name.endswith(".on") or name == "reward.clip"):
        if not isinstance(value, bool):
            raise BadInput(f"{name} is {value!r}; allowed: true, false")
        return
    if not is_number(value):
        raise BadInput(f"{name} is {value!r}, but must be a finite number{hint_for_text(value)}")
    low, high, closed = (_RANGES | _TERM_RANGES).get(name, (-1e6, 1e6, True))
    if where == "task":
        low, high, closed = _TASK_RANGES.get(name, (0.0, 1e6, False))
    if not (low <= value <= high) or (value == low and not closed):
        bound = "at least" if closed else "above"
        raise BadInput(f"{name} is {value:g}, but must be {bound} {low:g} and at most {high:g}")


def check_space(base: TrialConfig, space: Space) -> None:
    """Refuses a space from which a config could be drawn that cannot be trained.

    Raises:
        BadInput: the first such parameter, and why.
    """
    for name, domain in space.items():
        where = route(base.task, name)
        if where == "reward" and not _is_searchable(base.task, name):
            raise BadInput(f"{name} is the score itself and cannot be searched; leave it out")
        if where == "static" and not isinstance(domain, Choice):
            raise BadInput(f"{name} needs a compile per value: give it as {{choice: [...]}}")
        for value in domain.extremes():
            check_value(base.task, name, value)
    for _ in static_configs(base, space):
        pass  # making one checks it
    _check_product_weights(base, space)


def static_configs(base: TrialConfig, space: Space) -> Iterator[TrialConfig]:
    """Yields the base with every combination of the static values in ``space``.

    Raises:
        BadInput: values allowed one by one do not go together, as num_envs and num_minibatches.
    """
    choices = {
        name: domain.values
        for name, domain in space.items()
        if isinstance(domain, Choice) and route(base.task, name) == "static"
    }
    for values in itertools.product(*choices.values()):
        yield base.with_values(dict(zip(choices, values, strict=True)))


def _check_product_weights(base: TrialConfig, space: Space) -> None:
    """In a product a weight above 1 turns a factor negative: a trap nobody wants to search."""
    combine = space.get("reward.combine", Choice((value_of(base, "reward.combine"),)))
    multiplied = [name for name in combine.extremes() if name in MULTIPLIED]
    if not multiplied:
        return
    for term, entry in TERMS[base.task].items():
        if entry.unit is None:
            continue
        fixed = Choice((value_of(base, f"reward.{term}.weight"),))
        domain = space.get(f"reward.{term}.weight", fixed)
        if not all(0.0 <= value <= 1.0 for value in domain.extremes()):
            raise BadInput(
                f"reward.{term}.weight reaches {max(domain.extremes(), key=abs):g}, but must stay"
                f" within [0, 1] where reward.combine may be {multiplied[0]}"
            )


def _is_searchable(task: str, name: str) -> bool:
    term = TERMS[task].get(name.split(".")[1])
    return term is None or term.searchable


def baseline(task: str) -> dict[str, Any]:
    """Returns the task's hand-tuned reward shape.

    Raises:
        BadInput: there is no such task.
    """
    if task not in SHAPES:
        raise BadInput(f"task is '{task}'; allowed: {', '.join(SHAPES)}")
    return dict(SHAPES[task]["baseline"])


assert set(_RANGES) | {"budget"} == set(HYPERPARAMETERS), "every hyperparameter has its range"
