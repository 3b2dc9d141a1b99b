"""Searchers: they propose the values of trial after trial.  A new one is a function and a line.

Trial 0 is never asked for: it is the hand-tuned baseline.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tuners.errors import BadInput
from tuners.objectives import PARETO, Outcome
from tuners.space import Space, grid, sample

if TYPE_CHECKING:
    from tuners.spec import SweepSpec


class Searcher(Protocol):
    """Proposes trials in the order of their numbers, and may learn from how they end."""

    def suggest(self, number: int) -> dict[str, Any]:
        """Returns trial ``number``'s values; the same when asked again."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """Takes in how a trial ended; what it knew already is passed over."""

    def restore(self, known: Mapping[int, Mapping[str, Any]]) -> None:
        """Takes in the values of trials that an earlier run began, before any other call."""


class Memoryless:
    """A searcher whose proposals depend on the trial's number alone."""

    def __init__(self, spec: "SweepSpec", propose: Callable[[int], Mapping[str, Any]]) -> None:
        """``propose`` returns a trial's values by its number."""
        self._first = spec.first_values
        self._propose = propose

    def suggest(self, number: int) -> dict[str, Any]:
        """Returns what is proposed, with the values that the sweep begins with in it."""
        return {**self._propose(number), **first_values(self._first, number)}

    def tell(self, number: int, outcome: Outcome) -> None:
        """Learns nothing."""

    def restore(self, known: Mapping[int, Mapping[str, Any]]) -> None:
        """Needs nothing."""


def first_values(first: Sequence[Mapping[str, Any]], number: int) -> Mapping[str, Any]:
    """Returns the values with which trial ``number`` was ordered, if it was."""
    return first[number - 1] if 0 < number <= len(first) else {}


def random_search(spec: "SweepSpec") -> Searcher:
    """Returns independent draws: a trial's values depend on sweep seed and trial number alone."""
    return Memoryless(spec, partial(sample, spec.space, spec.seed))


def grid_search(spec: "SweepSpec") -> Searcher:
    """Returns every combination of the space's choices, the last name varying fastest."""
    points = grid(spec.space)
    return Memoryless(spec, lambda number: points[number - 1])


def tpe(spec: "SweepSpec") -> Searcher:
    """Returns Optuna's tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023)."""
    from tuners.optuna_search import OptunaSearcher, make_tpe

    return OptunaSearcher(spec, make_tpe)


def gaussian_process(spec: "SweepSpec") -> Searcher:
    """Returns Optuna's Gaussian process with expected improvement in log space."""
    from tuners.optuna_search import OptunaSearcher, make_gaussian_process

    return OptunaSearcher(spec, make_gaussian_process)


def cma_es(spec: "SweepSpec") -> Searcher:
    """Returns CMA-ES over the space's numbers (Hansen 2016); its choices are drawn at random."""
    from tuners.optuna_search import OptunaSearcher, make_cma_es

    return OptunaSearcher(spec, make_cma_es)


# Those that learn from how trials ended, and those of them that learn from full length alone.
LEARNING = ("tpe", "gp", "cmaes")
_TURNS, _FEWEST = 4, 4
_LEARN_FROM_FULL_LENGTH = ("gp", "cmaes")

SEARCHERS: dict[str, Callable[["SweepSpec"], Searcher]] = {
    "random": random_search,
    "grid": grid_search,
    "tpe": tpe,
    "gp": gaussian_process,
    "cmaes": cma_es,
}


def most_at_once(spec: "SweepSpec", room: float = math.inf) -> float:
    """Returns how many trials may be handed out at once: of one that learns, a quarter of all.

    And no more than there is ``room`` for, as Tune asks ahead.  On a GPU all might train at once,
    and it would have proposed the last before it knows how the first ended.
    """
    if spec.searcher not in LEARNING:
        return math.inf
    return min(room, max(_FEWEST, spec.num_trials // _TURNS))


def check_searcher(
    name: str, space: Space, num_trials: int, objective: str, scheduler: str
) -> None:
    """Refuses a searcher that is not there, or cannot do what is asked of it.

    Raises:
        BadInput: what was given, and what is allowed.
    """
    if name not in SEARCHERS:
        raise BadInput(f"searcher is '{name}'; allowed: {', '.join(SEARCHERS)}")
    if name == "grid" and num_trials > (most := 1 + len(grid(space))):
        raise BadInput(
            f"num_trials is {num_trials}, but the grid and the baseline make at most {most}"
        )
    if name in _LEARN_FROM_FULL_LENGTH and scheduler != "none":
        raise BadInput(
            f"searcher {name} learns only from trials that nobody stops, but scheduler is"
            f" '{scheduler}'; give --scheduler none"
        )
    if name == "cmaes" and objective == PARETO:
        raise BadInput("searcher cmaes has one objective; pareto takes random, grid, tpe or gp")


def check_installed(name: str) -> None:
    """Refuses a searcher that needs what is not installed here.

    Raises:
        BadInput: what to install.
    """
    if name == "gp" and importlib.util.find_spec("torch") is None:
        raise BadInput(
            "searcher gp needs torch, which is not installed: pip install 'shapesweep[gp]'"
        )
