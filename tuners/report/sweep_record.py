"""What a sweep's folder says, finished or not, for the report and the comparison of sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuners.config import TrialConfig, parse_config
from tuners.errors import BadInput
from tuners.final_table import row_label
from tuners.job_names import BASELINE, FIRST_TRIAL, TASK_SCORE, split_member
from tuners.layout import TRIALS_FILE
from tuners.results import OUTCOME_COLUMNS, read_segments, read_trials
from tuners.spec import SweepSpec, load_spec
from tuners.validate import THRESHOLD, Comparison, Curves, gather_curves, read_conclusion

Rows = Sequence[Mapping[str, Any]]
FAILED = ("diverged", "error")


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as its tables have it.

    Attributes:
        spec: what was searched.
        trials: rows of the trials table; of those that run, with what they last reported.
        segments: by trial, in the order of env_steps; ``arrived`` counts the reports of all trials
            as they came, whatever the clocks of their machines say.
        comparison: the test, once all trials there are went into it.
        winner: the row that won, with it.
    """

    spec: SweepSpec
    trials: Sequence[Mapping[str, Any]]
    segments: Mapping[str, Rows]
    comparison: Comparison | None = None
    winner: str | None = None

    @property
    def search(self) -> list[Mapping[str, Any]]:
        """Trials of the search, by number; the baseline is the first."""
        return sorted(self.in_phase("search"), key=lambda t: (len(t["trial"]), t["trial"]))

    @property
    def ended(self) -> list[Mapping[str, Any]]:
        """Trials of the search that ended."""
        return [trial for trial in self.search if trial["status"] != "running"]

    @property
    def finalists(self) -> list[str]:
        """Rows in validation, without the baseline: the best first, once that is known."""
        if self.comparison is not None:
            ranked = list(self.comparison.validated)
        else:
            ranked = list(dict.fromkeys(trial["row"] for trial in self.in_phase("validation")))
        return [row for row in ranked if row != BASELINE]

    @property
    def test_rows(self) -> list[str]:
        """Rows in the test: winner, baseline, and the score as reward, then any others."""
        known = [row for row in (self.winner, BASELINE, TASK_SCORE) if row is not None]
        tested = [trial["row"] for trial in self.in_phase("test")]
        return [row for row in dict.fromkeys([*known, *tested]) if row in tested]

    def in_phase(self, phase: str) -> list[Mapping[str, Any]]:
        """Returns the trials of a phase."""
        return [trial for trial in self.trials if trial["phase"] == phase]

    def curves(self, phase: str) -> dict[str, Curves]:
        """Returns each row's curves in a phase: what ended, and got as far as a report."""
        reported = [trial for trial in self.trials if self.segments.get(trial["trial"])]
        segments = (row for rows in self.segments.values() for row in rows)
        return gather_curves(reported, segments, phase)

    def config(self, trial: Mapping[str, Any]) -> TrialConfig:
        """Returns what a trial trained; of one with a schedule, with what held in the end."""
        config = self._configs[trial["trial"]]
        return config.at(config.full_length)

    @cached_property
    def _configs(self) -> dict[str, TrialConfig]:
        return {trial["trial"]: parse_config(trial["config"]) for trial in self.trials}

    def keeps_its_reward(self, trial: Mapping[str, Any]) -> bool:
        """Returns whether a trial had one reward from beginning to end."""
        schedule = self._configs[trial["trial"]].schedule
        return not any(name.startswith("reward.") for _, values in schedule for name in values)

    def config_of_row(self, row: str) -> TrialConfig:
        """Returns what a row of the final table trained, its schedule with it.

        Raises:
            KeyError: no trial of that row is in the tables.
        """
        if row == BASELINE:
            return self.spec.base
        found = next((trial for trial in self.trials if trial["row"] == row), None)
        if found is None:
            raise KeyError(row)
        return self._configs[found["trial"]]

    def final_config(self, row: str) -> TrialConfig:
        """Returns what a row of the final table trained; of a schedule, what held in the end.

        Raises:
            KeyError: no trial of that row is in the tables.
        """
        return self.config_of_row(row).at(self.spec.base.full_length)

    def judged(self, trial: Mapping[str, Any]) -> float:
        """Returns a trial's objective, so that those that ended early can be compared too.

        One that failed, or was stopped before its score stayed above the threshold while that is
        the objective, counts as one that learned nothing.
        """
        if trial["stop_reason"] in FAILED or not _is_finite(trial["objective"]):
            return self._floor
        goes_by_steps = self.spec.objective == "steps_to_threshold"
        if goes_by_steps and self.steps_to_threshold(trial) == self.never:
            return self._floor
        return float(trial["objective"])

    def judged_together(self, trials: Sequence[Mapping[str, Any]]) -> float:
        """Returns the objective over all seeds of some trials, as the plan compares rows by it."""
        values: list[float] = []
        for trial in trials:
            values += trial["seed_objectives"] or [self.judged(trial)] * len(trial["seeds"])
        return self.spec.judge.over_seeds(values, self._floor)

    @property
    def _floor(self) -> float:
        base = self.spec.base
        return self.spec.judge.floor(base.full_length, base.ppo.steps_per_segment)

    def compared(self, trial: Mapping[str, Any]) -> float:
        """Returns what a trial that ended is compared by with others: its objective at ``age``.

        What it ended with would not do: a trial that was stopped early is behind because it is
        young, too.  Steps to the threshold say nothing at a young age: there it is ``judged``.
        """
        rows = [r for r in self.segments.get(trial["trial"], ()) if r["env_steps"] <= self.age]
        if (
            trial["stop_reason"] in FAILED
            or self.spec.objective == "steps_to_threshold"
            or not rows
        ):
            return self.judged(trial)
        return float(rows[-1]["objective"])

    @cached_property
    def age(self) -> int:
        """The last env_steps that all trials of the search reached that ended without failing."""
        lasting = (t for t in self.ended if t["stop_reason"] not in FAILED)
        return min((self.reached(trial) for trial in lasting), default=0)

    def reached(self, trial: Mapping[str, Any]) -> int:
        """Returns the env_steps of a trial's last report, per seed."""
        rows = self.segments.get(trial["trial"])
        return int(rows[-1]["env_steps"]) if rows else 0

    @property
    def never(self) -> float:
        """What stands for steps to the threshold where it is never reached, in millions."""
        base = self.spec.base
        return (base.full_length + base.ppo.steps_per_segment) / 1e6

    def steps_to_threshold(self, trial: Mapping[str, Any]) -> float:
        """Returns a trial's million env_steps until its score stays above the threshold.

        A trial stopped before all its seeds were there has a number that is too good: it counts
        as one that never gets there.
        """
        if never_stopped(trial) or self.stays_above(trial):
            return float(trial["steps_to_threshold"])
        return self.never

    def stays_above(self, trial: Mapping[str, Any]) -> bool:
        """Returns whether all seeds of a trial were above the threshold when it ended."""
        rows = self.segments.get(trial["trial"], ())
        return bool(rows) and all(score > THRESHOLD for score in rows[-1]["seed_scores"])

    def row_label(self, row: str) -> str:
        """Returns what a person reads for a row of the final table."""
        return row_label(row, self.winner)

    def trial_label(self, trial: Mapping[str, Any]) -> str:
        """Returns a trial's name, with who it is where it is someone."""
        if trial["trial"] == self.search_name(self.winner):
            return f"{trial['trial']} ({'winner = baseline' if self._baseline_won else 'winner'})"
        return f"{trial['trial']} (baseline)" if trial["row"] == BASELINE else str(trial["trial"])

    @property
    def _baseline_won(self) -> bool:
        return self.winner == BASELINE

    @staticmethod
    def search_name(row: str | None) -> str | None:
        """Returns the trial of the search that a row stands for."""
        return FIRST_TRIAL if row == BASELINE else row


def load_record(folder: Path) -> SweepRecord:
    """Returns what the folder of a sweep says.

    The comparison of a sweep that is being extended is left out: it speaks of fewer trials.

    Raises:
        BadInput: there is no such sweep, or a file of it is damaged.
    """
    spec = load_spec(folder)
    ended_or_not = read_trials(folder)  # before the segments: of what has ended, all are there
    segments: dict[str, list[dict[str, Any]]] = {}
    for arrived, row in enumerate(read_segments(folder)):
        segments.setdefault(row["trial"], []).append(row | {"arrived": arrived})
    for rows in segments.values():
        rows.sort(key=lambda row: row["env_steps"])
    trials = [_with_latest(trial, segments) for trial in ended_or_not]
    if spec.scheduler == "pbt":
        trials, segments = _members(trials, segments)
    comparison, winner = _read_comparison(folder, spec.num_trials)
    if winner not in (None, BASELINE, *(trial["row"] for trial in trials)):
        raise BadInput(f"{folder / TRIALS_FILE} lacks {winner}; restore it from a copy")
    return SweepRecord(spec, trials, segments, comparison, winner)


def _members(
    trials: Sequence[dict[str, Any]], segments: Mapping[str, list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Returns a population as trials: each member's last job, with the segments that led there."""
    jobs = {trial["trial"]: trial for trial in trials}
    searched = [name for name in jobs if jobs[name]["phase"] == "search"]
    last = {split_member(name)[0]: name for name in sorted(searched, key=split_member)}
    found, curves = [], dict(segments)
    for member, name in last.items():
        line: list[dict[str, Any]] = []
        job: dict[str, Any] | None = jobs[name]
        while job is not None:
            line = [*segments.get(job["trial"], []), *line]
            job = jobs.get(job["parent"])
        found.append({**jobs[name], "trial": member})
        curves[member] = [{**row, "trial": member} for row in line]
    return [*found, *(trial for trial in trials if trial["phase"] != "search")], curves


def never_stopped(trial: Mapping[str, Any]) -> bool:
    """Returns whether a trial trained to the end of its budget."""
    return bool(trial["stop_reason"] == "budget")


def _with_latest(trial: dict[str, Any], segments: Mapping[str, Rows]) -> dict[str, Any]:
    """Returns a trial's row; numbers it lacks, as while it runs, are those of its last report."""
    rows = segments.get(trial["trial"])
    if not rows:
        return trial
    lacking = [name for name in OUTCOME_COLUMNS if trial[name] is None]
    return {**trial, **{name: rows[-1][name] for name in lacking}}


def _read_comparison(folder: Path, num_trials: int) -> tuple[Comparison | None, str | None]:
    found = ("winner", "table", "improvement", "over_tuning", "validation", "at_end")
    entries = read_conclusion(folder, num_trials, "test_seeds", *found)
    if entries is None:
        return None, None
    return Comparison.from_dict(entries), entries["winner"]


def _is_finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
