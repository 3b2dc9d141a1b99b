"""Charts of how the sweep went: seeds of the test, curves of test and search, the Pareto front."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tuners.final_table import interval_name
from tuners.job_names import BASELINE, TASK_SCORE
from tuners.objectives import first_front
from tuners.report.charts import (
    BLUE,
    DARK,
    GREY,
    ORANGE,
    RED,
    ROW_COLORS,
    Chart,
    Dots,
    Interval,
    Line,
    Mark,
    Panel,
)
from tuners.report.sweep_record import FAILED, SweepRecord, never_stopped
from tuners.validate import (
    COLUMNS,
    THRESHOLD,
    Curves,
    Estimate,
    estimate,
    interquartile_mean,
    measure,
)

STEPS = "million env_steps per seed"
_STOPPED = ("#d3dae1", "#b3c0cc", "#93a6b6")  # from the first rung to the last
_FULL = "#6f8ba3"


def row_colors(record: SweepRecord, rows: Sequence[str]) -> dict[str, str]:
    """Returns the colour of each row of the test: the same in every sweep for the same part."""
    parts = {TASK_SCORE: RED, BASELINE: ORANGE} | ({record.winner: BLUE} if record.winner else {})
    others = iter(ROW_COLORS[3:] * len(rows))
    return {row: parts[row] if row in parts else next(others) for row in rows}


def seeds_chart(record: SweepRecord) -> Chart | None:
    """Returns each test seed as a dot, with its row's interquartile mean and interval."""
    curves = record.curves("test")
    rows = [row for row in record.test_rows if row in curves]
    if not rows:
        return None
    values = {row: measure(curves[row]) for row in rows}
    colors = row_colors(record, rows)
    panels = column_panels(
        {row: record.row_label(row) for row in rows},
        lambda row, name, height: _seeds_of(values[row][name], height, colors[row]),
    )
    seeds = len(values[rows[0]]["area"])
    return Chart(
        "test_seeds",
        f"Every test seed is a dot: {seeds} a row, with interquartile mean and"
        f" {interval_name(seeds)}",
        panels,
        columns=len(panels),
        row_height=80 + 70 * len(rows),
        note="Dots of a row are moved apart up and down to be seen. A seed that never stays above"
        f" {THRESHOLD:.0f} counts as a segment more than it trained.",
    )


def column_panels(
    labels: Mapping[str, str], marks_of: Callable[[str, str, float], list[Mark]]
) -> list[Panel]:
    """Returns a panel for each column of the test, a line for each label, the first on top.

    Args:
        labels: what a person reads for each line; it stands beside the first panel alone.
        marks_of: returns a line's marks from its key in ``labels``, the column, and its height.
    """
    heights = {key: float(len(labels) - 1 - i) for i, key in enumerate(labels)}
    panels: list[Panel] = []
    for name, column in COLUMNS.items():
        marks = [mark for key in labels for mark in marks_of(key, name, heights[key])]
        panels.append(
            Panel(
                marks,
                x_title=f"{column.title}{' (M env_steps)' if column.unit else ''}",
                y_range=(-0.6, len(labels) - 0.4),
                y_ticks=tuple(
                    (heights[key], "" if panels else label) for key, label in labels.items()
                ),
            )
        )
    return panels


def _seeds_of(values: np.ndarray, height: float, color: str) -> list[Mark]:
    cell: Estimate = estimate(values)
    spread = height + 0.16 * np.linspace(-1.0, 1.0, len(values))
    return [
        Dots(
            values.tolist(),
            spread.tolist(),
            color,
            size=7,
            opacity=0.45,
            about=[f"seed {i + 1}" for i in range(len(values))],
        ),
        Interval(cell.low, cell.high, height, color, interval_name(len(values))),
        Dots([cell.value], [height], color, size=11, is_diamond=True, about=["interquartile mean"]),
    ]


def curves_chart(record: SweepRecord) -> Chart | None:
    """Returns the test's learning curves: the interquartile mean of a row, each seed faintly."""
    curves = record.curves("test")
    rows = [row for row in record.test_rows if row in curves]
    if not rows:
        return None
    end = max(curves[row].env_steps[-1] for row in rows) / 1e6
    marks: list[Mark] = [_threshold(end)]
    for row, color in row_colors(record, rows).items():
        marks += _test_lines(curves[row], record.row_label(row), color)
    return Chart(
        "test_curves",
        "The test: score over training on fresh seeds, interquartile mean thick, each seed faint",
        [Panel(marks, "", STEPS, "score", x_range=(0.0, 1.02 * end), y_range=(0, 1000))],
    )


def _test_lines(curves: Curves, label: str, color: str) -> Iterator[Mark]:
    steps = (curves.env_steps / 1e6).tolist()
    for number, seed in enumerate(curves.scores, 1):
        about = f"{label}, seed {number}"
        yield Line(steps, seed.tolist(), color, label, is_faint=True, about=about)
    yield Line(steps, interquartile_mean(curves.scores.T).tolist(), color, label, 3.0, about=label)


def _threshold(end: float) -> Line:
    return Line([0.0, end], [THRESHOLD, THRESHOLD], GREY, width=1.0, is_dashed=True)


def search_chart(record: SweepRecord) -> Chart | None:
    """Returns a line a trial of the search, coloured by how far it got."""
    trials = [trial for trial in record.search if record.segments.get(trial["trial"])]
    if not trials:
        return None
    marked = {record.search_name(row): row for row in (BASELINE, record.winner) if row}
    rungs = sorted({record.reached(t) for t in trials if not never_stopped(t)})
    plain = [trial for trial in trials if trial["trial"] not in marked]
    special = [trial for trial in trials if trial["trial"] in marked]
    marks: list[Mark] = []
    for trial in (*sorted(plain, key=record.reached), *special):
        rows = record.segments[trial["trial"]]
        color, label, width = _search_look(record, trial, rungs)
        steps = [row["env_steps"] / 1e6 for row in rows]
        values = [row["objective"] for row in rows]
        about = record.trial_label(trial)
        marks.append(Line(steps, values, color, label, width, about=about))
    stopped = sum(t["stop_reason"] == record.spec.scheduler for t in trials)
    full = sum(map(never_stopped, trials))
    return Chart(
        "search",
        f"The search: {len(trials)} trials, {stopped} stopped early, {full} trained in full",
        [
            Panel(
                marks,
                x_title=STEPS,
                y_title=record.spec.judge.title,
                x_range=(0.0, 1.02 * record.spec.base.full_length / 1e6),
                y_range=_range(record),
            )
        ],
        note="Darker grey: got further before it was stopped.",
    )


def _search_look(
    record: SweepRecord, trial: Mapping[str, Any], rungs: Sequence[int]
) -> tuple[str, str, float]:
    """Returns colour, label and width of a trial's line."""
    if trial["trial"] == record.search_name(record.winner):
        return BLUE, record.row_label(str(record.winner)), 3.0
    if trial["row"] == BASELINE:
        return ORANGE, "baseline", 3.0
    if trial["stop_reason"] in FAILED:
        return RED, str(trial["stop_reason"]), 1.5
    if trial["stop_reason"] is None:
        return DARK, "still running", 1.5
    if never_stopped(trial):
        return _FULL, "trained in full", 1.5
    place = rungs.index(record.reached(trial)) / max(1, len(rungs) - 1)
    color = _STOPPED[round(place * (len(_STOPPED) - 1))]
    return color, f"stopped by {trial['stop_reason']}", 1.5


def compared_title(record: SweepRecord) -> str:
    """Returns what a person reads for what trials are compared by."""
    if record.spec.objective == "steps_to_threshold":
        return record.spec.judge.title
    return f"{record.spec.judge.title} after {record.age / 1e6:.3g} M env_steps"


def _range(record: SweepRecord) -> tuple[float, float] | None:
    return None if record.spec.objective == "steps_to_threshold" else (0, 1000)


def pareto_chart(record: SweepRecord) -> Chart | None:
    """Returns final score against steps to the threshold, with the front of the search."""
    trials = [t for t in record.ended if t["stop_reason"] not in FAILED]
    if not trials:
        return None
    points = {
        t["trial"]: (record.steps_to_threshold(t), float(t["final_score"] or 0.0)) for t in trials
    }
    full = {trial["trial"] for trial in trials if never_stopped(trial)}
    front = sorted(
        pareto_front({name: points[name] for name in full}), key=lambda name: points[name]
    )
    marks: list[Mark] = []
    if len(front) > 1:
        steps, scores = zip(*(points[name] for name in front), strict=True)
        marks.append(Line(steps, scores, DARK, "the front", 1.2, is_dashed=True))
    groups: dict[tuple[str, str, float, bool], list[Mapping[str, Any]]] = {}
    for trial in trials:
        look = _pareto_look(record, trial, trial["trial"] in front)
        groups.setdefault((*look, trial["trial"] not in full), []).append(trial)
    for (color, label, size, is_hollow), group in groups.items():
        x, y = zip(*(points[trial["trial"]] for trial in group), strict=True)
        about = [record.trial_label(trial) for trial in group]
        label = f"{label}, stopped early" if is_hollow else label
        marks.append(Dots(x, y, color, label, size, is_hollow=is_hollow, about=about))
    panel = Panel(
        marks,
        x_title=f"million env_steps until the score stays above {THRESHOLD:.0f}",
        y_title="final score",
        y_range=(0, 1000),
        x_range=(0.0, 1.06 * record.never),
    )
    reached = sum(record.stays_above(trial) for trial in trials if trial["trial"] in full)
    return Chart(
        "pareto",
        f"How high and how soon: of {len(full)} trials in full {reached} ended with all seeds above"
        f" {THRESHOLD:.0f}; the front has {len(front)}",
        [panel],
        note="Mean over a trial's seeds; a seed that never stays above counts as a segment more"
        " than it trained. Trials stopped before all seeds were there stand at the right edge; the"
        " final score of those that were stopped is of their climb.",
    )


def pareto_front(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Returns the names that no other beats in both (steps, score)."""
    return set(first_front({name: (-score, steps) for name, (steps, score) in points.items()}))


def _pareto_look(
    record: SweepRecord, trial: Mapping[str, Any], is_best: bool
) -> tuple[str, str, float]:
    if trial["trial"] == record.search_name(record.winner):
        return BLUE, record.row_label(str(record.winner)), 13.0
    if trial["row"] == BASELINE:
        return ORANGE, "baseline", 13.0
    return (DARK, "on the front", 9.0) if is_best else (GREY, "other trials", 8.0)
