"""The report's page, of sweeps written by hand."""

import json
import os
import re
import subprocess
import sys

import pytest

from rlcore import rewards
from rlcore.rewards.swingup import TERMS
from tests.tuners.report.tables import (
    WINNER,
    Page,
    Tables,
    curve,
    finished_sweep,
    search_values,
    values_in,
)
from tests.tuners.small import refusal
from tuners.report import media as report_media
from tuners.report.write import MAX_BYTES, SECTIONS, draw_plots, write_report

FIGURES = {
    f"figure-{name}"
    for name in (
        *("test_seeds", "test_curves", "search", "pareto", "importance", "parallel", "slices"),
        *("hacking", "terms"),
    )
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finished_sweep(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(finished):
    return Page(write_report(finished))


def test_it_lies_in_the_folder_of_the_sweep(finished, page):
    assert (finished / "report.html").stat().st_size < MAX_BYTES
    assert not list(finished.glob(".*"))


def test_it_has_all_sections_in_order_and_a_way_to_each(page):
    assert list(page.sections) == list(SECTIONS)
    assert [link for link in page.loaded if link.startswith("#")] == [f"#{n}" for n in SECTIONS]
    for name, title in SECTIONS.items():
        assert page.sections[name].startswith(title)


def test_every_figure_has_data(page):
    assert set(page.figures) == FIGURES
    for name, figure in page.figures.items():
        values = values_in(figure)
        assert len(values) > 1, name
        assert all(isinstance(value, int | float) for value in values), name


def test_the_number_that_matters_stands_first(page):
    # Seeds of the test end at 860, 860, 820, 820: the last three of eight segments are 7/8 of that.
    assert page.text.index("735") < page.text.index("The test")
    assert "The winner beats the baseline in: final score, area under curve" in page.text
    assert "+165" in page.text, "the over-tuning gap"


def test_the_test_table_holds_all_three_rows(page):
    shown = page.sections["test"]
    for words in (f"winner ({WINNER})", "baseline", "the score as reward", "P(beats baseline)"):
        assert words in shown
    assert "612" in shown, "the score as reward: 7/8 of 700"
    assert "1.00" in shown


@pytest.mark.parametrize(("stop_reason", "shown"), [("budget", "200"), ("asha", "–")])
def test_a_baseline_that_was_stopped_is_not_set_beside_whole_trials(tmp_path, stop_reason, shown):
    tables = Tables(tmp_path, num_trials=2)
    tables.trial("trial-000", [200.0] * 8, row="baseline", stop_reason=stop_reason)
    tables.trial(WINNER, curve(800.0), values=search_values(3))
    for row in ("baseline", WINNER):
        tables.trial(f"validation-{row}-0", [300.0] * 8, phase="validation", row=row)
        tables.trial(f"test-{row}-0", [400.0] * 8, phase="test", row=row)
    page = Page(write_report(tables.conclude(WINNER, 20.0)))
    assert f"baseline{shown}300400{shown}300400" in page.sections["test"]


def test_the_winner_is_the_best_by_the_column_that_chose_it(tmp_path):
    """The spread over all seeds is taken off, as the plan does it: not that in each trial."""
    tables = Tables(tmp_path, num_trials=2, spread_penalty=1.0)
    tables.trial("trial-000", curve(400.0), row="baseline")
    tables.trial(WINNER, curve(800.0), values=search_values(3))
    for number, score in enumerate((800.0, 400.0)):
        name = f"validation-{WINNER}-{number}"
        tables.trial(name, [score] * 8, phase="validation", row=WINNER)
    tables.trial("validation-baseline-0", [500.0] * 8, phase="validation", row="baseline")
    for row in ("baseline", WINNER):
        tables.trial(f"test-{row}-0", [500.0] * 8, phase="test", row=row)
    shown = Page(write_report(tables.conclude(WINNER, 20.0))).sections["test"]
    assert "area under curve − 1 std: validation" in shown
    assert f"winner ({WINNER})450369500" in shown


def test_what_changed_is_said_in_words(page):
    assert "learning_rate (0.002 -> 0.00175)" in page.sections["changes"]


def test_nothing_is_loaded_from_anywhere(page):
    outside = [link for link in page.loaded if not link.startswith(("#", "data:"))]
    assert outside == []
    assert not re.search(r"url\(|@import|expression\(", page.styles)
    assert not page.tags & {"iframe", "object", "embed", "base"}


def test_pictures_and_videos_are_in_the_page(page):
    kinds = [link.partition(";")[0] for link in page.loaded if link.startswith("data:")]
    assert kinds.count("data:image/png") == 2
    assert kinds.count("data:video/mp4") == 2


def test_videos_that_do_not_fit_are_linked_from_where_the_page_is(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("tuners.report.write.MAX_BYTES", 0)
    page = Page(write_report(finished, tmp_path / "elsewhere" / "page.html"))
    links = [link for link in page.loaded if link.endswith(".mp4")]
    assert len(links) == 2
    for link in links:
        assert (tmp_path / "elsewhere" / link).resolve().read_bytes()[4:8] == b"ftyp"


def test_a_wide_film_strip_is_made_small(finished):
    path = finished / "media" / f"validation-{WINNER}-0.png"
    small = report_media._small(path)
    assert small.startswith(b"\x89PNG")
    assert int.from_bytes(small[16:20]) == report_media.STRIP_WIDTH


def test_it_is_written_anew(finished, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("an earlier one")
    assert write_report(finished, path) == path
    assert Page(path).sections


def test_the_same_figures_are_png_files(finished):
    draw_plots(finished)
    plots = {path.stem: path.read_bytes()[:8] for path in (finished / "plots").iterdir()}
    assert {f"figure-{name}" for name in plots} == FIGURES
    assert set(plots.values()) == {b"\x89PNG\r\n\x1a\n"}


@pytest.fixture
def begun(tmp_path):
    return Tables(tmp_path)


def test_a_sweep_that_has_only_begun_says_so_in_each_section(begun):
    page = Page(write_report(begun.write()))
    assert list(page.sections) == list(SECTIONS)
    assert page.figures == {}
    assert "Not finished: 0 of 12 trials of the search have ended" in page.text
    said = {
        "test": "The test is not done yet",
        "changes": "There is no winner yet.",
        "search": "Nothing of the search is reported yet.",
        "parameters": "takes at least 8 trials that ended and differ; so far there are 0",
        "rewards": "No trial with one reward throughout has reported two segments yet.",
        "behaviour": "No video is drawn yet.",
    }
    for name, words in said.items():
        assert words in page.sections[name]


def test_a_running_sweep_shows_what_it_has(begun):
    begun.trial("trial-000", curve(400.0), row="baseline")
    begun.trial("trial-001", curve(640.0)[:4], values=search_values(1), stop_reason=None)
    begun.trial("trial-002", [], values=search_values(2), stop_reason=None)
    page = Page(write_report(begun.write()))
    assert "1 of 12 trials" in page.text
    assert "trial-000 (baseline) leads with area under curve 225" in page.text
    search = page.figures["figure-search"]["data"]
    assert [trace["y"] for trace in search] == [
        [80.0, 120.0, 160.0, 200.0],
        [50.0, 75.0, 100.0, 125.0, 150.0, 175.0, 200.0, 225.0],
    ]
    assert "figure-hacking" in page.figures
    assert "figure-test_seeds" not in page.figures


def test_the_test_of_a_sweep_that_is_extended_is_not_shown_as_its_own(finished, tmp_path):
    comparison = json.loads((finished / "comparison.json").read_text())
    tables = Tables(tmp_path, num_trials=20)
    tables.trial("trial-000", curve(400.0), row="baseline")
    folder = tables.write()
    (folder / "comparison.json").write_text(json.dumps(comparison))
    assert "Not finished: 1 of 20" in Page(write_report(folder)).text


def test_a_baseline_that_won_is_said_to_have_won(tmp_path):
    tables = Tables(tmp_path)
    for phase, name in (("search", "trial-000"), ("test", "test-baseline-0")):
        tables.trial(name, curve(800.0), phase=phase, row="baseline")
    page = Page(write_report(tables.conclude("baseline", 20.0)))
    assert "the hand-tuned baseline is the winner" in page.text
    assert "The search has no finalist." in page.text
    assert "Nothing: the hand-tuned baseline won." in page.sections["changes"]


def test_names_are_no_html(tmp_path, monkeypatch):
    name = "<script>alert(1)</script>&<b>"
    terms = {"<img src=x>": TERMS["cos"], **TERMS}
    monkeypatch.setitem(rewards.TERMS, "swingup", terms)
    # Such a table is refused; the page is careful all the same.
    monkeypatch.setattr("tuners.results.is_plain", lambda name: True)
    space = {"reward.<img src=x>.weight": search_space()}
    tables = Tables(tmp_path, space=space)
    for number in range(10):
        values = {"reward.<img src=x>.weight": 0.1 * number + 0.05}
        trial = name if number == 1 else f"trial-{number:03d}"
        tables.trial(trial, curve(80.0 * number), values=values)
    path = write_report(tables.write())
    page = Page(path)
    assert "script" in page.tags, "the page's own"
    assert "img" not in page.tags
    assert not re.search(r"<script>alert|<img src=x>", path.read_text())
    about = [trace["hovertemplate"] for trace in page.figures["figure-search"]["data"]]
    assert any(text.startswith("&lt;script&gt;") for text in about), "Plotly reads HTML too"


def search_space():
    from tuners.space import Uniform

    return Uniform(0.0, 1.0)


def test_a_run_that_searched_nothing_has_a_report(tmp_path):
    tables = Tables(tmp_path, space={}, num_trials=1)
    tables.trial("trial-000", curve(500.0), row="baseline")
    page = Page(write_report(tables.write()))
    assert "Nothing was searched." in page.sections["parameters"]
    assert "Not finished" not in page.text and "no winner yet" not in page.text


def test_a_sweep_that_is_not_there_is_bad_input(tmp_path):
    assert "no sweep 'missing'" in refusal(write_report, tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"num_trials": 12}'])
def test_a_damaged_comparison_is_bad_input(begun, text):
    folder = begun.write()
    (folder / "comparison.json").write_text(text)
    assert "comparison.json is damaged" in refusal(write_report, folder)


@pytest.mark.parametrize("name", ["module://not_installed.backend_inline", "Qt4Agg"])
def test_plots_need_nothing_that_a_notebook_names(name):
    program = "import tuners.report.png_charts, matplotlib; print(matplotlib.get_backend())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"MPLBACKEND": name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().lower() == "agg"
