"""The reward-hacking alarm: trials that were paid more and more for doing worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuners.phases import TASK_SCORE
from tuners.report.sweep_record import SweepRecord

MIN_SEGMENTS = 5  # after the best score: fewer say nothing about a trend
_DISAGREEMENT = -0.6  # rank correlation at or below which two curves go apart
_NOISES = 3.0  # how many standard deviations of one segment a change must have
_LEAST_FALL = 50.0  # of a score of 1000


@dataclass(frozen=True)
class Hack:
    """A stretch of training in which the shaped return rose while the score fell.

    Attributes:
        correlation: rank correlation of the two over the stretch.
        best: the score where it begins.
        last: the score where it ends.
        rise: of the shaped return, in its own currency.
    """

    correlation: float
    best: float
    last: float
    rise: float


def find_hack(shaped: Sequence[float], scores: Sequence[float]) -> Hack | None:
    """Returns the stretch in which a trial earned more and did worse, or None.

    Looked at is what follows the best score (the highest median of three segments; the whole run
    where it fell from the start).  There, over at least ``MIN_SEGMENTS`` segments, all of these
    must hold:

    - Spearman's rank correlation of shaped return and score is -0.6 or less;
    - the shaped return rose and the score fell, from the mean of the stretch's first third to that
      of its last, by more than three standard deviations of the noise of a single segment;
    - the score fell by at least 50 of 1000.

    The noise is estimated from the differences between neighbouring segments (their median absolute
    deviation, which a trend does not change).
    """
    if not is_long_enough(scores):
        return None
    earned, done = np.asarray(shaped, dtype=float), np.asarray(scores, dtype=float)
    start = _best_of(done)
    rest, score = earned[start:], done[start:]
    third = len(score) // 3
    rise = float(rest[-third:].mean() - rest[:third].mean())
    best, last = float(score[:third].mean()), float(score[-third:].mean())
    correlation = rank_correlation(rest, score)
    apart = rise > _NOISES * _noise(earned) and best - last > _NOISES * _noise(done)
    if apart and best - last >= _LEAST_FALL and correlation <= _DISAGREEMENT:
        return Hack(correlation, best, last, rise)
    return None


def is_long_enough(scores: Sequence[float]) -> bool:
    """Returns whether enough follows a trial's best score to be judged."""
    return len(scores) - (_best_of(np.asarray(scores)) if len(scores) else 0) >= MIN_SEGMENTS


def _best_of(scores: np.ndarray) -> int:
    return int(np.argmax(_medians_of_three(scores)))


def _medians_of_three(values: np.ndarray) -> np.ndarray:
    """Returns the median of each value and its neighbours; the ends stand for a neighbour too."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _noise(values: np.ndarray) -> float:
    differences = np.diff(values)
    deviation = np.median(np.abs(differences - np.median(differences)))
    return float(1.4826 * deviation / np.sqrt(2.0))


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns Spearman's rank correlation; 0 where one of the two never changes."""
    ranks = [_ranks(ours), _ranks(theirs)]
    if not all(np.ptp(rank) for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the place of each value; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def paired(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Returns shaped return and score of the segments that have both."""
    pairs = [
        (row["shaped_return"], row["score"])
        for row in rows
        if row.get("shaped_return") is not None and np.isfinite(row["shaped_return"])
    ]
    return [shaped for shaped, _ in pairs], [score for _, score in pairs]


def hacks(record: SweepRecord) -> dict[str, Hack]:
    """Returns the trials of all phases that earned more and did worse.

    Those whose reward was changed on the way are passed over: their shaped return is no one sum.
    """
    found = {}
    for trial in filter(record.keeps_its_reward, record.trials):
        hack = find_hack(*paired(record.segments.get(trial["trial"], ())))
        if hack is not None and trial["row"] != TASK_SCORE:
            found[trial["trial"]] = hack
    return found


def agreement(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns how shaped return and score correlate within segments: the median of the last half.

    None where no segment says.
    """
    known = [row.get("return_score_correlation") for row in rows]
    values = [value for value in known if value is not None and np.isfinite(value)]
    return float(np.median(values[len(values) // 2 :])) if values else None


def hack_lines(record: SweepRecord) -> list[str]:
    """Returns a warning for each trial that was paid for the wrong thing."""
    lines = []
    for name, hack in hacks(record).items():
        inside = agreement(record.segments[name])
        episodes = "" if inside is None else f"; from episode to episode it is {inside:.2f}"
        lines.append(
            f"{name} looks like reward hacking: its shaped return rose by {hack.rise:.3g} while its"
            f" score fell from {hack.best:.0f} to {hack.last:.0f} (rank correlation over training"
            f" {hack.correlation:.2f}{episodes})."
        )
    return lines
