"""What the test says: curves by row, and statistics with intervals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tuners.config import parse_config
from tuners.errors import BadInput
from tuners.job_names import BASELINE, split_batch
from tuners.layout import COMPARISON_FILE, SEGMENTS_FOLDER
from tuners.names import is_plain
from tuners.reading import read_json

Values = Float[np.ndarray, " seeds"]
FINAL_WINDOW = 3
THRESHOLD = 800.0
CONFIDENCE = 0.95
# Of two rows that are alike one has all of its seeds in front of the other's once in 10 times with
# three seeds each, once in 35 with four.
FEWEST_SEEDS = 4
_RESAMPLES = 2000


@dataclass(frozen=True)
class Curves:
    """Scores of one row's seeds over training.

    Attributes:
        env_steps: of each segment [segments].
        scores: one line a seed [seeds, segments]; 0 after a divergence.
    """

    env_steps: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Column:
    """One column of the final table.

    Attributes:
        title: what a person reads.
        higher_is_better: the direction of "improvement".
        unit: printed behind the figure.
    """

    title: str
    higher_is_better: bool
    unit: str = ""


COLUMNS = {
    "final_score": Column("final score", True),
    "area": Column("area under curve", True),
    "steps_to_threshold": Column(f"steps to stay above {THRESHOLD:.0f}", False, "M"),
}


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AtEnd:
    """How the seeds of a row stood at the end of training.

    Attributes:
        above: how many were above the threshold.
        seeds: of how many.
        never: the steps to the threshold, in millions, that stand for those that were not.
    """

    above: int
    seeds: int
    never: float

    @classmethod
    def of(cls, curves: Curves) -> "AtEnd":
        """Returns how a row stood whose scores went as ``curves``."""
        last = curves.scores[:, -1]
        never = (curves.env_steps[-1] + curves.env_steps[0]) / 1e6
        return cls(int((last > THRESHOLD).sum()), len(last), float(never))


def gather_curves(
    trials: Iterable[Mapping[str, Any]], segments: Iterable[Mapping[str, Any]], phase: str
) -> dict[str, Curves]:
    """Returns each row's curves in a phase; seeds in the order of their batches.

    A trial that failed leaves its seeds out; one that diverged scores 0 to the end of its budget.

    Raises:
        BadInput: a report is missing of a trial that did not diverge.
    """
    jobs = {t["trial"]: t for t in trials if t["phase"] == phase and t["status"] == "finished"}
    points: dict[str, dict[int, list[float]]] = {name: {} for name in sorted(jobs, key=split_batch)}
    for row in segments:
        if row["trial"] in points:
            points[row["trial"]][row["env_steps"]] = row["seed_scores"]
    steps_by_row: dict[str, set[int]] = {}
    for name, curve in points.items():
        steps = steps_by_row.setdefault(jobs[name]["row"], set())
        steps.update(curve)
        if jobs[name]["stop_reason"] == "diverged":
            config = parse_config(jobs[name]["config"])
            segment = config.ppo.steps_per_segment
            steps.update(range(segment, config.full_length + 1, segment))
    curves = {}
    for row_name, steps in steps_by_row.items():
        ordered = sorted(steps)
        scores = []
        for name, curve in points.items():
            if jobs[name]["row"] != row_name:
                continue
            if jobs[name]["stop_reason"] != "diverged" and not steps <= set(curve):
                raise BadInput(
                    f"{SEGMENTS_FOLDER} lacks reports of {name}; restore it from a copy or a store"
                )
            scores.append([curve.get(step, [0.0] * len(jobs[name]["seeds"])) for step in ordered])
        stacked = np.concatenate([np.asarray(batch).T for batch in scores])
        curves[row_name] = Curves(np.asarray(ordered), stacked)
    return curves


def measure(curves: Curves) -> dict[str, Values]:
    """Returns one number a seed for each of ``COLUMNS``.

    Seeds that never stay above the threshold count as one segment beyond the last.
    """
    segment = curves.env_steps[0]
    return {
        "final_score": curves.scores[:, -FINAL_WINDOW:].mean(axis=1),
        "area": curves.scores.mean(axis=1),
        "steps_to_threshold": np.array(
            [(_segments_to_threshold(seed) + 1) * segment / 1e6 for seed in curves.scores]
        ),
    }


def best_seed(scores: Sequence[Sequence[float]]) -> tuple[int, float]:
    """Returns which seed has the best final score, whose film and policy are kept, and that score.

    Of those that lived longest: what is left of a seed that diverged are no numbers.

    Args:
        scores: [segments, seeds]; 0 after a divergence.
    """
    table = np.asarray(scores)
    segments = np.arange(1, len(table) + 1)[:, None]
    lived = np.max(np.where(table > 0, segments, 0), axis=0)
    final = table[-FINAL_WINDOW:].mean(axis=0)
    best = int(np.argmax(np.where(lived == lived.max(), final, -1.0)))
    return best, float(final[best])


def _segments_to_threshold(scores: np.ndarray) -> int:
    """Returns the index of the first segment from which the score stays above the threshold."""
    below = np.flatnonzero(scores <= THRESHOLD)
    return int(below[-1]) + 1 if below.size else 0


def estimate(values: Values) -> Estimate:
    """Returns the interquartile mean and its bootstrap interval (Agarwal et al. 2021)."""
    generator = np.random.default_rng(0)
    resampled = generator.choice(values, size=(_RESAMPLES, len(values)))
    return _with_interval(interquartile_mean(values), interquartile_mean(resampled))


def _with_interval(value: Any, resampled: np.ndarray) -> Estimate:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high))


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the middle half along the last axis.

    Where a quarter is no whole number of values, those at its edge count in part.
    """
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    edges = np.arange(n + 1) / n
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return np.asarray((ordered * weights).sum(axis=-1) / weights.sum())


def probability_of_improvement(ours: Values, theirs: Values, higher_is_better: bool) -> Estimate:
    """Returns the share of pairs in which ours is better, with its interval; a tie counts half.

    Agarwal et al. 2021; both sides' seeds are drawn again for the interval.
    """
    difference = ours[:, None] - theirs[None, :]
    if not higher_is_better:
        difference = -difference
    wins = (difference > 0) + 0.5 * (difference == 0)
    generator = np.random.default_rng(0)
    times = [generator.multinomial(n, [1 / n] * n, _RESAMPLES) for n in wins.shape]  # each is drawn
    resampled = np.sum((times[0] @ wins) * times[1], axis=1) / wins.size
    return _with_interval(wins.mean(), resampled)


@dataclass(frozen=True)
class Comparison:
    """The final table: rows on the same test seeds, and the winner against the others.

    Attributes:
        estimates: by row, then by column.
        improvement: probability that the winner is better, by other row, then by column; of rows
            with seeds enough to tell a difference from luck.
        over_tuning: the winner's objective in the search minus that in the test; None if the search
            did not train it to the end.
        validated: objective by row in the validation, best first.
        test_seeds: of the winner or the baseline, whichever has fewer.
        at_end: how each row's seeds stood at the end of training.
    """

    estimates: dict[str, dict[str, Estimate]]
    improvement: dict[str, dict[str, Estimate]]
    over_tuning: float | None
    validated: dict[str, float]
    test_seeds: int
    at_end: dict[str, AtEnd]

    def better_in(self, row: str) -> list[str]:
        """Returns titles of the columns in which the winner is better than ``row``.

        With some 95 % confidence in each, with four seeds 92: the whole interval of the
        probability lies above one half.
        """
        cells = self.improvement.get(row, {})
        return [COLUMNS[name].title for name, p in cells.items() if p.low > 0.5]

    def worse_in(self, row: str) -> list[str]:
        """Returns titles of the columns in which the winner is worse than ``row``, as surely."""
        cells = self.improvement.get(row, {})
        return [COLUMNS[name].title for name, p in cells.items() if p.high < 0.5]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``comparison.json`` has them."""
        return {
            "table": _plain(self.estimates),
            "improvement": _plain(self.improvement),
            "over_tuning": self.over_tuning,
            "validation": self.validated,
            "test_seeds": self.test_seeds,
            "at_end": {row: asdict(stood) for row, stood in self.at_end.items()},
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> "Comparison":
        """Returns what ``to_dict`` wrote; ``read_comparison`` has looked at it."""
        estimates, improvement = (
            {
                row: {name: Estimate(**cell) for name, cell in cells.items()}
                for row, cells in entries[part].items()
            }
            for part in ("table", "improvement")
        )
        return cls(
            estimates,
            improvement,
            entries["over_tuning"],
            entries["validation"],
            entries["test_seeds"],
            {row: AtEnd(**stood) for row, stood in entries["at_end"].items()},
        )


def _plain(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {
        row: {name: asdict(cell) for name, cell in cells.items()}
        for row, cells in estimates.items()
    }


def read_comparison(folder: Path, *needed: str) -> dict[str, Any]:
    """Returns what ``comparison.json`` of a sweep holds, ``needed`` among it.

    Raises:
        BadInput: it cannot be read, or is damaged.
    """
    path = folder / COMPARISON_FILE
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise BadInput(f"{path} is damaged; restore it from a copy")
    wrong = [name for name in needed if name not in entries]
    wrong += [name for name, fits in _PARTS.items() if name in entries and not fits(entries[name])]
    if not wrong and "at_end" in entries and entries.get("table", {}).keys() - entries["at_end"]:
        wrong = ["at_end"]
    if wrong:
        raise BadInput(
            f"{path} is damaged at {wrong[0]}, or of another version of this program; restore it"
            " from a copy, or read it with that version"
        )
    return dict(entries)


def read_conclusion(folder: Path, num_trials: int, *needed: str) -> dict[str, Any] | None:
    """Returns what ``read_comparison`` does, of a sweep that has finished; else None.

    One that is being extended has the comparison of fewer trials.
    """
    if not (folder / COMPARISON_FILE).exists():
        return None
    entries = read_comparison(folder, "num_trials", *needed)
    return entries if entries["num_trials"] == num_trials else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)  # NaN is one here


def _are_numbers(entries: Any) -> bool:
    return isinstance(entries, dict) and all(map(_is_number, entries.values()))


def _tell_ends(entries: Any) -> bool:
    names = {field.name for field in fields(AtEnd)}
    return isinstance(entries, dict) and all(
        _are_numbers(stood) and set(stood) == names for stood in entries.values()
    )


def _is_table(entries: Any) -> bool:
    if not isinstance(entries, dict):
        return False
    rows = entries.values()
    return all(isinstance(cells, dict) and set(cells) == set(COLUMNS) for cells in rows) and all(
        _are_numbers(cell) and set(cell) == {"value", "low", "high"}
        for cells in rows
        for cell in cells.values()
    )


_PARTS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("sweep", "winner", "best_trial"), is_plain),
    **dict.fromkeys(("num_trials", "test_seeds"), lambda value: type(value) is int),
    "over_tuning": lambda value: value is None or _is_number(value),
    "validation": _are_numbers,
    "at_end": _tell_ends,
    **dict.fromkeys(("table", "improvement"), _is_table),
}


def compare(
    curves: dict[str, Curves],
    *,
    winner: str,
    over_tuning: float | None,
    validated: dict[str, float],
) -> Comparison:
    """Returns the final table from the test's curves.

    Args:
        curves: of each row.
        winner: its row.
        over_tuning: as ``Comparison`` has it.
        validated: as ``Comparison`` has it.
    """
    values = {row: measure(curve) for row, curve in curves.items()}
    estimates = {
        row: {name: estimate(columns[name]) for name in COLUMNS} for row, columns in values.items()
    }
    seeds = {row: len(curve.scores) for row, curve in curves.items()}
    enough = {row for row, count in seeds.items() if count >= FEWEST_SEEDS}
    improvement = {
        row: {
            name: probability_of_improvement(
                values[winner][name], values[row][name], column.higher_is_better
            )
            for name, column in COLUMNS.items()
        }
        for row in sorted(enough - {winner})
        if winner in enough
    }
    test_seeds = min(seeds.get(row, 0) for row in (winner, BASELINE))
    at_end = {row: AtEnd.of(curve) for row, curve in curves.items()}
    return Comparison(estimates, improvement, over_tuning, validated, test_seeds, at_end)


def slot_use(segments: Sequence[dict[str, Any]]) -> float | None:
    """Returns in which share of their training time packs' slots trained a trial; None without."""
    packed = [row for row in segments if row["slots"] > 1]
    held = sum(row["wall_seconds"] for row in packed)
    there = sum(row["wall_seconds"] * row["slots"] / row["live_slots"] for row in packed)
    return float(held / there) if packed else None


def utilisation(segments: Sequence[dict[str, Any]], cores: float) -> float:
    """Returns CPU time inside segments as a share of cores x wall time, first to last segment."""
    if not segments:
        return 0.0
    begin = min(row["time"] - row["wall_seconds"] for row in segments)
    end = max(row["time"] for row in segments)
    return float(sum(row["cpu_seconds"] for row in segments) / (cores * (end - begin)))
