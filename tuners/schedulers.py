"""Schedulers: they stop trials early.  A new one is a function and a line.

Ray is imported only when one is made: naming them must be quick.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tuners.objectives import Objective

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


class RungSettings(Protocol):
    """What a scheduler reads of a sweep's description."""

    @property
    def grace_period(self) -> int:
        """Env_steps before a trial may be stopped."""

    @property
    def reduction_factor(self) -> int:
        """One trial in so many passes a rung."""

    @property
    def judge(self) -> Objective:
        """What trials are judged by."""

    @property
    def base(self) -> Any:
        """The baseline's config; its ``budget`` is every trial's."""


def asha(spec: RungSettings) -> "TrialScheduler":
    """Returns asynchronous successive halving with one bracket (Li et al. 2020)."""
    from tuners.stopping import SearchPhaseASHA

    return SearchPhaseASHA(
        time_attr="env_steps",
        metric=spec.judge.rung_column,
        mode="max",
        max_t=spec.base.budget,  # which no trial goes beyond, however long its segments are
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
    )


def median(spec: RungSettings) -> "TrialScheduler":
    """Returns the median stopping rule (Golovin et al. 2017)."""
    from tuners.stopping import SearchPhaseMedian

    return SearchPhaseMedian(spec.judge.rung_column, spec.grace_period)


def no_stopping(spec: RungSettings) -> "TrialScheduler":
    """Returns a scheduler under which every trial runs to the end of its budget."""
    from tuners.stopping import InOrder

    return InOrder()


SCHEDULERS: dict[str, Callable[[RungSettings], "TrialScheduler"]] = {
    "asha": asha,
    "median": median,
    "none": no_stopping,
    "pbt": no_stopping,  # tuners/population.py plans the generations
}
