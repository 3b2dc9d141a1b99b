"""The report of a sweep, finished or running: one HTML file that opens anywhere."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from rlcore.files import replacing
from rlcore.rewards.compose import MULTIPLIED
from tuners.config import value_of
from tuners.describe import describe_change
from tuners.final_table import interval, seen_before, verdict
from tuners.job_names import BASELINE
from tuners.layout import PLOTS_FOLDER, REPORT_FILE
from tuners.objectives import gap_text, objective_text
from tuners.report.advice import warnings_of
from tuners.report.charts import Chart
from tuners.report.importance import fewest_trials, importances
from tuners.report.media import film_strips, videos
from tuners.report.page import (
    bullets,
    figure_or,
    page,
    paragraph,
    section,
    table,
    tile,
)
from tuners.report.result_charts import (
    compared_title,
    curves_chart,
    pareto_chart,
    search_chart,
    seeds_chart,
)
from tuners.report.results_table import UNSEARCHED, about_test
from tuners.report.reward_charts import hacking_chart, terms_chart
from tuners.report.space_charts import importance_chart, parallel_chart, slices_chart
from tuners.report.sweep_record import SweepRecord, load_record
from tuners.report.term_advice import term_effects, term_remark, term_statistics
from tuners.validate import COLUMNS

MAX_BYTES = 15 * 2**20
SECTIONS = {
    "test": "The test",
    "changes": "What changed",
    "search": "The search",
    "parameters": "The parameters",
    "rewards": "The rewards",
    "behaviour": "What it looks like",
}


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Returns where the report of the sweep in ``folder`` is, written anew.

    Raises:
        BadInput: there is no such sweep, or a file of it is damaged.
    """
    record = load_record(folder)
    path = folder / REPORT_FILE if out is None else out
    charts, count = charts_of(record)
    body = [*_head(record), *_sections(record, charts, count)]
    films = len(body)
    body += [section("behaviour", SECTIONS["behaviour"], []), _foot(record)]
    room = MAX_BYTES - len(page(folder.name, body).encode()) - 2**17
    moving = [*film_strips(record)]
    moving += videos(record, path.parent.absolute(), room - sum(map(len, moving)))
    body[films] = section("behaviour", SECTIONS["behaviour"], moving)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(page(f"{folder.name}: report", body), encoding="utf-8")
    return path


def draw_plots(folder: Path) -> None:
    """Draws the report's figures as PNG files in ``folder / "plots"``."""
    from tuners.report.png_charts import draw_chart

    charts, _ = charts_of(load_record(folder))
    (folder / PLOTS_FOLDER).mkdir(exist_ok=True)
    for chart in charts.values():
        if chart is not None:
            draw_chart(folder / PLOTS_FOLDER / f"{chart.name}.png", chart)


def charts_of(record: SweepRecord) -> tuple[dict[str, Chart | None], int]:
    """Returns the charts by name, None where there is nothing to draw yet.

    Beside them the number of trials that the importance of parameters is from.
    """
    shares, count = importances(record)
    charts = {
        "seeds": seeds_chart(record),
        "curves": curves_chart(record),
        "search": search_chart(record),
        "pareto": pareto_chart(record),
        "importance": importance_chart(record, shares, count),
        "parallel": parallel_chart(record, shares),
        "slices": slices_chart(record, shares),
        "hacking": hacking_chart(record),
        "terms": terms_chart(record),
    }
    return charts, count


def _head(record: SweepRecord) -> Iterator[str]:
    """Yields what is to be seen first: the verdict, its numbers, and what to be wary of."""
    spec = record.spec
    yield f"<header><h1>{escape(spec.name)}</h1>{paragraph(_about(record), 'soft')}"
    if record.comparison is None or record.winner is None:
        yield paragraph(_progress(record), "verdict")
    else:
        yield paragraph(verdict(record.comparison, record.winner), "verdict")
        if remark := seen_before(spec):
            yield paragraph(remark, "soft")
        yield f'<div class="tiles">{"".join(_tiles(record))}</div>'
    yield "</header>"
    lines = warnings_of(record)
    if lines:
        yield f'<div class="warnings"><h2>To be wary of</h2>{bullets(lines, "")}</div>'
    elif record.winner is None and record.spec.is_search:
        yield paragraph(
            "No warning so far; edges and a winner's terms are judged at the end.", "fine"
        )
    else:
        yield paragraph(
            "No warning: of what could be judged, no reward hacking, useless term or edge.", "fine"
        )
    links = (f'<a href="#{name}">{escape(title)}</a>' for name, title in SECTIONS.items())
    yield f"<nav>{''.join(links)}</nav>"


def _about(record: SweepRecord) -> str:
    spec = record.spec
    if not spec.is_search:
        return f"Task {spec.base.task} · up to {spec.base.full_length:,} env_steps a seed"
    scheduler = f"scheduler {spec.scheduler}" if spec.scheduler != "none" else "no scheduler"
    return (
        f"Task {spec.base.task} · searcher {spec.searcher} · {scheduler} · objective"
        f" {spec.objective} · {spec.num_trials} trials of up to {spec.base.full_length:,} env_steps"
        f" a seed · {spec.base.ppo.seeds_per_trial} seeds in the search,"
        f" {spec.validation_seeds} in validation, {spec.test_seeds} in the test"
    )


def _progress(record: SweepRecord) -> str:
    """Returns how far an unfinished sweep is, and what leads it."""
    if not record.spec.is_search:
        return UNSEARCHED
    ended, trials = len(record.ended), record.spec.num_trials
    said = f"Not finished: {ended} of {trials} trials of the search have ended"
    reported = [trial for trial in record.search if trial["objective"] is not None]
    if not reported:
        return f"{said}; nothing is reported yet."
    best = max(reported, key=record.judged)
    title = record.spec.judge.title
    value = objective_text(record.judged(best))
    return f"{said}; {record.trial_label(best)} leads with {title} {value}."


def _tiles(record: SweepRecord) -> Iterator[str]:
    assert record.comparison is not None and record.winner is not None
    shown = {record.winner: "first", BASELINE: ""}
    for row, kind in shown.items():
        if row in record.comparison.estimates:
            cell = record.comparison.estimates[row]["final_score"]
            label = "winner" if kind and row != BASELINE else record.row_label(row)
            yield tile(f"{cell.value:.0f}", f"{label}: final score, {interval(cell)}", kind)
    judged = record.spec.judge.column
    if better := record.comparison.improvement.get(BASELINE):
        title = f"probability that the winner is better in {COLUMNS[judged].title}"
        sure = better[judged].low == 1.0  # no certainty, but all there is
        how = "in all pairs of seeds" if sure else interval(better[judged], 2)
        yield tile(f"{better[judged].value:.2f}", f"{title}, {how}")
    if record.comparison.over_tuning is not None:
        gap = gap_text(record.comparison.over_tuning)
        yield tile(gap, f"over-tuning gap: {record.spec.judge.title} in the search minus the test")


def _sections(record: SweepRecord, charts: Mapping[str, Chart | None], count: int) -> Iterator[str]:
    yield section("test", SECTIONS["test"], about_test(record, charts))
    yield section("changes", SECTIONS["changes"], _changes(record))
    unsearched = "Nothing of the search is reported yet."
    search = [
        figure_or(charts["search"], unsearched),
        figure_or(charts["pareto"], "No trial of the search has ended yet."),
    ]
    yield section("search", SECTIONS["search"], search)
    yield section("parameters", SECTIONS["parameters"], _parameters(record, charts, count))
    yield section("rewards", SECTIONS["rewards"], _rewards(record, charts))


def _changes(record: SweepRecord) -> Iterator[str]:
    if record.winner is None:
        yield paragraph("There is no winner yet." if record.spec.is_search else UNSEARCHED, "soft")
        return
    if record.winner == BASELINE:
        yield paragraph("Nothing: the hand-tuned baseline won.")
        return
    yield paragraph(f"In {record.winner}, compared with the hand-tuned baseline:")
    yield bullets(describe_change(record.spec.base, record.config_of_row(record.winner)), "changes")


def _parameters(
    record: SweepRecord, charts: Mapping[str, Chart | None], count: int
) -> Iterator[str]:
    if not record.spec.is_search:
        yield paragraph(UNSEARCHED, "soft")
        return
    yield figure_or(
        charts["importance"],
        f"The importance of parameters takes at least {fewest_trials(record)} trials that ended and"
        f" differ; so far there are {count}.",
    )
    yield figure_or(charts["parallel"], "Fewer than two trials have ended yet.")
    yield figure_or(charts["slices"], "No trial has ended yet.")


def _rewards(record: SweepRecord, charts: Mapping[str, Chart | None]) -> Iterator[str]:
    yield figure_or(
        charts["hacking"], "No trial with one reward throughout has reported two segments yet."
    )
    for row in dict.fromkeys([record.winner, BASELINE]):
        if row is not None:
            yield from _terms(record, row)
    yield figure_or(charts["terms"], "No segment with terms is reported yet.")
    effects = term_effects(record)
    if effects:
        yield "<h3>Did a term help?</h3>"
        yield table(
            ["term", "trials compared", "objective higher by", ""],
            [
                [
                    effect.name,
                    f"{effect.question} ({effect.with_it}, {effect.without})",
                    (f"{effect.difference:+.3g}", f"[{effect.low:+.3g}, {effect.high:+.3g}]"),
                    effect.remark.partition(":")[0],
                ]
                for effect in effects
            ],
            texts=(0, 1, 3),
        )
        yield paragraph(
            f"By {compared_title(record)}, over the trials that ended, the baseline left out;"
            " bootstrap 90 % intervals.",
            "note",
        )


def _terms(record: SweepRecord, row: str) -> Iterator[str]:
    found = term_statistics(record, row)
    if not found:
        return
    combine = value_of(record.final_config(row), "reward.combine")
    yield f"<h3>{escape(record.row_label(row))}: its terms, combined by {escape(combine)}</h3>"
    has_shares = combine not in MULTIPLIED  # a product is no sum of parts
    titles = ["term", "weight", "mean, first", "mean, last", "least", "greatest"]
    titles += ["share of size", ""] if has_shares else [""]
    lines = []
    for term in found:
        numbers = (term.first, term.last, term.low, term.high)
        share = [f"{term.share:.0%}"] if has_shares else []
        remark = term_remark(term, len(found) - 1, combine).removeprefix("is ").partition(":")[0]
        lines.append([term.name, f"{term.weight:.3g}", *map(_short, numbers), *share, remark])
    yield table(titles, lines, texts=(0, len(titles) - 1))


def _short(value: float) -> str:
    """Returns a statistic of a term: nobody cares for the size of next to nothing."""
    return f"{value:.3g}" if abs(value) >= 5e-4 else "0"


def _foot(record: SweepRecord) -> str:
    return (
        "<footer>Scores go from 0 to 1000 and are the task's own; a reward's shaped return can be"
        " compared only with itself. The tables behind this page are"
        " <code>trials.parquet</code> and <code>segments.parquet</code> of"
        f" <code>{escape(str(record.spec.name))}</code>.</footer>"
    )
