"""Charts of what a reward paid for: shaped return against score, and its terms over training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuners.job_names import BASELINE, TASK_SCORE
from tuners.report.charts import BLUE, GREY, ORANGE, RED, Chart, Line, Mark, Panel
from tuners.report.hacking import MIN_SEGMENTS, hacks, is_long_enough, paired
from tuners.report.result_charts import STEPS
from tuners.report.sweep_record import SweepRecord
from tuners.report.term_advice import row_segments, term_statistics


def hacking_chart(record: SweepRecord) -> Chart | None:
    """Returns each trial's way through training: shaped return against score."""
    flagged = hacks(record)
    same = [trial for trial in record.trials if record.keeps_its_reward(trial)]
    # Those flagged last: they lie on top.
    trials = sorted(same, key=lambda trial: trial["trial"] in flagged)
    marks: list[Mark] = []
    for trial in trials:
        shaped, scores = paired(record.segments.get(trial["trial"], ()))
        shown = trial["phase"] == "search" or trial["trial"] in flagged
        if len(shaped) < 2 or not shown or trial["row"] == TASK_SCORE:
            continue
        color, label, width = _look(record, trial, trial["trial"] in flagged)
        about = record.trial_label(trial)
        marks.append(Line(shares_of_range(shaped), scores, color, label, width, about=about))
    if not marks:
        return None
    own = [trial for trial in same if trial["row"] != TASK_SCORE]
    curves = [paired(record.segments.get(trial["trial"], ())) for trial in own]
    judged = sum(is_long_enough(scores) for _, scores in curves)
    young = len(curves) - judged
    others = f"; {young} others ended too soon after their best" if young else ""
    note = (
        "A line goes from segment to segment. Healthy ones rise to the right; one that falls"
        " to the right for long is paid for the wrong thing. An alarm takes at least"
        f" {MIN_SEGMENTS} segments after the best one."
    )
    if len(same) < len(record.trials):
        note += " Trials whose reward was changed on the way are left out."
    panel = Panel(
        marks,
        x_title="shaped return, from a trial's least (0) to its largest (1)",
        y_title="score",
        x_range=(-0.03, 1.03),
        y_range=(0, 1000),
    )
    return Chart(
        "hacking",
        f"Shaped return against score: {len(flagged)} of {judged} trials earned more while doing"
        f" worse{others}",
        [panel],
        note=note,
    )


def _look(
    record: SweepRecord, trial: Mapping[str, Any], is_flagged: bool
) -> tuple[str, str | None, float]:
    if is_flagged:
        return RED, "earned more, did worse", 2.5
    if trial["trial"] == record.search_name(record.winner):
        return BLUE, record.row_label(str(record.winner)), 2.5
    if trial["row"] == BASELINE:
        return ORANGE, "baseline", 2.5
    return GREY, "other trials", 1.0


def shares_of_range(values: Sequence[float]) -> list[float]:
    """Returns each value's place between the least (0) and the largest (1)."""
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1.0) for value in values]


def terms_chart(record: SweepRecord) -> Chart | None:
    """Returns each term of the winner's and the baseline's reward over training, unweighted."""
    rows = [row for row in dict.fromkeys([record.winner, BASELINE]) if row is not None]
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(term.name for term in term_statistics(record, row))
    if not names:
        return None
    panels = [_term_panel(record, name, rows, i % 3 == 0) for i, name in enumerate(names)]
    return Chart(
        "terms",
        "The terms over training: the mean of each, unweighted",
        panels,
        columns=3,
        row_height=230,
        note="Only terms with a weight in the reward are drawn.",
    )


def _term_panel(record: SweepRecord, name: str, rows: Sequence[str], is_first: bool) -> Panel:
    marks: list[Mark] = []
    for row in rows:
        color = BLUE if row == record.winner else ORANGE
        if name not in {term.name for term in term_statistics(record, row)}:
            continue
        steps, means = term_history(row_segments(record, row), name)
        label = record.row_label(row)
        marks.append(Line(steps, means, color, label, 2.0, about=label))
    return Panel(marks, name, STEPS, "value" if is_first else "")


def term_history(
    segments: Sequence[Mapping[str, Any]], term: str
) -> tuple[list[float], list[float]]:
    """Returns million env_steps, and a term's mean over seeds and trials at each."""
    means: dict[int, list[float]] = {}
    for segment in segments:
        if (mean := segment[f"term_{term}_mean"]) is not None:
            means.setdefault(segment["env_steps"], []).append(mean)
    at = sorted(means)
    return [steps / 1e6 for steps in at], [float(np.mean(means[steps])) for steps in at]
