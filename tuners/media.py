"""Film strips, videos, plots and the report, drawn in Ray tasks: no trial waits for one."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlcore.video import Recording, load_recording, write_film_strip, write_video
from tuners.errors import last_line
from tuners.layout import (
    MEDIA_FOLDER,
    PLOTS_FOLDER,
    RECORDING_FILE,
    film_strip_path,
    video_path,
)
from tuners.pinning import use_idle_time
from tuners.store import at_hand


class MediaQueue:
    """Draws in the background, in processes of its own; ``wait`` for the rest at the end.

    They stay, as starting one costs more than a film strip.
    """

    def __init__(self, folder: Path, processes: int = 1, address: str | None = None) -> None:
        """Draws into ``folder / "media"`` and ``folder / "plots"``.

        Args:
            folder: of the sweep.
            processes: that draw at most.
            address: of the sweep in the shared store, if its checkpoints are there.
        """
        self._folder = folder
        self._address = address
        self._artists = _in_turns(processes, on_this_node=address is not None)
        self._plotter: Any = None
        self._pending: dict[Any, str] = {}
        (folder / MEDIA_FOLDER).mkdir(exist_ok=True)
        (folder / PLOTS_FOLDER).mkdir(exist_ok=True)

    def film_strip(self, trial: dict[str, Any]) -> None:
        """Begins the film strip of a trial that ended, if it got as far as a checkpoint."""
        self._begin("film_strip", film_strip_path(self._folder, trial["trial"]), trial)

    def video(self, trial: dict[str, Any]) -> None:
        """Begins the video of a trial that ended, if it got as far as a checkpoint."""
        self._begin("video", video_path(self._folder, trial["trial"]), trial)

    def plots(self) -> None:
        """Begins the plots of the sweep as PNG files."""
        self._plotter = next(self._artists)
        self._pending[self._plotter.plots.remote(self._place)] = "the plots"

    def report(self) -> None:
        """Begins the report; ``wait`` before, or it lacks what is still being drawn."""
        # Whoever drew the plots has imported what it takes: seconds.
        artist = self._plotter or next(self._artists)
        self._pending[artist.report.remote(self._place)] = "the report"

    @property
    def _place(self) -> str:
        return str(self._folder.absolute())

    def wait(self, timeout: float) -> list[str]:
        """Waits for everything begun; returns a line for each that failed."""
        if not self._pending:
            return []
        ready, late = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=timeout)
        failures = [f"{self._pending[task]} took longer than {timeout:.0f} s" for task in late]
        for task in ready:
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                failures.append(
                    f"{self._pending[task]} could not be drawn: {last_line(str(error))}"
                )
        self._pending.clear()
        return failures

    def _begin(self, kind: str, path: Path, trial: dict[str, Any]) -> None:
        """Begins a drawing, unless it has begun, is there, or has no episodes to show."""
        if trial["checkpoint"] is None or path.exists() or str(path) in self._pending.values():
            return
        home = self._address or str(self._folder.absolute())
        checkpoint = f"{home}/{trial['checkpoint']}"
        if self._address is not None or Path(checkpoint, RECORDING_FILE).exists():
            draw = getattr(next(self._artists), kind)
            self._pending[draw.remote(checkpoint, str(path.absolute()))] = str(path)


def _in_turns(count: int, *, on_this_node: bool) -> Iterator[Any]:
    """Yields the processes that draw, each started when its turn first comes.

    Where results go to a store, the sweep's folder is on this node alone.
    """
    artist: Any = _Artist
    if on_this_node:
        here = ray.get_runtime_context().get_node_id()
        artist = artist.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        )
    artists = []
    for _ in range(count):
        artists.append(artist.remote())
        yield artists[-1]
    yield from itertools.cycle(artists)


@ray.remote(num_cpus=0, max_restarts=2, max_task_retries=1)
class _Artist:
    def __init__(self) -> None:
        use_idle_time()

    def film_strip(self, checkpoint: str, path: str) -> None:
        _draw(write_film_strip, checkpoint, path)

    def video(self, checkpoint: str, path: str) -> None:
        _draw(write_video, checkpoint, path)

    def plots(self, folder: str) -> None:
        from tuners.report.write import draw_plots  # with all that it imports: no film strip waits

        draw_plots(Path(folder))

    def report(self, folder: str) -> None:
        from tuners.report.write import write_report

        write_report(Path(folder))


def _draw(write: Callable[[Path, Recording], None], checkpoint: str, path: str) -> None:
    """Draws the episodes of a checkpoint, if it has any; it may be in the store."""
    with at_hand(checkpoint) as folder:
        recording = folder / RECORDING_FILE
        if recording.exists():
            write(Path(path), load_recording(recording))
