"""An exported policy in simulators that nobody here wrote: Gymnasium and the Control Suite.

Both are optional: ``pip install 'shapesweep[simulators]'``, the latter for Python 3.12 or older.
"""

import warnings
from collections.abc import Callable

import numpy as np

from rlcore.policy import Policy
from tuners.config import TrialConfig
from tuners.errors import BadInput


def gymnasium_returns(policy: Policy, config: TrialConfig, episodes: int, seed: int) -> np.ndarray:
    """Returns the return of each episode [episodes] of Gymnasium's CartPole-v1, at most 500."""
    import gymnasium

    environment = gymnasium.make("CartPole-v1")
    returns = np.zeros(episodes)
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed + episode)
        ended = False
        while not ended:
            action = int(policy(observation)[0])
            for _ in range(config.ppo.action_repeat):
                observation, reward, terminated, truncated, _ = environment.step(action)
                returns[episode] += float(reward)
                ended = terminated or truncated
                if ended:
                    break
    environment.close()
    return returns


def dm_control_returns(policy: Policy, config: TrialConfig, episodes: int, seed: int) -> np.ndarray:
    """Returns the return of each episode [episodes] of the suite's swing-up, at most 1000."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a display: nothing is drawn
        from dm_control import suite

    environment = suite.load("cartpole", "swingup", task_kwargs={"random": seed})
    returns = np.zeros(episodes)
    for episode in range(episodes):
        step = environment.reset()
        while not step.last():
            seen = step.observation
            action = policy(np.concatenate([seen["position"], seen["velocity"]]))
            for _ in range(config.ppo.action_repeat):
                step = environment.step(action)
                returns[episode] += step.reward
                if step.last():
                    break
    environment.close()
    return returns


Returns = Callable[[Policy, TrialConfig, int, int], np.ndarray]
# name: (the task it can run, how)
SIMULATORS: dict[str, tuple[str, Returns]] = {
    "gymnasium": ("balance", gymnasium_returns),
    "dm_control": ("dmc_swingup", dm_control_returns),
}


def check_simulator(simulator: str) -> None:
    """Refuses a name that is not in ``SIMULATORS``.

    Raises:
        BadInput: which are.
    """
    if simulator not in SIMULATORS:
        raise BadInput(f"--in is '{simulator}'; allowed: {', '.join(SIMULATORS)}")


def returns_in(
    simulator: str, policy: Policy, config: TrialConfig, episodes: int, seed: int
) -> np.ndarray:
    """Returns the return of each episode [episodes] in another simulator.

    Raises:
        BadInput: no such simulator, one that does not have the policy's task or is not installed.
    """
    check_simulator(simulator)
    task, run = SIMULATORS[simulator]
    if config.task != task:
        raise BadInput(f"--in {simulator} runs policies for {task}; this one is for {config.task}")
    try:
        return run(policy, config, episodes, seed)
    except ModuleNotFoundError as error:
        has_limit = " (with Python 3.12 or older)" * (simulator == "dm_control")
        raise BadInput(
            f"--in {simulator} needs {error.name}, which is not installed; to install it:"
            f" pip install 'shapesweep[simulators]'{has_limit}"
        ) from error
