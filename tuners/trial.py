"""One trial in this process: a config and seeds, advanced a segment at a time.

Ray Tune's trainable and ``sweeps/train.py`` both drive it.
"""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.checkpoint import load_checkpoint, save_checkpoint
from rlcore.evaluate import Episodes
from rlcore.ppo.config import Hyperparameters, PPOConfig
from rlcore.ppo.train import SegmentMetrics, TrainState, init_state, train_segment
from rlcore.rewards import TERMS, RewardParams, make_reward_params
from rlcore.tasks import TASKS
from rlcore.video import Recording, save_recording
from tuners.config import TrialConfig
from tuners.layout import RECORDING_FILE, STATE_FILE
from tuners.objectives import Objective
from tuners.validate import FINAL_WINDOW, Curves, measure

POLE_LENGTH = 1.0


@cache
def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that the next process need not compile them again.

    Returns:
        The folder: SHAPESWEEP_CACHE if that is set, or ~/.cache/shapesweep.
    """
    folder = Path(os.environ.get("SHAPESWEEP_CACHE", Path.home() / ".cache" / "shapesweep"))
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


_programs: dict[tuple[str, PPOConfig], Any] = {}
_initializers: dict[tuple[str, PPOConfig], Any] = {}


@contextmanager
def _one_compiles(key: tuple[str, PPOConfig]) -> Iterator[None]:
    """Lets one process compile a program while those that need the same wait for the cache."""
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    with open(use_compilation_cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Trial:
    """One configuration, trained on its seeds side by side.

    Attributes:
        config: what is trained.
        seeds: one a copy; together with the config they decide everything.
        objective: what the trial is judged by.
        end: env_steps, per seed, at which it is finished.
        state: the train states, stacked over seeds.
        compile_seconds: what compiling took in this process for this trial, 0 if it was compiled.
    """

    def __init__(
        self,
        config: TrialConfig,
        seeds: list[int],
        objective: Objective | None = None,
        until: int | None = None,
    ) -> None:
        """Makes fresh states, and compiles the segment if this process has not yet."""
        use_compilation_cache()
        self.config = config
        self.seeds = seeds
        self.objective = objective or Objective()
        self.end = config.full_length if until is None else until
        self._now = config.at(0)
        self.task, self.hyperparameters, self.reward_params = _traced(self._now)
        self.state: TrainState = self._initial_state()
        self.episodes: Episodes | None = None
        self.last_row: dict[str, Any] = {}
        self._scores: list[list[float]] = []  # of each seed, segment by segment
        started = time.perf_counter()
        programs = len(_programs)
        self._segment = segment_program(config)
        is_new = len(_programs) > programs
        self.compile_seconds = time.perf_counter() - started if is_new else 0.0

    @property
    def env_steps(self) -> int:
        """Environment steps trained so far, per seed."""
        return int(self.state.env_steps[0])

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.env_steps >= self.end

    def advance(self) -> dict[str, Any]:
        """Trains one segment and returns its row, as ``tuners/results.py`` describes it."""
        self._follow_schedule()
        wall, cpu = time.perf_counter(), time.process_time()
        self.state, metrics, episodes = self._segment(
            self.task, self.state, self.hyperparameters, self.reward_params
        )
        metrics = jax.device_get(metrics)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        diverged = bool(np.any(metrics.diverged))
        scores = np.zeros(len(self.seeds)) if diverged else np.asarray(metrics.score.score, float)
        self._scores.append(scores.tolist())
        if not diverged:
            self.episodes = jax.device_get(episodes)
        row: dict[str, Any] = {
            name: _finite_mean(value) for name, value in _scalars(metrics).items()
        }
        row |= {
            "env_steps": self.env_steps,
            "simulation_steps": self.env_steps * self.config.ppo.action_repeat,
            "time": time.time(),
            "score": float(np.mean(scores)),
            **self._judge(diverged),
            "seed_scores": scores.tolist(),
            "diverged": diverged,
            "steps_per_second": self.config.ppo.steps_per_segment * len(self.seeds) / wall,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "compile_seconds": self.compile_seconds,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "programs": len(_programs),
            "device": jax.devices()[0].device_kind,
            "done": diverged or self.finished,
        }
        self.compile_seconds = 0.0
        self.last_row = row | _term_columns(metrics)
        return dict(self.last_row)

    def save(self, folder: Path) -> None:
        """Writes the state, and the last evaluation episodes of the best seed, into ``folder``."""
        metadata = {
            "config": self.config.to_dict(),
            "seeds": self.seeds,
            "env_steps": self.env_steps,
            "scores": self._scores,
        }
        save_checkpoint(folder / STATE_FILE, self.state, metadata)
        if self.episodes is not None:
            save_recording(folder / RECORDING_FILE, self.recording())

    def load(self, folder: Path) -> None:
        """Continues from what ``save`` wrote.

        Raises:
            ValueError: the checkpoint is damaged or of another config.
        """
        template = jax.eval_shape(lambda: self.state)
        self.state, metadata = load_checkpoint(folder / STATE_FILE, template)
        self._scores = metadata["scores"]

    def recording(self) -> Recording:
        """Returns the last evaluation episodes of the best seed; call it after a segment."""
        best = int(np.argmax(np.mean(self._scores[-FINAL_WINDOW:], axis=0)))
        return recording_of(self.task, jax.tree.map(lambda leaf: leaf[best], self.episodes))

    def _follow_schedule(self) -> None:
        config = self.config.at(self.env_steps)
        if config != self._now:
            self._now = config
            _, self.hyperparameters, self.reward_params = _traced(config)

    def _judge(self, diverged: bool) -> dict[str, float]:
        """Returns the columns of the final table as they stand now, and the objective."""
        segment = self.config.ppo.steps_per_segment
        steps = segment * np.arange(1, len(self._scores) + 1)
        curves = Curves(steps, np.transpose(self._scores))
        columns = {name: float(np.mean(values)) for name, values in measure(curves).items()}
        if diverged:
            return {**columns, "objective": self.objective.floor(self.config.full_length, segment)}
        return {**columns, "objective": self.objective.value(curves)}

    def _initial_state(self) -> TrainState:
        """Returns fresh states.  Run once a trial: a quick compile is worth more than speed."""
        key = (self.config.task, self.config.ppo)
        inputs = (self.task, self.hyperparameters, jnp.asarray(self.seeds, jnp.uint32))
        if key not in _initializers:
            lowered = init_state.lower(self.config.ppo, *inputs)
            options: dict[str, Any] = {"xla_backend_optimization_level": 0}
            _initializers[key] = lowered.compile(options)
        state: TrainState = _initializers[key](*inputs)
        return state


def segment_program(config: TrialConfig) -> Any:
    """Returns the compiled segment; one a process for all configs that differ in traced numbers."""
    key = (config.task, config.ppo)
    if key not in _programs:
        use_compilation_cache()
        task, hyperparameters, reward_params = _traced(config)
        seeds = jnp.zeros(config.ppo.seeds_per_trial, jnp.uint32)
        state = jax.eval_shape(partial(init_state, config.ppo), task, hyperparameters, seeds)
        lowered = train_segment.lower(config.ppo, task, state, hyperparameters, reward_params)
        with _one_compiles(key):
            _programs[key] = lowered.compile()
    return _programs[key]


def _traced(config: TrialConfig) -> tuple[Any, Hyperparameters, RewardParams]:
    """Returns task, hyperparameters and reward parameters as the arrays that programs take."""
    hyperparameters = Hyperparameters(**config.hyperparameters, budget=float(config.budget))
    reward_params = make_reward_params(TERMS[config.task], config.reward)
    return make_task(config), hyperparameters.as_arrays(), reward_params


def make_task(config: TrialConfig) -> Any:
    """Returns the config's task; its constants are arrays of the working precision."""
    task = TASKS[config.task](**config.constants)
    return jax.tree.map(lambda value: jnp.asarray(value, dtype=float), task)


def recording_of(task: Any, episodes: Episodes) -> Recording:
    """Returns one seed's evaluation episodes as ``rlcore/video.py`` draws them."""
    return Recording(
        states=np.asarray(episodes.states),
        actions=np.asarray(episodes.actions),
        score_rates=np.asarray(episodes.score_rates),
        lengths=np.asarray(episodes.lengths).astype(np.int64),
        dt=task.dt,
        rail=float(task.rail),
        pole_length=POLE_LENGTH,
        captions=(task.start_names[0], task.start_names[1], task.start_names[1]),
    )


def _scalars(metrics: SegmentMetrics) -> dict[str, np.ndarray]:
    """Returns the metrics that are one number a seed, by column name."""
    score = {f.name: getattr(metrics.score, f.name) for f in fields(metrics.score)}
    score.pop("score")
    return {
        **score,
        **metrics.update._asdict(),
        "learning_rate": metrics.learning_rate,
        "explained_variance": metrics.explained_variance,
        "shaped_return": metrics.shaped_return,
        "return_score_correlation": metrics.return_score_correlation,
        "training_episode_length": metrics.training_episode_length,
    }


def _finite_mean(values: Any) -> float | None:
    """Returns the mean over seeds, or None where a seed has no finite number."""
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None


def _term_columns(metrics: SegmentMetrics) -> dict[str, float | None]:
    columns = {}
    for name, values in metrics.terms.items():
        mean, low, high = values[:, 0], values[:, 1], values[:, 2]
        columns[f"term_{name}_mean"] = _finite_mean(mean)
        columns[f"term_{name}_min"] = _finite_mean(np.min(low))
        columns[f"term_{name}_max"] = _finite_mean(np.max(high))
    return columns
