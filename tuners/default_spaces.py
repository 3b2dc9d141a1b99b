"""The search spaces that the scripts start from; ``--space`` replaces them."""

from tuners.space import BadInput, Choice, Domain, LogUniform, Uniform

_SWITCH = Choice((True, False))
_UNIT = Uniform(0.0, 1.0)

# Scale is taken out by reward normalisation, so no weight needs a wide range.  Terms that take
# part in products have weights in [0, 1]; the penalties count in sums only.
#
# What is in here was measured: 96 random shapes of a wider space, two seeds each.  The area under
# the score curve rose with calm (by 120, the more the heavier), upright (80 to 110) and energy (20
# to 80); it fell with gentle (by 40), and in sums with a heavy position penalty (by 130) and effort
# (by 70).  So calm is always in, gentle is not, and those penalties stay light.
_REWARD: dict[str, dict[str, Domain]] = {
    "swingup": {
        "reward.combine": Choice(("sum", "product")),
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
    },
}


def reward_space(task: str) -> dict[str, Domain]:
    """Returns the default space of reward shapes.

    Raises:
        BadInput: the task has none.
    """
    if task not in _REWARD:
        raise BadInput(f"task is '{task}'; a default reward space exists for: {', '.join(_REWARD)}")
    return dict(_REWARD[task])
