"""The figures' data by literal numbers, and what compares trials that ended at different ages."""

import pytest

from tests.tuners.report.tables import WINNER, Tables, curve, finished_sweep, search_values
from tests.tuners.small import SEGMENT
from tuners.report.charts import Bars, Chart, Dots, Interval, Line, Panel, Parallel
from tuners.report.importance import importances
from tuners.report.plotly_charts import to_plotly
from tuners.report.png_charts import draw_chart
from tuners.report.result_charts import (
    curves_chart,
    pareto_chart,
    pareto_front,
    search_chart,
    seeds_chart,
)
from tuners.report.reward_charts import shares_of_range, term_history, terms_chart
from tuners.report.space_charts import importance_chart, log_ticks, parallel_chart, slices_chart
from tuners.report.sweep_record import load_record
from tuners.space import Choice, LogUniform, OneMinusLogUniform, Uniform

MILLION = SEGMENT / 1e6


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return load_record(finished_sweep(tmp_path_factory.mktemp("runs")))


def marks(chart, kind, panel=0):
    return [mark for mark in chart.panels[panel].marks if isinstance(mark, kind)]


def test_every_test_seed_is_a_dot(record):
    chart = seeds_chart(record)
    winner, mean, baseline, _, score, _ = marks(chart, Dots)
    assert winner.x == pytest.approx([752.5, 752.5, 717.5, 717.5])
    assert mean.x == pytest.approx([735.0])
    assert len(set(winner.y)) == 4, "dots are moved apart"
    assert baseline.x == pytest.approx([332.5, 332.5, 297.5, 297.5])
    assert score.x == pytest.approx([612.5, 612.5])
    assert [text for _, text in chart.panels[0].y_ticks] == [
        f"winner ({WINNER})",
        "baseline",
        "the score as reward",
    ]
    intervals = marks(chart, Interval)
    assert intervals[0].low <= 735.0 <= intervals[0].high
    assert {interval.about for interval in intervals} == {"lowest, highest"}, "of four seeds"
    assert len(chart.panels) == 3


def test_curves_of_the_test(record):
    lines = marks(curves_chart(record), Line)
    thick = {line.label: line for line in lines if line.label and not line.is_faint}
    assert list(thick) == [f"winner ({WINNER})", "baseline", "the score as reward"]
    assert thick["baseline"].y == pytest.approx(curve(360.0))
    assert thick["baseline"].x == pytest.approx([MILLION * (i + 1) for i in range(8)])
    assert sum(line.is_faint for line in lines) == 4 + 4 + 2
    assert len({line.color for line in thick.values()}) == 3


def test_lines_of_the_search_tell_how_each_trial_ended(record):
    chart = search_chart(record)
    by_label = {line.label for line in marks(chart, Line)}
    assert by_label == {f"winner ({WINNER})", "baseline", "stopped by asha", "trained in full"}
    assert chart.title == "The search: 12 trials, 4 stopped early, 8 trained in full"
    winner = next(line for line in marks(chart, Line) if line.label == f"winner ({WINNER})")
    assert winner.y == pytest.approx([112.5 * (i + 2) / 2 for i in range(8)])
    widest = sorted(marks(chart, Line), key=lambda line: -line.width)[:2]
    assert {line.label for line in widest} == {f"winner ({WINNER})", "baseline"}


def test_further_rungs_are_darker(tmp_path):
    tables = Tables(tmp_path, num_trials=4)
    for number, length in enumerate((2, 4, 6, 8)):
        reason = "asha" if length < 8 else "budget"
        tables.trial(f"trial-{number + 1:03d}", curve(400.0)[:length], stop_reason=reason)
    lines = marks(search_chart(load_record(tables.write())), Line)
    colors = [line.color for line in lines]
    brightness = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in colors]
    assert brightness == sorted(brightness, reverse=True)
    assert len(set(brightness)) == 4


def test_the_front_by_hand():
    points = {"a": (0.1, 500.0), "b": (0.2, 800.0), "c": (0.2, 700.0), "d": (0.3, 800.0)}
    assert pareto_front(points) == {"a", "b"}


def test_a_trial_that_never_gets_there_stands_at_the_edge(tmp_path):
    tables = Tables(tmp_path, num_trials=2)
    tables.trial("trial-000", [850.0] * 8, row="baseline")
    tables.trial("trial-001", [500.0] * 3, values=search_values(1), stop_reason="asha")
    record = load_record(tables.write())
    places = {m.label: (m.x[0], m.y[0]) for m in marks(pareto_chart(record), Dots)}
    assert places["other trials, stopped early"] == pytest.approx((9 * MILLION, 500.0))
    assert pareto_chart(record).title.endswith(
        "of 1 trials in full 1 ended with all seeds above 800; the front has 1"
    )


def test_a_trial_that_was_stopped_while_it_climbed_is_not_on_the_front(tmp_path):
    """Above the threshold soonest, it has no final score that could be laid beside the others'."""
    tables = Tables(tmp_path, num_trials=3)
    tables.trial("trial-000", [870.0] * 6, row="baseline")
    tables.trial("trial-001", [810.0], values=search_values(1), stop_reason="asha")
    tables.trial("trial-002", [900.0] * 8, values=search_values(2))
    chart = pareto_chart(load_record(tables.write()))
    (front,) = marks(chart, Line)
    assert list(front.y) == [870.0, 900.0]
    hollow = [mark.about for mark in marks(chart, Dots) if mark.is_hollow]
    assert hollow == [["trial-001"]]
    assert "of 2 trials in full 2 ended" in chart.title


def test_trials_are_compared_at_an_age_that_all_reached(tmp_path):
    tables = Tables(tmp_path, num_trials=4)
    tables.trial("trial-000", [100.0, 300.0, 500.0, 700.0], row="baseline")
    tables.trial("trial-001", [200.0, 400.0], stop_reason="asha")
    tables.trial("trial-002", [900.0], stop_reason="diverged")
    tables.trial("trial-003", [50.0], stop_reason=None)
    record = load_record(tables.write())
    assert record.age == 2 * SEGMENT
    assert [record.compared(trial) for trial in record.ended] == [200.0, 300.0, 0.0]
    assert [record.judged(trial) for trial in record.ended] == [400.0, 300.0, 0.0]


def test_steps_of_a_trial_stopped_before_it_got_there_count_as_never(tmp_path):
    tables = Tables(tmp_path, num_trials=2, objective="steps_to_threshold")
    tables.trial("trial-000", [850.0] * 2, row="baseline", stop_reason="asha")
    tables.trial("trial-001", [500.0] * 2, stop_reason="asha")
    for name in ("trial-000", "trial-001"):
        tables.writer.put_trial({"trial": name, "objective": -3 * MILLION})
    record = load_record(tables.write())
    assert [record.judged(t) for t in record.ended] == pytest.approx([-3 * MILLION, -9 * MILLION])


def test_the_planted_parameter_is_the_most_important(tmp_path):
    space = {f"reward.{name}.weight": Uniform(0.0, 1.0) for name in ("cos", "energy", "calm")}
    space |= {"learning_rate": LogUniform(1e-4, 1e-2), "gamma": OneMinusLogUniform(0.9, 0.999)}
    space |= {"hidden_sizes": Choice(((16, 16), (8,))), "clip_range": Choice((0.2,))}
    tables = Tables(tmp_path, num_trials=17, space=space)
    for number in range(1, 17):
        values = {n: d.extremes()[number % 2] for n, d in space.items() if n != "clip_range"}
        values |= {"reward.energy.weight": (number * 7 % 16) / 16, "learning_rate": 1e-3}
        values |= {"gamma": 0.95 + 0.002 * (number % 5), "reward.calm.weight": number % 3 / 3}
        score = 100.0 + 600.0 * values["reward.energy.weight"]
        tables.trial(f"trial-{number:03d}", [score] * 2, values=values)
    record = load_record(tables.write())
    shares, count = importances(record)
    assert count == 16
    assert next(iter(shares)) == "reward.energy.weight"
    assert shares["reward.energy.weight"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "clip_range" not in shares, "it is fixed"
    chart = importance_chart(record, shares, count)
    (bars,) = marks(chart, Bars)
    assert bars.lengths == sorted(shares.values())
    assert "failed" not in chart.note


def test_the_importance_says_how_many_trials_failed(tmp_path):
    tables = Tables(tmp_path)
    for number in range(1, 9):
        reason = "diverged" if number in (3, 5) else "budget"
        values = search_values(number)
        tables.trial(f"trial-{number:03d}", [50.0], values=values, stop_reason=reason)
    chart = importance_chart(load_record(tables.write()), {"learning_rate": 1.0}, 8)
    assert "2 failed or diverged" in chart.note


@pytest.mark.parametrize("count", [1, 7])
def test_few_trials_tell_no_importance(tmp_path, count):
    tables = Tables(tmp_path)
    for number in range(1, count + 1):
        tables.trial(f"trial-{number:03d}", [50.0 * number], values=search_values(number))
    assert importances(load_record(tables.write())) == ({}, count)


def test_parallel_axes_hold_the_place_of_each_value(record):
    chart = parallel_chart(record, {"learning_rate": 0.9})
    (parallel,) = marks(chart, Parallel)
    assert parallel.axes[0].title == "learning_rate"
    axes = {axis.title: axis for axis in parallel.axes}
    # Trials 1 to 11: the baseline's peak weighs more than was searched.
    assert axes["peak.weight"].shares == pytest.approx([0.1 + 0.07 * n for n in range(1, 12)])
    assert axes["cos.weight"].shares[0] == pytest.approx((0.92 - 0.5) / 0.5)
    assert set(axes["combine"].shares) == {0.25, 0.75}
    assert axes["combine"].ticks == ((0.25, "sum"), (0.75, "product"))
    # All at the third segment: the mean of the first three scores, 2/8 of the last.
    assert parallel.values[0] == pytest.approx(320.0 / 4)


def test_slices_are_hollow_where_a_parameter_had_no_effect(record):
    chart = slices_chart(record, {})
    panels = {panel.title: panel for panel in chart.panels}
    assert panels["learning_rate"].is_log
    assert not panels["cos.weight"].is_log
    dots = {mark.is_hollow: mark for mark in panels["peak.weight"].marks if mark.label is None}
    on = [0.1 + 0.07 * n for n in range(1, 12) if n % 2 == 0]
    off = [0.1 + 0.07 * n for n in range(1, 12) if n % 2 == 1 and n != 3]
    assert dots[False].x == pytest.approx(on)
    assert dots[True].x == pytest.approx(off)
    (winner,) = [mark for mark in panels["peak.weight"].marks if mark.label == "winner"]
    assert (winner.about, winner.is_hollow) == ([f"{WINNER} (winner)"], True)
    assert [text for _, text in panels["peak.on"].x_ticks] == ["on", "off"]


def test_a_parameter_of_which_nothing_is_known_yet_has_an_empty_panel(tmp_path):
    """Only the baseline has ended, and its value lies outside the range."""
    tables = Tables(tmp_path, space={"learning_rate": LogUniform(1e-6, 1e-5)}, num_trials=3)
    tables.trial("trial-000", curve(800.0), row="baseline")
    tables.writer.flush()
    chart = slices_chart(load_record(tables.spec.folder), {})
    assert chart.panels[0].marks == []
    assert to_plotly(chart)["data"] == []


def test_discounts_are_drawn_by_their_distance_from_one(tmp_path):
    tables = Tables(tmp_path, space={"gamma": OneMinusLogUniform(0.9, 0.999)}, num_trials=3)
    for number, gamma in enumerate((0.99, 0.95, 0.998)):
        tables.trial(f"trial-{number:03d}", [100.0 * number + 1], values={"gamma": gamma})
    (panel,) = slices_chart(load_record(tables.write()), {}).panels
    assert panel.title == "1 − gamma"
    assert panel.marks[0].x == pytest.approx([0.01, 0.05, 0.002])
    assert panel.x_range[0] < 0.001 < 0.1 < panel.x_range[1]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-4, 1e-2, ["0.0001", "0.001", "0.01"]),
        (0.5, 4.0, ["0.5", "1", "2"]),
        (2.0, 15.0, ["2", "5", "10"]),
        (3.0, 4.5, ["3", "4"]),
    ],
)
def test_ticks_of_a_log_axis(low, high, ticks):
    assert [text for _, text in log_ticks(low, high)] == ticks


def test_shares_of_a_range():
    assert shares_of_range([5.0, 10.0, 20.0]) == pytest.approx([0.0, 1 / 3, 1.0])
    assert shares_of_range([5.0, 5.0]) == [0.0, 0.0]


def test_the_history_of_a_term_is_over_all_jobs_of_a_row():
    rows = [
        {"env_steps": 2_000_000, "term_cos_mean": 0.5, "term_cos_min": 0.0, "term_cos_max": 1.0},
        {"env_steps": 1_000_000, "term_cos_mean": 0.1, "term_cos_min": -1.0, "term_cos_max": 0.5},
        {"env_steps": 1_000_000, "term_cos_mean": 0.3, "term_cos_min": -0.5, "term_cos_max": 0.9},
        {"env_steps": 3_000_000, "term_cos_mean": None, "term_cos_min": None, "term_cos_max": None},
    ]
    assert term_history(rows, "cos") == ([1.0, 2.0], pytest.approx([0.2, 0.5]))


def test_terms_of_winner_and_baseline_are_drawn(record):
    chart = terms_chart(record)
    panels = {panel.title: panel for panel in chart.panels}
    assert {"cos", "position", "effort"} <= set(panels)
    labels = [mark.label for mark in panels["cos"].marks if isinstance(mark, Line)]
    assert labels == [f"winner ({WINNER})", "baseline"]


EVERY_MARK = Chart(
    "every",
    "A title & a <tag>",
    [
        Panel(
            [
                Line([1.0, 2.0], [3.0, 4.0], "#2f6f9f", "a <line>", about="here <b>"),
                Line([1.0], [3.0], "#2f6f9f"),
                Dots([1.0], [2.0], "#d9822b", "dots", about=["<i>"], is_hollow=True),
                Interval(1.0, 2.0, 3.0, "#c0392b", "of <it>"),
                Line([1.0, 2.0], [1.0, float("nan")], "#4f9d69"),
                Bars([0.0, 1.0], [2.0, 3.0], "#8e5ea2"),
            ],
            "panel <p>",
            "x <x>",
            is_log=True,
            x_range=(0.1, 10.0),
            x_ticks=((1.0, "<one>"),),
        )
    ],
)


def test_what_only_moves_dots_apart_is_not_told(record):
    hovers = {trace["hovertemplate"] for trace in to_plotly(seeds_chart(record))["data"]}
    assert "%{text}<br>%{x:.4g}<extra></extra>" in hovers
    assert not any("%{y" in hover for hover in hovers)


def test_every_mark_becomes_a_trace():
    figure = to_plotly(EVERY_MARK)
    line, point, dots, interval, gap, *bars = figure["data"]
    assert (line["x"], line["y"], line["mode"]) == ([1.0, 2.0], [3.0, 4.0], "lines")
    assert point["mode"] == "markers", "a line of one point could not be seen"
    assert dots["marker"]["symbol"] == "circle-open"
    assert (interval["x"], interval["y"]) == ([1.0, 2.0], [3.0, 3.0])
    assert interval["hovertemplate"] == "of &lt;it&gt;: 1 to 2<extra></extra>"
    assert gap["y"] == [1.0, None], "JSON has no NaN"
    assert [bar["x"] for bar in bars] == [[0, 2.0], [0, 3.0]]
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert figure["layout"]["xaxis"]["range"] == [-1.0, 1.0]


def test_plotly_is_given_no_tag_of_ours():
    text = str(to_plotly(EVERY_MARK)).replace("<b>", "").replace("</b>", "")
    assert "<" not in text.replace("<br>", "").replace("<extra></extra>", "")
    assert "&lt;one&gt;" in text


def test_every_mark_is_drawn_by_matplotlib(tmp_path):
    from PIL import Image

    draw_chart(tmp_path / "every.png", EVERY_MARK)
    with Image.open(tmp_path / "every.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1_000_000)}
    for color in ("#2f6f9f", "#d9822b", "#c0392b", "#8e5ea2"):
        assert tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) in colors
