"""Packs on this machine's GPU: steps/s by the number of slots, and whole sweeps with and without.

    python benchmarks/pack.py              # one GPU, about half an hour
    python benchmarks/pack.py rates        # one part alone: rates, packed, fractional, batch
    python benchmarks/pack.py --toy        # all of it on a CPU, so small that it only shows it runs

`rates` trains 1, 4, ... trials in one program.  The sweeps search the same 256 configurations:
`packed` with ASHA, `fractional` with ASHA and a process for each trial on a part of the GPU,
`batch` in one program that trains every one to the end.  Beside each figure stands which share of
the device's own matrix product, measured in the same run at the same precision, its arithmetic
takes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arithmetic import operations_per_step
from rlcore.ppo.config import PPOConfig
from rlcore.tasks import TASKS
from tuners.config import TrialConfig, baseline
from tuners.default_spaces import joint_space
from tuners.gpu import gpu_environment
from tuners.presets import PRESETS
from tuners.ray_settings import apply_ray_settings
from tuners.spec import SweepSpec, make_spec, prepare
from tuners.validate import slot_use

PRECISION = "float32"
PARTS = ("rates", "packed", "fractional", "batch")
FRACTION = 0.125  # of the GPU, for a trial with a process of its own


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        shapes: the static configs whose rate is measured, by name.
        slots: how many trials are packed, in turn.
        sweep: what the sweeps change in their preset.
        preset: of the sweeps.
        sweep_slots: trials in a pack of the packed sweep.
    """

    shapes: dict[str, PPOConfig]
    slots: tuple[int, ...]
    preset: str
    sweep: dict[str, Any]
    sweep_slots: int


SMALL = PPOConfig(seeds_per_trial=1)
FULL = Size(
    shapes={"small (128 x 64)": SMALL, "notebook (1024 x 128)": PRESETS["notebook"]["ppo"]},
    slots=(1, 4, 16, 64, 256),
    preset="laptop",
    sweep={"num_trials": 256, "budget": 1_048_576, "num_finalists": 4},
    sweep_slots=64,
)
TOY = Size(
    shapes={"toy (16 x 32)": replace(PRESETS["smoke"]["ppo"], seeds_per_trial=1)},
    slots=(1, 4),
    preset="smoke",
    sweep={"num_trials": 12},
    sweep_slots=4,
)


def peak() -> float:
    """Returns the operations a second of a large matrix product, at the precision of training."""
    import jax
    import jax.numpy as jnp

    size = 1024 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return float(2 * size**3 / np.median(seconds))


def describe_device() -> dict[str, Any]:
    """Returns the device's kind and the speed of its matrix product."""
    import jax

    return {"device": jax.devices()[0].device_kind, "peak": peak()}


def measure_rate(shape: PPOConfig, slots: int) -> float:
    """Returns the steps/s of all trials of a full pack."""
    from tuners.packs.calibration import time_pack

    config = TrialConfig(reward=baseline("swingup"), ppo=shape, budget=shape.steps_per_segment * 64)
    return time_pack(config, slots)


def operations(ppo: PPOConfig) -> int:
    """Returns the floating-point operations of an environment step of swingup."""
    task = TASKS["swingup"]
    return operations_per_step(
        task.observation_size, task.action_size, ppo.hidden_sizes, ppo.epochs
    )


def make_sweep(size: Size, folder: Path, name: str, **changes: Any) -> SweepSpec:
    """Returns the description of a sweep; all search the same configurations.

    Of the default space what needs a compile a value is left out: a batch is one program.
    """
    space = joint_space("swingup")
    del space["num_minibatches"]
    return make_spec(
        name=name,
        preset=size.preset,
        task="swingup",
        reward=baseline("swingup"),
        space=space,
        runs_dir=folder,
        precision=PRECISION,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        **{**size.sweep, **changes},
    )


def run_ray_sweep(spec: SweepSpec) -> dict[str, Any]:
    """Runs a sweep through Ray Tune; returns what it took and found."""
    apply_ray_settings(None)
    from rich.console import Console

    from tuners.results import read_segments
    from tuners.run import run_sweep

    prepare(spec, resume=False)
    begun = time.monotonic()
    result = run_sweep(spec, console=Console(file=sys.stderr))
    seconds = time.monotonic() - begun
    rows = read_segments(spec.folder)
    searched = [row for row in rows if row["phase"] == "search"]
    return {
        "seconds": seconds,
        "search_seconds": search_seconds(searched),
        "steps": sum(segment_steps(spec.base.ppo) for _ in rows),
        "slot_use": slot_use(rows),
        "score": result.comparison.estimates[str(result.plan.winner)]["final_score"].value,
    }


def search_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Returns the time from the beginning of the first segment to the last report."""
    begun = min(row["time"] - row["wall_seconds"] for row in rows)
    return float(max(row["time"] for row in rows) - begun)


def segment_steps(ppo: PPOConfig) -> int:
    """Returns the environment steps of a segment, all seeds counted."""
    return ppo.steps_per_segment * ppo.seeds_per_trial


def run_batch(spec: SweepSpec) -> dict[str, Any]:
    """Trains every configuration to the end in one program; then the best on the test's seeds."""
    from tuners.phases import Plan
    from tuners.validate import FINAL_WINDOW, interquartile_mean

    begun = time.monotonic()
    plan = Plan(spec)
    jobs = [plan.next_job() for _ in range(spec.num_trials)]
    configs = {job.name: job.config for job in jobs if job is not None}
    seeds = spec.seeds("search")
    rows = train_together({name: (config, seeds) for name, config in configs.items()})
    best = max(rows, key=lambda name: rows[name][-1]["area"])
    test, batch = spec.seeds("test"), spec.base.ppo.seeds_per_trial
    groups = {str(i): (configs[best], test[i : i + batch]) for i in range(0, len(test), batch)}
    tested = train_together(groups)
    finals = [
        np.mean([row["seed_scores"] for row in curve[-FINAL_WINDOW:]], axis=0)
        for curve in tested.values()
    ]
    every = [row for curve in (*rows.values(), *tested.values()) for row in curve]
    return {
        "seconds": time.monotonic() - begun,
        "search_seconds": search_seconds([row for curve in rows.values() for row in curve]),
        "steps": segment_steps(spec.base.ppo) * len(every),
        "slot_use": slot_use(every),
        "score": float(interquartile_mean(np.concatenate(finals))),
    }


def train_together(
    trials: dict[str, tuple[TrialConfig, list[int]]],
) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of trials that one program trains from beginning to end."""
    from tuners.packs.pack import Pack

    pack = Pack(len(trials))
    entry = {"phase": "search", "objective": ("area", 0.0), "until": None, "resume_from": None}
    for name, (config, seeds) in trials.items():
        pack.enter(name, {"config": config.to_dict(), "seeds": seeds, **entry})
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in trials}
    going = list(trials)
    while going:
        for name, row in pack.advance(going).items():
            rows[name].append(row)
        going = [name for name in going if not rows[name][-1]["done"]]
    return rows


def work(part: str, size: Size, arguments: list[Any]) -> Any:
    """Returns what a process of its own measures."""
    if part == "device":
        return describe_device()
    if part == "rates":
        name, slots = arguments
        return measure_rate(size.shapes[name], slots)
    with tempfile.TemporaryDirectory() as folder:
        on_gpu = size is FULL
        if part == "batch":
            return run_batch(make_sweep(size, Path(folder), part))
        changes: dict[str, Any] = {"slots": size.sweep_slots if part == "packed" else 1}
        if on_gpu:
            changes["gpus_per_trial"] = FRACTION
        return run_ray_sweep(make_sweep(size, Path(folder), part, **changes))


def in_a_process(part: str, *arguments: Any, toy: bool) -> Any:
    """Returns what ``work`` returns in a process of its own; None if it failed."""
    environment = {"JAX_PLATFORMS": "cpu"} if toy else gpu_environment(PRECISION)
    command = [sys.executable, __file__, "--work", part, json.dumps(arguments), str(int(toy))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def print_rates(size: Size, limit: float, *, toy: bool) -> None:
    """Prints the steps/s of each shape and number of slots."""
    for name, ppo in size.shapes.items():
        for slots in size.slots:
            rate = in_a_process("rates", name, slots, toy=toy)
            if rate is None:
                print(f"  {name:24}{slots:5} slots   did not run (see above)", flush=True)
                continue
            share = rate * operations(ppo) / limit
            print(f"  {name:24}{slots:5} slots{rate:16,.0f} steps/s   {share:.1%} of the product")


def print_sweep(part: str, size: Size, limit: float, *, toy: bool) -> None:
    """Prints what a whole sweep took and found."""
    found = in_a_process(part, toy=toy)
    if found is None:
        print(f"  {part:12}did not run (see above)", flush=True)
        return
    ppo: PPOConfig = PRESETS[size.preset]["ppo"]
    rate = found["steps"] / found["seconds"]
    live = "  -  " if found["slot_use"] is None else f"{found['slot_use']:.0%}"
    print(
        f"  {part:12}{found['seconds']:8.0f} s in all, search {found['search_seconds']:.0f} s"
        f"   {found['steps'] / 1e6:8.1f} M steps   slots live {live}"
        f"   test score {found['score']:.0f}   {rate * operations(ppo) / limit:.1%} of the product",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    """Prints every part asked for."""
    toy = "--toy" in arguments
    size = TOY if toy else FULL
    parts = [part for part in PARTS if part in arguments] or list(PARTS)
    device = in_a_process("device", toy=toy)
    if device is None:
        sys.exit("error: JAX did not start, for the reason above")
    name = device["device"]
    if not toy and "cpu" in name.lower():
        sys.exit("error: JAX has no GPU here; --toy shows that everything runs on a CPU")
    print(f"{name}, {PRECISION}; matrix product {device['peak'] / 1e12:.2f} TFLOP/s")
    for part in parts:
        if part == "rates":
            print_rates(size, device["peak"], toy=toy)
        else:
            print_sweep(part, size, device["peak"], toy=toy)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        answer = work(sys.argv[2], TOY if sys.argv[4] == "1" else FULL, json.loads(sys.argv[3]))
        print(json.dumps(answer))
    else:
        main(sys.argv[1:])
