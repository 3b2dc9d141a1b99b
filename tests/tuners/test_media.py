"""Drawing in the background, with Ray's part played by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from ray.exceptions import WorkerCrashedError

from rlcore.video import save_recording
from tests.tuners.small import segment_row, swing, trial_row
from tuners import media as module
from tuners.media import MediaQueue
from tuners.results import ResultsWriter


class FakeTask:
    """A Ray task that notes what it was asked to draw."""

    def __init__(self):
        self.asked = []

    def remote(self, *arguments):
        self.asked.append(arguments)
        return f"reference {len(self.asked)} of {id(self)}"


@pytest.fixture
def tasks(monkeypatch):
    """What was asked of each task; Ray answers as ``late`` and ``failing`` say."""
    tasks = SimpleNamespace(strip=FakeTask(), video=FakeTask(), late=[], failing=[])
    monkeypatch.setattr(module, "_draw_film_strip", tasks.strip)
    monkeypatch.setattr(module, "_draw_video", tasks.video)

    def wait(references, num_returns, timeout):
        ready = [r for r in references if r not in tasks.late][:num_returns]
        return ready, [r for r in references if r not in ready]

    def get(reference):
        if reference in tasks.failing:
            raise WorkerCrashedError

    monkeypatch.setattr(module.ray, "wait", wait)
    monkeypatch.setattr(module.ray, "get", get)
    return tasks


@pytest.fixture
def trial(tmp_path):
    """A trial that has ended, with its recording on disk."""
    (tmp_path / "tune" / "x").mkdir(parents=True)
    save_recording(tmp_path / "tune" / "x" / "recording.safetensors", swing(20, (20, 20, 20)))
    return trial_row("trial-000", checkpoint="tune/x")


def test_a_drawing_is_begun_with_paths_that_any_process_finds(tmp_path, tasks, trial, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    queue = MediaQueue(tmp_path.relative_to(tmp_path.parent), at_once=2)
    queue.film_strip(trial)
    queue.video(trial)
    recording = str(tmp_path / "tune" / "x" / "recording.safetensors")
    assert tasks.strip.asked == [(recording, str(tmp_path / "media" / "trial-000.png"))]
    assert tasks.video.asked == [(recording, str(tmp_path / "media" / "trial-000.mp4"))]
    assert queue.wait(1.0) == []


def test_a_trial_without_episodes_is_passed_over(tmp_path, tasks, trial):
    queue = MediaQueue(tmp_path)
    queue.film_strip(trial_row("trial-001", checkpoint=None))
    queue.film_strip(trial_row("trial-001", checkpoint="tune/missing"))
    assert tasks.strip.asked == []
    assert queue.wait(1.0) == []


def test_what_failed_or_took_too_long_has_a_line_each(tmp_path, tasks, trial):
    tasks.failing = [f"reference 1 of {id(tasks.strip)}"]
    tasks.late = [f"reference 1 of {id(tasks.video)}"]
    queue = MediaQueue(tmp_path, at_once=2)
    queue.film_strip(trial)
    queue.video(trial)
    failed, late = queue.wait(0.05)
    assert late == f"{tmp_path / 'media' / 'trial-000.mp4'} took longer than 0 s"
    assert failed.startswith(f"{tmp_path / 'media' / 'trial-000.png'} could not be drawn: ")
    assert "\n" not in failed
    assert queue.wait(5.0) == [], "it is not said twice"


def test_the_folders_are_there(tmp_path):
    MediaQueue(tmp_path)
    MediaQueue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"media", "plots"}


@pytest.fixture
def drawn_here(monkeypatch):
    """The tasks run in this process, which stays as urgent as it is."""
    monkeypatch.setattr(module, "_be_nice", lambda: None)


def test_a_film_strip_is_drawn(tmp_path, trial, drawn_here):
    path = tmp_path / "strip.png"
    recording = tmp_path / "tune" / "x" / "recording.safetensors"
    module._draw_film_strip._function(str(recording), str(path))
    with Image.open(path) as strip:
        assert strip.height == 150
        assert np.ptp(np.asarray(strip)) > 100, "something is in it"


def test_a_video_is_drawn(tmp_path, trial, drawn_here):
    path = tmp_path / "video.mp4"
    recording = tmp_path / "tune" / "x" / "recording.safetensors"
    module._draw_video._function(str(recording), str(path))
    assert path.read_bytes()[4:8] == b"ftyp"


def test_the_plots_of_a_sweep_are_drawn(tmp_path, drawn_here):
    writer = ResultsWriter(tmp_path, "swingup")
    for name, phase, row, reason in (
        ("trial-000", "search", "baseline", "budget"),
        ("trial-001", "search", "trial-001", "diverged"),
        ("trial-002", "search", "trial-002", None),
        ("test-baseline-0", "test", "baseline", "budget"),
        ("test-trial-001-0", "test", "trial-001", "budget"),
    ):
        status = "finished" if reason else "running"
        writer.put_trial(trial_row(name, phase, row, status=status, stop_reason=reason))
        for segment in (1, 2, 3):
            writer.add_segment(segment_row(name, segment, phase))
    writer.flush()
    MediaQueue(tmp_path)
    module._draw_plots._function(str(tmp_path), ["trial-001", "baseline", "task_score"])
    plots = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in plots] == ["search.png", "test_curves.png"]
    for path in plots:
        with Image.open(path) as plot:
            assert plot.size == (960, 540)
            assert len(plot.getcolors(100_000)) > 20, "lines and letters are in it"


def test_no_more_is_drawn_at_once_than_asked_for(tmp_path, tasks, trial):
    queue = MediaQueue(tmp_path, at_once=1)
    queue.film_strip(trial)
    tasks.late = [f"reference 1 of {id(tasks.strip)}"]
    queue.video(trial)
    assert tasks.video.asked == []
    tasks.late = []
    assert queue.wait(5.0) == []
    assert len(tasks.video.asked) == 1
