"""Film strips, videos and plots, drawn in Ray tasks of their own: no trial waits for one."""

import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import ray

from rlcore.video import load_recording, write_film_strip, write_video
from tuners.layout import (
    MEDIA_FOLDER,
    PLOTS_FOLDER,
    RECORDING_FILE,
    film_strip_path,
    video_path,
)
from tuners.results import read_segments, read_trials


class MediaQueue:
    """Draws in the background, a few things at once; ``wait`` for the rest at the end.

    Ray starts a process for each task under way, so few at once means few processes.
    """

    def __init__(self, folder: Path, at_once: int = 1) -> None:
        """Draws into ``folder / "media"`` and ``folder / "plots"``."""
        self._folder = folder
        self._at_once = at_once
        self._waiting: deque[tuple[Any, tuple[Any, ...], str]] = deque()
        self._under_way: dict[Any, str] = {}
        self._failures: list[str] = []
        (folder / MEDIA_FOLDER).mkdir(exist_ok=True)
        (folder / PLOTS_FOLDER).mkdir(exist_ok=True)

    def film_strip(self, trial: dict[str, Any]) -> None:
        """Asks for the film strip of a trial that ended, if it got as far as a checkpoint."""
        self._draw(_draw_film_strip, trial, film_strip_path(self._folder, trial["trial"]))

    def video(self, trial: dict[str, Any]) -> None:
        """Asks for the video of a trial."""
        self._draw(_draw_video, trial, video_path(self._folder, trial["trial"]))

    def plots(self, rows: list[str]) -> None:
        """Asks for the plots: the curves of ``rows`` in the test, and the search."""
        self._ask(_draw_plots, (str(self._folder.absolute()), rows), "the plots")

    def wait(self, timeout: float) -> list[str]:
        """Waits until all is drawn; returns a line for each thing that is not."""
        deadline = time.monotonic() + timeout
        while self._under_way and time.monotonic() < deadline:
            self._collect(max(0.0, deadline - time.monotonic()))
        late = [*self._under_way.values(), *(label for _, _, label in self._waiting)]
        failures = self._failures + [f"{label} took longer than {timeout:.0f} s" for label in late]
        self._under_way, self._failures = {}, []
        self._waiting.clear()
        return failures

    def _draw(self, task: Any, trial: dict[str, Any], path: Path) -> None:
        if trial["checkpoint"] is None:
            return
        recording = (self._folder / trial["checkpoint"] / RECORDING_FILE).absolute()
        if recording.exists():
            self._ask(task, (str(recording), str(path.absolute())), str(path))

    def _ask(self, task: Any, arguments: tuple[Any, ...], label: str) -> None:
        self._waiting.append((task, arguments, label))
        self._collect(timeout=0.0)

    def _collect(self, timeout: float) -> None:
        """Takes in what is drawn, and begins what waited for it."""
        if self._under_way:
            ready, _ = ray.wait(list(self._under_way), num_returns=1, timeout=timeout)
            for reference in ready:
                label = self._under_way.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[-1]
                    self._failures.append(f"{label} could not be drawn: {reason}")
        while self._waiting and len(self._under_way) < self._at_once:
            task, arguments, label = self._waiting.popleft()
            self._under_way[task.remote(*arguments)] = label


@ray.remote(num_cpus=0, max_retries=1)
def _draw_film_strip(recording: str, path: str) -> None:
    _be_nice()
    write_film_strip(Path(path), load_recording(Path(recording)))


@ray.remote(num_cpus=0, max_retries=1)
def _draw_video(recording: str, path: str) -> None:
    _be_nice()
    write_video(Path(path), load_recording(Path(recording)))


@ray.remote(num_cpus=0, max_retries=1)
def _draw_plots(folder: str, rows: list[str]) -> None:
    _be_nice()
    from tuners.plots import plot_search, plot_test

    trials = read_trials(Path(folder))
    segments = read_segments(Path(folder))
    plot_test(Path(folder) / PLOTS_FOLDER / "test_curves.png", trials, segments, rows)
    plot_search(Path(folder) / PLOTS_FOLDER / "search.png", trials, segments)


def _be_nice() -> None:
    """Leaves the cores to the trials; a worker that draws again is nice already."""
    with contextlib.suppress(OSError):
        os.nice(max(0, 10 - os.nice(0)))
