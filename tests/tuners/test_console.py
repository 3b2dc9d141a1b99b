"""What a person sees while a sweep runs, by a clock that the test sets."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.tuners.small import SEGMENT, budget, segment_row, small_spec
from tuners import console as module
from tuners.console import SweepConsole
from tuners.objectives import Outcome
from tuners.phases import Plan


class Screen:
    """A console on a page of paper, its plan, and its clock."""

    def __init__(self, folder, monkeypatch, *, terminal=False, resumed=False):
        self.clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock.now))
        self.plan = Plan(small_spec(folder))
        self.page = io.StringIO()
        console = Console(
            file=self.page,
            width=110,
            force_terminal=terminal,
            force_interactive=terminal,
            color_system=None,
        )
        self.console = SweepConsole(self.plan, console)
        if resumed:
            jobs = Plan(self.plan.spec)
            ended = [jobs.next_job() for _ in range(4)]
            self.plan.restore([(job, budget(1.0)) for job in ended], [])

    def tell(self, event, row, *, after=0.0):
        self.clock.now += after
        self.console.listen(event, row)

    def segment(self, trial, segment, *, after=0.0, **columns):
        self.tell("segment", segment_row(trial, segment, **columns), after=after)

    def end(self, trial, outcome):
        self.plan.end(trial, outcome)
        self.tell("ended", {"trial": trial, "stop_reason": outcome.stop_reason})

    @property
    def lines(self):
        return self.page.getvalue().splitlines()


@pytest.fixture
def screen(tmp_path, monkeypatch):
    screen = Screen(tmp_path, monkeypatch)
    for _ in range(4):
        screen.plan.next_job()
    return screen


def number(pattern, line):
    return float(re.search(pattern, line).group(1))


def test_a_warning_stays_as_it_is(screen):
    screen.console.warn("3 of 8 [cores]")
    assert screen.lines == ["3 of 8 [cores]"]


def test_a_note_is_a_line_with_its_time(screen):
    screen.clock.now += 3.2
    screen.console.note("starting Ray")
    assert screen.lines == ["[    3 s] starting Ray"]


def test_a_line_every_five_seconds(screen):
    for segment in range(1, 8):
        screen.segment("trial-000", segment, after=2.0)
    assert [line[:9] for line in screen.lines] == ["[    2 s]", "[    8 s]", "[   14 s]"]


def test_what_a_line_says(screen):
    screen.segment("trial-000", 1, after=1.0, objective=120.0)
    for segment in (2, 3):
        screen.segment("trial-001", segment, after=3.0, objective=340.0)
    line = screen.lines[-1]
    assert "search 0/4" in line
    assert "best trial-001 340" in line


def test_progress_by_hand(screen):
    """18 seeds of 8 segments in all; so far 2 seeds x 4 segments: 1/18 in 10 s of training."""
    screen.tell("started", {"trial": "trial-000"}, after=60.0)  # so long Ray took to start
    screen.segment("trial-000", 4, after=10.0)
    assert "   6%" in screen.lines[-1]
    assert number(r"about (\d+) s left", screen.lines[-1]) == pytest.approx(170.0)
    screen.end("trial-000", Outcome(5.0, "asha"))  # what it left undone need not be done
    screen.segment("trial-001", 4, after=10.0)
    assert "  17%" in screen.lines[-1]
    assert number(r"about (\d+) s left", screen.lines[-1]) == pytest.approx(100.0)


def test_the_time_left_of_a_resumed_sweep_counts_this_runs_work_only(tmp_path, monkeypatch):
    """8 of 18 seeds were trained before; then 1/18 takes 10 s, so the other 9/18 take 90 s."""
    screen = Screen(tmp_path, monkeypatch, resumed=True)
    job = screen.plan.next_job()
    screen.tell("started", {"trial": job.name})
    screen.segment(job.name, 4, phase="validation", after=10.0)
    assert "  50%" in screen.lines[-1]
    assert "best trial-000 1.00 " in screen.lines[-1], "of the run before"
    assert number(r"about (\d+) s left", screen.lines[-1]) == pytest.approx(90.0)


def test_what_was_trained_before_counts_while_workers_start(tmp_path, monkeypatch):
    screen = Screen(tmp_path, monkeypatch, resumed=True)
    assert screen.console._progress() == pytest.approx(8 / 18)
    assert screen.console._phase() == "validation"
    assert "left" not in screen.console._line(), "nothing is known of this run's pace"


def test_the_rate_is_that_of_the_last_quarter_of_a_minute(screen):
    for segment, pause in ((1, 0.0), (2, 100.0), (3, 8.0), (4, 8.0)):
        screen.segment("trial-000", segment, after=pause, seed_scores=[0.0] * 1000)
    # In the last 8 s one segment of 1000 seeds: 1024 k / 8 s.
    assert number(r"([\d.]+) k steps/s", screen.lines[-1]) == pytest.approx(SEGMENT / 8.0, abs=1.0)


def test_before_there_is_anything_to_divide_by(screen):
    screen.tell("started", {"trial": "trial-000"}, after=6.0)
    assert "no report yet" in screen.lines[-1]
    assert screen.lines[-1].endswith("  0 k steps/s"), "no guess of the time left"


def test_the_phases_have_their_names(screen):
    for i in range(4):
        assert screen.console._phase() == f"search {i}/4"
        screen.end(f"trial-00{i}", budget(float(i)))
    assert screen.console._phase() == "validation"
    for row in ("trial-003", "baseline"):
        screen.plan.next_job()
        screen.end(f"validation-{row}-0", budget(1.0))
    assert screen.console._phase() == "test"
    while (job := screen.plan.next_job()) is not None:
        screen.end(job.name, budget(1.0))
    assert screen.console._progress() == 1.0


def test_a_terminal_shows_the_best_of_the_search(tmp_path, monkeypatch):
    screen = Screen(tmp_path, monkeypatch, terminal=True)
    for _ in range(4):
        screen.plan.next_job()
    with screen.console:
        screen.console.note("starting workers")
        assert "starting workers" not in screen.page.getvalue().splitlines()
        screen.segment("trial-000", 1, objective=120.0)
        screen.segment("trial-001", 8, objective=345.0)
        screen.segment("trial-002", 2, objective=50.0)
        screen.segment("test-baseline-0", 8, phase="test", objective=999.0)
        screen.end("trial-001", budget(345.0))
        screen.console._live.refresh()
    shown = screen.page.getvalue()
    rows = re.findall(r"trial-00\d[^\n]*", shown)[-3:]
    assert rows[0].split() == ["trial-001", "345", "8,192", "budget"]
    assert rows[1].split() == ["trial-000", "(baseline)", "120", "1,024", "running"]
    assert rows[2].split() == ["trial-002", "50", "2,048", "running"]
    assert "search 1/4" in shown
    assert "999" not in shown


def test_a_terminal_is_left_as_it_was(tmp_path, monkeypatch):
    screen = Screen(tmp_path, monkeypatch, terminal=True)
    with pytest.raises(RuntimeError, match="in the middle"), screen.console:
        raise RuntimeError("in the middle")
    assert not screen.console._live.is_started
    written = screen.page.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is back"
