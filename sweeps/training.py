"""What ``sweeps/train.py`` does: from flags to a run, and its progress to the terminal."""

import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from rlcore.rewards import SHAPES
from sweeps.cli import flags_given, make_console, refuse_beside
from sweeps.commands import on_sweep
from tuners.config import TrialConfig, load_config
from tuners.errors import BadInput
from tuners.gpu import PRECISIONS
from tuners.layout import MLFLOW_LOG
from tuners.lock import driving
from tuners.names import check_name
from tuners.programs import check_traceable
from tuners.single import run_single
from tuners.spec import (
    DEFAULT_TRACKING_URI,
    SweepSpec,
    load_spec,
    make_spec,
    prepare,
)
from tuners.spec_file import check_code_version

_HEADINGS = ("env_steps", "score", "return", "steps/s", "policy", "value", "entropy", "left")


def run_training(flags: Any) -> int:
    """Trains what the flags ask for; returns the exit code."""
    if flags.video_every < 0:
        raise BadInput(f"video_every is {flags.video_every}, but must be at least 0")
    console = make_console()
    spec = _resumed(flags) if flags.resume is not None else _fresh(flags)
    prepare(spec, resume=flags.resume is not None)
    with driving(spec.folder, is_new=flags.resume is None):
        check_traceable(spec.base)
        return _train(spec, flags.video_every, console)


def _train(spec: SweepSpec, video_every: int, console: Console) -> int:
    if jax.default_backend() == "gpu":  # as in a trial's process: JAX's own default has ten bits
        jax.config.update("jax_default_matmul_precision", PRECISIONS[spec.precision])
    console.print(
        Text.assemble(
            (spec.name, "bold"),
            f"  {spec.base.task}, {spec.base.ppo.seeds_per_trial} seeds,"
            f" {spec.base.full_length:,} env_steps each, {spec.base.num_segments} segments",
        )
    )
    console.print("  ".join(f"{title:>10}" for title in _HEADINGS), style="dim")
    progress = _Progress(console, spec.base)
    try:
        tracked = run_single(
            spec,
            video_every=video_every,
            on_segment=progress.show,
        )
    except KeyboardInterrupt:
        command = on_sweep("train.py", spec, "--resume")
        console.print(f"Interrupted; go on with: {command}")
        return 130
    console.print(f"\ncheckpoint, film strip and video: {spec.folder}")
    if not tracked:
        console.print(
            f"MLflow lacks part of it ({spec.folder / MLFLOW_LOG} says why); once it takes"
            f" it: {on_sweep('track.py', spec)}",
            style="yellow",
        )
    return 0


def _fresh(flags: Any) -> SweepSpec:
    if flags.config is not None:
        unread = {"preset", "task", "shape"}
        refuse_beside("config", (name for name in flags_given(flags) if name in unread))
    given = None if flags.config is None else load_config(flags.config)
    task = flags.task if given is None else given.task
    name = flags.name
    if name is None:
        name = f"train-{task}-{time.strftime('%Y%m%d-%H%M%S')}"
    changes = {
        key: getattr(flags, key) for key in ("seed", "seeds_per_trial", "budget", "tracking_uri")
    }
    if given is not None:
        return _from_config(given, name, flags.runs_dir, changes)
    if flags.task not in SHAPES:
        raise BadInput(f"task is '{flags.task}'; allowed: {', '.join(SHAPES)}")
    shapes = SHAPES[flags.task]
    if flags.shape not in shapes:
        raise BadInput(f"shape is '{flags.shape}'; allowed: {', '.join(shapes)}")
    base = make_spec(
        name=name, preset=flags.preset, task=flags.task, reward=shapes[flags.shape], space={}
    ).base
    return _from_config(base, name, flags.runs_dir, changes)


def _from_config(
    config: TrialConfig, name: str, runs_dir: Path, changes: dict[str, Any]
) -> SweepSpec:
    """Returns a sweep of the one trial."""
    entries = config.to_dict()
    if changes["seeds_per_trial"] is not None:
        entries["ppo"]["seeds_per_trial"] = changes["seeds_per_trial"]
    if changes["budget"] is not None:
        entries["budget"] = changes["budget"]
    config = TrialConfig.from_dict(entries)
    seeds = config.ppo.seeds_per_trial
    return SweepSpec(
        name=name,
        preset="train",
        base=config,
        space={},
        seed=changes["seed"] or 0,
        num_trials=1,
        scheduler="none",
        validation_seeds=seeds,
        test_seeds=seeds,
        tracking_uri=changes["tracking_uri"] or DEFAULT_TRACKING_URI,
        runs_dir=runs_dir,
    )


def _resumed(flags: Any) -> SweepSpec:
    free = {"resume", "runs_dir", "video_every"}
    refuse_beside("resume", (name for name in flags_given(flags) if name not in free))
    check_name(flags.resume)
    spec = load_spec(flags.runs_dir / flags.resume)
    check_code_version(spec.folder)
    if spec.is_search:
        raise BadInput(f"'{spec.name}' is a sweep: resume it with the script that began it")
    if not spec.can_resume:
        raise BadInput(f"'{spec.name}' is a comparison of shapes: start it again")
    return spec


class _Progress:
    """Prints a line a segment."""

    def __init__(self, console: Console, config: TrialConfig) -> None:
        self._console = console
        self._config = config
        self._first: tuple[float, int] | None = None

    def show(self, row: dict[str, Any]) -> None:
        """Prints a segment's row."""
        now = time.monotonic()
        self._first = self._first or (now, row["env_steps"])
        since, steps = now - self._first[0], row["env_steps"] - self._first[1]
        left = (self._config.full_length - row["env_steps"]) * since / steps if steps else None
        cells = (
            f"{row['env_steps']:,}",
            f"{row['score']:.0f}",
            _number(row["shaped_return"], 1),
            f"{row['steps_per_second'] / 1e3:.0f} k",
            _number(row["policy_loss"], 4),
            _number(row["value_loss"], 4),
            _number(row["entropy"], 2),
            "" if left is None else f"{left:.0f} s",
        )
        self._console.print("  ".join(f"{cell:>10}" for cell in cells))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
