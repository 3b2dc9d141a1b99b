"""Film strips, videos and plots, drawn in Ray tasks of their own: no trial waits for one."""

import contextlib
import os
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
    """Draws in the background; ``wait`` for what is under way at the end."""

    def __init__(self, folder: Path) -> None:
        """Draws into ``folder / "media"`` and ``folder / "plots"``."""
        self._folder = folder
        self._pending: dict[Any, str] = {}
        (folder / MEDIA_FOLDER).mkdir(exist_ok=True)
        (folder / PLOTS_FOLDER).mkdir(exist_ok=True)

    def film_strip(self, trial: dict[str, Any]) -> None:
        """Begins the film strip of a trial that ended, if it got as far as a checkpoint."""
        self._draw(_draw_film_strip, trial, film_strip_path(self._folder, trial["trial"]))

    def video(self, trial: dict[str, Any]) -> None:
        """Begins the video of a trial."""
        self._draw(_draw_video, trial, video_path(self._folder, trial["trial"]))

    def plots(self, rows: list[str]) -> None:
        """Begins the plots: the curves of ``rows`` in the test, and the search."""
        task = _draw_plots.remote(str(self._folder.absolute()), rows)
        self._pending[task] = "the plots"

    def wait(self, timeout: float) -> list[str]:
        """Waits for everything begun; returns a line for each that failed."""
        ready, late = (
            ray.wait(list(self._pending), num_returns=max(1, len(self._pending)), timeout=timeout)
            if self._pending
            else ([], [])
        )
        failures = [f"{self._pending[task]} took longer than {timeout:.0f} s" for task in late]
        for task in ready:
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                failures.append(f"{self._pending[task]} could not be drawn: {reason}")
        self._pending.clear()
        return failures

    def _draw(self, task: Any, trial: dict[str, Any], path: Path) -> None:
        if trial["checkpoint"] is None:
            return
        recording = (self._folder / trial["checkpoint"] / RECORDING_FILE).absolute()
        if recording.exists():
            reference = task.remote(str(recording), str(path.absolute()))
            self._pending[reference] = str(path)


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
