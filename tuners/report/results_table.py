"""The report's part about the test: its table and seeds, and the way from search to test."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tuners.config import value_of
from tuners.final_table import COLUMN_TITLES, estimate_lines, improvement_lines, interval_name
from tuners.job_names import BASELINE
from tuners.objectives import objective_text
from tuners.report.charts import Chart
from tuners.report.page import Cell, figure, figure_or, paragraph, table
from tuners.report.sweep_record import SweepRecord, never_stopped
from tuners.validate import measure

UNSEARCHED = "Nothing was searched."
_NOT_YET = "The test is not done yet: it begins when search and validation have ended."


def about_test(record: SweepRecord, charts: Mapping[str, Chart | None]) -> Iterator[str]:
    """Yields the table, the seeds and curves of the test, and the finalists' way to it."""
    if record.comparison is not None:
        yield _test_table(record)
        yield paragraph(
            f"Interquartile means over {record.comparison.test_seeds} test seeds with"
            f" {interval_name(record.comparison.test_seeds)} (bootstrap)."
            + " Seeds are above 800, or not, at the last evaluation."
            + (" Nothing was chosen by these seeds." if not record.spec.extensions else ""),
            "note",
        )
    if charts["seeds"] is None:
        yield paragraph(_NOT_YET if record.spec.is_search else UNSEARCHED, "soft")
    else:
        yield figure(charts["seeds"])
        yield figure_or(charts["curves"], _NOT_YET)
    if record.spec.is_search:
        yield "<h3>From search to test</h3>"
        yield from _finalists(record)


def _test_table(record: SweepRecord) -> str:
    assert record.comparison is not None
    both = (
        estimate_lines(record.comparison, record.winner),
        improvement_lines(record.comparison),
    )
    lines: list[list[Cell]] = [[label, *cells] for label, cells in itertools.chain(*both)]
    return table(["", *COLUMN_TITLES], lines, lead=record.row_label(str(record.winner)))


def _finalists(record: SweepRecord) -> Iterator[str]:
    """Yields each finalist's objective and final score in the three phases."""
    if not record.finalists:
        yet = "" if record.comparison is not None else " yet"
        yield paragraph(f"The search has no finalist{yet}.", "soft")
        return
    phases = ("search", "validation", "test")
    found = {phase: _means(record, phase) for phase in phases}
    if not _searched_baseline(record):
        found["search"].pop(str(record.search_name(BASELINE)), None)
    rows = []
    for row in (*record.finalists, BASELINE):
        name = {phase: (record.search_name(row) if phase == "search" else row) for phase in phases}
        pairs = [found[phase].get(str(name[phase]), ("–", "–")) for phase in phases]
        rows.append([record.row_label(row), *(p[0] for p in pairs), *(p[1] for p in pairs)])
    titles = ["", *(f"{record.spec.judge.title}: {phase}" for phase in phases)]
    titles += [f"final score: {phase}" for phase in phases]
    yield table(titles, rows, lead=record.row_label(str(record.winner)))
    yield paragraph(
        "Over all seeds of a phase, also those that an interquartile mean leaves out. Finalists are"
        " chosen by the search and the winner by the validation; a choice flatters the numbers it"
        " is made by, so each step to the right tends to be lower. Of these only the winner and the"
        " baseline are tested.",
        "note",
    )


def _searched_baseline(record: SweepRecord) -> bool:
    """Returns whether the search trained the baseline itself to its end.

    Not if it was stopped, nor if in population based training it took over from another.
    """
    first = record.search_name(BASELINE)
    trial = next((trial for trial in record.search if trial["trial"] == first), None)
    if trial is None or not never_stopped(trial):
        return False
    base, config = record.spec.base, record.config(trial)
    return all(value_of(config, name) == value_of(base, name) for name in record.spec.space)


def _means(record: SweepRecord, phase: str) -> dict[str, tuple[str, str]]:
    """Returns each row's objective, as the plan compares rows by it, and mean final score."""
    trials: dict[str, list[Mapping[str, Any]]] = {}
    for trial in record.in_phase(phase):
        trials.setdefault(trial["row"], []).append(trial)
    return {
        (record.search_name(row) or row) if phase == "search" else row: (
            objective_text(record.judged_together(trials[row])),
            f"{measure(curves)['final_score'].mean():.0f}",
        )
        for row, curves in record.curves(phase).items()
    }
