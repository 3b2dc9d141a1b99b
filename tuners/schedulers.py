"""Schedulers: they stop trials early.  A new one is a function and a line.

Ray is imported only when one is made: naming them must be quick.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from tuners.spec import SweepSpec


def asha(spec: "SweepSpec") -> "TrialScheduler":
    """Returns asynchronous successive halving with one bracket (after Li et al. 2020).

    In Ray's variant a trial is compared once, as it comes to a rung, with those that came before:
    the first goes on, and none is paused and taken up later.
    """
    from tuners.stopping import SearchPhaseASHA

    return SearchPhaseASHA(
        time_attr="env_steps",
        metric=spec.judge.rung_column,
        mode="max",
        max_t=spec.base.budget,  # which no trial goes beyond, however long its segments are
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
    )


def median(spec: "SweepSpec") -> "TrialScheduler":
    """Returns the median stopping rule (Golovin et al. 2017)."""
    from tuners.stopping import SearchPhaseMedian

    return SearchPhaseMedian(spec.judge.rung_column, spec.grace_period)


def no_stopping(spec: "SweepSpec") -> "TrialScheduler":
    """Returns a scheduler under which every trial runs to the end of its budget."""
    from tuners.stopping import InOrder

    return InOrder()


SCHEDULERS: dict[str, Callable[["SweepSpec"], "TrialScheduler"]] = {
    "asha": asha,
    "median": median,
    "none": no_stopping,
    "pbt": no_stopping,  # tuners/population.py plans the generations
}
