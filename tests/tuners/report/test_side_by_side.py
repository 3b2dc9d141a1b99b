"""Sweeps side by side, of tables written by hand."""

import pytest

from tests.tuners.report.tables import WINNER, Page, Tables, curve, finished_sweep, values_in
from tests.tuners.small import SEGMENT, SPACE, refusal, small_spec
from tuners.config import baseline
from tuners.report.charts import Interval
from tuners.report.side_by_side import (
    TITLES,
    best_so_far,
    columns_chart,
    env_steps_of_search,
    lines_of,
    load_sweeps,
    progress_chart,
    remark_on_areas,
    write_comparison,
)
from tuners.report.sweep_record import load_record
from tuners.space import Choice, Uniform

STEP = 2 * SEGMENT / 1e6  # of a segment: two seeds


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished sweep, and one that has just begun."""
    folder = tmp_path_factory.mktemp("runs")
    finished_sweep(folder, name="done")
    begun = Tables(folder, name="begun", searcher="tpe", scheduler="none")
    begun.trial("trial-000", curve(800.0)[:2], row="baseline", stop_reason=None)
    begun.write()
    return folder


@pytest.fixture(scope="module")
def records(runs):
    return load_sweeps([runs / "done", runs / "begun"])


def test_the_table_has_what_there_is(records):
    lines = {title: cells for title, *cells in lines_of(records)}
    assert list(lines) == list(TITLES)
    assert lines["searcher"] == ["random", "tpe"]
    assert lines["scheduler"] == ["asha", "none"]
    assert lines["trials"] == ["12", "0 of 12"]
    assert lines["seeds x env_steps a trial"] == ["2 x 0.01 M"] * 2
    assert lines["winner"] == [WINNER, "not finished"]
    assert lines["final score"][0][0] == "735"
    assert lines["seeds above 800"] == ["4 of 4", "–"]
    assert lines["final score"][1] == "–"
    assert lines["P(beats baseline)"] == ["1.00 / 1.00 / 1.00", "–"]
    assert lines["over-tuning gap"] == ["+165", "–"]


def test_sweeps_in_different_worlds_say_so(tmp_path):
    heavy = {"task.pole_mass": Choice((0.15,)), "task.gravity": Choice((9.0,))}
    for name, world in (("one", {}), ("two", heavy)):
        Tables(tmp_path, name=name, space=SPACE | world).write()
    lines = lines_of(load_sweeps([tmp_path / "one", tmp_path / "two"]))
    assert lines[0] == ["constants", "the task's own", "gravity 9, pole_mass 0.15"]


def test_what_a_search_spent_counts_all_seeds_and_only_the_search(records):
    # Eight trials of eight segments, four of three, two seeds each.
    assert env_steps_of_search(records[0]) == (8 * 8 + 4 * 3) * 2 * SEGMENT
    assert env_steps_of_search(records[1]) == 2 * 2 * SEGMENT


@pytest.fixture
def timed(tmp_path):
    """Three trials that end one after the other, with objectives 100, 50 and 200.

    Their machines' clocks differ by minutes.
    """
    tables = Tables(tmp_path, num_trials=3)
    for number, score in enumerate((100.0, 50.0, 200.0)):
        tables.trial(f"trial-{number:03d}", [score] * 2)
    for row in tables.writer._rows:
        row["time"] = {"trial-000": 1500.0, "trial-001": 1000.0, "trial-002": 1200.0}[row["trial"]]
    tables.writer._rows.sort(key=lambda row: (row["trial"] == "trial-002", row["segment"]))
    return load_record(tables.write())


def test_the_best_so_far_rises_with_what_was_spent(timed):
    # The first trial ends when two segments are reported and the second has reported one.
    found = [(step.trial, step.objective, step.env_steps) for step in best_so_far(timed)]
    assert found == [
        ("trial-000", 100.0, pytest.approx(3 * STEP)),
        ("trial-002", 200.0, pytest.approx(6 * STEP)),
    ]
    line, dots = progress_chart([timed]).panels[0].marks
    assert line.x == pytest.approx([3 * STEP, 6 * STEP, 6 * STEP, 6 * STEP])
    assert line.y == [100.0, 100.0, 200.0, 200.0]
    assert dots.about == ["sweep: trial-000", "sweep: trial-002"]


def test_sweeps_of_different_objectives_go_by_the_area(tmp_path):
    both = []
    for name, objective in (("one", "area"), ("two", "final_score")):
        tables = Tables(tmp_path, name=name, objective=objective, num_trials=1)
        tables.trial("trial-000", [100.0, 300.0])
        tables.writer.put_trial({"trial": "trial-000", "objective": 999.0})
        tables.write()
        both.append(tmp_path / name)
    records = load_sweeps(both)
    chart = progress_chart(records)
    assert "area under curve" in chart.title
    assert "cannot be compared: here by area under curve" in chart.note
    assert all(mark.y[-1] == 200.0 for mark in chart.panels[0].marks)
    assert progress_chart(records[1:]).panels[0].marks[0].y[-1] == 999.0


def test_areas_of_different_budgets_are_not_compared(tmp_path):
    for name, budget in (("short", 8 * SEGMENT), ("long", 16 * SEGMENT)):
        tables = Tables(tmp_path, name=name, budget=budget, num_trials=1)
        tables.trial("trial-000", [100.0] * (budget // SEGMENT - 1) + [900.0])
        tables.write()
    records = load_sweeps([tmp_path / "short", tmp_path / "long"])
    assert "compare final scores and steps" in remark_on_areas(records)
    assert progress_chart(records).title.startswith("The best final score so far")
    write_comparison(records, tmp_path / "compare.html")
    assert remark_on_areas(records) in Page(tmp_path / "compare.html").text
    assert remark_on_areas(records[:1]) == ""
    assert progress_chart(records[:1]).title.startswith("The best area under curve so far")


def test_the_file_needs_no_network_and_every_figure_has_data(records, tmp_path):
    path = tmp_path / "new" / "compare.html"
    write_comparison(records, path)
    page = Page(path)
    assert set(page.figures) == {"figure-compared_test", "figure-compared_search"}
    assert all(len(values_in(figure)) > 1 for figure in page.figures.values())
    assert all(link.startswith(("#", "data:")) for link in page.loaded)
    assert "done" in page.text
    assert "not finished" in page.text
    assert path.stat().st_size < 8 * 2**20


def test_an_interval_of_few_test_seeds_is_called_what_it_is(records):
    marks = [mark for panel in columns_chart(records).panels for mark in panel.marks]
    called = {mark.about for mark in marks if isinstance(mark, Interval)}
    assert called == {"lowest, highest"}


def test_sweeps_that_have_only_begun_have_no_figure_of_the_test(records):
    assert columns_chart(records[1:]) is None
    assert progress_chart(records[1:]) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "give the names of at least two sweeps; given: none"),
        (["done"], "give the names of at least two sweeps; given: done"),
        (["done", "begun", "done"], "sweep 'done' is given twice"),
        (["done", "missing"], "no sweep 'missing'"),
    ],
)
def test_what_cannot_be_compared_is_bad_input(runs, names, said):
    assert said in refusal(load_sweeps, [runs / name for name in names])


def test_different_tasks_are_bad_input(runs):
    space = {"reward.alive.weight": Uniform(0.0, 1.0)}
    other = {"name": "other", "task": "balance", "reward": baseline("balance"), "space": space}
    spec = small_spec(runs, **other)
    spec.folder.mkdir()
    spec.save()
    said = refusal(load_sweeps, [runs / "done", runs / "other"])
    assert said == (
        "sweep 'done' is of task swingup, but 'other' of balance: their scores cannot be compared"
    )
