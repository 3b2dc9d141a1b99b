"""What a person sees while a sweep runs: a live table in a terminal, plain lines elsewhere."""

import time
from collections import deque
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuners.job_names import FIRST_TRIAL
from tuners.objectives import objective_text
from tuners.phases import Plan

BEST_SHOWN = 5
PLAIN_EVERY = 5.0
_RATE_WINDOW = 15.0
_ENOUGH_TO_JUDGE = 0.03


class SweepConsole:
    """Listens to a sweep and shows how it goes."""

    def __init__(self, plan: Plan, console: Console) -> None:
        """Shows ``plan`` on ``console``."""
        self._plan = plan
        self._console = console
        self._begun = time.monotonic()
        self._latest: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, int] = {}
        self._trained = 0  # the sum of these
        # Of jobs that have ended: the phase, and env_steps as if trained to the end.
        self._phases: dict[str, str] = {}
        self._complete: dict[str, int] = {}
        # At the first trial of this run: the time, and what an earlier run did.
        self._start: tuple[float, float] | None = None
        self._pace: deque[tuple[float, int]] = deque()
        self._note = "starting Ray"
        self._printed = 0.0
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "SweepConsole":
        """Begins to show."""
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was."""
        if self._live.is_started:
            self._live.stop()

    def note(self, text: str) -> None:
        """Says what is going on beside training."""
        self._note = text
        if not self._console.is_interactive:
            self._console.print(f"[{self._elapsed():5.0f} s] {text}")

    def warn(self, text: str) -> None:
        """Says what stays to be read."""
        self._console.print(text, style="yellow", markup=False)

    def listen(self, event: str, row: dict[str, Any]) -> None:
        """Takes in what ``SweepCallback`` tells."""
        if event == "failed":
            self._console.print(f"{row['trial']} failed: {row['reason']}", markup=False)
            return
        if self._start is None:
            self._start = time.monotonic(), self._progress()
        if event == "segment":
            self._note = ""
            self._latest[row["trial"]] = row
            trained = row["env_steps"] - self._plan.begins_at(row["trial"])
            before = self._steps.get(row["trial"], 0)
            self._steps[row["trial"]] = trained * len(row["seed_scores"])
            self._trained += self._steps[row["trial"]] - before
            self._pace.append((time.monotonic(), self._trained))
            while self._pace[-1][0] - self._pace[0][0] > _RATE_WINDOW:
                self._pace.popleft()
        if not self._console.is_interactive and time.monotonic() - self._printed > PLAIN_EVERY:
            self._printed = time.monotonic()
            self._console.print(self._line())

    def _line(self) -> str:
        best = self._ranked()
        shown = (
            f"best {best[0]['trial']} {objective_text(best[0]['objective'])}"
            if best
            else "no report yet"
        )
        progress = self._progress()
        return (
            f"[{self._elapsed():5.0f} s] {self._phase()}  {progress:4.0%}  {shown}"
            f"  {self._rate() / 1e3:.0f} k steps/s{self._time_left(progress)}"
        )

    def _render(self) -> Group:
        progress = self._progress()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._phase(), style="bold"),
            ProgressBar(total=1.0, completed=progress, width=30),
            f"{progress:.0%}",
            f"{self._rate() / 1e3:,.0f} k steps/s",
            f"{self._elapsed():.0f} s{self._time_left(progress)}",
        )
        note = [Text(self._note, style="dim")] if self._note else []
        return Group(head, *note, self._best_table())

    def _best_table(self) -> Table:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for title in ("best of the search", "objective", "env_steps", "ended by"):
            table.add_column(title, justify="left" if title.startswith("best") else "right")
        for row in self._ranked()[:BEST_SHOWN]:
            outcome = self._plan.outcomes.get(row["trial"])
            ended = "running" if outcome is None else outcome.stop_reason
            name = f"{row['trial']} (baseline)" if row["trial"] == FIRST_TRIAL else row["trial"]
            table.add_row(name, objective_text(row["objective"]), f"{row['env_steps']:,}", ended)
        return table

    def _ranked(self) -> list[dict[str, Any]]:
        """Returns the last reports of the search, best first; of an earlier run what is known."""
        self._count_ended()
        known = {
            name: {"trial": name, "objective": outcome.objective, "env_steps": outcome.env_steps}
            for name, outcome in list(self._plan.outcomes.items())
            if self._phases.get(name) == "search" and outcome.stop_reason != "error"
        }
        latest = list(self._latest.values())
        searched = known | {row["trial"]: row for row in latest if row["phase"] == "search"}
        return sorted(searched.values(), key=lambda row: -row["objective"])

    def _phase(self) -> str:
        self._count_ended()
        searched = list(self._phases.values()).count("search")
        if searched < self._plan.num_search_jobs:
            return f"search {searched}/{self._plan.num_search_jobs}"
        return "validation" if self._plan.winner is None else "test"

    def _progress(self) -> float:
        """Returns the share of the work done: what an ended trial left undone counts as done."""
        if self._plan.finished:
            return 1.0
        self._count_ended()
        running = set(self._plan.jobs) - self._complete.keys()
        done = sum(list(self._complete.values())) + sum(self._steps.get(n, 0) for n in running)
        return min(1.0, done / self._plan.expected_env_steps())

    def _count_ended(self) -> None:
        """Takes in the jobs that have ended since the last look, all seeds counted."""
        for name in set(self._plan.outcomes) & set(self._plan.jobs) - self._complete.keys():
            job = self._plan.jobs[name]
            self._phases[name] = job.phase
            self._complete[name] = (job.end - self._plan.begins_at(name)) * len(job.seeds)

    def _rate(self) -> float:
        if len(self._pace) < 2 or self._pace[-1][0] == self._pace[0][0]:
            return 0.0
        (first, before), (last, after) = self._pace[0], self._pace[-1]
        return (after - before) / (last - first)

    def _time_left(self, progress: float) -> str:
        """Returns what to add to a line: nothing before there is enough to judge by."""
        if self._start is None:
            return ""
        begun, before = self._start
        made = progress - before
        if made < _ENOUGH_TO_JUDGE:
            return ""
        return f"  about {(time.monotonic() - begun) * (1.0 - progress) / made:.0f} s left"

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun
