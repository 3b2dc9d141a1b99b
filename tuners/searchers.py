"""Searchers: they propose the values of trial after trial.  A new one is a function and a line.

Trial 0 is never asked for: it is the hand-tuned baseline.
"""

from collections.abc import Callable
from typing import Any

from tuners.space import Space, sample

Suggest = Callable[[int], dict[str, Any]]


def random_search(space: Space, seed: int) -> Suggest:
    """Returns independent draws: a trial's values depend on sweep seed and trial number alone."""
    return lambda number: sample(space, seed, number)


SEARCHERS: dict[str, Callable[[Space, int], Suggest]] = {
    "random": random_search,
}
