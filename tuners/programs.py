"""Compiled programs: one a process for all configs that differ only in traced numbers."""

import contextlib
import fcntl
import hashlib
import textwrap
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rlcore
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.slots import train_slots
from rlcore.ppo.train import TrainState, init_state, train_segment
from rlcore.rewards import TERMS, RewardParams, make_reward_params
from rlcore.tasks import TASKS
from tuners.config import TrialConfig
from tuners.errors import BadInput
from tuners.outputs import programs_folder

# Of a task, its static config and, in a pack, the numbers of its slots and of those trained.
Key = tuple[str, PPOConfig, int, int]

_programs: dict[Key, Any] = {}
_initializers: dict[tuple[str, PPOConfig], Any] = {}
_saved: list[float] = []


@cache
def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that the next process need not compile them again.

    Returns:
        The folder.
    """
    folder = programs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    jax.monitoring.register_event_duration_secs_listener(_note_event)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def seconds_saved() -> float:
    """Returns how much longer this process would have compiled without the programs on disk."""
    return sum(_saved)


def _note_event(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/compilation_cache/compile_time_saved_sec":
        _saved.append(duration_secs)


def num_programs() -> int:
    """Returns how many programs that train this process has compiled."""
    return len(_programs)


def segment_program(config: TrialConfig) -> Any:
    """Returns the compiled ``train_segment`` of a trial by itself."""
    return _compiled(
        (config.task, config.ppo, 0, 0),
        lambda: train_segment.lower(config.ppo, *_shapes(config)),
    )


def check_traceable(config: TrialConfig) -> None:
    """Traces the program of a trial, as compiling it does first.

    Raises:
        BadInput: what in the code of its task or of a reward term cannot be traced, and where.
    """
    try:
        train_segment.trace(config.ppo, *_shapes(config))
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 500, placeholder=" ...")
        raise BadInput(f"{config.task} cannot be trained: {_place_of(error)}{reason}") from error


def _place_of(error: Exception) -> str:
    """Returns the last line of ``rlcore`` that led to an error."""
    package = Path(rlcore.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(package):
            return f"{path.relative_to(package.parent)}, line {frame.lineno}: "
    return ""


def slots_program(config: TrialConfig, slots: int, width: int) -> Any:
    """Returns the compiled ``train_slots`` that trains up to ``width`` trials of a pack."""
    stacked = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype), _shapes(config)
    )
    indices = jax.ShapeDtypeStruct((width,), jnp.int32)
    return _compiled(
        (config.task, config.ppo, slots, width),
        lambda: train_slots.lower(config.ppo, *stacked, indices),
    )


def _shapes(config: TrialConfig) -> tuple[Any, TrainState, Hyperparameters, RewardParams]:
    task, hyperparameters, reward_params = parameters_of(config)
    seeds = jax.ShapeDtypeStruct((config.ppo.seeds_per_trial,), jnp.uint32)
    state = jax.eval_shape(partial(init_state, config.ppo), task, hyperparameters, seeds)
    return task, state, hyperparameters, reward_params


def _compiled(key: Key, lower: Callable[[], Any]) -> Any:
    """Compiles once where the cache is one: processes that need the same program wait for it."""
    if key not in _programs:
        lowered = lower()
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        file = use_compilation_cache() / f"{name}.lock"
        with contextlib.ExitStack() as stack:
            # A file server without locks, or the file of another user: each compiles.
            with contextlib.suppress(OSError):
                fcntl.flock(stack.enter_context(file.open("w")), fcntl.LOCK_EX)
            _programs[key] = lowered.compile()
    return _programs[key]


def fresh_state(config: TrialConfig, seeds: Sequence[int]) -> TrainState:
    """Returns fresh states, one a seed.  Run once a trial: on a CPU a quick compile is worth more.

    On a GPU XLA has not always supported levels below 2.
    """
    task, hyperparameters, _ = parameters_of(config)
    inputs = (task, hyperparameters, jnp.asarray(seeds, jnp.uint32))
    key = (config.task, config.ppo)
    if key not in _initializers:
        use_compilation_cache()
        on_cpu = jax.default_backend() == "cpu"
        options: dict[str, Any] = {"xla_backend_optimization_level": 0} if on_cpu else {}
        _initializers[key] = init_state.lower(config.ppo, *inputs).compile(options)
    state: TrainState = _initializers[key](*inputs)
    return state


class Parameters(NamedTuple):
    """The numbers of a config as the arrays that programs take."""

    task: Any
    hyperparameters: Hyperparameters
    reward: RewardParams


def parameters_of(config: TrialConfig) -> Parameters:
    """Returns the numbers that hold as long as no schedule changes them."""
    hyperparameters = Hyperparameters(**config.hyperparameters, budget=float(config.budget))
    reward = make_reward_params(TERMS[config.task], config.reward)
    return Parameters(make_task(config), hyperparameters.as_arrays(), reward)


def make_task(config: TrialConfig) -> Any:
    """Returns the config's task; its constants are arrays of the working precision."""
    task = TASKS[config.task](**config.constants)
    return jax.tree.map(lambda value: jnp.asarray(value, dtype=float), task)
