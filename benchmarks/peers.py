"""Our trainer against Rejax, both on one core, on CartPole-v1 with the same networks.

    python benchmarks/peers.py      # about five minutes; installs Rejax beside it, once

Same environments, rollout, hidden layers, epochs and minibatches; no evaluation inside either, and
compile time apart.  Each program runs in a process of its own, in turns; a figure is the median of
all its segments.  The share is what the networks' arithmetic in training reaches of this core's
own matrix product, measured in the same run.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REJAX = ("rejax==0.1.3", "gymnax==0.0.9")
TURNS = 3
SECONDS = 8.0
OBSERVATIONS, ACTIONS, HIDDEN = 4, 2, 64
SHAPES: dict[str, dict[str, Any]] = {
    "128 envs x 64, 4 epochs x 8 minibatches": {
        "num_envs": 128,
        "rollout_length": 64,
        "epochs": 4,
        "num_minibatches": 8,
    },
    "4 envs x 128, 4 epochs x 4 minibatches": {
        "num_envs": 4,
        "rollout_length": 128,
        "epochs": 4,
        "num_minibatches": 4,
    },
}


def time_segments(advance: Callable[[], Any], steps: int) -> list[float]:
    """Returns the steps/s of each segment for some seconds, after one that compiles."""
    import jax

    jax.block_until_ready(advance())
    rates, begun = [], time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(advance())
        rates.append(steps / (time.perf_counter() - started))
    return rates


def run_rejax(shape: dict[str, Any]) -> list[float]:
    """Returns Rejax's steps/s, segment by segment."""
    import jax
    from rejax import PPO

    updates = updates_of(shape)
    algorithm = PPO.create(
        env="CartPole-v1",
        num_envs=shape["num_envs"],
        num_steps=shape["rollout_length"],
        num_epochs=shape["epochs"],
        num_minibatches=shape["num_minibatches"],
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (HIDDEN, HIDDEN)},
        learning_rate=2.5e-4,
        max_grad_norm=0.5,
    )

    @jax.jit
    def segment(state: Any) -> Any:
        return jax.lax.scan(
            lambda state, _: (algorithm.train_iteration(state), None), state, None, length=updates
        )[0]

    states = [algorithm.init_state(jax.random.key(0))]

    def advance() -> Any:
        states[0] = segment(states[0])
        return states[0]

    return time_segments(advance, steps_of(shape))


def run_ours(shape: dict[str, Any], shuffle: str) -> list[float]:
    """Returns our steps/s, segment by segment."""
    import jax
    import jax.numpy as jnp

    from rlcore.ppo.config import Hyperparameters, PPOConfig
    from rlcore.ppo.train import init_state, run_updates
    from rlcore.rewards import SHAPES as REWARDS
    from rlcore.rewards import TERMS, make_reward_params
    from rlcore.tasks.balance import Balance

    config = PPOConfig(
        **shape,
        hidden_sizes=(HIDDEN, HIDDEN),
        shuffle=shuffle,
        normalize_reward=False,
        clip_value=True,
        advantage_normalization="minibatch",
        updates_per_segment=updates_of(shape),
        seeds_per_trial=1,
    )
    numbers = Hyperparameters(learning_rate=2.5e-4, entropy_coef=0.01, budget=1e9).as_arrays()
    reward = make_reward_params(TERMS["balance"], REWARDS["balance"]["survival"])
    task = Balance()

    @jax.jit
    def segment(state: Any) -> Any:
        return jax.vmap(lambda one: run_updates(config, task, one, numbers, reward))(state)

    states = [init_state(config, task, numbers, jnp.zeros(1, jnp.uint32))]

    def advance() -> Any:
        states[0], history = segment(states[0])
        return states[0], history

    return time_segments(advance, steps_of(shape))


def run_product(_: dict[str, Any]) -> list[float]:
    """Returns the multiply-adds, counted twice, a second of a large matrix product."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((1024, 1024))
    product = jax.jit(lambda a: a @ a)
    return time_segments(lambda: product(a), 2 * 1024**3)


def updates_of(shape: dict[str, Any]) -> int:
    """Returns the updates in a segment: about 65,536 steps."""
    return 65_536 // (shape["num_envs"] * shape["rollout_length"])


def steps_of(shape: dict[str, Any]) -> int:
    """Returns the environment steps in a segment."""
    return shape["num_envs"] * shape["rollout_length"] * updates_of(shape)


def operations(shape: dict[str, Any]) -> int:
    """Returns the floating-point operations of our networks for each environment step."""
    from benchmarks.arithmetic import operations_per_step  # not there for Rejax

    return operations_per_step(OBSERVATIONS, ACTIONS, (HIDDEN, HIDDEN), shape["epochs"])


def peer_python() -> Path:
    """Returns the Python of Rejax's own environment, made if it is not there."""
    from tuners.programs import use_compilation_cache

    folder = use_compilation_cache() / "peers" / "-".join(REJAX).replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        import jax

        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", folder], check=True)
        packages = [*REJAX, f"jax=={jax.__version__}"]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
        (folder / "installed").touch()
    return python


def child(python: Path, kind: str, shape: dict[str, Any], *more: str) -> list[float]:
    """Returns what a program measured in a process of its own."""
    command = [str(python), __file__, "--child", kind, json.dumps(shape), *more]
    on_cpu = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=on_cpu)
    return [float(rate) for rate in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Prints a table."""
    here, there = Path(sys.executable), peer_python()
    for name, shape in SHAPES.items():
        rates: dict[str, list[float]] = {}
        for _ in range(TURNS):
            turn = {
                "Rejax": child(there, "rejax", shape),
                "ours, shuffling samples": child(here, "ours", shape, "samples"),
                "matrix product": child(here, "product", shape),
            }
            if shape["num_envs"] % shape["num_minibatches"] == 0:
                turn["ours, shuffling environments"] = child(here, "ours", shape, "envs")
            for program, measured in turn.items():
                rates.setdefault(program, []).extend(measured)
        peak = statistics.median(rates.pop("matrix product"))
        rejax = statistics.median(rates["Rejax"])
        print(f"{name}   (matrix product: {peak / 1e9:.0f} GFLOP/s)")
        for program, measured in rates.items():
            middle = statistics.median(measured)
            low, high = statistics.quantiles(measured, n=4)[::2]
            line = f"  {program:30}{middle:10,.0f} steps/s [{low:,.0f} to {high:,.0f}]"
            if program != "Rejax":
                share = middle * operations(shape) / peak
                line += f"   {middle / rejax:.2f} x Rejax   {share:.0%} of the product's speed"
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        programs: dict[str, Callable[..., list[float]]] = {
            "rejax": run_rejax,
            "ours": run_ours,
            "product": run_product,
        }
        run = programs[sys.argv[2]]
        print(json.dumps(run(json.loads(sys.argv[3]), *sys.argv[4:])))
    else:
        main()
