"""Sweeps of one task side by side: what each found, and what it spent on it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcore.files import replacing
from tuners.errors import BadInput
from tuners.final_table import COLUMN_TITLES, interval_name, shown
from tuners.job_names import BASELINE
from tuners.objectives import gap_text
from tuners.report.charts import GREY, ROW_COLORS, Chart, Dots, Interval, Line, Mark, Panel
from tuners.report.page import Cell, figure_or, page, paragraph, section, table
from tuners.report.result_charts import column_panels
from tuners.report.sweep_record import SweepRecord, load_record
from tuners.spec import check_is_search
from tuners.validate import COLUMNS

TITLES = (
    *("searcher", "scheduler", "objective", "trials", "seeds x env_steps a trial"),
    *("env_steps of the search", "winner"),
    *COLUMN_TITLES,
    *(f"P(beats {BASELINE})", "over-tuning gap"),
)
CONSTANTS = "constants"
_NOT_YET = "–"


@dataclass(frozen=True)
class Milestone:
    """A trial that was the best so far when it ended.

    Attributes:
        env_steps: of all trials of the search by then, in millions, all seeds counted.
        objective: of the trial.
        trial: its name.
    """

    env_steps: float
    objective: float
    trial: str


def load_sweeps(folders: Sequence[Path]) -> list[SweepRecord]:
    """Returns the sweeps in some folders.

    Raises:
        BadInput: fewer than two, one twice, one that is not there or is no search, or sweeps of
            different tasks.
    """
    names = [folder.name for folder in folders]
    if len(names) < 2:
        raise BadInput(
            f"give the names of at least two sweeps; given: {', '.join(names) or 'none'}"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"sweep '{twice}' is given twice")
    records = [load_record(folder) for folder in folders]
    for record in records:
        check_is_search(record.spec)
    tasks = {record.spec.base.task: record.spec.name for record in records}
    if len(tasks) > 1:
        (one, first), (other, second) = list(tasks.items())[:2]
        raise BadInput(
            f"sweep '{first}' is of task {one}, but '{second}' of {other}: their scores cannot be"
            " compared"
        )
    return records


def remark_on_areas(records: Sequence[SweepRecord]) -> str:
    """Returns a sentence where areas of the sweeps are means over different stretches; else ""."""
    bases = [record.spec.base for record in records]
    if len({(base.full_length, base.ppo.steps_per_segment) for base in bases}) == 1:
        return ""
    return (
        "The area under curve is a mean over the evaluations of a budget, and these sweeps have"
        " different ones: compare final scores and steps."
    )


def env_steps_of_search(record: SweepRecord) -> int:
    """Returns what the search has trained so far, all seeds counted."""
    return sum(record.reached(trial) * len(trial["seeds"]) for trial in record.search)


def best_so_far(record: SweepRecord, *, by: str | None = None) -> list[Milestone]:
    """Returns the trials that were the best when they ended, in the order of their last reports.

    Args:
        record: of the sweep.
        by: a column of the tables to go by in place of the sweep's objective.
    """
    reports = sorted(
        (row["arrived"], row["trial"], row["env_steps"] * len(row["seed_scores"]))
        for trial in record.search
        for row in record.segments.get(trial["trial"], ())
    )
    last = {name: arrived for arrived, name, _ in reports}
    milestones: list[Milestone] = []
    reported = [trial for trial in record.ended if trial["trial"] in last]
    for trial in sorted(reported, key=lambda trial: last[trial["trial"]]):
        objective = record.judged(trial) if by is None else float(trial[by] or 0.0)
        if not milestones or objective > milestones[-1].objective:
            ended = last[trial["trial"]]
            trained = {name: steps for arrived, name, steps in reports if arrived <= ended}
            spent = sum(trained.values()) / 1e6
            milestones.append(Milestone(spent, objective, str(trial["trial"])))
    return milestones


def lines_of(records: Sequence[SweepRecord]) -> list[list[Cell]]:
    """Returns the table: a line for each of ``TITLES``, a cell a sweep after the title.

    A cell of two parts has the interval second.  Sweeps in worlds of their own have a line for them
    first: a score in one is none in the other.
    """
    columns = [_column(record) for record in records]
    lines = [[title, *cells] for title, *cells in zip(TITLES, *columns, strict=True)]
    constants = [record.spec.base.constants for record in records]
    if any(constants):
        worlds = [", ".join(f"{key} {own[key]:g}" for key in sorted(own)) for own in constants]
        lines.insert(0, [CONSTANTS, *(world or "the task's own" for world in worlds)])
    return lines


def _column(record: SweepRecord) -> list[Cell]:
    spec, found = record.spec, record.comparison
    cells = found.estimates.get(str(record.winner), {}) if found is not None else {}
    stood = found.at_end.get(str(record.winner)) if found is not None else None
    figures: list[Cell] = [
        shown(cells[name], column, stood.never) if stood is not None else _NOT_YET
        for name, column in COLUMNS.items()
    ]
    figures.append(f"{stood.above} of {stood.seeds}" if stood is not None else _NOT_YET)
    better = gap = "–"
    if found is not None and (sure := found.improvement.get(BASELINE)):
        better = " / ".join(f"{sure[name].value:.2f}" for name in COLUMNS)
    if found is not None and found.over_tuning is not None:
        gap = gap_text(found.over_tuning)
    winner = "baseline" if record.winner == BASELINE else record.winner
    return [
        spec.searcher,
        spec.scheduler,
        spec.objective,
        f"{len(record.ended)} of {spec.num_trials}" if found is None else str(spec.num_trials),
        f"{spec.base.ppo.seeds_per_trial} x {spec.base.full_length / 1e6:.2f} M",
        f"{env_steps_of_search(record) / 1e6:.2f} M",
        winner or "not finished",
        *figures,
        better,
        gap,
    ]


def columns_chart(records: Sequence[SweepRecord]) -> Chart | None:
    """Returns winner and baseline of each finished sweep in the columns of the test."""
    done = {record.spec.name: record for record in records if record.comparison is not None}
    if not done:
        return None
    panels = column_panels(
        {sweep: sweep for sweep in done},
        lambda sweep, name, height: _estimates_of(done[sweep], name, height),
    )
    return Chart(
        "compared_test",
        "The test of each sweep: interquartile mean and interval of winner and baseline",
        panels,
        columns=len(panels),
        row_height=80 + 60 * len(done),
        note="Sweeps with different --seed have different test seeds.",
    )


def _estimates_of(record: SweepRecord, name: str, height: float) -> list[Mark]:
    assert record.comparison is not None
    marks: list[Mark] = []
    rows = (
        (str(record.winner), "winner", ROW_COLORS[0], 0.12),
        (BASELINE, "baseline", GREY, -0.12),
    )
    for row, label, color, above in rows:
        cell = record.comparison.estimates.get(row, {}).get(name)
        if cell is not None and not (row == BASELINE and label == "winner"):
            about = f"{record.spec.name}: {record.row_label(row)}"
            of_what = interval_name(record.comparison.test_seeds)
            marks.append(Interval(cell.low, cell.high, height + above, color, of_what))
            marks.append(
                Dots(
                    [cell.value], [height + above], color, label, 10, is_diamond=True, about=[about]
                )
            )
    return marks


def progress_chart(records: Sequence[SweepRecord]) -> Chart | None:
    """Returns each sweep's best trial so far over what its search had spent."""
    objectives = {(r.spec.objective, r.spec.spread_penalty) for r in records}
    by = None if len(objectives) == 1 else "area"
    if remark_on_areas(records) and (by or records[0].spec.judge.column) == "area":
        by = "final_score"
    marks: list[Mark] = []
    for number, record in enumerate(records):
        steps = best_so_far(record, by=by)
        if not steps:
            continue
        color, name = ROW_COLORS[number % len(ROW_COLORS)], record.spec.name
        x, y = _staircase(steps, env_steps_of_search(record) / 1e6)
        marks.append(Line(x, y, color, name, 2.2, about=name))
        about = [f"{name}: {step.trial}" for step in steps]
        x, y = [step.env_steps for step in steps], [step.objective for step in steps]
        marks.append(Dots(x, y, color, name, 8, about=about))
    if not marks:
        return None
    title = records[0].spec.judge.title if by is None else COLUMNS[by].title
    chosen = "" if by is None else f" The sweeps went by what cannot be compared: here by {title}."
    return Chart(
        "compared_search",
        f"The best {title} so far, over what the search had spent",
        [Panel(marks, "", "million env_steps of all trials and seeds", f"best {title} so far")],
        note="A dot is a trial that was the best when it ended." + chosen,
    )


def _staircase(steps: Sequence[Milestone], end: float) -> tuple[list[float], list[float]]:
    """Returns the corners of a line that rises at each milestone and goes on to ``end``."""
    x, y = [steps[0].env_steps], [steps[0].objective]
    for before, step in itertools.pairwise(steps):
        x += [step.env_steps, step.env_steps]
        y += [before.objective, step.objective]
    return [*x, max(end, x[-1])], [*y, y[-1]]


def write_comparison(records: Sequence[SweepRecord], path: Path) -> None:
    """Writes the sweeps side by side as one HTML file that opens anywhere."""
    names = ", ".join(record.spec.name for record in records)
    body = [
        "<header><h1>Sweeps side by side</h1>",
        paragraph(f"Task {records[0].spec.base.task}: {names}", "soft"),
        "</header>",
        table(["", *(record.spec.name for record in records)], lines_of(records)),
        paragraph(
            "Final score, area and steps are the winner's on test seeds, interquartile mean and"
            " 95 % interval (of up to four seeds: the lowest and the highest); P(beats baseline) is"
            " the probability that the winner is better than the baseline, in each of the three in"
            " this order. Whoever picks a sweep by this table chooses by the test: its figures are"
            " flattered then, and fresh seeds would tell.",
            "note",
        ),
        *(paragraph(remark, "note") for remark in [remark_on_areas(records)] if remark),
        section(
            "test", "The test", [figure_or(columns_chart(records), "No sweep is finished yet.")]
        ),
        section(
            "search",
            "The search",
            [figure_or(progress_chart(records), "No trial of the search has ended yet.")],
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(page(f"compare: {names}", body), encoding="utf-8")
