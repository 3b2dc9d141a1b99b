"""The search spaces that the scripts start from; ``--space`` replaces them."""

from rlcore.tasks import TASKS
from tuners.errors import BadInput
from tuners.space import Choice, Domain, LogUniform, OneMinusLogUniform, Uniform

_SWITCH = Choice((True, False))
_UNIT = Uniform(0.0, 1.0)

# Scale is taken out by reward normalisation, so no weight needs a wide range.  Terms that take
# part in products have weights in [0, 1]; the penalties count in sums only.
#
# What is in here was measured: 96 random shapes of a wider space, two seeds each.  The area under
# the score curve rose with calm (by 120, the more the heavier), upright (80 to 110) and energy (20
# to 80); it fell with gentle (by 40), and in sums with a heavy position penalty (by 130) and effort
# (by 70).  So calm is always in, gentle is not, and those penalties stay light.  Of twelve random
# shapes, each in three structures on four seeds, the median area was 692 as a sum, 708 as a product
# and 702 as a geometric mean, the best 739, 736 and 743: structure is searched.  A mean is a sum
# whose scale reward normalisation takes out again, so it is not in here.
_SWING_UP: dict[str, Domain] = {
    "reward.combine": Choice(("sum", "product", "geometric")),
    "reward.cos.weight": Uniform(0.5, 1.0),
    "reward.peak.on": _SWITCH,
    "reward.peak.weight": _UNIT,
    "reward.peak.sharpness": LogUniform(1.0, 30.0),
    "reward.energy.on": _SWITCH,
    "reward.energy.weight": _UNIT,
    "reward.upright.on": _SWITCH,
    "reward.upright.weight": _UNIT,
    "reward.centred.on": _SWITCH,
    "reward.centred.weight": _UNIT,
    "reward.centred.margin": LogUniform(0.5, 4.0),
    "reward.calm.weight": Uniform(0.3, 1.0),
    "reward.calm.margin": LogUniform(2.0, 15.0),
    "reward.position.on": _SWITCH,
    "reward.position.weight": LogUniform(0.001, 0.03),
    "reward.position_upright.on": _SWITCH,
    "reward.position_upright.weight": LogUniform(0.003, 0.3),
    "reward.spin_upright.on": _SWITCH,
    "reward.spin_upright.weight": LogUniform(0.0005, 0.05),
    "reward.effort.on": _SWITCH,
    "reward.effort.weight": LogUniform(0.0001, 0.01),
}
_BALANCE: dict[str, Domain] = {
    "reward.combine": Choice(("sum", "product", "geometric")),
    "reward.clip": _SWITCH,
    "reward.alive.on": _SWITCH,
    "reward.alive.weight": _UNIT,
    "reward.angle.on": _SWITCH,
    "reward.angle.weight": _UNIT,
    "reward.position.on": _SWITCH,
    "reward.position.weight": _UNIT,
    "reward.kinetic.on": _SWITCH,
    "reward.kinetic.weight": LogUniform(0.005, 0.5),
}
# Wide enough to hold what docs/defaults.md found best on each task.
_HYPERPARAMETERS: dict[str, Domain] = {
    "learning_rate": LogUniform(5e-4, 8e-3),
    "gamma": OneMinusLogUniform(0.97, 0.997),
    "gae_lambda": Uniform(0.85, 0.99),
    "clip_range": Uniform(0.1, 0.35),
    "entropy_coef": Uniform(0.0, 0.02),
    "max_grad_norm": LogUniform(0.3, 5.0),
    "init_log_std": Uniform(-1.0, 0.3),
    "num_minibatches": Choice((4, 8)),  # a compile each
}
_REWARD = {"swingup": _SWING_UP, "dmc_swingup": _SWING_UP, "balance": _BALANCE}


def reward_space(task: str) -> dict[str, Domain]:
    """Returns the default space of reward shapes.

    Raises:
        BadInput: the task has none.
    """
    if task not in _REWARD:
        raise BadInput(
            f"task is '{task}'; a default reward space (tuners/default_spaces.py) exists for:"
            f" {', '.join(_REWARD)}"
        )
    return dict(_REWARD[task])


def hyperparameter_space(task: str) -> dict[str, Domain]:
    """Returns the default space of PPO's hyperparameters; a deviation where actions have one."""
    space = dict(_HYPERPARAMETERS)
    if task in TASKS and TASKS[task].discrete:
        del space["init_log_std"]
    return space


def joint_space(task: str) -> dict[str, Domain]:
    """Returns reward shapes and hyperparameters together.

    Raises:
        BadInput: the task has no default space of reward shapes.
    """
    return reward_space(task) | hyperparameter_space(task)
